//! The paths of a source file, found in its tokens.

/// A path, segment by segment.
pub type Segments = Vec<String>;

/// Every path whose first segment is one that `begins` wants, groups in braces multiplied out.
pub fn paths(tokens: &[String], begins: impl Fn(&str) -> bool) -> Vec<Segments> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = tokens[..at].last().map_or("", String::as_str);
        // `pub(in crate::engine)` says who sees an item, and imports nothing.
        let is_visibility = before == "in" && at >= 2 && tokens[at - 2] == "(";
        let is_path = tokens.get(at + 1).is_some_and(|next| next == "::");
        if is_path && before != "::" && !is_visibility && begins(&tokens[at]) {
            at = path(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path from `at` on, below `prefix`; returns where it ends.
pub fn path(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Segments>,
) -> usize {
    let mut path_so_far = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        if token == "{" {
            return group(tokens, at + 1, &path_so_far, found);
        }
        if token.starts_with(|first: char| first.is_alphanumeric() || first == '_' || first == '*')
        {
            path_so_far.push(token.clone());
            at += 1;
        }
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
        // The generic arguments of a path are paths of their own.
        if tokens.get(at).is_some_and(|token| {
            !token.starts_with(|first: char| first.is_alphanumeric() || "_*{".contains(first))
        }) {
            break;
        }
    }
    found.push(path_so_far);
    at
}

/// Reads what stands in braces from `at` on.
fn group(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Segments>) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "}" => return at + 1,
            "," => at += 1,
            // `name as other`
            "as" => at += 2,
            _ => at = path(tokens, at, prefix, found).max(at + 1),
        }
    }
    at
}

/// Identifiers and punctuation, without comments, strings and characters.
pub fn tokens(source: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == 'r' && (rest.starts_with("r\"") || rest.starts_with("r#\"")) {
            let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
            let start = rest.find('"').map_or(rest.len(), |quote| quote + 1);
            rest[start..]
                .find(end)
                .map_or(rest.len(), |found| start + found + end.len())
        } else if first == '"' {
            string_length(rest)
        } else if let Some(length) = character_length(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Of a character literal; a lifetime is none.
fn character_length(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        return inner[2..].find('\'').map(|end| end + 4);
    }
    let end = first.len_utf8();
    inner[end..].starts_with('\'').then_some(end + 2)
}
