//! A table that is being read, key by key.

use toml::de::DeTable;

use crate::engine::topics::nearest;

use super::key::{At, Key, Keys, Kind, Node};
use super::reader::Reader;
use super::source::Place;

/// A table, whose unknown keys have been told.
pub(super) struct Section<'n> {
    table: &'n DeTable<'n>,
    pub place: Place,
}

impl<'n> Section<'n> {
    /// Opens a table that may have `keys`.
    pub fn open<T: Kind>(node: &'n Node<'_>, keys: Keys, reader: &mut Reader) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            if !reader.is_open {
                reader.hide_values(node);
            }
            reader.wrong_type::<T>(node);
            return None;
        };
        for (key, value) in table {
            let name = key.get_ref();
            if keys.iter().any(|known| known.name() == name) {
                continue;
            }
            if !reader.is_open {
                reader.hide_values(value);
            }
            let near = nearest(name, keys.iter().map(|known| known.name()));
            let elsewhere = reader.elsewhere.iter().find(|(key, _)| key == name);
            let help = match (elsewhere, near) {
                (Some((_, advice)), _) => (*advice).to_owned(),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("known here: {}", names(keys)),
            };
            let place = reader.place(key.span());
            reader.problem(place, format!("unknown key `{name}`"), help);
        }
        Some(Self {
            table,
            place: reader.place(node.span()),
        })
    }

    /// Reads a key. `None` when it is not there, or wrong: then that has been told.
    pub fn get<T: Kind>(&self, key: &Key<T>, reader: &mut Reader) -> Option<At<T>> {
        let found = self
            .table
            .iter()
            .find(|(name, _)| name.get_ref() == key.name);
        let Some((_, node)) = found else {
            if key.required {
                let message = format!("`{}` is missing", key.name);
                reader.problem(self.place, message, format!("{}: {}", key.name, key.doc));
            }
            return None;
        };
        let value = reader.keyed(key.name, |reader| T::read(node, reader));
        Some(At {
            value: value?,
            place: reader.place(node.span()),
        })
    }

    /// Whether the key is there, right or wrong.
    pub fn has<T>(&self, key: &Key<T>) -> bool {
        self.table
            .iter()
            .any(|(name, _)| name.get_ref() == key.name)
    }

    /// The value alone.
    pub fn value<T: Kind>(&self, key: &Key<T>, reader: &mut Reader) -> Option<T> {
        self.get(key, reader).map(|at| at.value)
    }
}

fn names(keys: Keys) -> String {
    let names: Vec<String> = keys.iter().map(|key| format!("`{}`", key.name())).collect();
    names.join(", ")
}
