//! The order of rooms.

use crate::paths::{paths, tokens};

/// Lowest first.
pub const ROOMS: [&str; 16] = [
    "words",
    "files",
    "expression",
    "quote",
    "record",
    "repository",
    "memory",
    "kafka",
    "engine",
    "schedule",
    "auth",
    "policy",
    "api",
    "daemon",
    "http",
    "cli",
];

/// Names that say nothing about what lies in a file.
const NAMELESS: [&str; 5] = ["utils", "util", "common", "helpers", "misc"];

/// What is wrong with one source file of the crate, whose path is given from `src/` on.
pub fn violations(path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let segments: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    found.extend(
        segments
            .iter()
            .filter(|segment| NAMELESS.contains(segment))
            .map(|segment| {
                format!(
                    "{path}: `{segment}` says nothing: put it where it is used, name what it is"
                )
            }),
    );
    let [room, inner @ ..] = &segments[..] else {
        return found;
    };
    let Some(level) = ROOMS.iter().position(|known| known == room) else {
        // The crate's own two files see everything.
        let is_crate_root = ["lib", "main"].contains(room);
        found.extend(
            (!is_crate_root)
                .then(|| format!("{path}: `{room}` is no room: give it a place in the order")),
        );
        return found;
    };
    // How many modules deep the file is in the room: `room/mod.rs` and `room.rs` are the room itself.
    let depth = inner.iter().filter(|segment| **segment != "mod").count();
    let imports = |first: &str| ["crate", "kafkeep", "super"].contains(&first);
    for path_used in paths(&tokens(source), imports) {
        let target = match path_used.split_first() {
            Some((first, rest)) if first == "crate" || first == "kafkeep" => rest.first(),
            Some((first, _)) if first == "super" => {
                let ups = path_used
                    .iter()
                    .take_while(|segment| *segment == "super")
                    .count();
                // As if every file were one module; no room has a module of its own that is named like a room.
                (ups > depth).then(|| path_used.get(ups)).flatten()
            }
            _ => None,
        };
        let Some(target) = target.and_then(|name| ROOMS.iter().position(|known| known == name))
        else {
            continue;
        };
        if target > level {
            found.push(format!(
                "{path}: `{}` is above `{room}`: {}",
                ROOMS[target],
                path_used.join("::")
            ));
        }
    }
    found
}
