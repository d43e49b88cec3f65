//! Settings of topics between clusters that do not know the same ones.

use serde_json::Value;

use crate::fixture::{Fixture, numbered, values};
use crate::mirror::Mirrored;
use crate::testbed::{Broker, Compression, Outcome, Properties, Release};

/// A backup from a broker that knows settings of which the shared one has not heard any more.
struct FromAnOldBroker {
    source: Broker,
    target: Fixture<'static>,
}

const TOPIC: &str = "settings.old";
const SETTINGS: [(&str, &str); 3] = [
    ("message.format.version", "2.7"),
    ("segment.bytes", "2097152"),
    ("retention.ms", "-1"),
];

impl FromAnOldBroker {
    fn new() -> Self {
        let source = Broker::start(Release::V2_8, Properties::default());
        {
            let scene = Fixture::on(&source);
            scene.client.create_topic(TOPIC, 1, &SETTINGS);
            let client = &scene.client;
            client.produce(TOPIC, 0, Compression::None, numbered(0, 20));
        }
        Self {
            source,
            target: Fixture::shared(),
        }
    }

    fn back_up(&self) {
        let repository = self.target.repository().display().to_string();
        let arguments = format!(
            "backup --repository {repository} --bootstrap-servers {} --topic {TOPIC} --json",
            self.source.address()
        );
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        self.target.kafkeep(arguments).done();
    }

    fn restore(&self, more: &str) -> Outcome {
        self.target.run("restore", &format!("latest --json {more}"))
    }
}

#[test]
fn settings_that_the_target_does_not_take_are_left_out_and_named() {
    let scene = FromAnOldBroker::new();
    scene.back_up();
    let strict = scene.restore("--unsupported-config fail --rename *=settings.strict");
    strict.refused(1, &["message.format.version=2.7", "does not take"]);
    let client = &scene.target.client;
    assert!(!client.topics().contains(&"settings.strict".to_owned()));

    let report = scene.restore("--rename *=settings.new").done();
    assert_eq!(report["status"], "completed", "{report}");
    assert_eq!(report["messages_restored"], 20, "{report}");
    let notes = report["topics"][0]["notes"].to_string();
    assert!(
        notes.contains("message.format.version=2.7 is left out"),
        "{notes}"
    );
    assert_eq!(report.get("refused_settings"), None, "{report}");
    let setting = |name| client.setting("settings.new", name);
    assert_eq!(setting("segment.bytes").as_deref(), Some("2097152"));
}

#[test]
fn a_topic_is_mirrored_without_the_settings_that_the_target_does_not_take() {
    let scene = FromAnOldBroker::new();
    let arguments = format!(
        "mirror --json --name settings --bootstrap-servers {} --to-bootstrap-servers {} --topic {TOPIC} --rename settings.mirrored",
        scene.source.address(),
        scene.target.servers
    );
    let arguments = arguments.split_whitespace().map(str::to_owned).collect();
    let outcome = scene.target.kafkeep(arguments);
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(outcome.json()["records"], 20, "{outcome}");
    let told = "message.format.version cannot be set to 2.7";
    assert!(outcome.stderr.contains(told), "{outcome}");
    let client = &scene.target.client;
    assert_eq!(values(&client.read("settings.mirrored")[0]).len(), 20);
    let setting = |name| client.setting("settings.mirrored", name);
    assert_eq!(setting("segment.bytes").as_deref(), Some("2097152"));
}

#[test]
fn what_the_operator_sets_counts_more_than_the_source_and_must_be_taken() {
    let scene = Fixture::shared();
    let settings = [
        ("segment.bytes", "2097152"),
        ("max.message.bytes", "2000000"),
    ];
    scene.client.create_topic("settings.set", 1, &settings);
    let client = &scene.client;
    client.produce("settings.set", 0, Compression::None, numbered(0, 5));
    scene.backup("--topic settings.set");
    let restore = |more: &str| scene.run("restore", &format!("latest --json {more}"));
    let report = restore("--rename *=settings.mine --topic-config-override segment.bytes=3145728");
    report.done();
    let setting = |name| client.setting("settings.mine", name);
    assert_eq!(setting("segment.bytes").as_deref(), Some("3145728"));
    assert_eq!(setting("max.message.bytes").as_deref(), Some("2000000"));
    let unknown = restore("--rename *=settings.bad --topic-config-override no.such.key=1");
    unknown.refused(1, &["no.such.key=1", "does not take"]);
    assert!(!client.topics().contains(&"settings.bad".to_owned()));
}

#[test]
fn settings_of_a_topic_that_exists_stay_unless_the_operator_says_otherwise() {
    let scene = Fixture::shared();
    let client = &scene.client;
    client.create_topic("settings.source", 1, &[("segment.bytes", "2097152")]);
    client.produce("settings.source", 0, Compression::None, numbered(0, 5));
    client.create_topic("settings.there", 1, &[]);
    scene.backup("--topic settings.source");
    let restore = |more: &str| {
        let append = "latest --json --rename *=settings.there --if-exists append";
        scene.run("restore", &format!("{append} {more}"))
    };
    let refused = restore("--existing-topic-config fail");
    refused.refused(1, &["settings.there has segment.bytes=", "not 2097152"]);
    let status = |report: &Value| report["status"].clone();
    assert_eq!(status(&restore("").done()), "completed");
    let setting = || client.setting("settings.there", "segment.bytes");
    assert_ne!(setting().as_deref(), Some("2097152"));
    let report = restore("--existing-topic-config apply").done();
    assert_eq!(status(&report), "completed", "{report}");
    assert_eq!(setting().as_deref(), Some("2097152"));
}

#[test]
fn a_mirror_heeds_what_the_operator_says_of_settings() {
    let mirrored = Mirrored::new("settings");
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    client.create_topic("mset", 1, &[("segment.bytes", "2097152")]);
    client.produce("mset", 0, Compression::None, numbered(0, 5));
    target.create_topic("mset", 1, &[]);
    let setting = |topic: &str, value: &str| {
        assert_eq!(
            target.setting(topic, "segment.bytes").as_deref(),
            Some(value)
        );
    };
    let before = target.setting("mset", "segment.bytes").unwrap();
    let refused = |more: &str, told: &str| {
        let said = mirrored.run(&format!("--json --topic mset {more}"));
        assert_eq!(said.code, 2, "{said}");
        let report = said.json();
        let problem = report["partitions"][0]["problem"].as_str().unwrap();
        assert!(problem.contains(told), "{report}");
        assert_eq!(report["records"], 0, "{report}");
    };
    refused("--existing-topic-config fail", "(segment.bytes)");
    let done = |more: &str| mirrored.done(&format!("--topic mset {more}"))["records"].clone();
    assert_eq!(done("--existing-topic-config keep"), 5);
    setting("mset", &before);
    assert_eq!(done(""), 0);
    setting("mset", "2097152");
    // What was mirrored to is the mirror's own.
    let own = "--existing-topic-config fail --topic-config-override segment.bytes=3145728";
    assert_eq!(done(own), 0);
    setting("mset", "3145728");
    // A mirror that can do nothing at all is an error.
    let unknown = "--rename mset.new --topic-config-override no.such.key=1";
    let said = mirrored.run(&format!("--topic mset {unknown} --unsupported-config fail"));
    said.refused(1, &["topic mset.new cannot be created in the target"]);
    assert!(!target.topics().contains(&"mset.new".to_owned()));
    assert_eq!(done(unknown), 5);
    setting("mset.new", "2097152");
}
