//! Zig-zag variable-length integers, as in `org.apache.kafka.common.utils.ByteUtils`.

/// Reads one from the front of `bytes` and takes it off; `None` when it is cut off or too long.
pub(super) fn read_varlong(bytes: &mut &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(first & 0x7f);
        // The tenth byte holds one bit.
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if first & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Like [`read_varlong`], for a field of 32 bits.
pub(super) fn read_varint(bytes: &mut &[u8]) -> Option<i32> {
    read_varlong(bytes)?.try_into().ok()
}

/// Appends `value` as Kafka writes a long of variable length: zigzag, 7 bits a byte.
pub(super) fn write_varlong(value: i64, out: &mut Vec<u8>) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// How many bytes [`write_varlong`] appends.
pub(super) fn varlong_size(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let bits = u64::BITS - zigzag.leading_zeros();
    bits.max(1).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values_have_kafkas_bytes() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (63, vec![0x7e]),
            (-64, vec![0x7f]),
            (64, vec![0x80, 1]),
        ] {
            let mut out = Vec::new();
            write_varlong(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(varlong_size(value), out.len());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: i64) {
            let mut out = Vec::new();
            write_varlong(value, &mut out);
            let mut rest = &out[..];
            prop_assert_eq!(read_varlong(&mut rest), Some(value));
            prop_assert_eq!(varlong_size(value), out.len());
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn hostile_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            let _ = read_varlong(&mut rest);
            let mut rest = &bytes[..];
            let _ = read_varint(&mut rest);
        }
    }
}
