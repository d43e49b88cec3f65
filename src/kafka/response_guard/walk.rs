//! The walk over an answer's bytes.

use super::definition::{Field, Kind, Shape};

/// Fields that we do not know cost more memory than they have bytes: each struct that has some gets a map of them. No
/// broker sends any to us today; so many are forgiven.
const MOST_UNKNOWN_FIELDS: usize = 1 << 17;

/// Walks over an answer; returns what is behind it.
pub(super) fn check<'a>(shape: &Shape, bytes: &'a [u8], version: i16) -> Result<&'a [u8], String> {
    let mut walk = ResponseWalk {
        rest: bytes,
        version,
        flexible: version >= shape.flexible,
        unknown_fields: 0,
    };
    walk.fields(shape.fields)?;
    Ok(walk.rest)
}

struct ResponseWalk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    unknown_fields: usize,
}

impl<'a> ResponseWalk<'a> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), String> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.kind(field.kind)
                    .map_err(|problem| format!("{}: {problem}", field.name))?;
            }
        }
        if self.flexible {
            self.tagged_fields(fields)?;
        }
        Ok(())
    }

    /// Each is a tag, a size and so many bytes.
    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), String> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = self.varint()?;
            let content = self.take(size as usize)?;
            let known = fields
                .iter()
                .find(|field| field.tag == Some(tag) && field.is_in(self.version));
            if let Some(field) = known {
                let behind = std::mem::replace(&mut self.rest, content);
                self.kind(field.kind)
                    .map_err(|problem| format!("{}: {problem}", field.name))?;
                // The decoder does not look at the size of a field that it knows.
                if !std::mem::replace(&mut self.rest, behind).is_empty() {
                    return Err(format!("{}: it is shorter than it claims", field.name));
                }
            } else {
                self.unknown_fields += 1;
                if self.unknown_fields > MOST_UNKNOWN_FIELDS {
                    return Err(format!("more than {MOST_UNKNOWN_FIELDS} unknown fields"));
                }
            }
        }
        Ok(())
    }

    fn kind(&mut self, kind: Kind) -> Result<(), String> {
        match kind {
            Kind::Fixed(size) => self.take(size).map(drop),
            Kind::Text => {
                let length = self.length(Self::short)?;
                self.take(length.unwrap_or(0)).map(drop)
            }
            Kind::Bytes => {
                let length = self.length(Self::int)?;
                self.take(length.unwrap_or(0)).map(drop)
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::Array(element) => self.array(*element),
        }
    }

    fn array(&mut self, element: Kind) -> Result<(), String> {
        let count = self.length(Self::int)?.unwrap_or(0);
        let left = self.rest.len();
        let least = self.least(element);
        if count.saturating_mul(least) > left {
            return Err(format!("{count} entries cannot be in {left} bytes"));
        }
        if let Kind::Fixed(size) = element {
            return self.take(count * size).map(drop);
        }
        (0..count).try_for_each(|_| self.kind(element))
    }

    /// The fewest bytes that something of this kind takes.
    fn least(&self, kind: Kind) -> usize {
        match kind {
            Kind::Fixed(size) => size,
            Kind::Text if self.flexible => 1,
            Kind::Text => 2,
            Kind::Bytes | Kind::Array(_) if self.flexible => 1,
            Kind::Bytes | Kind::Array(_) => 4,
            Kind::Struct(fields) => {
                let there = fields
                    .iter()
                    .filter(|field| field.tag.is_none() && field.is_in(self.version));
                let tags = usize::from(self.flexible);
                there.map(|field| self.least(field.kind)).sum::<usize>() + tags
            }
        }
    }

    /// A length or a count; none is null.
    fn length(
        &mut self,
        fixed: fn(&mut Self) -> Result<i32, String>,
    ) -> Result<Option<usize>, String> {
        if self.flexible {
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        match fixed(self)? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| format!("a length of {length}")),
        }
    }

    fn short(&mut self) -> Result<i32, String> {
        Ok(i16::from_be_bytes(self.array_of()?).into())
    }

    fn int(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(self.array_of()?))
    }

    fn varint(&mut self) -> Result<u32, String> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| format!("a varint of {value}"));
            }
        }
        Err("a varint without an end".to_owned())
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (first, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| self.short_of(N))?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or_else(|| self.short_of(size))?;
        self.rest = rest;
        Ok(taken)
    }

    fn short_of(&self, size: usize) -> String {
        format!("{size} bytes of {} that are left", self.rest.len())
    }
}
