//! Who may work beside whom, and what becomes of locks whose holders died.

use std::fs;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::lock::STALE_AFTER;
use super::testing::{HangingStorage, Scratch, storage};
use super::*;

const LONG: Duration = Duration::from_secs(20);

fn is_locked<T: std::fmt::Debug>(result: Result<T, RepositoryError>) -> bool {
    matches!(&result, Err(error @ RepositoryError::Locked { .. }) if error.is_transient())
}

fn lock_files(scratch: &Scratch) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(scratch.directory.path().join("locks")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A lock as another process left it.
fn forge(scratch: &Scratch, change: impl FnOnce(&mut serde_json::Value)) -> LockId {
    let guard = scratch.repository.lock_shared("backup").unwrap();
    let path = &lock_files(scratch)[0];
    let mut lock: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    guard.release();
    let id = uuid::Uuid::now_v7();
    lock["lock_id"] = serde_json::json!(id);
    change(&mut lock);
    let path = scratch.directory.path().join(format!("locks/{id}.json"));
    fs::write(path, serde_json::to_vec(&lock).unwrap()).unwrap();
    LockId(id)
}

#[test]
fn shared_locks_go_together_and_exclusive_ones_with_none() {
    let scratch = Scratch::new();
    let other = Repository::open(storage(scratch.directory.path())).unwrap();
    let first = scratch.repository.lock_shared("backup").unwrap();
    let second = other.lock_shared("verify").unwrap();
    assert_eq!(scratch.repository.locks().unwrap().len(), 2);
    assert!(is_locked(other.lock_exclusive("expire")));
    first.release();
    assert!(is_locked(other.lock_exclusive("expire")));
    second.check().unwrap();
    second.release();
    let exclusive = other.lock_exclusive("expire").unwrap();
    assert!(is_locked(scratch.repository.lock_shared("backup")));
    assert!(is_locked(scratch.repository.lock_exclusive("expire")));
    exclusive.release();
    assert!(scratch.repository.locks().unwrap().is_empty());
}

#[test]
fn a_refused_lock_says_who_holds_the_other() {
    let scratch = Scratch::new();
    let _guard = scratch.repository.lock_shared("backup").unwrap();
    let error = scratch
        .repository
        .lock_exclusive("expire")
        .unwrap_err()
        .to_string();
    assert!(error.contains("backup is running as process"), "{error}");
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    assert!(!error.contains("remove"), "{error}");
}

#[test]
fn of_many_that_try_at_once_at_most_one_gets_an_exclusive_lock() {
    let scratch = Scratch::new();
    let granted = std::sync::Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                if let Ok(guard) = scratch.repository.lock_exclusive("expire") {
                    *granted.lock().unwrap() += 1;
                    std::thread::sleep(Duration::from_millis(300));
                    guard.release();
                }
            });
        }
    });
    assert!(*granted.lock().unwrap() <= 1);
    assert!(scratch.repository.locks().unwrap().is_empty());
}

#[test]
fn the_lock_of_a_gone_process_is_broken() {
    let scratch = Scratch::new();
    forge(&scratch, |lock| lock["pid"] = serde_json::json!(u32::MAX));
    let lock = scratch.repository.lock_exclusive("expire").unwrap();
    lock.release();
    assert!(lock_files(&scratch).is_empty());
}

#[test]
fn a_stale_lock_of_another_host_is_reported_and_broken_only_by_word() {
    let scratch = Scratch::new();
    let old = chrono::Utc::now() - STALE_AFTER * 2;
    let id = forge(&scratch, |lock| {
        lock["host"] = serde_json::json!("elsewhere");
        lock["refreshed_at"] = serde_json::json!(old);
    });
    let error = scratch
        .repository
        .lock_exclusive("expire")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("elsewhere") && error.contains(&format!("remove locks/{id}.json")),
        "{error}"
    );
    scratch.repository.break_lock(id).unwrap();
    assert!(scratch.repository.lock_exclusive("expire").is_ok());
}

#[test]
fn a_lock_that_nobody_refreshed_while_it_was_watched_is_broken() {
    let scratch = Scratch::new();
    forge(&scratch, |lock| {
        lock["host"] = serde_json::json!("elsewhere")
    });
    let guard = Scratch::new().repository.lock_exclusive("expire").unwrap();
    let own = guard.holder();
    let began = Instant::now();
    let look = |now| scratch.repository.refuse_conflicts(&own, now);
    assert!(is_locked(look(began)));
    assert!(is_locked(look(began + STALE_AFTER)));
    // Refreshed under another id, it is watched anew.
    fs::remove_file(&lock_files(&scratch)[0]).unwrap();
    forge(&scratch, |lock| {
        lock["host"] = serde_json::json!("elsewhere")
    });
    let refreshed = began + STALE_AFTER;
    assert!(is_locked(look(refreshed)));
    assert!(is_locked(look(refreshed + STALE_AFTER)));
    look(refreshed + STALE_AFTER + Duration::from_secs(1)).unwrap();
    assert!(lock_files(&scratch).is_empty());
}

#[test]
fn what_is_no_file_among_the_locks_locks_nobody_out() {
    let scratch = Scratch::new();
    scratch.repository.lock_shared("backup").unwrap().release();
    let locks = scratch.directory.path().join("locks");
    let id = uuid::Uuid::now_v7();
    std::os::unix::fs::symlink("/etc/passwd", locks.join(format!("{id}.json"))).unwrap();
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, locks.join("fifo.json"), fifo, mode, 0).unwrap();
    scratch
        .repository
        .lock_exclusive("expire")
        .unwrap()
        .release();
}

