//! What others said, before it is kept, logged or shown: within a bound, and on one line.
//!
//! A broker's message, a library's error, a name or a field of a request may be of any length, break lines, or hold what makes a
//! terminal show something else than was said.

use std::fmt::{self, Display, Write};

/// Longer texts are cut, with an ellipsis at the end.
pub const LONGEST: usize = 2000;

/// The text in at most [`LONGEST`] characters, with what would break its line or hide a part of it escaped.
pub fn quote(said: impl Display) -> String {
    quote_within(said, LONGEST)
}

/// The same in at most `most` characters.
pub fn quote_within(said: impl Display, most: usize) -> String {
    let mut quoted = Quoted {
        text: String::new(),
        left: most,
    };
    // Ends the display as soon as there is no more room for it.
    if write!(quoted, "{said}").is_err() {
        quoted.text.pop();
        quoted.text.push('…');
    }
    quoted.text
}

struct Quoted {
    text: String,
    /// Characters for which there is room.
    left: usize,
}

impl Write for Quoted {
    fn write_str(&mut self, said: &str) -> fmt::Result {
        for c in said.chars() {
            let escaped = breaks_or_hides(c).then(|| c.escape_default());
            let length = escaped.as_ref().map_or(1, ExactSizeIterator::len);
            self.left = self.left.checked_sub(length).ok_or(fmt::Error)?;
            match escaped {
                Some(escaped) => self.text.extend(escaped),
                None => self.text.push(c),
            }
        }
        Ok(())
    }
}

/// Controls, separators of lines, and marks that turn the direction of a text or are not seen at all.
fn breaks_or_hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_its_line_and_within_its_bound() {
        assert_eq!(quote("no topic `ordérs`"), "no topic `ordérs`");
        assert_eq!(
            quote("a\nb\t\u{1b}[2J\u{202e}c\u{2028}"),
            "a\\nb\\t\\u{1b}[2J\\u{202e}c\\u{2028}"
        );
        assert_eq!(quote_within("12345", 5), "12345");
        assert_eq!(quote_within("123456", 5), "1234…");
        assert_eq!(quote_within("\n\n\n", 5), "\\n\\…");
        assert_eq!(quote("é".repeat(3000)).chars().count(), LONGEST);
    }

    #[test]
    fn what_does_not_fit_is_not_even_written() {
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("endless ")?;
                }
            }
        }
        assert!(quote(Endless).ends_with('…'));
    }
}
