//! JSON schemas for editors (draft-07, which taplo reads), made from the same keys that the reader goes by.

use serde_json::{Map, Value, json};

use super::kafkeep_file::KafkeepFile;
use super::key::{Keys, Kind};
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

/// A table with these keys and no others.
pub(super) fn table(keys: Keys) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = key.schema();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".to_owned(), key.doc().into());
        }
        properties.insert(key.name().to_owned(), schema);
    }
    let required: Vec<&str> = keys
        .iter()
        .filter(|key| key.is_required())
        .map(|key| key.name())
        .collect();
    let mut table = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if let (false, Some(table)) = (required.is_empty(), table.as_object_mut()) {
        table.insert("required".to_owned(), required.into());
    }
    table
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
