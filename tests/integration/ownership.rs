//! A repository whose files belong to several users.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::testbed::Outcome;

/// Another user than root, who need not have an account.
const NOBODY: u32 = 65534;
const NEWEST: &str = "backups/20261118T130640000Z-abcd01.json";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(fs::copy(&from, &to).unwrap()),
        }
    }
}

fn give(path: &Path) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

/// A copy of the golden repository, and of the command, for a user who is not root.
struct Scene {
    directory: TempDir,
    is_root: bool,
}

impl Scene {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open.clone()).unwrap();
        let command = directory.path().join("command");
        fs::copy(env!("CARGO_BIN_EXE_kafkeep"), &command).unwrap();
        fs::set_permissions(&command, open).unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/repository-v1");
        let scene = Self {
            is_root: rustix::process::geteuid().is_root(),
            directory,
        };
        copy(&golden, &scene.repository());
        if scene.is_root {
            give(&scene.repository());
        }
        scene
    }

    fn repository(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(self.directory.path().join("command"));
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.args(arguments).arg("--repository");
        command.arg(self.repository()).current_dir("/");
        Outcome::of(command.output().unwrap())
    }
}

#[test]
fn a_file_that_this_user_may_not_read_is_never_called_damage() {
    let scene = Scene::new();
    let manifest = scene.repository().join(NEWEST);
    let advice = if scene.is_root {
        chown(&manifest, Some(0), Some(0)).unwrap();
        fs::set_permissions(&manifest, fs::Permissions::from_mode(0o640)).unwrap();
        "chown -R --reference="
    } else {
        eprintln!("skipped: files of root, which only root makes");
        fs::set_permissions(&manifest, fs::Permissions::from_mode(0o000)).unwrap();
        "chmod -R u+rwX"
    };
    let all: [&[&str]; 4] = [
        &["list"],
        &["show", "latest"],
        &["verify"],
        &["expire", "--keep-last", "1"],
    ];
    for arguments in all {
        let outcome = scene.run(arguments);
        outcome.refused(1, &["Permission denied", "belongs to uid", advice]);
        for word in ["damage", "remove"] {
            assert!(!outcome.stderr.contains(word), "{outcome}");
        }
    }
    assert_eq!(
        fs::read_dir(scene.repository().join("backups"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn a_command_of_root_leaves_no_files_of_root() {
    let scene = Scene::new();
    if !scene.is_root {
        eprintln!("skipped: only root gives files away");
        return;
    }
    let repository = scene.repository().display().to_string();
    let expired = crate::kafkeep(["expire", "--repository", &repository, "--keep-last", "1"]);
    assert_eq!(expired.code, 0, "{expired}");
    scene.run(&["verify"]).done_plain();
    let outcome = scene.run(&["expire", "--keep-last", "1"]);
    assert_eq!(outcome.code, 0, "{outcome}");
}
