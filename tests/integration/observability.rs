//! What watches a daemon: its metrics, the alerts on them, and the dashboard of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon_process::{Daemon, ask, policy};
use crate::fixture::{Fixture, numbered};
use crate::testbed::group::Group;
use crate::testbed::{Compression, Outcome, free_port};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(shipped(path)).unwrap()
}

/// Runs promtool to its end.
fn promtool(arguments: &[&str], input: &str) -> Outcome {
    let mut process = Command::new("promtool")
        .args(arguments)
        .current_dir(shipped("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: run `bash tests/setup.sh`");
    let mut standard_input = process.stdin.take().unwrap();
    standard_input.write_all(input.as_bytes()).unwrap();
    drop(standard_input);
    Outcome::of(process.wait_with_output().unwrap())
}

/// The names of alerts, in their order.
fn alerts() -> Vec<String> {
    let name = Regex::new(r"- alert: (\w+)").unwrap();
    let rules = text("prometheus/alerts.yml");
    name.captures_iter(&rules)
        .map(|found| found[1].to_owned())
        .collect()
}

/// The names of metrics that are spoken of.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b(kafkeep|process)_[a-z_]+\b").unwrap();
    name.find_iter(text)
        .map(|found| found.as_str().to_owned())
        .collect()
}

/// A daemon with a policy of each kind, of which the backup has succeeded: it exports all that there is.
fn watched<'a>(scene: &'a Fixture<'a>, topic: &str) -> Daemon<'a> {
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 100));
    let reader = Group::new(&scene.broker.address(), &format!("{topic}.reader"));
    reader.commit(topic, 0, 100, "");
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tokens/ec.pem");
    let api = format!(
        "[api]\nissuer = 'i'\naudience = 'a'\n[api.keys.sso]\nalgorithm = 'ES256'\npublic_key_file = '{key}'\n"
    );
    let daemon = Daemon::start_with(scene, &api, &policies(topic, topic, "1h"));
    daemon.wait_until("a run succeeds", |daemon| {
        let runs = format!("kafkeep_policy_runs_total{{policy=\"{topic}\",result=\"success\"}}");
        daemon.metric(&runs) >= Some(1.0)
            && daemon.metric("kafkeep_repository_backups{repository=\"main\"}") >= Some(1.0)
            && daemon.metric("kafkeep_drain_eta_seconds{policy=\"reader\"}") == Some(0.0)
    });
    daemon
}

/// A backup of `pattern`, and policies of the other kinds.
fn policies(name: &str, pattern: &str, max_age: &str) -> String {
    let backup = policy(name, pattern, "2s", "verify = 'full'");
    let mirror = "[mirror.copy]\nsource = 'prod'\ntarget = 'prod'\ntopics = ['nowhere']\nrename = 'copy.{topic}'\n";
    let drain = format!(
        "[drain.reader]\ncluster = 'prod'\ngroup = '{name}.reader'\ntopics = ['{name}']\nevery = '1s'\n"
    );
    backup.replace("'1h'", &format!("'{max_age}'")) + mirror + &drain
}

#[test]
fn metrics_are_as_prometheus_wants_them_and_all_that_alerts_and_dashboard_ask_for() {
    let scene = Fixture::shared();
    let daemon = watched(&scene, "watched-names");
    let (code, exposition) = daemon.get("/metrics");
    assert_eq!(code, 200);
    let linted = promtool(&["check", "metrics"], &exposition);
    assert_eq!(
        (linted.code, linted.stdout.as_str(), linted.stderr.as_str()),
        (0, "", ""),
        "{exposition}"
    );

    let samples = exposition.lines().filter(|line| !line.starts_with('#'));
    let exported: BTreeSet<String> = samples
        .filter_map(|line| Some(line.split_once(['{', ' '])?.0.to_owned()))
        .collect();
    let alerts = metrics_in(&text("prometheus/alerts.yml"));
    let dashboard = metrics_in(&text("grafana/kafkeep.json"));
    for name in alerts.union(&dashboard) {
        assert!(exported.contains(name), "{name} is not exported");
    }
}

