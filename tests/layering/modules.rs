//! Which module uses which: names are followed through re-exports to the module that defines them.

use std::collections::{BTreeMap, BTreeSet};

use crate::paths::{Segments, path, paths, tokens};

/// Folders and files of the engine that are verbs. What else is there they share.
const VERBS: [&str; 7] = [
    "backup", "restore", "mirror", "drain", "export", "expire", "verify",
];

/// Uses that close a circle and stay, with the reason.
const ALLOWED: [(&str, &str); 2] = [
    // A reservation gives its memory back to the budget that it is of, and the budget hands reservations to those that wait.
    ("memory/reservation.rs", "memory/budget.rs"),
    ("memory/waiting.rs", "memory/reservation.rs"),
];

/// The modules of the crate without those of tests, by path from the crate's root on.
pub struct Modules(BTreeMap<Segments, Module>);

struct Module {
    /// Its file, from `src/` on.
    file: String,
    /// Its modules.
    children: BTreeSet<String>,
    /// What it imports and re-exports.
    imports: Vec<Import>,
    /// All else in it.
    rest: Vec<String>,
}

struct Import {
    path: Segments,
    is_public: bool,
}

/// The names that each module uses of each other one.
pub struct Uses<'a> {
    modules: &'a Modules,
    names: BTreeMap<&'a Segments, BTreeMap<&'a Segments, BTreeSet<String>>>,
}

impl Modules {
    /// Reads the crate from its files, which `source` gives by their path from `src/` on.
    pub fn read(source: impl Fn(&str) -> Option<String>) -> Self {
        let mut modules = BTreeMap::new();
        let mut unread: Vec<Segments> = vec![Vec::new()];
        while let Some(name) = unread.pop() {
            let stem = name.join("/");
            let files = match name.is_empty() {
                true => ["lib.rs".to_owned(), String::new()],
                false => [format!("{stem}.rs"), format!("{stem}/mod.rs")],
            };
            let found = files
                .into_iter()
                .find_map(|file| source(&file).map(|text| (file, text)));
            let (file, text) = found.unwrap_or_else(|| panic!("no file for the module {stem}"));
            let module = Module::read(file, &text);
            unread.extend(module.children.iter().map(|child| {
                let mut below = name.clone();
                below.push(child.clone());
                below
            }));
            modules.insert(name, module);
        }
        Self(modules)
    }

    /// Who uses what of whom.
    pub fn uses(&self) -> Uses<'_> {
        let mut names: BTreeMap<_, BTreeMap<_, BTreeSet<String>>> = BTreeMap::new();
        for (user, module) in &self.0 {
            let used = names.entry(user).or_default();
            for path in module.paths() {
                let (definer, name) = self.defined(user, &path);
                if definer != user && !is_allowed(&module.file, &self.0[definer].file) {
                    used.entry(definer).or_default().insert(name);
                }
            }
        }
        Uses {
            modules: self,
            names,
        }
    }

    /// Where the name is defined that `path` means in the module `user`; and the name.
    fn defined(&self, user: &Segments, path: &[String]) -> (&Segments, String) {
        let (mut module, mut rest) = self.module(user, path);
        // No chain of re-exports is as long.
        for _ in 0..16 {
            let Some(name) = rest.first() else { break };
            let mut imports = self.0[module].imports.iter();
            let import = imports.find(|import| import.path.last() == Some(name));
            let Some(import) = import else { break };
            let (from, left) = self.module(module, &import.path);
            let is_of_another_crate = from == module && left == import.path;
            if is_of_another_crate {
                break;
            }
            (module, rest) = (from, left);
        }
        let name = rest.first().or(module.last());
        (module, name.cloned().unwrap_or_default())
    }

    /// The module that `path` leads to from the module `user`, and what of the path is no module.
    fn module<'p>(&self, user: &Segments, path: &'p [String]) -> (&Segments, &'p [String]) {
        let (mut at, mut rest) = (user.clone(), path);
        while let Some((first, behind)) = rest.split_first() {
            match first.as_str() {
                "crate" | "kafkeep" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                child if self.0[&at].children.contains(child) => at.push(child.to_owned()),
                _ => break,
            }
            rest = behind;
        }
        let (module, _) = self.0.get_key_value(&at).unwrap();
        (module, rest)
    }
}

fn is_allowed(user: &str, used: &str) -> bool {
    ALLOWED.contains(&(user, used))
}

