//! One metric: its name, its help, its type, and how its samples come from what can be seen.

use prometheus::proto::{self, MetricFamily, MetricType};

use super::observed::Observed;
use super::sample::Sample;

/// See the module.
pub(super) struct Metric {
    /// Without the prefix that all have.
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

enum Samples {
    Gauge(SamplesOf<f64>),
    Counter(SamplesOf<f64>),
    Histogram(SamplesOf<proto::Histogram>),
}

type SamplesOf<V> = fn(&Observed<'_>) -> Vec<Sample<V>>;

/// A metric whose value goes up and down.
pub(super) const fn gauge(
    name: &'static str,
    help: &'static str,
    samples: SamplesOf<f64>,
) -> Metric {
    Metric {
        name,
        help,
        samples: Samples::Gauge(samples),
    }
}

/// A metric whose value only rises. Samples whose labels are known beforehand are there from the beginning, with 0: one that is
/// not there cannot be seen to rise.
pub(super) const fn counter(
    name: &'static str,
    help: &'static str,
    samples: SamplesOf<f64>,
) -> Metric {
    Metric {
        name,
        help,
        samples: Samples::Counter(samples),
    }
}

/// A metric of how often something took how long.
pub(super) const fn histogram(
    name: &'static str,
    help: &'static str,
    samples: SamplesOf<proto::Histogram>,
) -> Metric {
    Metric {
        name,
        help,
        samples: Samples::Histogram(samples),
    }
}

impl Metric {
    /// With its samples as they are now.
    pub fn family(&self, observed: &Observed<'_>) -> MetricFamily {
        let (kind, samples) = match self.samples {
            Samples::Gauge(of) => (MetricType::GAUGE, sorted(of(observed), set_gauge)),
            Samples::Counter(of) => (MetricType::COUNTER, sorted(of(observed), set_counter)),
            Samples::Histogram(of) => {
                let samples = sorted(of(observed), proto::Metric::set_histogram);
                (MetricType::HISTOGRAM, samples)
            }
        };
        let mut family = MetricFamily::default();
        family.set_name(format!("kafkeep_{}", self.name));
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(samples);
        family
    }
}

fn set_gauge(metric: &mut proto::Metric, value: f64) {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
}

fn set_counter(metric: &mut proto::Metric, value: f64) {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
}

/// Samples by the values of their labels.
fn sorted<V>(samples: Vec<Sample<V>>, set: fn(&mut proto::Metric, V)) -> Vec<proto::Metric> {
    let metrics = samples.into_iter().map(|sample| {
        let mut metric = proto::Metric::from_label(sample.labels);
        set(&mut metric, sample.value);
        metric
    });
    let mut metrics: Vec<proto::Metric> = metrics.collect();
    let values = |metric: &proto::Metric| -> Vec<String> {
        let labels = metric.get_label().iter();
        labels.map(|label| label.value().to_owned()).collect()
    };
    metrics.sort_by_cached_key(values);
    metrics
}
