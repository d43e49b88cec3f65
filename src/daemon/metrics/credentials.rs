//! The files by which the port knows others and proves who it is.

use super::metric::{Metric, gauge};
use super::sample::{Sample, one_if};

pub(super) const METRICS: &[Metric] = &[gauge(
    "credential_readable",
    "Whether the files of the API's key, or of the port's certificate, can be read and are right; else what was read before is used.",
    |observed| {
        let credentials = observed.credentials.0.iter();
        let samples = credentials.map(|(credential, is_readable)| {
            Sample::new(&[("credential", credential)], one_if(*is_readable))
        });
        samples.collect()
    },
)];
