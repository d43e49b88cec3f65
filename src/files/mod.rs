//! Small files that people and other programs leave for us: only regular ones, opened without waiting, read within a bound.
//!
//! A FIFO would wait for its writer, a device never ends, and a link where we write leads elsewhere. What is read may be
//! reached over a link, as mounted secrets and renewed certificates are; what is written never is.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// What a file holds, which must not be more than `most` bytes.
///
/// # Errors
///
/// Those of the file system, with the cause named where it is no regular file; [`ErrorKind::FileTooLarge`] when it holds more.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = most.saturating_add(1);
    open_regular(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it is larger than {}", in_words(most));
        return Err(io::Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// The same, as text.
///
/// # Errors
///
/// Those of [`read`]; [`ErrorKind::InvalidData`] when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read(path, most)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Puts `content` in the place of what a file holds: whoever reads it meanwhile, or after a loss of power, sees the one or the
/// other. Only its owner may read it (mode 0600).
///
/// # Errors
///
/// Those of the file system.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // Whatever bears the name was left behind, or put there: it is not written through.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// Makes a directory, and those above it, that only its owner may look into (mode 0700). One that is there becomes such a
/// directory, with its own files (mode 0600); a shared one, such as `/tmp`, stays as it is.
///
/// # Errors
///
/// Those of the file system.
pub fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = path.metadata()?.permissions().mode();
    if mode & STICKY != 0 {
        return Ok(());
    }
    close_to_others(path, mode)?;
    for entry in path.read_dir()? {
        let entry = entry?;
        // Not followed: a link's target is not ours.
        let found = entry.metadata()?;
        if found.is_file() {
            close_to_others(&entry.path(), found.permissions().mode())?;
        }
    }
    Ok(())
}

/// The mode of a directory in which each user removes only their own files.
const STICKY: u32 = 0o1000;

fn close_to_others(path: &Path, mode: u32) -> io::Result<()> {
    match mode & 0o077 {
        0 => Ok(()),
        _ => std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700)),
    }
}

fn open_regular(path: &Path) -> io::Result<File> {
    let without_waiting = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(without_waiting.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let what = match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    };
    let why = format!("it is {what}, not a file");
    Err(io::Error::new(ErrorKind::InvalidInput, why))
}

fn in_words(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn only_regular_files_within_the_bound_are_read() {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "1234").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("/dev/zero", path("endless")).unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(read(&path("file"), 4).unwrap(), b"1234");
        assert_eq!(read_text(&path("link"), 4).unwrap(), "1234");
        let refused = |name: &str, most| read(&path(name), most).unwrap_err().to_string();
        assert_eq!(refused("file", 3), "it is larger than 0 KiB");
        assert_eq!(refused("fifo", 4), "it is a FIFO, not a file");
        assert_eq!(refused("endless", 4), "it is a device, not a file");
        assert_eq!(refused("", 4), "it is a directory, not a file");
        assert_eq!(
            read(&path("none"), 4).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn a_file_is_replaced_and_links_are_not_followed() {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("elsewhere"), "theirs").unwrap();
        symlink("elsewhere", path("state.json.new")).unwrap();
        symlink("elsewhere", path("state.json")).unwrap();
        replace(&path("state.json"), b"ours").unwrap();
        assert_eq!(std::fs::read(path("elsewhere")).unwrap(), b"theirs");
        assert!(!path("state.json").is_symlink());
        assert_eq!(std::fs::read(path("state.json")).unwrap(), b"ours");
        assert!(!path("state.json.new").exists());
        assert_eq!(mode(&path("state.json")), 0o600);
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_private_directory_is_made_or_mended_with_its_files_and_a_shared_one_is_left_alone() {
        let directory = TempDir::new().unwrap();
        let private = directory.path().join("state/jobs");
        private_directory(&private).unwrap();
        assert_eq!(mode(&private), 0o700);
        let old = private.join("old.json");
        let elsewhere = directory.path().join("elsewhere");
        for (path, open) in [(&old, 0o644), (&elsewhere, 0o644)] {
            std::fs::write(path, "{}").unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
        }
        symlink(&elsewhere, private.join("link")).unwrap();
        std::fs::set_permissions(&private, Permissions::from_mode(0o755)).unwrap();
        private_directory(&private).unwrap();
        assert_eq!((mode(&private), mode(&old)), (0o700, 0o600));
        assert_eq!(mode(&elsewhere), 0o644);
        std::fs::set_permissions(&private, Permissions::from_mode(0o1777)).unwrap();
        private_directory(&private).unwrap();
        assert_eq!(mode(&private), 0o1777);
    }
}
