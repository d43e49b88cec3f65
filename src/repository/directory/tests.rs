use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::repository::BlockingStorage;
use crate::repository::testing::noise;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn blocking(storage: DirectoryStorage) -> BlockingStorage {
    BlockingStorage::new(Arc::new(storage))
}

fn scratch() -> (tempfile::TempDir, BlockingStorage) {
    let directory = tempfile::tempdir().unwrap();
    let storage = DirectoryStorage::open(directory.path()).unwrap();
    (directory, blocking(storage))
}

fn leftovers(path: &Path) -> usize {
    fs::read_dir(path.join(TEMPORARY_DIRECTORY)).map_or(0, Iterator::count)
}

#[test]
fn objects_are_published_once_and_never_replaced() {
    let (directory, storage) = scratch();
    storage.put_new(&name("a/b/c.json"), "first").unwrap();
    let again = storage.put_new(&name("a/b/c.json"), "second");
    assert!(matches!(again, Err(RepositoryError::AlreadyExists { .. })));
    let mut writer = storage.create(&name("a/b/c.json")).unwrap();
    writer.write(b"third").unwrap();
    assert!(matches!(
        writer.finish(),
        Err(RepositoryError::AlreadyExists { .. })
    ));
    assert_eq!(
        storage.get(&name("a/b/c.json"), 5).unwrap(),
        "first".as_bytes()
    );
    assert_eq!(leftovers(directory.path()), 0);
}

#[test]
fn what_is_put_again_is_compared_with_what_is_there() {
    let (directory, storage) = scratch();
    let put = |content: &'static str| storage.put(&name("a/b"), content.into()).unwrap();
    assert_eq!(put("first"), Put::Created);
    assert_eq!(put("first"), Put::Same);
    assert_eq!(put("other"), Put::Different);
    assert_eq!(put("longer than the first"), Put::Different);
    assert_eq!(storage.get(&name("a/b"), 5).unwrap(), "first".as_bytes());
    assert_eq!(leftovers(directory.path()), 0);
}

#[test]
fn a_directory_promises_no_retention() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DirectoryStorage::open(directory.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (object, now) = (name("a"), chrono::Utc::now());
    let retained = runtime.block_on(storage.retain(&object, now));
    assert!(matches!(retained, Err(RepositoryError::NoRetention { .. })));
}

#[test]
fn what_is_written_is_read_back_whatever_its_length() {
    let (_directory, storage) = scratch();
    let buffer = buffers::WRITE_BUFFER;
    for (index, length) in [
        0,
        1,
        4095,
        4096,
        4097,
        buffer - 1,
        buffer,
        buffer + 1,
        7 * buffer,
        7 * buffer + 4097,
    ]
    .into_iter()
    .enumerate()
    {
        let content = noise(length, index as u64);
        let name = name(&format!("packs/{index}"));
        let mut writer = storage.create(&name).unwrap();
        for piece in content.chunks(1_000_003) {
            writer.write(piece).unwrap();
        }
        assert!(
            storage.size(&name).unwrap_err().is_missing(),
            "visible before it is finished"
        );
        assert_eq!(writer.finish().unwrap(), length as u64);
        assert_eq!(storage.size(&name).unwrap(), length as u64);
        assert!(storage.get(&name, u64::MAX).unwrap() == content, "{length}");
    }
}

#[test]
fn ranges_are_read_exactly_or_not_at_all() {
    let (_directory, storage) = scratch();
    let content = noise(3 << 20, 1);
    storage.put_new(&name("a"), content.clone()).unwrap();
    for range in [0..0, 0..1, 5..300_000, 1..content.len(), 0..content.len()] {
        let read = storage
            .get_range(&name("a"), range.start as u64..range.end as u64)
            .unwrap();
        assert!(read == content[range]);
    }
    let length = content.len() as u64;
    for range in [0..length + 1, length + 1..length + 1, 0..u64::MAX] {
        let read = storage.get_range(&name("a"), range);
        assert!(matches!(read, Err(RepositoryError::OutOfRange { .. })));
    }
    assert!(matches!(
        storage.get(&name("a"), length - 1),
        Err(RepositoryError::ObjectTooLarge { .. })
    ));
}

