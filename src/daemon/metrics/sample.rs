//! The samples of a metric.

use chrono::{DateTime, Utc};
use prometheus::proto::{self, LabelPair};

use crate::daemon::durations::Durations;

/// One value, and the labels that tell it from the metric's others.
pub(super) struct Sample<V> {
    /// By name.
    pub labels: Vec<LabelPair>,
    pub value: V,
}

impl<V> Sample<V> {
    /// With these labels, names and values.
    pub fn new(labels: &[(&str, &str)], value: V) -> Self {
        let labels = labels.iter().map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*value).to_owned());
            label
        });
        let mut labels: Vec<LabelPair> = labels.collect();
        labels.sort_by(|one, other| one.name().cmp(other.name()));
        Self { labels, value }
    }
}

/// A histogram's value.
pub(super) fn buckets<const N: usize>(durations: &Durations<N>) -> proto::Histogram {
    let buckets = durations.cumulative().map(|(bound, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.count());
    histogram.set_sample_sum(durations.sum());
    histogram
}

/// Seconds since the epoch.
pub(super) fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

/// The value of a gauge that is 1 while something is so, and 0 else.
pub(super) fn one_if(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
