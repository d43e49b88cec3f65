//! A repository's storage in memory that fails, or loses power, at the operation that a test chooses.
//!
//! It keeps what the directory backend promises, and no more: an object appears whole or not at all; it outlives a loss of
//! power once its directory was synced, which whoever publishes an object there does.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafkeep::repository::{
    Answer, ObjectInfo, ObjectName, ObjectWriter, Page, Put, RepositoryError, Storage, answer,
};

/// The system's error numbers that storage fails with.
pub const EIO: i32 = 5;
pub const EMFILE: i32 = 24;
pub const ENOSPC: i32 = 28;

/// What happens at the operation that is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails without an effect; all others work.
    Once(i32),
    /// It fails without an effect, and so do all that follow.
    From(i32),
    /// It fails with EIO, after its effect: the object was renamed, and its directory could not be synced. All others work.
    Unsynced,
    /// The power is lost before its effect.
    PowerLossBefore,
    /// The power is lost when all of it is durable, but before anybody is told.
    PowerLossAfter,
}

/// The storage. Clones are the same storage.
#[derive(Debug, Clone, Default)]
pub struct FaultyStorage(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    objects: BTreeMap<ObjectName, Object>,
    fault: Option<(usize, Fault)>,
    operations: usize,
    /// The operation that was struck.
    struck: Option<String>,
}

#[derive(Debug, Clone)]
struct Object {
    content: Bytes,
    /// Whether a loss of power leaves it there.
    durable: bool,
}

impl FaultyStorage {
    /// What is there, for a new process; `fault` strikes its operation number `at`, counted from 0.
    pub fn restarted(&self, at: usize, fault: Fault) -> Self {
        self.with(Some((at, fault)))
    }

    /// What is there, for a new process, without further faults.
    pub fn sound(&self) -> Self {
        self.with(None)
    }

    /// What a loss of power now would leave.
    pub fn after_power_loss(&self) -> Self {
        let left = self.sound();
        left.state().objects.retain(|_, object| object.durable);
        left
    }

    /// The operation that was struck, if it was.
    pub fn struck(&self) -> Option<String> {
        self.state().struck.clone()
    }

    /// The names of what is below `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let state = self.state();
        let names = state.objects.keys().map(ToString::to_string);
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// Takes objects away behind everybody's back.
    pub fn forget(&self, prefix: &str) {
        let mut state = self.state();
        state
            .objects
            .retain(|name, _| !name.as_str().starts_with(prefix));
    }

    fn with(&self, fault: Option<(usize, Fault)>) -> Self {
        let state = State {
            objects: self.state().objects.clone(),
            fault,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, unless the fault strikes.
    fn read<T>(
        &self,
        action: &'static str,
        name: &str,
        read: impl FnOnce(&State) -> Result<T, RepositoryError>,
    ) -> Result<T, RepositoryError> {
        let mut state = self.state();
        match state.strikes(action, name) {
            None => read(&state),
            Some(fault) => Err(fault.error(action, name)),
        }
    }

    /// Changes something, as far as the fault lets it.
    fn change<T>(
        &self,
        action: &'static str,
        name: &str,
        change: impl FnOnce(&mut State, bool) -> Result<T, RepositoryError>,
    ) -> Result<T, RepositoryError> {
        let mut state = self.state();
        let Some(fault) = state.strikes(action, name) else {
            return change(&mut state, true);
        };
        let (happens, durable) = match fault {
            Fault::Once(_) | Fault::From(_) | Fault::PowerLossBefore => (false, false),
            Fault::Unsynced => (true, false),
            Fault::PowerLossAfter => (true, true),
        };
        if happens && !state.is_past_fault() {
            change(&mut state, durable)?;
        }
        Err(fault.error(action, name))
    }
}

impl Fault {
    fn error(self, action: &'static str, name: &str) -> RepositoryError {
        let number = match self {
            Self::Once(number) | Self::From(number) => number,
            Self::Unsynced | Self::PowerLossBefore | Self::PowerLossAfter => EIO,
        };
        let source = io::Error::from_raw_os_error(number);
        match number {
            ENOSPC => RepositoryError::NoSpace {
                location: "memory".to_owned(),
                source,
            },
            _ => RepositoryError::Io {
                action,
                path: name.to_owned(),
                source,
            },
        }
    }
}

impl State {
    /// Counts an operation; the fault, if it strikes here.
    fn strikes(&mut self, action: &str, name: &str) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        let (at, fault) = self.fault?;
        let strikes = match fault {
            Fault::Once(_) | Fault::Unsynced => number == at,
            Fault::From(_) | Fault::PowerLossBefore | Fault::PowerLossAfter => number >= at,
        };
        if number == at {
            self.struck = Some(format!("operation {at}, {action} {name}"));
        }
        strikes.then_some(fault)
    }

    /// Whether the operation counted last comes after the one that was struck.
    fn is_past_fault(&self) -> bool {
        self.fault.is_some_and(|(at, _)| self.operations > at + 1)
    }

    fn object(&self, name: &ObjectName) -> Result<&Bytes, RepositoryError> {
        let object = self.objects.get(name);
        object
            .map(|object| &object.content)
            .ok_or_else(|| RepositoryError::ObjectMissing {
                name: name.to_string(),
                location: "memory".to_owned(),
            })
    }

    fn publish(
        &mut self,
        name: &ObjectName,
        content: Bytes,
        durable: bool,
    ) -> Result<(), RepositoryError> {
        if self.objects.contains_key(name) {
            return Err(RepositoryError::AlreadyExists {
                name: name.to_string(),
                location: "memory".to_owned(),
            });
        }
        self.objects
            .insert(name.clone(), Object { content, durable });
        if durable {
            // With the entries that others made there, and those of the directories above.
            let directory = parent(name.as_str());
            self.sync(|other| {
                directory == other
                    || other.is_empty()
                    || directory.starts_with(&format!("{other}/"))
            });
        }
        Ok(())
    }

    /// Makes the entries of some directories durable.
    fn sync(&mut self, synced: impl Fn(&str) -> bool) {
        for (name, object) in &mut self.objects {
            object.durable |= synced(parent(name.as_str()));
        }
    }
}

/// The directory that a name lies in.
fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Storage for FaultyStorage {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn is_empty(&self) -> Answer<'_, bool> {
        answer(|| self.read("list", "", |state| Ok(state.objects.is_empty())))
    }

