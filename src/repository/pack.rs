//! The frame of a pack: a header that says whose it is, and a trailer that says where the footer is.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ObjectName;
use super::layout::{Put, Take, crc32_holds};
use super::{PackId, RepositoryError, RepositoryId, Sha256};

/// Bytes of a pack header without a key area.
pub const PACK_HEADER_LEN: usize = 64;
/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 64;
pub(super) const PACK_FORMAT: u16 = 1;
const HEADER_MAGIC: [u8; 8] = *b"kafkeepP";
const TRAILER_MAGIC: [u8; 8] = *b"kafkeepE";

/// What names a pack and proves that it is the one: its length and the SHA-256 of its footer as stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackRef {
    /// The id that its header, footer and file name carry.
    pub pack_id: PackId,
    /// Its length in bytes.
    pub length: u64,
    /// SHA-256 of its footer, as it lies in the pack.
    pub footer_sha256: Sha256,
}

/// Where a block lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    /// Where its header begins, counted from the beginning of the pack.
    pub offset: u64,
    /// Bytes of its header and its stored bytes together.
    pub len: u64,
}

impl BlockPlace {
    /// One past its last byte.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// `packs/<last two digits of the id>/<id>.pack`: the last digits are random, the first are the time.
pub(super) fn pack_name(pack_id: PackId) -> Result<ObjectName, RepositoryError> {
    let id = pack_id.to_string();
    let shelf = id.get(id.len().saturating_sub(2)..).unwrap_or_default();
    ObjectName::new(format!("packs/{shelf}/{id}.pack"))
}

/// The id in a pack's name.
pub(super) fn pack_id_of(name: &ObjectName) -> Option<PackId> {
    let id: PackId = name.split().1.strip_suffix(".pack")?.parse().ok()?;
    (pack_name(id).ok()? == *name).then_some(id)
}

/// The first bytes of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackHeader {
    pub(super) repository_id: RepositoryId,
    pub(super) pack_id: PackId,
}

/// Why a pack header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    NewerFormat(u16),
    Encrypted,
}

impl PackHeader {
    pub(super) fn encode(&self) -> [u8; PACK_HEADER_LEN] {
        Put::<PACK_HEADER_LEN>::new()
            .bytes(&HEADER_MAGIC)
            .u16(PACK_FORMAT)
            .u16(0)
            .u32(PACK_HEADER_LEN as u32)
            .bytes(self.repository_id.0.as_bytes())
            .bytes(self.pack_id.0.as_bytes())
            .u32(0)
            .skip(8)
            .finish_with_crc32()
    }

    pub(super) fn decode(bytes: &[u8; PACK_HEADER_LEN]) -> Result<Self, BadHeader> {
        let mut take = Take::new(bytes);
        if take.array() != HEADER_MAGIC {
            return Err(BadHeader::Damaged("it does not begin like a pack"));
        }
        if !crc32_holds(bytes) {
            return Err(BadHeader::Damaged(
                "the checksum of its header does not match",
            ));
        }
        let format = take.u16();
        if format > PACK_FORMAT {
            return Err(BadHeader::NewerFormat(format));
        }
        let (flags, header_len) = (take.u16(), take.u32());
        let repository_id = RepositoryId(Uuid::from_bytes(take.array()));
        let pack_id = PackId(Uuid::from_bytes(take.array()));
        let (key_area_len, reserved) = (take.u32(), take.u64());
        if flags == 1 {
            return Err(BadHeader::Encrypted);
        }
        let plain = format == PACK_FORMAT && flags == 0 && key_area_len == 0 && reserved == 0;
        if !plain || header_len as usize != PACK_HEADER_LEN {
            return Err(BadHeader::Damaged("its header contradicts itself"));
        }
        Ok(Self {
            repository_id,
            pack_id,
        })
    }
}

/// The last bytes of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) footer_offset: u64,
    pub(super) footer_len: u64,
    pub(super) footer_sha256: Sha256,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_LEN] {
        Put::<TRAILER_LEN>::new()
            .u64(self.footer_offset)
            .u64(self.footer_len)
            .bytes(&self.footer_sha256.0)
            .skip(8)
            .bytes(&TRAILER_MAGIC)
            .finish()
    }

    pub(super) fn decode(bytes: &[u8; TRAILER_LEN]) -> Option<Self> {
        let mut take = Take::new(bytes);
        let trailer = Self {
            footer_offset: take.u64(),
            footer_len: take.u64(),
            footer_sha256: Sha256(take.array()),
        };
        (take.u64() == 0 && take.array() == TRAILER_MAGIC).then_some(trailer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_packs_lead_back_to_their_ids() {
        let id = PackId::now();
        let name = pack_name(id).unwrap();
        assert_eq!(pack_id_of(&name), Some(id));
        for other in [
            format!("packs/00/x/{id}.pack"),
            format!("packs/zz/{id}.pack"),
            format!("packs/{id}.pack"),
        ] {
            assert_eq!(pack_id_of(&ObjectName::new(other).unwrap()), None);
        }
    }

    proptest! {
        #[test]
        fn pack_headers_are_read_back_as_written_and_no_bit_is_free(
            ids in any::<(u128, u128)>(),
            bit in 0..PACK_HEADER_LEN * 8,
        ) {
            let header = PackHeader {
                repository_id: RepositoryId(Uuid::from_u128(ids.0)),
                pack_id: PackId(Uuid::from_u128(ids.1)),
            };
            let mut bytes = header.encode();
            prop_assert_eq!(PackHeader::decode(&bytes), Ok(header));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(matches!(PackHeader::decode(&bytes), Err(BadHeader::Damaged(_))));
        }

        #[test]
        fn trailers_are_read_back_as_written(place in any::<(u64, u64)>(), digest in any::<[u8; 32]>()) {
            let (footer_offset, footer_len) = place;
            let trailer = Trailer { footer_offset, footer_len, footer_sha256: Sha256(digest) };
            prop_assert_eq!(Trailer::decode(&trailer.encode()), Some(trailer));
        }
    }
}