#[test]
fn locks_are_refreshed_under_new_names() {
    let scratch = Scratch::new();
    let every = Duration::from_millis(20);
    let guard = scratch
        .repository
        .lock(LockKind::Shared, "backup", every)
        .unwrap();
    let before = guard.holder();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while guard.holder().lock_id == before.lock_id && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_ne!(guard.holder().lock_id, before.lock_id);
    assert!(guard.holder().refreshed_at >= before.refreshed_at);
    assert_eq!(guard.holder().started_at, before.started_at);
    guard.check().unwrap();
    guard.release();
    assert!(lock_files(&scratch).is_empty());
}

#[test]
fn a_broken_lock_is_lost_to_its_holder() {
    let scratch = Scratch::new();
    let guard = scratch.repository.lock_shared("backup").unwrap();
    scratch
        .repository
        .break_lock(guard.holder().lock_id)
        .unwrap();
    assert!(matches!(
        guard.check(),
        Err(RepositoryError::LockLost { .. })
    ));
    let every = Duration::from_millis(5);
    let refreshed = scratch
        .repository
        .lock(LockKind::Shared, "backup", every)
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while refreshed.check().is_ok() && std::time::Instant::now() < deadline {
        for path in lock_files(&scratch) {
            fs::remove_file(path).ok();
        }
    }
    assert!(refreshed.check().is_err());
    refreshed.release();
    assert!(lock_files(&scratch).is_empty());
}

#[test]
fn a_lock_that_cannot_be_read_is_respected() {
    let scratch = Scratch::new();
    let lock = scratch.repository.lock_shared("backup").unwrap();
    lock.release();
    let path = scratch
        .directory
        .path()
        .join(format!("locks/{}.json", uuid::Uuid::now_v7()));
    fs::write(path, b"{").unwrap();
    let error = scratch.repository.lock_exclusive("expire").unwrap_err();
    assert!(
        matches!(error, RepositoryError::ObjectDamaged { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("remove it"), "{error}");
}

/// What `work` gives, unless it takes too long.
fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    result.recv_timeout(Duration::from_secs(5)).ok()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_check_that_hangs_keeps_nobody_from_the_lock() {
    let scratch = Scratch::new();
    let hanging = Arc::new(HangingStorage::new(scratch.directory.path()));
    let repository = Repository::open(Arc::clone(&hanging) as Arc<dyn Storage>).unwrap();
    let guard = Arc::new(repository.lock_shared("backup").unwrap());
    hanging.hang(true);
    let (checking, asking) = (Arc::clone(&guard), Arc::clone(&guard));
    let check = std::thread::spawn(move || checking.check());
    wait_until("the check hangs", || hanging.waiting() == 1);
    let holder = soon(move || asking.holder()).expect("the holder is known while a check hangs");
    assert_eq!(holder.purpose, "backup");
    hanging.hang(false);
    check.join().unwrap().unwrap();
}

#[test]
fn a_lock_is_dropped_at_once_while_its_storage_hangs_and_goes_away_later() {
    let scratch = Scratch::new();
    let hanging = Arc::new(HangingStorage::new(scratch.directory.path()));
    let repository = Repository::open(Arc::clone(&hanging) as Arc<dyn Storage>).unwrap();
    let every = Duration::from_millis(5);
    let guard = repository.lock(LockKind::Shared, "backup", every).unwrap();
    hanging.hang(true);
    wait_until("the refresh hangs", || hanging.waiting() == 1);
    soon(move || drop(guard)).expect("a drop waits for nothing");
    assert!(!lock_files(&scratch).is_empty());
    hanging.hang(false);
    wait_until("the lock goes away", || lock_files(&scratch).is_empty());
}

#[test]
fn a_lock_whose_removal_fails_now_and_then_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let unreliable = Arc::new(HangingStorage::new(scratch.directory.path()));
    let repository = Repository::open(Arc::clone(&unreliable) as Arc<dyn Storage>).unwrap();
    let every = Duration::from_millis(20);
    let guard = repository.lock(LockKind::Shared, "backup", every).unwrap();
    let first = guard.holder().lock_id;
    unreliable.fail_removals(2);
    wait_until("it is refreshed", || guard.holder().lock_id != first);
    guard.check().unwrap();
    // As the old name is removed, by the next refresh or at the end, and at the end itself.
    unreliable.fail_removals(2);
    guard.release();
    assert!(lock_files(&scratch).is_empty());
}

#[test]
fn a_lock_whose_old_name_cannot_be_looked_at_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let unreliable = Arc::new(HangingStorage::new(scratch.directory.path()));
    let repository = Repository::open(Arc::clone(&unreliable) as Arc<dyn Storage>).unwrap();
    let every = Duration::from_millis(100);
    let guard = repository.lock(LockKind::Shared, "backup", every).unwrap();
    let first = guard.holder().lock_id;
    // A refresh looks at the old name before and behind the new one.
    unreliable.fail_look(2);
    wait_until("it is refreshed", || guard.holder().lock_id != first);
    guard.release();
    assert!(lock_files(&scratch).is_empty());
}

#[test]
fn a_lock_holds_while_it_is_refreshed_under_other_names() {
    let scratch = Scratch::new();
    let every = Duration::from_millis(1);
    let guard = scratch
        .repository
        .lock(LockKind::Shared, "backup", every)
        .unwrap();
    let first = guard.holder().lock_id;
    wait_until("the lock is refreshed while it is checked", || {
        guard.check().unwrap();
        guard.holder().lock_id != first
    });
    for _ in 0..200 {
        guard.check().unwrap();
    }
    guard.release();
    assert!(lock_files(&scratch).is_empty());
}

#[test]
fn a_refused_lock_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let guard = scratch.repository.lock_shared("backup").unwrap();
    assert!(is_locked(scratch.repository.lock_exclusive("expire")));
    assert_eq!(lock_files(&scratch).len(), 1);
    guard.release();
}
