//! What can be seen of the daemon at one moment: all samples come from it.

use crate::daemon::repositories::RepositoryStatus;
use crate::daemon::status::{PolicyStatus, Status};

use super::requests::CountedRequests;
use super::sample::Sample;

/// See the module.
pub(super) struct Observed<'a> {
    pub status: &'a Status,
    pub repositories: &'a [RepositoryStatus],
    pub requests: CountedRequests,
}

impl Observed<'_> {
    /// A sample for each policy that has a value.
    pub fn policies<V>(&self, value: impl Fn(&PolicyStatus) -> Option<V>) -> Vec<Sample<V>> {
        let policies = self.status.policies.iter();
        let samples = policies.filter_map(|policy| {
            let labels = [("policy", policy.policy.as_str())];
            value(policy).map(|value| Sample::new(&labels, value))
        });
        samples.collect()
    }

    /// A sample for each value that each policy has for `label`.
    pub fn policies_by<I>(
        &self,
        label: &'static str,
        values: impl Fn(&PolicyStatus) -> I,
    ) -> Vec<Sample<f64>>
    where
        I: IntoIterator<Item = (&'static str, f64)>,
    {
        let policies = self.status.policies.iter();
        let samples = policies.flat_map(|policy| {
            let name = policy.policy.as_str();
            let values = values(policy).into_iter();
            values.map(move |(of, value)| Sample::new(&[("policy", name), (label, of)], value))
        });
        samples.collect()
    }

    /// A sample for each repository that was looked at and has a value.
    pub fn repositories(
        &self,
        value: impl Fn(&RepositoryStatus) -> Option<u64>,
    ) -> Vec<Sample<f64>> {
        let looked_at = self.repositories.iter();
        let looked_at = looked_at.filter(|repository| repository.looked_at.is_some());
        let samples = looked_at.filter_map(|repository| {
            let labels = [("repository", repository.repository.as_str())];
            value(repository).map(|value| Sample::new(&labels, value as f64))
        });
        samples.collect()
    }
}
