//! What sources are made of.

/// A token, and the byte at which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'s> {
    pub kind: Kind<'s>,
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind<'s> {
    Name(&'s str),
    /// A field in backticks.
    Quoted(&'s str),
    /// Without its sign.
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Mark(&'static str),
    End,
}

/// What is wrong, and at which byte.
pub(super) type Wrong = (usize, String);

/// What the message begins with when a source is over a bound.
pub(super) const TOO_MUCH: &str = "it is over a bound: ";

/// A source is right, and over a bound.
pub(super) fn too_much(at: usize, bound: &str) -> Wrong {
    (at, format!("{TOO_MUCH}{bound}"))
}
