//! Patterns of `matches`: compiled within a bound, and charged by their size.

use regex::{Regex, RegexBuilder};

use super::budget::Budget;
use super::error::Reason;

/// The largest that a pattern may become when it is compiled, in bytes.
pub const LARGEST_PATTERN: usize = 1 << 20;
/// The largest that all patterns of an expression may become together, in bytes.
pub const ALL_PATTERNS: usize = 2 * LARGEST_PATTERN;
/// The longest pattern that may be computed, in bytes.
const LONGEST_PATTERN: usize = 4096;
/// What is tried one after the other, and how many steps a byte of text is then: a pattern's size is known by the bound within
/// which it can be compiled. Most searches take a nanosecond a byte; the slowest go through much of the pattern.
const SIZES: [(usize, u64); 4] = [
    (8 << 10, 1),
    (64 << 10, 4),
    (256 << 10, 8),
    (LARGEST_PATTERN, 32),
];
/// What a thread that searches keeps beside, by the pattern's size.
const CACHE: usize = 4;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// No more bytes than this, compiled.
    size: usize,
    /// Steps for a byte of text.
    steps: u64,
}

/// Why a source is no pattern.
#[derive(Debug)]
pub(super) enum Unfit {
    Invalid,
    /// It takes more than [`LARGEST_PATTERN`].
    TooLarge,
}

impl Pattern {
    pub fn compile(source: &str) -> Result<Self, Unfit> {
        for (size, steps) in SIZES {
            let mut builder = RegexBuilder::new(source);
            let built = builder
                .size_limit(size)
                .dfa_size_limit(size * CACHE)
                .build();
            match built {
                Ok(regex) => return Ok(Self { regex, size, steps }),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => return Err(Unfit::Invalid),
            }
        }
        Err(Unfit::TooLarge)
    }

    /// No more bytes than this, compiled.
    pub fn size(&self) -> usize {
        self.size
    }

    /// A pattern that was computed: it is charged for what compiling it may take. It is gone after its search, so its memory
    /// does not add up.
    pub fn compute(source: &str, budget: &Budget<'_>) -> Result<Self, Reason> {
        budget.spend((source.len() + LARGEST_PATTERN / 16) as u64)?;
        if source.len() > LONGEST_PATTERN {
            return Err(Reason::Pattern);
        }
        Self::compile(source).map_err(|_| Reason::Pattern)
    }

    /// Whether it is found in a text.
    pub fn is_in(&self, text: &str, budget: &Budget<'_>) -> Result<bool, Reason> {
        budget.spend((text.len() as u64 + 1).saturating_mul(self.steps))?;
        Ok(self.regex.is_match(text))
    }
}