impl Module {
    fn read(file: String, text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let mut module = Self {
            file,
            children: BTreeSet::new(),
            imports: Vec::new(),
            rest: Vec::new(),
        };
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = |by: usize| tokens.get(at + by).map_or("", String::as_str);
            if token == "mod" && next(2) == ";" {
                module.children.insert(next(1).to_owned());
                at += 3;
            } else if token == "use" {
                // `pub` or `pub(…)`, which ends like that, and nothing else with a bracket stands before `use`.
                let before = tokens[..at].last().map_or("", String::as_str);
                let is_public = ["pub", ")"].contains(&before);
                let mut paths = Vec::new();
                at = path(&tokens, at + 1, &[], &mut paths);
                let imports = paths.into_iter().map(|mut path| {
                    path.pop_if(|last| last == "self");
                    Import { path, is_public }
                });
                module.imports.extend(imports);
            } else {
                module.rest.push(token.clone());
                at += 1;
            }
        }
        module
    }

    /// The paths that it uses itself: a name that it only re-exports is none.
    fn paths(&self) -> Vec<Segments> {
        let begins = |first: &str| {
            ["crate", "kafkeep", "super", "self"].contains(&first) || self.children.contains(first)
        };
        let imports = self.imports.iter();
        let imports = imports.filter(|import| {
            let is_used = import
                .path
                .last()
                .is_some_and(|name| self.rest.contains(name));
            !import.is_public || is_used
        });
        let mut all = paths(&self.rest, begins);
        all.extend(imports.map(|import| import.path.clone()));
        all
    }
}

/// Leaves out each item under `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const TESTS: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().take(TESTS.len()).eq(TESTS.iter()) {
            at += TESTS.len() + item_length(&tokens[at + TESTS.len()..]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Up to its semicolon or its closing brace.
fn item_length(tokens: &[String]) -> usize {
    let is_import = tokens.iter().take(2).any(|token| token == "use");
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        let is_end = token == ";" || token == "}" && !is_import;
        if depth == 0 && is_end {
            return at + 1;
        }
    }
    tokens.len()
}

impl Uses<'_> {
    /// Each circle of modules, with who uses what of whom in it.
    pub fn circles(&self) -> Vec<String> {
        let reached: BTreeMap<_, _> = self
            .names
            .keys()
            .map(|module| (*module, self.reached_from(module)))
            .collect();
        let circles: BTreeSet<BTreeSet<&Segments>> = reached
            .iter()
            .filter(|(module, reached)| reached.contains(*module))
            .map(|(module, circle)| {
                let members = circle
                    .iter()
                    .filter(|other| reached[*other].contains(module));
                members.copied().collect()
            })
            .collect();
        let told = circles.iter().map(|circle| self.tell_circle(circle));
        told.collect()
    }

    fn reached_from(&self, module: &Segments) -> BTreeSet<&Segments> {
        let mut reached = BTreeSet::new();
        let mut unseen: Vec<&Segments> = self.names[module].keys().copied().collect();
        while let Some(module) = unseen.pop() {
            if reached.insert(module) {
                unseen.extend(self.names[module].keys());
            }
        }
        reached
    }

    fn tell_circle(&self, circle: &BTreeSet<&Segments>) -> String {
        let uses = circle.iter().flat_map(|user| {
            let used = self.names[user].iter();
            let used = used.filter(|(definer, _)| circle.contains(*definer));
            used.map(|(definer, names)| self.tell_use(user, definer, names))
        });
        let uses: Vec<String> = uses.collect();
        format!(
            "{} files use each other in a circle; move what they share below them:\n  {}",
            circle.len(),
            uses.join("\n  ")
        )
    }

    fn tell_use(&self, user: &Segments, definer: &Segments, names: &BTreeSet<String>) -> String {
        let file = |module| &self.modules.0[module].file;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let names = names.join(", ");
        format!("{} uses {names} of {}", file(user), file(definer))
    }

    /// Uses of a verb by another verb, or by what verbs share.
    pub fn of_verbs(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (user, used) in &self.names {
            let is_of_engine = user.len() > 1 && user[0] == "engine";
            for (definer, names) in used {
                let verb = verb(definer);
                if is_of_engine && verb.is_some() && verb != self::verb(user) {
                    found.push(self.tell_use(user, definer, names));
                }
            }
        }
        found
    }
}

/// The verb that a module is a part of.
fn verb(module: &Segments) -> Option<&str> {
    match module.as_slice() {
        [room, part, ..] if room == "engine" => {
            VERBS.contains(&part.as_str()).then_some(part.as_str())
        }
        _ => None,
    }
}
