//! How the shape of an answer is written down.

/// Kafka's message definitions (`clients/src/main/resources/common/message/*.json`), as far as lengths go.
pub(in crate::kafka) struct Shape {
    /// From this version on lengths are varints, and structs end in tagged fields (KIP-482).
    pub(super) flexible: i16,
    pub(super) fields: &'static [Field],
}

/// A field of a struct.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) since: i16,
    pub(super) until: i16,
    pub(super) tag: Option<u32>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, perhaps null.
    Text,
    /// Bytes, perhaps null.
    Bytes,
    /// A struct of these fields, in this order.
    Struct(&'static [Field]),
    /// An array, perhaps null.
    Array(&'static Kind),
}

impl Field {
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            since: 0,
            until: i16::MAX,
            tag: None,
        }
    }

    /// It is there from this version on.
    pub const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    /// It is there up to this version.
    pub const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    /// It stands among the tagged fields.
    pub const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    pub fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}
