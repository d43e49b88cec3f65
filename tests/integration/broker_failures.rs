//! Eight brokers of which two are killed or frozen while a run is under way.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::during;
use crate::many_leaders::{BROKERS, Backlog, DEFAULT, LIMIT, SMALL_WIDE, SMALLEST, Stage};
use crate::testbed::{Broker, Cluster, Outcome, ended_within, wait_for};

/// Three copies of everything, so that two brokers can be away.
const SAFE: Backlog = Backlog {
    topic: "many.safe",
    replicas: 3,
    ..SMALL_WIDE
};
/// The brokers that are killed or frozen. The first is the one that a run asks first.
const FAILING: [i32; 2] = [1, 5];
/// The 32 MB take eight seconds.
const SLOWLY: &str = "--rate-limit 4MiB/s";

/// What happens to the two brokers, and how it is mended.
#[derive(Clone, Copy)]
struct Failure {
    happens: fn(&Broker),
    mended: fn(&Broker),
    /// How long the run is patient with them; a broker that is silent for a sixth of it counts as away.
    deadline: &'static str,
    /// Whether other brokers must lead their partitions before it is mended.
    until_deposed: bool,
}

const KILLED: Failure = Failure {
    happens: Broker::kill,
    mended: Broker::start_again,
    deadline: "--deadline 60",
    until_deposed: false,
};
const FROZEN: Failure = Failure {
    happens: Broker::freeze,
    mended: Broker::thaw,
    deadline: "--deadline 30",
    until_deposed: true,
};

impl Failure {
    fn begins(self, cluster: &Cluster) {
        to_both(cluster, self.happens);
    }

    fn ends(self, cluster: &Cluster, topic: &str) {
        wait_for("other leaders", || {
            let placement = cluster.client().placement(topic);
            let mut leaders = placement.iter().map(|placed| placed.leader);
            !self.until_deposed || leaders.all(|leader| leader > 0 && !FAILING.contains(&leader))
        });
        to_both(cluster, self.mended);
    }
}

/// Does something to both brokers at the same time.
fn to_both(cluster: &Cluster, act: fn(&Broker)) {
    to_all(cluster, &FAILING, act);
}

/// Does something to some brokers at the same time.
fn to_all(cluster: &Cluster, brokers: &[i32], act: fn(&Broker)) {
    thread::scope(|scope| {
        for id in brokers {
            scope.spawn(move || act(cluster.broker(*id)));
        }
    });
}

impl Stage<'_> {
    /// Whether the target has records.
    fn has_begun(&self, target: &str) -> bool {
        let client = &self.scene.client;
        client.topics().iter().any(|topic| topic == target)
            && (0..BROKERS).any(|partition| client.watermarks(target, partition).1 > 0)
    }

    /// The report of a run to whose brokers this happens when it has `begun`; `topic` is what it reads or writes.
    fn run_through(
        &self,
        failure: Failure,
        topic: &str,
        run: impl FnOnce() -> Outcome + Send,
        begun: impl FnMut() -> bool,
    ) -> Value {
        let happens = || failure.begins(self.cluster);
        let mended = || failure.ends(self.cluster, topic);
        let report = during(run, begun, happens, mended).done();
        self.backlog.wait_until_visible(&self.scene.client, topic);
        report
    }

    fn backup_and_restore_while(&self, failure: Failure, budget: &str) {
        let options = format!("{SLOWLY} {} {budget}", failure.deadline);
        // Small packs: what a run notes down when it closes one shows that it has begun.
        let run = || self.start_backup(&format!("--pack-size 1MiB {options}"));
        let begun = || !self.scene.files("runs").is_empty();
        let report = self.run_through(failure, self.backlog.topic, run, begun);
        self.is_whole(&report);
        let target = self.target.as_str();
        let run = || self.start_restore(&options);
        let report = self.run_through(failure, target, run, || self.has_begun(target));
        self.is_restored(&report);
    }

    fn mirror_while(&self, failure: Failure, name: &'static str, budget: &str) {
        let options = format!("{SLOWLY} {} {budget}", failure.deadline);
        let target = format!("{}.{name}", self.backlog.topic);
        let run = || self.start_mirror(name, &options);
        let report = self.run_through(failure, &target, run, || self.has_begun(&target));
        self.is_mirrored(name, &report, budget);
    }

    /// A restore to whose brokers this happens while its target is read back.
    fn read_back_while(&self, failure: Failure, budget: &str) {
        self.back_up(budget);
        let options = self.restore_options(&format!("--check {} {budget}", failure.deadline));
        let run = self.scene.command("restore", &options);
        // A restore fetches nothing before it reads back.
        let report = self.fetch_through(failure, &self.target, run).done();
        assert_eq!(report["read_back"], true, "{report}");
        self.backlog
            .wait_until_visible(&self.scene.client, &self.target);
        self.is_restored(&report);
    }

    /// A command to whose brokers this happens when it has begun to fetch.
    fn fetch_through(&self, failure: Failure, topic: &str, mut run: Command) -> Outcome {
        run.args(["--log-format", "json"]);
        run.env("RUST_LOG", "warn,kafkeep::kafka=trace");
        let (happens, mended) = (
            || failure.begins(self.cluster),
            || failure.ends(self.cluster, topic),
        );
        paused_at(run, r#""api":"Fetch""#, happens, mended)
    }

    fn compare_while(&self, failure: Failure, name: &'static str, budget: &str) {
        self.start_mirror(name, budget).done();
        let target = format!("{}.{name}", self.backlog.topic);
        let options = format!("--compare {} {budget}", failure.deadline);
        let mut run = Command::new(env!("CARGO_BIN_EXE_kafkeep"));
        run.args(
            self.mirrored(name)
                .arguments(&self.mirror_options(name, &options)),
        );
        let compared = self.fetch_through(failure, &target, run).done();
        assert_eq!(compared["status"], "equal", "{compared}");
        assert_eq!(compared["records"], self.backlog.total(), "{compared}");
        self.scene.client.delete_topic(&target);
    }

    fn check_groups_while(&self, failure: Failure) {
        self.commit_groups();
        let options = format!("{} {}", self.check_groups_arguments(), failure.deadline);
        let run = self.scene.command("drain", &options);
        let outcome = self.fetch_through(failure, self.backlog.topic, run);
        self.groups_are_checked(&outcome);
    }
}

