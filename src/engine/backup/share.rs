//! How a limit of messages is shared among partitions.

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
