//! `kafkeep mirror` over a network that fails.

use std::time::{Duration, Instant};

use crate::fixture::{Fixture, numbered};
use crate::mirror::Mirrored;
use crate::testbed::{Broker, Compression, Fault, FaultProxy, Properties, Release};

/// A mirror whose target is reached through a proxy.
fn behind<'a>(broker: &'a Broker, proxy: &FaultProxy, name: &'static str) -> Mirrored<'a> {
    proxy.lead_to(&broker.listener("PROXIED"));
    let mut target = Fixture::on(broker);
    target.servers = proxy.address();
    Mirrored {
        source: Fixture::shared(),
        target,
        name,
    }
}

#[test]
fn a_bounded_mirror_over_a_network_that_breaks_ends_at_its_deadline_and_pauses_between() {
    let proxy = FaultProxy::start();
    let properties = Properties::default().listener_behind("PROXIED", &proxy.address());
    let broker = Broker::start(Release::V4_1, properties);
    let mirrored = behind(&broker, &proxy, "broken");
    let client = &mirrored.source.client;
    client.create_topic("broken", 1, &[]);
    client.produce("broken", 0, Compression::None, numbered(0, 100));
    assert_eq!(mirrored.done("--topic broken")["records"], 100);
    client.produce("broken", 0, Compression::None, numbered(100, 100));

    // Each session commits where it begins, over the two connections for questions that live; the one for batches breaks.
    proxy.set(Fault::ResetBeyond(2));
    let before = proxy.accepted();
    let began = Instant::now();
    let run = mirrored.run("--json --topic broken --deadline 6");
    let took = began.elapsed();
    assert_eq!(run.code, 75, "{run}");
    assert!(took >= Duration::from_secs(3), "{took:?}: {run}");
    assert!(took < Duration::from_secs(20), "{took:?}: {run}");
    let connections = proxy.accepted() - before;
    assert!(connections < 60, "{connections} connections: {run}");

    proxy.set(Fault::None);
    assert_eq!(mirrored.done("--topic broken")["records"], 100);
    mirrored.is_same("broken", "broken");
}

#[test]
fn a_bounded_mirror_whose_target_accepts_and_never_answers_ends_at_its_deadline() {
    let proxy = FaultProxy::start();
    let properties = Properties::default().listener_behind("PROXIED", &proxy.address());
    let broker = Broker::start(Release::V4_1, properties);
    let mirrored = behind(&broker, &proxy, "silent");
    let client = &mirrored.source.client;
    client.create_topic("silent", 1, &[]);
    client.produce("silent", 0, Compression::None, numbered(0, 20_000));
    // Slow enough to be in the middle.
    let limited = "--topic silent --rate-limit 100KiB/s --deadline 6";
    let run = mirrored.start_piped(&format!("--json {limited}"));
    let direct = &mirrored.target.client;
    direct.wait_until("some are there", |direct| {
        direct.topics().contains(&"silent".to_owned()) && direct.watermarks("silent", 0).1 > 0
    });
    proxy.set(Fault::HalfOpen);
    let run = crate::testbed::ended_within(run, Duration::from_secs(30));
    assert_eq!(run.code, 75, "{run}");
    proxy.set(Fault::None);
    mirrored.done("--topic silent");
    mirrored.is_same("silent", "silent");
}
