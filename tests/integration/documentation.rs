//! What the pages show is what the command does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::kafkeep;

/// The words of a command line as a shell would split them: quotes, and `#` for a remark.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (_, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Lines of fenced blocks: the fence's language and the lines.
fn blocks(page: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    docs.filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .chain([root.join("README.md")])
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The golden repository, sound and with one bit flipped in a pack.
fn repositories() -> TempDir {
    let directory = TempDir::new().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/repository-v1");
    for name in ["kafkeep", "damaged"] {
        copy(&golden, &directory.path().join(name));
    }
    let pack = directory
        .path()
        .join("damaged/packs/00/019a0000-0000-7000-8000-000000000000.pack");
    let mut bytes = fs::read(&pack).unwrap();
    bytes[3500] ^= 1;
    fs::write(pack, bytes).unwrap();
    directory
}

/// Trailing blanks, which tables have and pages must not.
fn trimmed<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    lines.map(str::trim_end).collect()
}

#[test]
fn shown_sessions_are_what_the_command_prints() {
    let directory = repositories();
    let mut shown = 0;
    for (page, text) in pages() {
        for (_, lines) in blocks(&text)
            .into_iter()
            .filter(|(language, _)| language == "console")
        {
            let (command, expected) = lines.split_first().unwrap();
            let command = command
                .strip_prefix("$ kafkeep ")
                .unwrap_or_else(|| panic!("{command}"));
            let arguments =
                words(command)
                    .into_iter()
                    .map(|word| match word.strip_prefix("/var/lib/") {
                        Some(name) => directory.path().join(name).display().to_string(),
                        None => word,
                    });
            let outcome = kafkeep(arguments);
            let printed = outcome.stdout.lines().chain(outcome.stderr.lines());
            assert_eq!(
                trimmed(printed),
                trimmed(expected.iter().map(String::as_str)),
                "{}: {command}",
                page.display()
            );
            shown += 1;
        }
    }
    assert!(shown >= 6);
}

#[test]
fn every_command_on_a_page_is_one_that_kafkeep_knows() {
    let mut known = 0;
    for (page, text) in pages() {
        for (_, lines) in blocks(&text) {
            for line in lines.iter().map(|line| line.trim_start_matches("$ ")) {
                let Some(command) = line.strip_prefix("kafkeep ") else {
                    continue;
                };
                // Help is printed for arguments that are spelled right, and only for them.
                let mut arguments = words(command);
                arguments.push("--help".to_owned());
                let outcome = kafkeep(arguments);
                assert_eq!(outcome.code, 0, "{}: {line}\n{outcome}", page.display());
                known += 1;
            }
        }
    }
    assert!(known >= 15);
}

/// What the pages' configurations refer to.
const SECRETS: [&str; 6] = [
    "prod.password",
    "ca.pem",
    "api.key",
    "msk.token",
    "user.crt",
    "user.key",
];

/// The TOML files of a page: blocks whose first line names the file, with `/etc/kafkeep` put where they are written. Several blocks
/// may be of one file.
fn configuration(page: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    fs::create_dir(path.join("policies.d")).unwrap();
    for name in SECRETS {
        fs::write(path.join(name), "swordfish-swordfish-swordfish-swordfish").unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let mut written = 0;
    for (_, lines) in blocks(&page)
        .into_iter()
        .filter(|(language, _)| language == "toml")
    {
        let name = lines[0].strip_prefix("# ").unwrap();
        let file = path.join(name.trim_end_matches(", continued"));
        let before = fs::read_to_string(&file).unwrap_or_default();
        let text = lines
            .join("\n")
            .replace("/etc/kafkeep", path.to_str().unwrap());
        fs::write(&file, format!("{before}{text}\n")).unwrap();
        written += 1;
    }
    assert!(written >= 2);
    directory
}

#[test]
fn the_configuration_that_is_shown_is_right() {
    let directory = configuration("docs/configuration.md");
    let outcome = kafkeep(["check", "--config", directory.path().to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{outcome}");
    for policy in ["orders", "orders-to-dr", "checkout"] {
        assert!(outcome.stdout.contains(policy), "{outcome}");
    }
}

#[test]
fn the_clusters_of_managed_services_are_configured_as_it_is_shown() {
    let directory = configuration("docs/managed-kafka.md");
    let outcome = kafkeep(["check", "--config", directory.path().to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{outcome}");
}

#[test]
fn the_error_that_is_shown_is_the_one_that_is_printed() {
    let directory = configuration("docs/configuration.md");
    let path = directory.path().join("policies.d/orders.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("schedule =", "shedule =")).unwrap();
    let at = directory.path().to_str().unwrap();
    let printed = kafkeep(["check", "--config", at])
        .stderr
        .replace(at, "/etc/kafkeep");
    let page = include_str!("../../docs/configuration.md");
    let shown = blocks(page)
        .into_iter()
        .find(|(language, _)| language == "text")
        .unwrap();
    let shown = shown.1.join("\n");
    assert!(printed.contains(&shown), "{printed}\nis not\n{shown}");
}