#[test]
fn read_buffers_are_not_shared_between_readers_of_different_objects() {
    let (_directory, storage) = scratch();
    let (first, second) = (noise(1 << 20, 1), noise(1 << 20, 2));
    storage.put_new(&name("first"), first.clone()).unwrap();
    storage.put_new(&name("second"), second.clone()).unwrap();
    let read = |which| storage.get(&name(which), u64::MAX).unwrap();
    let kept = read("first").slice(1000..2000);
    assert!(read("second") == second && read("second") == second);
    assert!(kept == first[1000..2000]);
}

#[test]
fn listings_show_whole_objects_and_what_stands_in_their_places_sorted_by_name() {
    let (directory, storage) = scratch();
    for object in ["b/2", "b/1", "a", "b/c/3"] {
        storage.put_new(&name(object), object.to_owned()).unwrap();
    }
    let unfinished = storage.create(&name("b/0")).unwrap();
    fs::write(directory.path().join("b/.hidden"), b"").unwrap();
    fs::write(directory.path().join("b/not a name"), b"").unwrap();
    symlink("/etc", directory.path().join("b/etc")).unwrap();
    let list = |prefix: &str| -> Vec<String> {
        storage
            .list(prefix)
            .unwrap()
            .iter()
            .map(|object| object.name.to_string())
            .collect()
    };
    assert_eq!(list(""), ["a", "b/1", "b/2", "b/c/3", "b/etc"]);
    assert_eq!(list("b/"), ["b/1", "b/2", "b/c/3", "b/etc"]);
    assert_eq!(list("b/c/"), ["b/c/3"]);
    assert!(list("nothing/").is_empty());
    assert!(storage.list("b").is_err() && storage.list("../").is_err());
    drop(unfinished);
}

#[test]
fn deleted_objects_are_gone() {
    let (_directory, storage) = scratch();
    storage.put_new(&name("a/b"), "").unwrap();
    storage.delete(&name("a/b")).unwrap();
    assert!(storage.get(&name("a/b"), 1).unwrap_err().is_missing());
    storage.delete(&name("a/b")).unwrap();
    storage.delete(&name("c/d")).unwrap();
}

#[test]
fn directories_are_synced_where_they_are() {
    let (directory, storage) = scratch();
    storage.put_new(&name("a/b"), "").unwrap();
    storage.sync("a").unwrap();
    storage.sync("nothing").unwrap();
    symlink("/etc", directory.path().join("linked")).unwrap();
    assert!(storage.sync("linked").is_err() && storage.sync("../").is_err());
}

#[test]
fn leftovers_are_removed_when_they_are_old_enough() {
    let (directory, storage) = scratch();
    assert_eq!(storage.remove_leftovers(Duration::ZERO).unwrap(), 0);
    storage.put_new(&name("a"), "").unwrap();
    fs::write(directory.path().join(".tmp/crashed"), b"half").unwrap();
    assert_eq!(
        storage.remove_leftovers(Duration::from_secs(3600)).unwrap(),
        0
    );
    assert_eq!(storage.remove_leftovers(Duration::ZERO).unwrap(), 1);
    assert_eq!(leftovers(directory.path()), 0);
    assert_eq!(storage.list("").unwrap().len(), 1);
}

#[test]
fn a_link_to_a_directory_is_not_followed() {
    let (directory, storage) = scratch();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    symlink(outside.path(), directory.path().join("packs")).unwrap();
    for result in [
        storage.get(&name("packs/secret"), 100).map(drop),
        storage.put_new(&name("packs/new"), "new"),
        storage.delete(&name("packs/secret")),
        storage.list("packs/").map(drop),
    ] {
        assert!(
            matches!(result, Err(RepositoryError::ObjectDamaged { .. })),
            "{result:?}"
        );
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn directories_are_created_with_those_above_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/c");
    let storage = blocking(DirectoryStorage::create(&path).unwrap());
    assert!(storage.is_empty().unwrap());
    storage.put_new(&name("x"), "").unwrap();
    let again = blocking(DirectoryStorage::create(&path).unwrap());
    assert!(!again.is_empty().unwrap());
}

/// Another user than root, who need not have an account.
const NOBODY: u32 = 65534;

/// Only root gives files away: without it there is nothing to see here.
fn given_to_nobody(path: &Path) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    match is_root {
        true => std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap(),
        false => eprintln!("skipped: this test runs as root alone"),
    }
    is_root
}

fn owners(directory: &Path, found: &mut Vec<(PathBuf, u32, u32)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            owners(&path, found);
        }
        found.push((path, metadata.uid(), metadata.gid()));
    }
}

