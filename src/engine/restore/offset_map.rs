//! The source offsets that consumer groups stand at, followed through a restore, which renumbers records.
//!
//! A group that stands at offset *o* reads next the first record at or behind *o* that a consumer may see: offsets of
//! markers, of aborted transactions and of records that compaction took away are passed over. So each landmark is placed on
//! the first record at or behind it that is restored, and its target offset is where that record goes. One for which no such
//! record comes stands at the end of what was restored. The cost follows the number of landmarks, not of records: no table
//! of offsets is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::record::Offset;

/// The landmarks of one source partition that no restored record has passed yet.
#[derive(Debug, Clone, Default)]
pub(super) struct OffsetMap(VecDeque<Landmark>);

/// An offset of the source that some group stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landmark {
    /// The offset.
    pub offset: Offset,
    /// Whether a record that the group would have read next lies outside the times asked for.
    pub is_cut: bool,
}

/// A landmark that stands on a record of a batch that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// The landmark.
    pub landmark: Landmark,
    /// The record's place in the batch, from 0.
    pub index: u32,
}

impl OffsetMap {
    /// At these offsets.
    pub fn at(offsets: &BTreeSet<Offset>) -> Self {
        let offset_map = offsets.iter().map(|offset| Landmark {
            offset: *offset,
            is_cut: false,
        });
        Self(offset_map.collect())
    }

    /// Whether one lies at or below `offset`.
    pub fn are_due(&self, offset: Offset) -> bool {
        self.0.front().is_some_and(|next| next.offset <= offset)
    }

    /// A record at `offset`, and all in front of it, are left out because of their time.
    pub fn cut(&mut self, offset: Offset) {
        for landmark in self.0.iter_mut().take_while(|mark| mark.offset <= offset) {
            landmark.is_cut = true;
        }
    }

    /// Places what stands at or in front of the record at `offset`, which is number `index` of the batch that is sent.
    pub fn place(&mut self, offset: Offset, index: u32) -> impl Iterator<Item = Placed> + '_ {
        std::iter::from_fn(move || {
            let landmark = self.0.pop_front_if(|next| next.offset <= offset)?;
            Some(Placed { landmark, index })
        })
    }

    /// The same for a batch of `records` records without holes, which begins at `base`.
    pub fn place_dense(&mut self, base: Offset, records: u32) -> Vec<Placed> {
        let end = Offset(base.0 + i64::from(records));
        let placed = std::iter::from_fn(|| {
            let landmark = self.0.pop_front_if(|next| next.offset < end)?;
            let index = u32::try_from(landmark.offset.0 - base.0).unwrap_or(0);
            Some(Placed { landmark, index })
        });
        placed.collect()
    }

    /// Those that no record was restored for.
    pub fn left(&self) -> impl Iterator<Item = Landmark> + '_ {
        self.0.iter().copied()
    }
}

/// Where landmarks of a source partition lie in its target partition.
#[derive(Debug, Clone, Default)]
pub(super) struct PositionMap(BTreeMap<Offset, Position>);

/// An offset of the target that a group is to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The offset.
    pub target: Offset,
    /// As in [`Landmark`].
    pub is_cut: bool,
}

impl PositionMap {
    /// Takes in what stands on a batch whose first record is at `base` in the target.
    pub fn acknowledged(&mut self, placed: &[Placed], base: Offset) {
        for Placed { landmark, index } in placed {
            let position = Position {
                target: Offset(base.0 + i64::from(*index)),
                is_cut: landmark.is_cut,
            };
            self.0.insert(landmark.offset, position);
        }
    }

    /// Takes in what no record came for: it stands at `end`.
    pub fn ended(&mut self, landmark: Landmark, end: Offset) {
        let position = Position {
            target: end,
            is_cut: landmark.is_cut,
        };
        self.0.insert(landmark.offset, position);
    }

    /// The target's offset for a landmark.
    pub fn get(&self, landmark: Offset) -> Option<Position> {
        self.0.get(&landmark).copied()
    }
}