/// Runs a command, and pauses it when it logs `text`; then something `happens`, the command goes on, and it is `mended`.
fn paused_at(
    mut command: Command,
    text: &'static str,
    happens: impl FnOnce(),
    mended: impl FnOnce(),
) -> Outcome {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut run = command.stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&run);
    let lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let (sender, paused) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut sender = Some(sender);
        for line in lines.map_while(Result::ok) {
            if line.contains(text)
                && let Some(sender) = sender.take()
            {
                kill_process(pid, Signal::STOP).unwrap();
                sender.send(()).unwrap();
            }
            if !line.contains("TRACE") {
                eprintln!("{line}");
            }
        }
    });
    let is_paused = paused.recv_timeout(LIMIT).is_ok();
    if is_paused {
        happens();
        kill_process(pid, Signal::CONT).unwrap();
        mended();
    }
    let outcome = ended_within(run, LIMIT);
    reading.join().unwrap();
    assert!(is_paused, "{text} is not logged: {outcome}");
    outcome
}

#[test]
fn two_of_eight_brokers_may_die_and_come_back_while_a_backup_or_a_restore_runs() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).backup_and_restore_while(KILLED, DEFAULT);
}

#[test]
fn two_of_eight_brokers_may_freeze_and_thaw_while_a_backup_or_a_restore_runs() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).backup_and_restore_while(FROZEN, SMALLEST);
}

#[test]
fn two_of_eight_brokers_may_die_and_come_back_while_a_restore_is_read_back() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).read_back_while(KILLED, DEFAULT);
}

#[test]
fn two_of_eight_brokers_may_freeze_and_thaw_while_a_restore_is_read_back() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).read_back_while(FROZEN, SMALLEST);
}

#[test]
fn two_of_eight_brokers_may_die_and_come_back_while_a_mirror_runs() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).mirror_while(KILLED, "killed", DEFAULT);
}

#[test]
fn two_of_eight_brokers_may_freeze_and_thaw_while_a_mirror_runs() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).mirror_while(FROZEN, "frozen", SMALLEST);
}

#[test]
fn two_of_eight_brokers_may_die_and_come_back_while_topics_are_compared() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).compare_while(KILLED, "compared", DEFAULT);
}

#[test]
fn two_of_eight_brokers_may_freeze_and_thaw_while_topics_are_compared() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).compare_while(FROZEN, "compared.frozen", SMALLEST);
}

#[test]
fn two_of_eight_brokers_may_die_and_come_back_while_groups_are_checked() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).check_groups_while(KILLED);
}

#[test]
fn two_of_eight_brokers_may_freeze_and_thaw_while_groups_are_checked() {
    let cluster = Cluster::of_eight();
    Stage::new(&cluster, &SAFE).check_groups_while(FROZEN);
}

/// Right after brokers have died, metadata still names them: for leaders, and for the one that creates topics.
#[test]
fn a_restore_begins_although_most_brokers_have_just_died() {
    const DEAD: [i32; 6] = [1, 2, 3, 5, 6, 7];
    let cluster = Cluster::of_eight();
    let stage = Stage::new(&cluster, &SAFE);
    stage.back_up(DEFAULT);
    to_all(&cluster, &DEAD, Broker::kill);
    let outcome = thread::scope(|scope| {
        let run = scope.spawn(|| stage.start_restore("--deadline 60 --replication-factor 1"));
        to_all(&cluster, &DEAD, Broker::start_again);
        run.join().unwrap()
    });
    let report = outcome.done();
    stage
        .backlog
        .wait_until_visible(&stage.scene.client, &stage.target);
    stage.is_restored(&report);
}
