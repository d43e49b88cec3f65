//! CRC-32C (Castagnoli), the sum of Kafka's record batches (`org.apache.kafka.common.utils.Crc32C`).

use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

/// Moving a sum over bytes that are not looked at takes as long as summing about so many.
const MOVED_FROM: usize = 128 << 10;

/// The sum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The sum of some bytes followed by `bytes`, where `sum` is that of the former.
pub fn crc32c_append(sum: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, (!sum).into());
    digest.update(bytes);
    low_half(digest.finalize())
}

/// The sum of `new` followed by `rest`, where `sum` is that of `old`, which is as long as `new`, followed by `rest`.
pub(super) fn crc32c_replaced(sum: u32, old: &[u8], new: &[u8], rest: &[u8]) -> u32 {
    if rest.len() < MOVED_FROM {
        return crc32c_append(crc32c(new), rest);
    }
    // The sum is linear: what differs in front differs in the whole, moved over the rest.
    let difference = u64::from(crc32c(old) ^ crc32c(new));
    let moved = checksum_combine(CrcAlgorithm::Crc32Iscsi, difference, 0, rest.len() as u64);
    sum ^ low_half(moved)
}

/// A sum of 32 bits, as the library returns it.
fn low_half(sum: u64) -> u32 {
    (sum & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// Bit by bit, from the polynomial.
    fn by_definition(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                (sum >> 1) ^ (0x82f6_3b78 * (sum & 1))
            })
        })
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_definition(bytes: Vec<u8>, cut: prop::sample::Index) {
            let (front, back) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(crc32c(&bytes), by_definition(&bytes));
            prop_assert_eq!(crc32c_append(crc32c(front), back), by_definition(&bytes));
        }

        #[test]
        fn a_new_beginning_changes_the_sum_as_summing_anew_does(
            old: [u8; 40],
            new: [u8; 40],
            size in prop_oneof![0..100_usize, MOVED_FROM - 2..MOVED_FROM + 100],
            fill: u8,
        ) {
            let rest = vec![fill; size];
            let sum = crc32c(&[&old, rest.as_slice()].concat());
            let expected = crc32c(&[&new, rest.as_slice()].concat());
            prop_assert_eq!(crc32c_replaced(sum, &old, &new, &rest), expected);
        }
    }
}
