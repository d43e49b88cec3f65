//! Reading TOML files.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::PolicyError;

/// Reads a file whole.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, PolicyError> {
    let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// The error says where it is and what is wrong. It does not show the line, on which a secret may stand.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, PolicyError> {
    toml::from_str(text).map_err(|mut source| {
        let at = source.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        source.set_input(None);
        PolicyError::Malformed {
            path: path.to_owned(),
            line: 1 + before.matches('\n').count(),
            column: 1 + before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count(),
            source: Box::new(source),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_line_and_column_without_the_line() {
        let text = "first = 1\n\nß = 'swordfish' second\n";
        let error = parse::<toml::Table>(Path::new("a.toml"), text).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.starts_with("a.toml:3:"), "{said}");
        assert!(!said.contains("swordfish"), "{said}");
    }
}