#[test]
fn counters_are_there_before_the_first_run_as_nobody_sees_them_rise_else() {
    let scene = Fixture::shared();
    let daemon = Daemon::start(&scene, &policy("later", "watched-later", "1h", ""));
    for series in [
        "kafkeep_policy_runs_total{policy=\"later\",result=\"failed\"}",
        "kafkeep_policy_missed_runs_total{policy=\"later\"}",
        "kafkeep_backup_gap_offsets_total{policy=\"later\"}",
        "kafkeep_backup_records_total{policy=\"later\"}",
        "kafkeep_backup_bytes_total{direction=\"read\",policy=\"later\"}",
    ] {
        assert_eq!(daemon.metric(series), Some(0.0), "{series}");
    }
}

#[test]
fn every_alert_is_tested_firing_and_silent_and_has_its_page() {
    let checked = promtool(&["check", "rules", "alerts.yml"], "");
    assert_eq!(checked.code, 0, "{checked}");
    let tested = promtool(&["test", "rules", "alerts_test.yml"], "");
    assert_eq!(tested.code, 0, "{tested}");

    let (rules, tests) = (
        text("prometheus/alerts.yml"),
        text("prometheus/alerts_test.yml"),
    );
    let page = include_str!("../../docs/operations.md");
    let alerts = alerts();
    assert!(alerts.len() >= 13);
    for alert in alerts {
        let lines: Vec<&str> = tests.lines().map(str::trim).collect();
        let fires = lines
            .windows(2)
            .any(|pair| pair == [format!("alertname: {alert}").as_str(), "exp_alerts:"]);
        assert!(fires, "{alert} is not tested firing");
        let silent = format!(", alertname: {alert} }}");
        assert!(
            lines.iter().any(|line| line.contains(&silent)),
            "{alert} is not tested silent"
        );
        let anchor = format!("docs/operations.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{alert} has no runbook_url");
        assert!(
            page.lines().any(|line| line == format!("### {alert}")),
            "docs/operations.md does not explain {alert}"
        );
    }
}

/// A Prometheus that scrapes one daemon each second, and looks at the shipped rules as often.
struct Prometheus {
    port: u16,
    process: Child,
    log: PathBuf,
}

