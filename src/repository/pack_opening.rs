//! Opening a pack: nothing of it is believed before it is proven to be the one that a backup references.

use std::ops::Range;

use bytes::Bytes;

use super::ObjectName;
use super::footer::{FOOTER_LIMIT, Footer};
use super::pack::{
    BadHeader, PACK_FORMAT, PACK_HEADER_LEN, PackHeader, PackRef, TRAILER_LEN, Trailer,
};
use super::sealed_json::{FORMAT, Unusable};
use super::{BlockingStorage, RepositoryError, RepositoryId, Sha256};

/// What is read from the end at first: enough for the footer of most packs.
const FIRST_READ: u64 = 64 << 10;

/// A pack of which nothing is believed yet.
pub(super) struct Opening<'a> {
    pub(super) storage: &'a BlockingStorage,
    pub(super) name: ObjectName,
    pub(super) expected: &'a PackRef,
}

impl Opening<'_> {
    /// Length and header. Of a pack that is another one altogether, that is said before its length is.
    pub(super) fn check_frame(&self, repository_id: RepositoryId) -> Result<(), RepositoryError> {
        let pack = self.expected.pack_id;
        let found = match self.storage.size(&self.name) {
            Err(RepositoryError::ObjectMissing { .. }) => {
                return Err(RepositoryError::PackMissing { pack });
            }
            found => found?,
        };
        if found < PACK_HEADER_LEN as u64 {
            return self.check_length(found);
        }
        match self.check_header(repository_id) {
            Err(error @ RepositoryError::PackDamaged { .. }) => {
                self.check_length(found).and(Err(error))
            }
            header => header.and_then(|()| self.check_length(found)),
        }
    }

    fn check_length(&self, found: u64) -> Result<(), RepositoryError> {
        let (pack, expected) = (self.expected.pack_id, self.expected.length);
        if expected < (PACK_HEADER_LEN + TRAILER_LEN) as u64 {
            return Err(self.damaged(
                0,
                "it is referenced as shorter than a pack can be".to_owned(),
            ));
        }
        if found < expected {
            return Err(RepositoryError::PackTruncated {
                pack,
                expected,
                found,
            });
        }
        if found > expected {
            return Err(self.damaged(
                expected,
                format!("{} bytes follow its end", found - expected),
            ));
        }
        Ok(())
    }

    fn check_header(&self, repository_id: RepositoryId) -> Result<(), RepositoryError> {
        let pack = self.expected.pack_id;
        let bytes = self.read(0..PACK_HEADER_LEN as u64)?;
        let Some(bytes) = bytes.first_chunk::<PACK_HEADER_LEN>() else {
            return Err(self.damaged(0, "its header is cut".to_owned()));
        };
        match PackHeader::decode(bytes) {
            Ok(header)
                if header
                    == (PackHeader {
                        repository_id,
                        pack_id: pack,
                    }) =>
            {
                Ok(())
            }
            Ok(header) => Err(RepositoryError::PackForeign {
                pack,
                found_pack: header.pack_id,
                found_repository: header.repository_id,
            }),
            Err(BadHeader::Damaged(detail)) => Err(self.damaged(0, detail.to_owned())),
            Err(BadHeader::Encrypted) => Err(self.damaged(
                0,
                "it is encrypted, and this kafkeep has no keys".to_owned(),
            )),
            Err(BadHeader::NewerFormat(found)) => Err(RepositoryError::NewerFormat {
                object: format!("pack {pack}"),
                found: found.into(),
                supported: PACK_FORMAT.into(),
            }),
        }
    }

    pub(super) fn footer(&self) -> Result<Footer, RepositoryError> {
        let PackRef {
            pack_id,
            length,
            footer_sha256,
        } = self.expected;
        let trailer_offset = length - TRAILER_LEN as u64;
        let start = length.saturating_sub(FIRST_READ);
        let end = self.read(start..*length)?;
        let trailer = end.last_chunk::<TRAILER_LEN>().and_then(Trailer::decode);
        let trailer = trailer.ok_or_else(|| {
            self.damaged(trailer_offset, "it does not end like a pack".to_owned())
        })?;
        let fits = trailer.footer_offset >= PACK_HEADER_LEN as u64
            && trailer.footer_len <= FOOTER_LIMIT
            && trailer.footer_offset.checked_add(trailer.footer_len) == Some(trailer_offset);
        if !fits {
            return Err(self.damaged(trailer_offset, "its trailer contradicts itself".to_owned()));
        }
        if trailer.footer_sha256 != *footer_sha256 {
            return Err(self.damaged(
                trailer_offset,
                "its trailer belongs to another footer".to_owned(),
            ));
        }
        let footer = if trailer.footer_offset >= start {
            let from = usize::try_from(trailer.footer_offset - start).unwrap_or(usize::MAX);
            let until = end.len().saturating_sub(TRAILER_LEN);
            end.slice(from.min(until)..until)
        } else {
            self.read(trailer.footer_offset..trailer_offset)?
        };
        if Sha256::of(&footer) != *footer_sha256 {
            return Err(self.damaged(
                trailer.footer_offset,
                "the SHA-256 of its footer does not match".to_owned(),
            ));
        }
        Footer::decode(
            &footer,
            *pack_id,
            PACK_HEADER_LEN as u64..trailer.footer_offset,
        )
        .map_err(|unusable| match unusable {
            Unusable::Damaged(detail) => self.damaged(
                trailer.footer_offset,
                format!("its footer cannot be used: {detail}"),
            ),
            Unusable::NewerFormat(found) => RepositoryError::NewerFormat {
                object: format!("the footer of pack {pack_id}"),
                found,
                supported: FORMAT,
            },
        })
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, RepositoryError> {
        self.storage.get_range(&self.name, range)
    }

    fn damaged(&self, offset: u64, detail: String) -> RepositoryError {
        RepositoryError::PackDamaged {
            pack: self.expected.pack_id,
            offset,
            detail,
        }
    }
}
