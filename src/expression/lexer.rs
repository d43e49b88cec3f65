//! From a source to tokens.

use super::literal;
use super::token::{Kind, Token, Wrong};

/// The longer ones first.
const MARKS: [&str; 26] = [
    "&&", "||", "==", "!=", "<=", ">=", "(", ")", "[", "]", "{", "}", ".", ",", ":", "?", "!", "<",
    ">", "+", "-", "*", "/", "%", "=", "&",
];

/// All tokens, the last of which is the end.
pub(super) fn tokens(source: &str) -> Result<Vec<Token<'_>>, Wrong> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        at = skip_blank(source, at);
        let rest = source.get(at..).unwrap_or_default();
        let Some(first) = rest.chars().next() else {
            found.push(Token {
                kind: Kind::End,
                at,
            });
            return Ok(found);
        };
        let (kind, length) = match first {
            _ if literal::begins(rest) => literal::text(rest, at)?,
            'a'..='z' | 'A'..='Z' | '_' => name(rest),
            '0'..='9' => number(rest, at)?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(rest, at)?,
            '`' => quoted(rest, at)?,
            _ => {
                let mark = MARKS.iter().find(|mark| rest.starts_with(**mark));
                let mark = mark.ok_or_else(|| (at, format!("`{first}` is not expected")))?;
                (Kind::Mark(mark), mark.len())
            }
        };
        found.push(Token { kind, at });
        at += length;
    }
}

/// Behind blanks and comments.
fn skip_blank(source: &str, mut at: usize) -> usize {
    while let Some(rest) = source.get(at..) {
        let blank = rest.len()
            - rest
                .trim_start_matches([' ', '\t', '\n', '\r', '\x0c'])
                .len();
        let comment = match rest.get(blank..) {
            Some(rest) if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ => 0,
        };
        if blank + comment == 0 {
            break;
        }
        at += blank + comment;
    }
    at
}

fn name(rest: &str) -> (Kind<'_>, usize) {
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let name = &rest[..end.unwrap_or(rest.len())];
    (Kind::Name(name), name.len())
}

fn quoted(rest: &str, at: usize) -> Result<(Kind<'_>, usize), Wrong> {
    let end = rest[1..].find('`').filter(|end| *end > 0);
    let end = end.ok_or_else(|| (at, "a name in backticks does not end".to_owned()))?;
    Ok((Kind::Quoted(&rest[1..=end]), end + 2))
}

fn number(rest: &str, at: usize) -> Result<(Kind<'_>, usize), Wrong> {
    let digits = |from: usize, radix: u32| {
        let rest = rest.get(from..).unwrap_or_default();
        from + rest
            .find(|c: char| !c.is_digit(radix))
            .unwrap_or(rest.len())
    };
    let is_hexadecimal = rest.starts_with("0x") || rest.starts_with("0X");
    let mut end = if is_hexadecimal {
        digits(2, 16)
    } else {
        digits(0, 10)
    };
    let mut is_double = false;
    if !is_hexadecimal {
        let after = rest.get(end..).unwrap_or_default().as_bytes();
        if after.first() == Some(&b'.') && after.get(1).is_some_and(u8::is_ascii_digit) {
            is_double = true;
            end = digits(end + 1, 10);
        }
        let after = rest.get(end..).unwrap_or_default().as_bytes();
        if matches!(after.first(), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(after.get(1), Some(b'+' | b'-')));
            if after.get(1 + sign).is_some_and(u8::is_ascii_digit) {
                is_double = true;
                end = digits(end + 1 + sign, 10);
            }
        }
    }
    let text = &rest[..end];
    let too_large = || (at, "the number is too large, or none".to_owned());
    if is_double {
        let number: f64 = text.parse().map_err(|_| too_large())?;
        return Ok((Kind::Double(number), end));
    }
    let number = match is_hexadecimal {
        true => u64::from_str_radix(&text[2..], 16),
        false => text.parse(),
    };
    let number = number.map_err(|_| too_large())?;
    if rest[end..].starts_with(['u', 'U']) {
        return Ok((Kind::Uint(number), end + 1));
    }
    if rest[end..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err((at, "a number is followed by letters".to_owned()));
    }
    Ok((Kind::Int(number), end))
}
