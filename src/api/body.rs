//! Reading a body: JSON of a known shape, with the field that is at fault.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Problem;

/// Reads a body. JSON that is nested deeper than 128 levels is refused before it is looked at.
///
/// # Errors
///
/// 400 with the field: one that is unknown, missing, given twice, or of another kind than documented.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read: Result<T, _> = serde_path_to_error::deserialize(&mut json);
    let error = match read {
        Ok(read) => {
            return match json.end() {
                Ok(()) => Ok(read),
                Err(_) => Err(Problem::invalid(
                    "",
                    "",
                    "the body goes on behind its object",
                )),
            };
        }
        Err(error) => error,
    };
    let path = error.path().to_string();
    let inner = error.inner();
    if inner.is_syntax() || inner.is_eof() {
        let (line, column) = (inner.line(), inner.column());
        let mut problem = Problem::new(
            super::ProblemKind::InvalidRequest,
            format!("the body is no JSON object: {}", without_place(inner)),
        );
        problem.details.value = Some(format!("line {line}, column {column}"));
        return Err(problem);
    }
    let message = without_place(inner);
    // Of a field that is unknown or missing, the message alone tells the name.
    let named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|says| message.strip_prefix(says)?.split_once('`'))
        .map(|(name, _)| name);
    let field = match (path.as_str(), named) {
        (".", Some(name)) => name.to_owned(),
        (path, Some(name)) if !path.ends_with(name) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    };
    let value = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| at(&body, &field));
    let mut problem = Problem::invalid(&field, value.as_deref().unwrap_or_default(), message);
    problem.details.value = problem.details.value.filter(|_| value.is_some());
    Err(problem)
}

/// What serde says, without line and column: the field tells where.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(place) => text[..place].to_owned(),
        None => text,
    }
}

/// What stands at a path such as `transformation.header_additions[0][1]`.
fn at(body: &Value, path: &str) -> Option<String> {
    let mut value = body;
    for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        value = match value {
            Value::Object(fields) => fields.get(part)?,
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{BackupRequest, MigrateRequest};
    use super::*;

    fn refused(body: &str) -> Problem {
        read::<BackupRequest>(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_field_at_fault_is_named_with_what_stood_there() {
        for (body, field, value, says) in [
            (
                r#"{"topik": "x", "topic": "y"}"#,
                "topik",
                Some("x"),
                "unknown field `topik`",
            ),
            (
                r#"{"compression": "none"}"#,
                "topic",
                None,
                "missing field `topic`",
            ),
            (
                r#"{"topic": "x", "topic": "y"}"#,
                "topic",
                Some("y"),
                "duplicate field `topic`",
            ),
            (
                r#"{"topic": "x", "max_messages": -1}"#,
                "max_messages",
                Some("-1"),
                "no whole number",
            ),
            (
                r#"{"topic": "x", "max_messages": 1e99}"#,
                "max_messages",
                Some("1e+99"),
                "no whole number",
            ),
            (
                r#"{"topic": "x", "partitions": [0, "1"]}"#,
                "partitions[1]",
                Some("1"),
                "expected a whole number",
            ),
            (
                r#"{"topic": "x", "start_offset": []}"#,
                "start_offset",
                Some("[]"),
                "earliest",
            ),
            (r#"{"topic": 7}"#, "topic", Some("7"), "expected a string"),
        ] {
            let problem = refused(body);
            assert_eq!(
                problem.details.field.as_deref(),
                Some(field),
                "{body}: {problem:?}"
            );
            assert_eq!(
                problem.details.value.as_deref(),
                value,
                "{body}: {problem:?}"
            );
            assert!(problem.message.contains(says), "{body}: {problem:?}");
        }
        let inner = r#"{"source_cluster": "a", "source_topic": "t", "target_cluster": "b", "target_topic": "t",
            "transformation": {"filter": "true"}}"#;
        let problem = read::<MigrateRequest>(inner.as_bytes()).unwrap_err();
        assert_eq!(
            problem.details.field.as_deref(),
            Some("transformation.filter")
        );
    }

    #[test]
    fn what_a_caller_wrote_comes_back_cut_and_on_one_line() {
        let long = "x\u{202e}\\n".repeat(100_000);
        for body in [
            format!(r#"{{"{long}": 1}}"#),
            format!(r#"{{"topic": "x", "partitions": "{long}"}}"#),
            format!(r#"{{"topic": "x", "max_messages": "{long}"}}"#),
        ] {
            let Problem {
                message, details, ..
            } = refused(&body);
            let told = [Some(message), details.field, details.value];
            for (text, most) in told.iter().flatten().zip([2000, 200, 200]) {
                assert!(text.chars().count() <= most, "{text}");
                assert!(!text.contains(['\n', '\u{202e}']), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_json_is_refused_however_deep() {
        for body in [
            String::new(),
            "{".to_owned(),
            "{}{}".to_owned(),
            "[]".to_owned(),
            "\u{0}".to_owned(),
            format!(
                r#"{{"topic": {}{}}}"#,
                "[".repeat(100_000),
                "]".repeat(100_000)
            ),
            format!(r#"{{"x": {}1{}}}"#, "[".repeat(1000), "]".repeat(1000)),
        ] {
            assert_eq!(refused(&body).kind.status(), 400);
        }
    }
}