    fn put<'a>(&'a self, name: &'a ObjectName, content: Bytes) -> Answer<'a, Put> {
        answer(move || {
            let mut taken = None;
            let kept = content.clone();
            let published = self.change("publish", name.as_str(), |state, durable| {
                taken = state.objects.get(name).map(|object| object.content == kept);
                state.publish(name, content, durable)
            });
            match (published, taken) {
                (Err(RepositoryError::AlreadyExists { .. }), Some(true)) => Ok(Put::Same),
                (Err(RepositoryError::AlreadyExists { .. }), _) => Ok(Put::Different),
                (published, _) => published.map(|()| Put::Created),
            }
        })
    }

    fn create<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, Box<dyn ObjectWriter>> {
        answer(|| {
            self.change("create", name.as_str(), |_, _| Ok(()))?;
            let writer: Box<dyn ObjectWriter> = Box::new(FaultyWriter {
                storage: self.clone(),
                name: name.clone(),
                content: Vec::new(),
                failed: false,
            });
            Ok(writer)
        })
    }

    fn get<'a>(&'a self, name: &'a ObjectName, limit: u64) -> Answer<'a, Bytes> {
        answer(move || {
            self.read("read", name.as_str(), |state| {
                let content = state.object(name)?;
                assert!(content.len() as u64 <= limit, "{name} is too large");
                Ok(content.clone())
            })
        })
    }

    fn get_range<'a>(&'a self, name: &'a ObjectName, range: Range<u64>) -> Answer<'a, Bytes> {
        answer(move || {
            self.read("read", name.as_str(), |state| {
                let content = state.object(name)?;
                let size = content.len() as u64;
                if range.start > range.end || range.end > size {
                    return Err(RepositoryError::OutOfRange {
                        name: name.to_string(),
                        size,
                        start: range.start,
                        end: range.end,
                    });
                }
                Ok(content.slice(range.start as usize..range.end as usize))
            })
        })
    }

    fn sync<'a>(&'a self, directory: &'a str) -> Answer<'a, ()> {
        answer(move || {
            self.change("sync", directory, |state, durable| {
                if durable {
                    state.sync(|other| other == directory);
                }
                Ok(())
            })
        })
    }

    fn size<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, u64> {
        answer(move || {
            self.read("examine", name.as_str(), |state| {
                Ok(state.object(name)?.len() as u64)
            })
        })
    }

    /// In pages of three, so that whoever lists sees more than one.
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a ObjectName>) -> Answer<'a, Page> {
        answer(move || {
            self.read("list", prefix, |state| {
                let below = state.objects.iter().filter(|(name, _)| {
                    name.as_str().starts_with(prefix) && after.is_none_or(|after| *name > after)
                });
                let info = |(name, object): (&ObjectName, &Object)| ObjectInfo {
                    name: name.clone(),
                    size: object.content.len() as u64,
                };
                let mut below = below.map(info).peekable();
                let objects: Vec<ObjectInfo> = below.by_ref().take(3).collect();
                let next = below.peek().and(objects.last());
                let next = next.map(|object| object.name.clone());
                Ok(Page { objects, next })
            })
        })
    }

    fn delete<'a>(&'a self, name: &'a ObjectName) -> Answer<'a, ()> {
        answer(move || {
            self.change("remove", name.as_str(), |state, _| {
                state.objects.remove(name);
                Ok(())
            })
        })
    }

    fn remove_leftovers(&self, _age: Duration) -> Answer<'_, usize> {
        answer(|| self.change("list", ".tmp", |_, _| Ok(0)))
    }
}

/// An object that is being written.
struct FaultyWriter {
    storage: FaultyStorage,
    name: ObjectName,
    content: Vec<u8>,
    failed: bool,
}

impl ObjectWriter for FaultyWriter {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Answer<'a, ()> {
        answer(move || {
            let storage = self.storage.clone();
            let written = storage.change("write", self.name.as_str(), |_, _| {
                self.content.extend(bytes);
                Ok(())
            });
            self.failed |= written.is_err();
            written
        })
    }

    fn finish(self: Box<Self>) -> Answer<'static, u64> {
        answer(move || {
            assert!(!self.failed, "{} was written to in vain", self.name);
            let length = self.content.len() as u64;
            let content = Bytes::from(self.content);
            self.storage
                .change("publish", self.name.as_str(), |state, durable| {
                    state.publish(&self.name, content, durable)
                })?;
            Ok(length)
        })
    }
}
