//! Where the records of a source's offsets lie in the target: runs in which both count alike.

use std::collections::VecDeque;

use crate::record::Offset;

/// So many runs are remembered of a partition. Each transaction begins one, since its marker takes an offset of its own: that is
/// half an hour of a busy mirror at least.
const REMEMBERED: usize = 4096;

/// What is known of one partition.
#[derive(Debug, Clone, Default)]
pub(super) struct OffsetMap {
    runs: VecDeque<Run>,
    known: Option<Known>,
    /// Where the session began: in the source, and where the target ended then.
    began: Option<(Offset, Offset)>,
}

/// Of which offsets of the source something is known.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// From here on.
    start: Offset,
    /// Up to here: the first that was not copied.
    end: Offset,
    /// Where what comes next of the source will lie in the target, or behind it.
    behind: Offset,
}

/// Records `[source, source + count)` lie at `[target, target + count)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    source: Offset,
    target: Offset,
    count: i64,
}

impl OffsetMap {
    /// Nothing was copied yet of this session: what comes next of the source, from `source` on, comes behind the target's end.
    pub fn begin(source: Offset, target_end: Offset) -> Self {
        Self {
            runs: VecDeque::new(),
            known: Some(Known {
                start: source,
                end: source,
                behind: target_end,
            }),
            began: Some((source, target_end)),
        }
    }

    /// Where the session began, in the source and in the target, when all is known from there on, and nothing of before.
    pub fn began(&self) -> Option<(Offset, Offset)> {
        let start = self.known?.start;
        self.began.filter(|(source, _)| *source == start)
    }

    /// Records of before the session, from `start` on, lie at these places.
    pub fn lay_before(&mut self, start: Offset, places: &[(Offset, Offset)]) {
        let (Some(known), Some(_)) = (self.known, self.began()) else {
            return;
        };
        let mut before = Self {
            known: Some(Known { start, ..known }),
            ..Self::default()
        };
        for (source, target) in places {
            before.add(*source, *target, 1);
        }
        for run in std::mem::take(&mut self.runs) {
            before.add(run.source, run.target, run.count);
        }
        *self = Self {
            began: self.began,
            ..before
        };
    }

    /// Up to where in the source all is copied.
    pub fn end(&self) -> Option<Offset> {
        self.known.map(|known| known.end)
    }

    /// `count` records from `source` on, without a hole, lie from `target` on.
    pub fn add(&mut self, source: Offset, target: Offset, count: i64) {
        let run = Run {
            source,
            target,
            count,
        };
        match self.runs.back_mut() {
            Some(last) if last.continues(&run) => last.count += count,
            _ => self.runs.push_back(run),
        }
        if self.runs.len() > REMEMBERED
            && let (Some(forgotten), Some(known)) = (self.runs.pop_front(), &mut self.known)
        {
            known.start = Offset(forgotten.source.0 + forgotten.count);
        }
    }

    /// All below `source` was copied, or is not to be.
    pub fn reached(&mut self, source: Offset) {
        if let Some(known) = &mut self.known {
            known.end = source;
            let behind = self
                .runs
                .back()
                .map(|last| Offset(last.target.0 + last.count));
            known.behind = behind.unwrap_or(known.behind);
        }
    }

    /// Where the first record at `source` or behind it lies in the target. None when it is not known: it was copied before this
    /// session, or is not copied yet.
    pub fn translate(&self, source: Offset) -> Option<Offset> {
        let known = self
            .known
            .filter(|known| (known.start..=known.end).contains(&source))?;
        let next = self
            .runs
            .partition_point(|run| run.source.0 + run.count <= source.0);
        let Some(run) = self.runs.get(next) else {
            return Some(known.behind);
        };
        // Between two runs nothing was copied.
        let within = (source.0 - run.source.0).max(0);
        Some(Offset(run.target.0 + within))
    }
}

impl Run {
    fn continues(&self, next: &Self) -> bool {
        self.source.0 + self.count == next.source.0 && self.target.0 + self.count == next.target.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(offset_map: &OffsetMap, source: i64) -> Option<i64> {
        offset_map.translate(Offset(source)).map(|target| target.0)
    }

    #[test]
    fn offsets_are_where_their_records_went() {
        let mut offset_map = OffsetMap::begin(Offset(100), Offset(40));
        assert_eq!(translated(&offset_map, 100), Some(40));
        assert_eq!(translated(&offset_map, 99), None, "copied before");
        assert_eq!(translated(&offset_map, 101), None, "not copied yet");
        offset_map.add(Offset(100), Offset(41), 10);
        offset_map.add(Offset(110), Offset(51), 5);
        // A marker in the target, aborted records and a marker in the source.
        offset_map.add(Offset(120), Offset(57), 5);
        offset_map.reached(Offset(126));
        for (source, target) in [
            (100, 41),
            (114, 55),
            (115, 57),
            (119, 57),
            (120, 57),
            (124, 61),
            (125, 62),
            (126, 62),
        ] {
            assert_eq!(translated(&offset_map, source), Some(target), "{source}");
        }
        assert_eq!(translated(&offset_map, 127), None);
        assert_eq!(offset_map.runs.len(), 2);
    }

    #[test]
    fn what_was_found_of_before_the_session_is_known_too() {
        let mut offset_map = OffsetMap::begin(Offset(100), Offset(40));
        offset_map.add(Offset(100), Offset(41), 10);
        offset_map.reached(Offset(110));
        assert_eq!(offset_map.began(), Some((Offset(100), Offset(40))));
        let places = [(92, 30), (93, 31), (98, 37)].map(|(a, b)| (Offset(a), Offset(b)));
        offset_map.lay_before(Offset(91), &places);
        for (source, target) in [
            (91, 30),
            (92, 30),
            (93, 31),
            (94, 37),
            (99, 41),
            (105, 46),
            (110, 51),
        ] {
            assert_eq!(translated(&offset_map, source), Some(target), "{source}");
        }
        assert_eq!(translated(&offset_map, 90), None);
        assert_eq!(offset_map.began(), None, "once is enough");
    }
}
