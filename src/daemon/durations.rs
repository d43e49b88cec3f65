//! How long things took, counted as Prometheus' histograms are.

/// A histogram of seconds with `N` buckets, and one for all that took longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Durations<const N: usize> {
    /// The buckets' upper bounds, ascending.
    bounds: [f64; N],
    /// How many fell into each bucket, and into none before it.
    counts: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Durations<N> {
    /// Empty, with these upper bounds, which ascend.
    pub const fn new(bounds: [f64; N]) -> Self {
        Self {
            bounds,
            counts: [0; N],
            count: 0,
            sum: 0.0,
        }
    }

    /// Counts one.
    pub fn observe(&mut self, seconds: f64) {
        let mut buckets = self.bounds.iter().zip(&mut self.counts);
        if let Some((_, count)) = buckets.find(|(bound, _)| seconds <= **bound) {
            *count += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Each upper bound, and how many took no longer than it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(counts)
    }
}
