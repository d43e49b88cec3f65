//! Which offsets of a partition a one-off backup takes.

use std::fmt;
use std::str::FromStr;

use crate::engine::EngineError;
use crate::record::Offset;

/// An end of a range of offsets, as an operator names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetBound {
    /// Where the log starts.
    Earliest,
    /// The high watermark.
    Latest,
    /// This offset, as far as the log has it.
    At(Offset),
}

impl OffsetBound {
    /// The offset in a log that holds `[log_start, high_watermark)`.
    pub fn resolve(self, log_start: Offset, high_watermark: Offset) -> Offset {
        match self {
            Self::Earliest => log_start,
            Self::Latest => high_watermark,
            Self::At(offset) => offset.max(log_start).min(high_watermark),
        }
    }
}

impl FromStr for OffsetBound {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            number => match number.parse::<i64>() {
                Ok(offset) if offset >= 0 => Ok(Self::At(Offset(offset))),
                _ => Err(EngineError::Refused(format!(
                    "offset `{text}`: write earliest, latest or a number from 0"
                ))),
            },
        }
    }
}

impl fmt::Display for OffsetBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::At(offset) => write!(f, "{offset}"),
        }
    }
}

/// Shares `total` messages among partitions that hold at most `spans` each: evenly, and what a small
/// partition does not use goes to the others. The sum is `total`, or all there is.
pub(super) fn share(total: u64, spans: &[u64]) -> Vec<u64> {
    let mut by_size: Vec<usize> = (0..spans.len()).collect();
    by_size.sort_by_key(|&i| spans.get(i).copied().unwrap_or(0));
    let mut shares = vec![0; spans.len()];
    let mut left = total;
    for (done, &i) in by_size.iter().enumerate() {
        let sharers = (spans.len() - done) as u64;
        let fair = left / sharers;
        let taken = spans.get(i).copied().unwrap_or(0).min(fair);
        if let Some(share) = shares.get_mut(i) {
            *share = taken;
        }
        left -= taken;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_held_within_the_log() {
        let (start, end) = (Offset(10), Offset(20));
        assert_eq!(OffsetBound::At(Offset(5)).resolve(start, end), start);
        assert_eq!(OffsetBound::At(Offset(15)).resolve(start, end), Offset(15));
        assert_eq!(OffsetBound::At(Offset(99)).resolve(start, end), end);
    }

    #[test]
    fn what_a_small_partition_leaves_goes_to_the_others() {
        assert_eq!(share(300, &[1000, 0, 0]), [300, 0, 0]);
        assert_eq!(share(10, &[2, 100, 100]), [2, 4, 4]);
        assert_eq!(share(100, &[3, 4]), [3, 4]);
    }

    proptest! {
        #[test]
        fn shares_add_up_to_the_total_or_to_all_there_is(total in 0u64..10_000, spans in prop::collection::vec(0u64..1000, 1..20)) {
            let shares = share(total, &spans);
            prop_assert_eq!(shares.iter().sum::<u64>(), total.min(spans.iter().sum()));
            prop_assert!(shares.iter().zip(&spans).all(|(share, span)| share <= span));
        }
    }
}
