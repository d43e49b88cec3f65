//! JSON schemas for editors (draft-07, which taplo reads), made from the same keys that the reader goes by.

use serde_json::{Map, Value, json};

use super::key::Keys;

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