#[test]
fn what_root_makes_is_the_repositorys_owners() {
    let directory = tempfile::tempdir().unwrap();
    if !given_to_nobody(directory.path()) {
        return;
    }
    // A directory that a root of before left, or one that was killed.
    fs::create_dir(directory.path().join("packs")).unwrap();
    let storage = blocking(DirectoryStorage::open(directory.path()).unwrap());
    storage.put_new(&name("backups/a.json"), "small").unwrap();
    storage.keep_reserve().unwrap();
    let mut writer = storage.create(&name("packs/00/a.pack")).unwrap();
    writer.write(b"large").unwrap();
    writer.finish().unwrap();
    let mut found = Vec::new();
    owners(directory.path(), &mut found);
    assert!(found.len() >= 7, "{found:?}");
    for (path, uid, gid) in found {
        assert_eq!((uid, gid), (NOBODY, NOBODY), "{}", path.display());
    }
}

#[test]
fn what_is_denied_says_who_owns_what_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DirectoryStorage::open(directory.path()).unwrap();
    let denied = |name: &str| storage.root.error("open", name, Errno::ACCESS);
    fs::create_dir(directory.path().join("packs")).unwrap();
    fs::write(directory.path().join("packs/a"), "").unwrap();
    let path = directory.path().display();
    let error = denied("packs/a");
    assert!(!error.is_damage() && error.takes_no_writes() && error.is_of_one_object());
    let said = error.to_string();
    let me = rustix::process::geteuid().as_raw();
    for part in [
        format!(
            "cannot open {path}/packs/a: Permission denied (os error 13); {path}/packs/a belongs to uid {me}, gid "
        ),
        "with mode 0".to_owned(),
        format!(
            "and this process is uid {me}; give its owner the rights to it: chmod -R u+rwX {path}"
        ),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    let said = denied("states/new").to_string();
    assert!(
        said.contains(&format!("; {path} belongs to uid {me}")),
        "{said}"
    );
    if !given_to_nobody(directory.path()) {
        return;
    }
    let said = denied("packs/a").to_string();
    for part in [
        format!("{path}/packs belongs to uid 0"),
        format!("the repository is uid {NOBODY}'s"),
        format!("chown -R --reference={path} {path}"),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    given_to_nobody(&directory.path().join("packs"));
    given_to_nobody(&directory.path().join("packs/a"));
    let said = denied("packs/a").to_string();
    assert!(
        said.contains(&format!("sudo -u '#{NOBODY}' kafkeep")),
        "{said}"
    );
}

const SMALL_DISK: &str = "KAFKEEP_TEST_SMALL_DISK";

/// Runs itself again in a mount namespace of its own, where a small disk is mounted. Where the system does not permit that
/// (it takes root or user namespaces), there is nothing to see.
#[test]
fn a_full_disk_is_said_to_be_full_and_nothing_is_left_on_it() {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        fill_up(&PathBuf::from(disk));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let test =
        "repository::directory::tests::a_full_disk_is_said_to_be_full_and_nothing_is_left_on_it";
    let script =
        "mount -t tmpfs -o size=20m none \"$1\" || exit 99; exec \"$2\" --exact \"$3\" --nocapture";
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(SMALL_DISK, directory.path())
        .output();
    let Ok(output) = output else { return };
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let not_permitted = output.status.code() == Some(99) || said.contains("unshare");
    assert!(output.status.success() || not_permitted, "{said}");
    if !not_permitted {
        assert!(said.contains("1 passed"), "{said}");
    }
}

fn fill_up(disk: &Path) {
    let storage = blocking(DirectoryStorage::open(disk).unwrap());
    let before = rustix::fs::statvfs(disk).unwrap().f_bfree;
    assert!(before <= (20 << 20) / 4096, "not a small disk");
    let large = noise(30 << 20, 1);
    let mut writer = storage.create(&name("packs/large")).unwrap();
    let error = match writer.write(&large) {
        Ok(()) => writer.finish().unwrap_err(),
        Err(error) => {
            drop(writer);
            error
        }
    };
    assert!(
        matches!(error, RepositoryError::NoSpace { .. }),
        "{error:?}"
    );
    assert!(!error.is_transient());
    let error = storage.put_new(&name("states/large"), large).unwrap_err();
    assert!(
        matches!(error, RepositoryError::NoSpace { .. }),
        "{error:?}"
    );
    assert_eq!(leftovers(disk), 0);
    assert!(storage.list("").unwrap().is_empty());
    storage
        .put_new(&name("states/small"), noise(1 << 20, 2))
        .unwrap();
}
