//! Names and digests: what identifies a repository, a pack, a backup and a piece of content.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest;
use uuid::Uuid;

/// The random (version 4) UUID that a repository gets when it is made; every pack and manifest carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepositoryId(pub Uuid);

impl RepositoryId {
    /// An id that no other repository has.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

/// A version 7 UUID (RFC 9562): packs sort by the time at which they were begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackId(pub Uuid);

impl PackId {
    /// A fresh id, of now.
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }
}

/// A version 7 UUID: a restore that was begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RestoreId(pub Uuid);

impl RestoreId {
    /// A fresh id, of now.
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }
}

macro_rules! displayed_uuid {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let id = Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { text: text.to_owned() })?;
                // One id, one spelling: names of objects are compared as text.
                if id.to_string() == text { Ok(id) } else { Err(InvalidId { text: text.to_owned() }) }
            }
        }
    )*};
}
displayed_uuid!(RepositoryId, PackId, RestoreId);

/// A text that is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid id")]
pub struct InvalidId {
    /// The text that was given as an id.
    pub text: String,
}

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            text: text.chars().take(80).collect(),
        };
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(invalid()),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(invalid());
        }
        let mut digest = [0; 32];
        for (out, [high, low]) in digest.iter_mut().zip(pairs) {
            *out = (digit(*high)? << 4) | digit(*low)?;
        }
        Ok(Self(digest))
    }
}

/// When a backup began (UTC, milliseconds) and three random bytes, as `20261124T114000123Z-3f9a1c`. Ids sort in the order in which
/// backups were planned: see [`BackupId::after`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId {
    started_at: DateTime<Utc>,
    suffix: [u8; 3],
}

/// To the millisecond, so that backups made one after another sort in that order.
const BACKUP_TIME: &str = "%Y%m%dT%H%M%S%3fZ";
const MILLISECOND: TimeDelta = TimeDelta::milliseconds(1);
/// The last millisecond that has a name: 9999-12-31T23:59:59.999Z.
const LAST_MOMENT: DateTime<Utc> = match DateTime::from_timestamp_millis(253_402_300_799_999) {
    Some(moment) => moment,
    None => DateTime::UNIX_EPOCH,
};

impl BackupId {
    /// A fresh id for a backup that begins at `started_at`.
    pub fn new(started_at: DateTime<Utc>) -> Self {
        Self::from_parts(started_at, rand::random())
    }

    /// A fresh id for a backup that begins at `now`, above all ids up to `newest`: ids ascend in the order in which backups are
    /// planned, also when the clock ran ahead before or is behind now (a hybrid clock).
    pub fn after(newest: Option<Self>, now: DateTime<Utc>) -> Self {
        let above = newest.and_then(|id| id.started_at.checked_add_signed(MILLISECOND));
        Self::new(above.map_or(now, |above| now.max(above)).min(LAST_MOMENT))
    }

    /// The id of a given millisecond and suffix. Times outside the years 0 to 9999 become the epoch, as they have no name.
    pub fn from_parts(started_at: DateTime<Utc>, suffix: [u8; 3]) -> Self {
        let moment =
            DateTime::from_timestamp_millis(started_at.timestamp_millis()).unwrap_or_default();
        let nameable = moment.format(BACKUP_TIME).to_string().len() == 19;
        Self {
            started_at: if nameable {
                moment
            } else {
                DateTime::default()
            },
            suffix,
        }
    }

    /// The millisecond that it names: that in which the backup began, or a later one where the clock was behind the newest
    /// backup's id.
    pub fn started_at(&self) -> DateTime<Utc> {
        self.started_at
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.suffix;
        write!(
            f,
            "{}-{a:02x}{b:02x}{c:02x}",
            self.started_at.format(BACKUP_TIME)
        )
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BackupId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let (time, suffix) = text.split_once('-')?;
            let started_at = NaiveDateTime::parse_from_str(time, BACKUP_TIME)
                .ok()?
                .and_utc();
            let suffix = u32::from_str_radix(suffix, 16).ok()?.to_be_bytes();
            let id = Self::from_parts(started_at, [suffix[1], suffix[2], suffix[3]]);
            (id.to_string() == text).then_some(id)
        };
        parse().ok_or_else(|| InvalidId {
            text: text.chars().take(80).collect(),
        })
    }
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Sha256, BackupId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_only_in_their_one_spelling() {
        let digest = Sha256::of(b"kafkeep");
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        assert!(text.to_uppercase().parse::<Sha256>().is_err());
        assert!(text.get(1..).unwrap().parse::<Sha256>().is_err());
        assert!(format!("{text}0").parse::<Sha256>().is_err());
        assert!("é".repeat(32).parse::<Sha256>().is_err());
    }

    #[test]
    fn backup_ids_sort_by_time_and_are_read_only_in_their_one_spelling() {
        let at = |second| DateTime::from_timestamp(second, 999_000_000).unwrap();
        let earlier = BackupId::from_parts(at(1_795_000_000), [0xff; 3]);
        let later = BackupId::from_parts(at(1_795_000_001), [0; 3]);
        assert!(earlier < later);
        assert!(earlier.to_string() < later.to_string());
        assert_eq!(earlier.to_string(), "20261118T110640999Z-ffffff");
        assert_eq!(earlier.to_string().parse(), Ok(earlier));
        for wrong in [
            "",
            "-",
            "20261118T110640999Z",
            "20261118T110640999Z-FFFFFF",
            "20261118T110640999Z-ff",
            "20261118T110640999Z-+fffff",
            "20261318T110640999Z-ffffff",
            "../20261118T110640999Z-ffffff",
        ] {
            assert!(wrong.parse::<BackupId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fresh_backup_id_is_above_the_newest_whatever_the_clock_shows() {
        let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        assert_eq!(BackupId::after(None, now).started_at(), now);
        let hour = TimeDelta::hours(1);
        for newest in [now - hour, now, now + hour, now + hour * 24 * 365] {
            let newest = BackupId::from_parts(newest, [0xff; 3]);
            let mut id = newest;
            for _ in 0..3 {
                let next = BackupId::after(Some(id), now);
                assert!(
                    next > id && next.to_string() > id.to_string(),
                    "{next} {id}"
                );
                assert!(next.started_at() >= now);
                id = next;
            }
            assert!(id.started_at() <= now.max(newest.started_at()) + MILLISECOND * 3);
        }
        let last = BackupId::from_parts(LAST_MOMENT, [0; 3]);
        assert_eq!(last.to_string(), "99991231T235959999Z-000000");
        assert_eq!(BackupId::after(Some(last), now).started_at(), LAST_MOMENT);
    }

    #[test]
    fn pack_ids_sort_by_time() {
        let first = PackId::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(first.to_string() < PackId::now().to_string());
    }
}
