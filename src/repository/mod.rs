//! All that lies in a backup repository.
//!
//! A repository is a set of immutable objects behind the narrow [`Storage`] trait, in a [`Location`]:
//!
//! - [`PackWriter`] and [`PackReader`]: packs of blocks of whole record batches ([`SealedBlock`], [`Block`])
//! - [`Layer`] and [`TopicIndex`]: where the batches of a topic generation lie
//! - states: what is not records, such as topic configurations
//! - [`UnfinishedRun`]: what an interrupted run had sealed, for the next to adopt
//! - [`UnfinishedRestore`]: what an interrupted restore was about, for the next to go on
//! - [`Manifest`]: what makes a backup exist, written last
//! - [`Place`]: a backup's place in the order of all
//! - [`ExpiredBackups`]: which backups were taken away on purpose
//! - [`LockGuard`]: who uses the repository
//!
//! The chain of proof runs manifest → SHA-256 of indexes and states → SHA-256 and length of packs → CRC32 of blocks →
//! CRC32C of batches. `docs/format.md` describes every byte. Nothing here knows Kafka's network protocol or policies.

mod batch_evidence;
mod block;
mod block_header;
mod blocking_storage;
mod directory;
mod error;
mod expired;
mod extent;
mod footer;
mod identity;
mod ids;
mod index;
mod layout;
mod location;
mod lock;
mod lock_file;
mod lock_guard;
mod lock_holder;
mod lock_watch;
mod manifest;
mod manifest_check;
mod object_name;
mod objects;
mod order;
mod pack;
mod pack_opening;
mod pack_reader;
mod pack_writer;
mod removal;
mod restores;
mod seal;
mod sealed_json;
mod selection;
mod states;
mod storage;
mod storage_layer;
mod stretch;
mod transactions;
mod unfinished;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_cluster;
#[cfg(test)]
mod golden_order;
#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod lock_tests;
#[cfg(test)]
mod manifest_tests;
#[cfg(test)]
mod seal_tests;
#[cfg(test)]
mod testing;

pub use batch_evidence::BatchEvidence;
pub use block::Block;
pub use block_header::{BLOCK_HEADER_LEN, BLOCK_RAW_LIMIT, BlockCodec, BlockFlags, BlockHeader};
pub use blocking_storage::{BlockingStorage, BlockingWriter};
pub use directory::DirectoryStorage;
pub use error::RepositoryError;
pub use expired::{ExpiredBackup, ExpiredBackups, WhyGone};
pub use extent::Extent;
pub use footer::{Footer, FooterBlock, FooterTopic, FooterTransaction};
pub use identity::{Repository, Usage};
pub use ids::{BackupId, InvalidId, PackId, RepositoryId, RestoreId, Sha256};
pub use index::{ExtentFields, Layer, TopicIndex};
pub use location::{InvalidLocation, Location};
pub use lock::{ExclusiveLock, LockGuard, LockHolder, LockId, LockKind, STALE_AFTER};
pub use lock_holder::Process;
pub use manifest::{
    Completion, Gap, Manifest, OpenTransaction, PartitionEntry, TopicEntry, Totals,
};
pub use object_name::ObjectName;
pub use order::{LostBackup, Place, PreviousBackup};
pub use pack::{BlockPlace, PACK_HEADER_LEN, PackRef, TRAILER_LEN};
pub use pack_reader::{Blocks, PackReader};
pub use pack_writer::{PACK_TARGET, PackWriter};
pub use removal::{LackingPack, ReferenceWalk, References};
pub use restores::{UnfinishedRestore, UnfinishedTopic};
pub use seal::{BlockSource, SealedBlock};
pub use sealed_json::FORMAT;
pub use selection::{InvalidOffsetBound, OffsetBound, Selection};
pub use storage::{Answer, ObjectInfo, ObjectWriter, Page, Put, Storage, answer};
pub use storage_layer::{Call, StorageLayer};
pub use stretch::Stretch;
pub use transactions::{TransactionEvent, TransactionEventKind};
pub use unfinished::UnfinishedRun;