impl Prometheus {
    /// Alerts do not wait until they have held `for` a while: a test has no hours.
    fn start(scene: &Fixture<'_>, daemon: &Daemon<'_>) -> Self {
        let directory = scene.beside("prometheus");
        fs::create_dir(&directory).unwrap();
        let patience = Regex::new(r"(?m)^ +for: .*$").unwrap();
        let rules = text("prometheus/alerts.yml");
        fs::write(
            directory.join("alerts.yml"),
            patience.replace_all(&rules, "").as_bytes(),
        )
        .unwrap();
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [alerts.yml]\n\
             scrape_configs: [{{ job_name: kafkeep, static_configs: [{{ targets: ['127.0.0.1:{}'] }}] }}]\n",
            daemon.port
        );
        fs::write(directory.join("prometheus.yml"), configuration).unwrap();
        let (port, log) = (free_port(), directory.join("log"));
        let process = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=tsdb")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .expect("prometheus is needed: run `bash tests/setup.sh`");
        let prometheus = Self { port, process, log };
        prometheus.wait_until("it is ready", |prometheus| {
            TcpStream::connect(("127.0.0.1", port)).is_ok() && prometheus.get("/-/ready").0 == 200
        });
        prometheus
    }

    /// HTTP/1.0, as a body of unknown length then ends with the connection.
    fn get(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n");
        ask(self.port, &request)
    }

    fn api(&self, path: &str) -> Value {
        let (code, body) = self.get(path);
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// What an expression is now: a list of series.
    fn query(&self, expression: &str) -> Value {
        let escaped: String = expression.bytes().map(|b| format!("%{b:02X}")).collect();
        let mut answer = self.api(&format!("/api/v1/query?query={escaped}"));
        answer["data"]["result"].take()
    }

    /// The alerts that fire, of one policy or of none.
    fn firing(&self, of: Option<&str>) -> BTreeSet<String> {
        let answer = self.api("/api/v1/alerts");
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter();
        alerts
            .filter(|alert| alert["state"] == "firing" && alert["labels"]["policy"].as_str() == of)
            .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    fn wait_until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !happened(self) {
            let log = || fs::read_to_string(&self.log).unwrap();
            let alerts = || self.api("/api/v1/alerts");
            assert!(
                Instant::now() < deadline,
                "never: {what}\n{:#}\n{}",
                alerts(),
                log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The queries of the dashboard's panels, with its variables as they are when nobody chose anything.
fn panel_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("grafana/kafkeep.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    queries
        .map(|query| {
            query
                .replace("$__rate_interval", "1m")
                .replace("$__range", "1h")
                .replace("$instance", ".*")
                .replace("$policy", ".*")
        })
        .collect()
}

#[test]
fn legends_of_the_dashboard_tell_instances_apart_and_rates_are_per_second() {
    let dashboard: Value = serde_json::from_str(&text("grafana/kafkeep.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    for panel in panels.filter(|panel| panel["type"] == "timeseries") {
        let (title, unit) = (&panel["title"], &panel["fieldConfig"]["defaults"]["unit"]);
        for target in panel["targets"].as_array().unwrap() {
            let (query, legend) = (&target["expr"], &target["legendFormat"]);
            let (query, legend) = (query.as_str().unwrap(), legend.as_str().unwrap());
            let is_sum_of_all = query.contains("sum by (") && !query.contains("sum by (instance");
            assert!(
                is_sum_of_all || legend.contains("{{instance}}"),
                "{title}: {legend}"
            );
            if query.contains("_bytes_total") {
                assert!(query.contains("rate(") && unit == "Bps", "{title}: {query}");
            }
        }
    }
}

#[test]
fn prometheus_fires_when_a_policy_is_broken_and_feeds_every_panel_of_the_dashboard() {
    let scene = Fixture::shared();
    let topic = "watched-alerts";
    let daemon = watched(&scene, topic);
    let prometheus = Prometheus::start(&scene, &daemon);
    let queries = panel_queries();
    assert!(queries.len() >= 30);
    for query in queries {
        prometheus.wait_until(&query, |prometheus| {
            prometheus
                .query(&query)
                .as_array()
                .is_some_and(|series| !series.is_empty())
        });
    }
    let broken = ["KafkeepBackupTooOld", "KafkeepRunFailed"];
    let any_of = |of: Option<&str>, names: &[&str]| {
        let firing = prometheus.firing(of);
        names.iter().any(|name| firing.contains(*name))
    };
    let all_of = |of: Option<&str>, names: &[&str]| {
        let firing = prometheus.firing(of);
        names.iter().all(|name| firing.contains(*name))
    };
    assert!(!any_of(Some(topic), &broken));
    assert!(!any_of(None, &["KafkeepReloadFailed", "KafkeepAbsent"]));

    daemon.write_policies(&policies(topic, "no.such.topic.*", "1s"));
    prometheus.wait_until("alerts of the broken policy", |_| {
        all_of(Some(topic), &broken)
    });
    daemon.write_policies(&policies(topic, topic, "1h"));
    prometheus.wait_until("they end when it is mended", |_| {
        !any_of(Some(topic), &broken)
    });
    daemon.write_policies("[backup");
    prometheus.wait_until("an alert of the wrong file", |_| {
        all_of(None, &["KafkeepReloadFailed"])
    });
    daemon.signal(Signal::KILL);
    prometheus.wait_until("an alert of the daemon that is gone", |_| {
        all_of(None, &["KafkeepAbsent"])
    });
}
