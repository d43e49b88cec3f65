//! The JSON schemas that are shipped for editors: one for each kind of file.

use serde_json::{Value, json};

use super::kafkeep_file::KafkeepFile;
use super::key::Kind;
use super::policy_file::PolicyFile;

/// The schema of `kafkeep.toml`.
pub fn kafkeep_schema() -> Value {
    document("kafkeep.toml", KafkeepFile::schema())
}

/// The schema of a file in `policies.d`.
pub fn policy_schema() -> Value {
    document("policies.d/*.toml", PolicyFile::schema())
}

fn document(title: &str, schema: Value) -> Value {
    let mut document =
        json!({ "$schema": "http://json-schema.org/draft-07/schema#", "title": title });
    if let (Some(document), Value::Object(schema)) = (document.as_object_mut(), schema) {
        document.extend(schema);
    }
    document
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_shipped_schemas_are_those_of_the_reader() {
        let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
        for (name, schema) in [
            ("kafkeep.schema.json", kafkeep_schema()),
            ("policy.schema.json", policy_schema()),
        ] {
            let text = format!("{schema:#}\n");
            let path = etc.join(name);
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let shipped = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                shipped == text,
                "etc/{name} is not what the reader takes: run the tests with UPDATE_EXPECT=1"
            );
        }
    }
}
