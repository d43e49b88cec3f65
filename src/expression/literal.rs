//! Literals of text and bytes: quoted once or three times, raw, with escapes.

use super::token::{Kind, Wrong};

/// What stands before the quotes.
struct Prefix {
    is_raw: bool,
    is_bytes: bool,
    length: usize,
}

fn prefix(rest: &str) -> Option<Prefix> {
    let first = rest.as_bytes().iter().take(3);
    let length = first.into_iter().position(|byte| b"'\"".contains(byte))?;
    let letters = rest.get(..length)?.to_ascii_lowercase();
    let known = ["", "r", "b", "rb", "br"].contains(&letters.as_str());
    known.then(|| Prefix {
        is_raw: letters.contains('r'),
        is_bytes: letters.contains('b'),
        length,
    })
}

/// Whether a literal of text or bytes begins here.
pub(super) fn begins(rest: &str) -> bool {
    prefix(rest).is_some()
}

/// The literal, and how long it is. `at` is where it begins.
pub(super) fn text(rest: &str, at: usize) -> Result<(Kind<'static>, usize), Wrong> {
    let unended = || (at, "a text does not end".to_owned());
    let Prefix {
        is_raw,
        is_bytes,
        length,
    } = prefix(rest).ok_or_else(unended)?;
    let quoted = &rest[length..];
    let quotes = ["'''", "\"\"\"", "'", "\""];
    let quotes = quotes.into_iter().find(|quotes| quoted.starts_with(quotes));
    let quotes = quotes.ok_or_else(unended)?;
    let is_short = quotes.len() == 1;
    let mut inner = &quoted[quotes.len()..];
    let mut bytes = Vec::new();
    loop {
        if inner.starts_with(quotes) {
            break;
        }
        let here = at + rest.len() - inner.len();
        let c = inner.chars().next().ok_or_else(unended)?;
        if is_short && ['\n', '\r'].contains(&c) {
            return Err(unended());
        }
        let taken = match c {
            '\\' if !is_raw => escape(inner, is_bytes, &mut bytes)
                .ok_or_else(|| (here, "this is no escape of the language".to_owned()))?,
            _ => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                c.len_utf8()
            }
        };
        inner = &inner[taken..];
    }
    let end = rest.len() - inner.len() + quotes.len();
    if is_bytes {
        return Ok((Kind::Bytes(bytes), end));
    }
    let text = String::from_utf8(bytes).map_err(|_| unended())?;
    Ok((Kind::Text(text), end))
}

/// Takes the escape with which `inner` begins; how long it is, and none where it is wrong.
fn escape(inner: &str, is_bytes: bool, bytes: &mut Vec<u8>) -> Option<usize> {
    let letter = inner[1..].chars().next()?;
    let plain = match letter {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' | '?' | '"' | '\'' | '`' => u8::try_from(letter).ok(),
        _ => None,
    };
    if let Some(plain) = plain {
        bytes.push(plain);
        return Some(2);
    }
    let (from, digits, radix) = match letter {
        'x' | 'X' => (2, 2, 16),
        'u' if !is_bytes => (2, 4, 16),
        'U' if !is_bytes => (2, 8, 16),
        '0'..='3' => (1, 3, 8),
        _ => return None,
    };
    let code = inner.get(from..from + digits)?;
    if !code.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let code = u32::from_str_radix(code, radix).ok()?;
    match is_bytes {
        true => bytes.push(u8::try_from(code).ok()?),
        false => {
            let c = char::from_u32(code)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Some(from + digits)
}
