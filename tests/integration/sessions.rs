//! Sessions that pages show: commands of a shell, each with what it prints. `…` stands for whatever there is.

use std::path::Path;
use std::process::Command;

/// Commands, each with what it shows to be printed, of one block.
pub type Session = Vec<(String, String)>;

/// The sessions of a page, in its order.
pub fn sessions(page: &str) -> Vec<Session> {
    let blocks = page.split("```session\n").skip(1);
    blocks
        .map(|rest| session(rest.split_once("```").unwrap().0))
        .collect()
}

fn session(block: &str) -> Session {
    let mut commands: Session = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, shown))) => {
                if !shown.is_empty() {
                    shown.push('\n');
                }
                shown.push_str(line);
            }
            (None, None) => panic!("{line}"),
        }
    }
    commands
}

/// Whether a text is what is shown, where `…` stands for whatever there is.
pub fn is_shown(text: &str, shown: &str) -> bool {
    let Some((first, parts)) = shown.split_once('…') else {
        return text == shown;
    };
    let (parts, last) = parts.rsplit_once('…').unwrap_or(("", parts));
    let ends = text
        .strip_prefix(first)
        .and_then(|rest| rest.strip_suffix(last));
    let Some(mut rest) = ends else {
        return false;
    };
    parts.split('…').all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

/// Runs a session in one shell in `directory`, after the lines of `before`. Every command must end with 0 and print what is shown.
/// Returns what was printed on standard error.
#[track_caller]
pub fn run(session: &Session, before: &str, directory: &Path) -> String {
    let mut script = format!("set -uo pipefail\n{before}\n");
    for (command, _) in session {
        script += &format!("{command}\necho \"@@$?\"\n");
    }
    let own = Path::new(env!("CARGO_BIN_EXE_kafkeep")).parent().unwrap();
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
    let ran = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(directory)
        .output()
        .unwrap();
    let (printed, complaints) = (
        String::from_utf8(ran.stdout).unwrap(),
        String::from_utf8(ran.stderr).unwrap(),
    );
    let mut rest = printed.as_str();
    for (command, shown) in session {
        let (printed, behind) = rest.split_once("@@").unwrap();
        let (code, behind) = behind.split_once('\n').unwrap();
        let printed = printed.trim_end();
        assert!(
            code == "0" && is_shown(printed, shown),
            "$ {command}\n{printed}\n(exit code {code}) is not\n{shown}\n{complaints}"
        );
        rest = behind;
    }
    complaints
}

#[test]
fn what_is_left_out_of_a_shown_answer_is_only_what_it_says() {
    assert!(is_shown("{\"a\":1,\"b\":2}", "{\"a\":…,\"b\":2}"));
    assert!(is_shown("abc", "abc"));
    assert!(is_shown("{{}}", "{…}"));
    assert!(!is_shown("abcd", "abc"));
    assert!(!is_shown("{\"a\":1,\"b\":3}", "{\"a\":…,\"b\":2}"));
}
