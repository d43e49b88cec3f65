//! What can be seen of the daemon at one moment: all samples come from it.

use std::ops::Deref;

use crate::daemon::credentials::Credentials;
use crate::daemon::judged::{JudgedPolicy, judged};
use crate::daemon::repositories::RepositoryStatus;
use crate::daemon::status::Status;
use crate::engine::drain::GroupReport;
use crate::engine::mirror::PartitionStatus;

use super::requests::CountedRequests;
use super::sample::Sample;

/// See the module.
pub(super) struct Observed<'a> {
    pub status: &'a Status,
    pub repositories: &'a [RepositoryStatus],
    pub credentials: &'a Credentials,
    pub requests: CountedRequests,
    policies: Vec<ObservedPolicy<'a>>,
}

/// A policy, with what moves on while it is looked at, as it was at one moment.
pub(super) struct ObservedPolicy<'a> {
    judged: JudgedPolicy<'a>,
    /// The partitions of a mirror; none of any other policy.
    pub partitions: Option<Vec<PartitionStatus>>,
    /// The group of a drain policy; none where it cannot be looked at.
    pub group: Option<GroupReport>,
}

impl<'a> Deref for ObservedPolicy<'a> {
    type Target = JudgedPolicy<'a>;

    fn deref(&self) -> &JudgedPolicy<'a> {
        &self.judged
    }
}

impl<'a> Observed<'a> {
    /// As it is now.
    pub fn new(
        status: &'a Status,
        repositories: &'a [RepositoryStatus],
        credentials: &'a Credentials,
        requests: CountedRequests,
    ) -> Self {
        let policies = judged(status, repositories).into_iter();
        let policies = policies.map(|judged| ObservedPolicy {
            partitions: judged.mirror.as_ref().map(|mirror| mirror.partitions()),
            group: judged.drain.as_ref().and_then(|drain| drain.group()),
            judged,
        });
        Self {
            policies: policies.collect(),
            status,
            repositories,
            credentials,
            requests,
        }
    }

    /// A sample for each policy that has a value.
    pub fn policies<V>(&self, value: impl Fn(&ObservedPolicy<'_>) -> Option<V>) -> Vec<Sample<V>> {
        let policies = self.policies.iter();
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
        values: impl Fn(&ObservedPolicy<'_>) -> I,
    ) -> Vec<Sample<f64>>
    where
        I: IntoIterator<Item = (&'static str, f64)>,
    {
        let policies = self.policies.iter();
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
