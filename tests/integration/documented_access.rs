//! `docs/access.md` names the ACLs that each command needs: these are enough, and one less is an error that names it.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fixture::{Fixture, numbered};
use crate::testbed::acl::{self, Acl};
use crate::testbed::group::{Group, transaction};
use crate::testbed::{Broker, Compression, Outcome, Properties, Release};

const PASSWORD: &str = "secret";
/// The user of the page's example.
const EXAMPLE: &str = "kafkeep";
const RECORDS: i64 = 3;

/// A broker that allows only what an ACL allows. Users sign in at the listener PLAIN; who comes by the other may do everything.
fn guarded() -> &'static Broker {
    const USERS: usize = 100;
    static GUARDED: OnceLock<Broker> = OnceLock::new();
    GUARDED.get_or_init(|| {
        let users = (0..USERS).map(user).chain([EXAMPLE.to_owned()]);
        let users: String = users
            .map(|user| format!(" user_{user}=\"{PASSWORD}\""))
            .collect();
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let properties = Properties::default()
            .listener("PLAIN", "SASL_PLAINTEXT")
            .set("listener.name.plain.sasl.enabled.mechanisms", "PLAIN")
            .set(
                "listener.name.plain.plain.sasl.jaas.config",
                format!("{module} required{users};"),
            )
            .set(
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            )
            .set("super.users", "User:ANONYMOUS");
        Broker::start(Release::V4_1, properties)
    })
}

fn user(number: usize) -> String {
    format!("u{number}")
}

/// One who may do nothing yet.
fn nobody() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    user(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The command, as this user.
fn run_as(scene: &Fixture<'_>, user: &str, verb: &str, arguments: &str) -> Outcome {
    let signed_in = sign_in(scene, user);
    scene.run(verb, &format!("{signed_in} {arguments}"))
}

/// Where the broker is, and who this user is.
fn sign_in(scene: &Fixture<'_>, user: &str) -> String {
    let address = scene.broker.listener("PLAIN");
    let file = scene.beside(user);
    let text = format!(
        "bootstrap_servers = ['{address}']\n\
         sasl = {{ mechanism = 'PLAIN', username = '{user}', password = {{ file = '{}' }} }}\n",
        scene.beside("password").display()
    );
    std::fs::write(scene.beside("password"), PASSWORD).unwrap();
    std::fs::write(&file, text).unwrap();
    format!(
        "--bootstrap-servers {address} --kafka-config {}",
        file.display()
    )
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/access.md");
    std::fs::read_to_string(path).unwrap()
}

/// A line of the page's table: an operation on a `topic` or a `group`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    resource: String,
    operation: String,
}

impl Right {
    fn to(&self, user: &str, name: &str) -> Acl {
        Acl::allow(user, &self.operation, &self.resource, name)
    }

    /// As errors speak of it: Kafka's tools take both spellings, and print this one.
    fn on(&self, name: &str) -> String {
        let mut operation = String::new();
        for letter in self.operation.chars() {
            if letter.is_uppercase() && !operation.is_empty() {
                operation.push('_');
            }
            operation.extend(letter.to_uppercase());
        }
        format!("grant ACL {operation} on {} {name}", self.resource)
    }
}

/// A command of the page's table, and all that it needs.
#[derive(Debug)]
struct Command {
    verb: String,
    arguments: String,
    /// Whether it goes on with a restore that was interrupted.
    goes_on: bool,
    /// Of a mirror: on which side.
    remark: String,
    rights: Vec<Right>,
}

impl Command {
    fn of(cell: &str) -> Self {
        let cell = cell.replace('`', "");
        let (line, remark) = cell.split_once(", ").unwrap_or((&cell, ""));
        let remark = remark.strip_prefix("in the ").unwrap_or(remark);
        let (verb, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let known = [
            "",
            "again after an interruption",
            "source",
            "target",
            "target, again",
        ];
        assert!(known.contains(&remark), "{remark}");
        Self {
            verb: verb.to_owned(),
            arguments: arguments.to_owned(),
            goes_on: remark.starts_with("again"),
            remark: remark.to_owned(),
            rights: Vec::new(),
        }
    }

    fn has(&self, argument: &str) -> bool {
        self.arguments.contains(argument)
    }

    /// What its topics and groups are called in this test.
    fn name(&self) -> String {
        let mut words = vec![self.verb.as_str()];
        if self.verb == "mirror" {
            // Its group and its transactional id are called so, and so is its topic here.
            words = vec!["kafkeep.mirror"];
            words.extend(self.remark.split(", "));
        }
        words.extend(self.arguments.split_whitespace());
        words.extend(self.goes_on.then_some("goes-on"));
        words.join(".").replace("--", "")
    }
}

fn documented() -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for line in page().lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", command, resource, operation, _, ""] = cells[..] else {
            continue;
        };
        let Some(operation) = operation.strip_prefix('`') else {
            continue;
        };
        if !command.is_empty() {
            commands.push(Command::of(command));
        }
        commands.last_mut().unwrap().rights.push(Right {
            resource: resource.to_owned(),
            operation: operation.trim_end_matches('`').to_owned(),
        });
    }
    commands
}

/// A user who has all the rights of a command, or all but one. Topic and group bear one name.
struct Case {
    name: String,
    user: String,
    lacks: Option<Right>,
}

fn cases(command: &Command) -> Vec<Case> {
    let lacking = command.rights.iter().cloned().map(Some);
    let cases: Vec<Case> = std::iter::once(None)
        .chain(lacking)
        .enumerate()
        .map(|(number, lacks)| Case {
            name: format!("{}.{number}", command.name()),
            user: nobody(),
            lacks,
        })
        .collect();
    let acls = cases.iter().flat_map(|case| {
        let rights = command.rights.iter();
        let granted = rights.filter(|right| Some(*right) != case.lacks.as_ref());
        let needed = granted.map(|right| right.to(&case.user, &case.name));
        // Who writes to topics does without, with a warning that names it.
        let claim = Right {
            resource: "transactional id".to_owned(),
            operation: "Write".to_owned(),
        };
        let claim = claim.to(&case.user, &format!("kafkeep-claim.{}", case.name));
        let is_written = ["restore", "mirror"].contains(&command.verb.as_str());
        needed.chain(is_written.then_some(claim))
    });
    acl::add(&guarded().address(), &acls.collect::<Vec<_>>());
    cases
}

impl Case {
    /// Nothing was missing, or the command said what was, and nothing else.
    #[track_caller]
    fn judge(&self, outcome: &Outcome) {
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        let Some(right) = &self.lacks else {
            assert_eq!(outcome.code, 0, "{}: {outcome}", self.name);
            assert!(!said.contains("ACL"), "{}: {outcome}", self.name);
            return;
        };
        let named = right.on(&self.name);
        assert!(said.contains(&named), "{named:?} is not in: {outcome}");
        assert_eq!(
            said.matches("grant ACL").count(),
            said.matches(&named).count(),
            "{named:?} is all that is missing: {outcome}"
        );
    }
}

fn fill(scene: &Fixture<'_>, topic: &str) {
    scene.client.create_topic(topic, 1, &[]);
    let records = numbered(0, RECORDS);
    scene.client.produce(topic, 0, Compression::None, records);
}

fn commit(group: &str, topic: &str) {
    Group::new(&guarded().address(), group).commit(topic, 0, 2, "");
}

fn prove_backup(command: &Command) {
    for case in cases(command) {
        let scene = Fixture::on(guarded());
        fill(&scene, &case.name);
        commit(&case.name, &case.name);
        let arguments = command.arguments.replace("NAME", &case.name);
        let arguments = format!("--json --topic {} {arguments}", case.name);
        let outcome = run_as(&scene, &case.user, "backup", &arguments);
        case.judge(&outcome);
        if case.lacks.is_none() {
            let report = outcome.json();
            assert_eq!(report["total_messages"], RECORDS, "{report}");
            let groups = report["groups"].as_array().map_or(0, Vec::len);
            assert_eq!(groups, usize::from(command.has("NAME")), "{report}");
            assert_eq!(report["warnings"].as_array().unwrap().len(), 0, "{report}");
        } else {
            assert_eq!(outcome.code, 1, "{outcome}");
            for part in ["backups", "locks", ".tmp"] {
                assert_eq!(scene.files(part).len(), 0, "{part}: {outcome}");
            }
        }
    }
}

/// Where a target topic ends; none when there is none.
fn end(scene: &Fixture<'_>, topic: &str) -> Option<i64> {
    let exists = scene.client.topics().iter().any(|found| found == topic);
    exists.then(|| scene.client.watermarks(topic, 0).1)
}

/// A restore that writes everything and then fails, by one who may not read it back.
fn interrupt(scene: &Fixture<'_>, command: &Command, case: &Case, arguments: &str) {
    let beginner = nobody();
    let operations = match command.has("append") {
        true => vec!["Write", "DescribeConfigs"],
        false => vec!["Create", "Write", "AlterConfigs"],
    };
    let allow = |operation| Acl::allow(&beginner, operation, "topic", &case.name);
    let acls: Vec<Acl> = operations.into_iter().map(allow).collect();
    acl::add(&scene.broker.address(), &acls);
    let outcome = run_as(scene, &beginner, "restore", &format!("--check {arguments}"));
    let lacked = format!("grant ACL READ on topic {}", case.name);
    let unclaimed = format!(
        "grant ACL WRITE on transactional id kafkeep-claim.{}",
        case.name
    );
    outcome.refused(1, &[&lacked, &unclaimed, "run the same restore again"]);
}

fn prove_restore(command: &Command) {
    let scene = Fixture::on(guarded());
    let source = command.name();
    fill(&scene, &source);
    let cases = cases(command);
    for case in cases.iter().filter(|_| command.has("NAME")) {
        commit(&case.name, &source);
    }
    scene.backup(&format!("--topic {source}"));
    for case in cases {
        let options = command.arguments.replace("NAME", &case.name);
        let arguments = format!("--json latest --rename {source}={} {options}", case.name);
        if command.has("append") {
            fill(&scene, &case.name);
        }
        if command.goes_on {
            interrupt(&scene, command, &case, &arguments);
        }
        let before = end(&scene, &case.name);
        let outcome = run_as(&scene, &case.user, "restore", &arguments);
        case.judge(&outcome);
        let after = end(&scene, &case.name);
        if outcome.code != 1 {
            let report = outcome.json();
            assert_eq!(report["messages_restored"], RECORDS, "{report}");
            let found = if command.goes_on { RECORDS } else { 0 };
            assert_eq!(report["messages_found"], found, "{report}");
            let behind = if command.has("append") { RECORDS } else { 0 };
            assert_eq!(after, Some(behind + RECORDS));
        } else if after != before {
            let remains = format!("this restore created {}", case.name);
            outcome.refused(1, &[&remains, "run the same restore again"]);
        }
        // Only a group's offsets can be missing from a restore that is done.
        let of_group = command.has("NAME") && case.lacks.as_ref().is_some_and(is_read);
        let code = match (of_group, &case.lacks) {
            (_, None) => 0,
            (true, _) => 2,
            (false, _) => 1,
        };
        assert_eq!(outcome.code, code, "{outcome}");
        if command.has("NAME") && code != 1 {
            let expected = if code == 0 { "applied" } else { "refused" };
            let report = outcome.json();
            assert_eq!(report["groups"][0]["outcome"], expected, "{report}");
        }
    }
}

fn prove_drain(command: &Command) {
    for case in cases(command) {
        let scene = Fixture::on(guarded());
        scene.client.create_topic(&case.name, 1, &[]);
        let values: Vec<String> = (0..RECORDS).map(|n| n.to_string()).collect();
        let address = scene.broker.address();
        transaction(&address, &case.name, &case.name, &values, true);
        // Behind the last record: the marker of the transaction is left.
        Group::new(&address, &case.name).commit(&case.name, 0, RECORDS, "");
        let arguments = command.arguments.replace("NAME", &case.name);
        let arguments = format!("--json --stable-checks 1 --topic {} {arguments}", case.name);
        let outcome = run_as(&scene, &case.user, "drain", &arguments);
        case.judge(&outcome);
        if case.lacks.is_none() {
            assert_eq!(outcome.json()["status"], "drained", "{outcome}");
            continue;
        }
        assert_eq!(outcome.code, 1, "{outcome}");
        if case.lacks.as_ref().is_some_and(is_read) {
            // Where to describe is all that one may do, a marker is as good as a record.
            let right = Acl::allow(&case.user, "Describe", "topic", &case.name);
            acl::add(&address, &[right]);
            let outcome = run_as(&scene, &case.user, "drain", &arguments);
            assert_eq!(outcome.code, 2, "{outcome}");
            case.judge(&outcome);
        }
    }
}

/// On the side that is not looked at, everything is allowed.
fn prove_mirror(command: &Command) {
    let elsewhere = Fixture::elsewhere();
    for case in cases(command) {
        let scene = Fixture::on(guarded());
        let signed_in = sign_in(&scene, &case.user);
        let (from, to) = match command.remark.as_str() {
            "source" => {
                fill(&scene, &case.name);
                let to = format!("--to-bootstrap-servers {}", elsewhere.servers);
                (signed_in, to)
            }
            remark => {
                fill(&elsewhere, &case.name);
                if remark.ends_with("again") {
                    scene.client.create_topic(&case.name, 1, &[]);
                }
                let to = signed_in.replace("--", "--to-");
                (format!("--bootstrap-servers {}", elsewhere.servers), to)
            }
        };
        let name = case.name.trim_start_matches("kafkeep.");
        let arguments = format!(
            "mirror --json --name {name} --topic {} {from} {to}",
            case.name
        );
        let outcome = crate::kafkeep(arguments.split_whitespace());
        case.judge(&outcome);
        if case.lacks.is_none() {
            assert_eq!(outcome.json()["records"], RECORDS, "{outcome}");
        } else {
            assert_eq!(outcome.code, 1, "{outcome}");
        }
    }
}

fn is_read(right: &Right) -> bool {
    right.operation == "Read"
}

#[test]
fn the_documented_acls_are_enough_and_one_less_is_an_error_that_names_it() {
    let commands = documented();
    assert!(commands.len() >= 9);
    std::thread::scope(|scope| {
        for command in &commands {
            let prove = match command.verb.as_str() {
                "backup" => prove_backup,
                "restore" => prove_restore,
                "drain" => prove_drain,
                "mirror" => prove_mirror,
                verb => panic!("nothing is known of {verb}"),
            };
            scope.spawn(move || prove(command));
        }
    });
}

#[test]
fn the_pages_example_lets_its_user_back_up() {
    let scene = Fixture::on(guarded());
    for name in ["orders.eu", "others"] {
        fill(&scene, name);
    }
    for group in ["billing-eu", "audit"] {
        commit(group, "orders.eu");
    }
    let address = scene.broker.address();
    let mut granted = 0;
    for line in page().lines() {
        let Some(arguments) = line.strip_prefix("kafka-acls.sh ") else {
            continue;
        };
        let arguments = arguments
            .replace("kafka1:9092", &address)
            .replace("--command-config admin.properties ", "");
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let class = "org.apache.kafka.tools.AclCommand";
        let output = scene.broker.tool(class, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        granted += 1;
    }
    assert_eq!(granted, 2);
    let arguments = "--json --topic orders.* --groups billing-*";
    let report = run_as(&scene, EXAMPLE, "backup", arguments).done();
    assert_eq!(report["total_messages"], RECORDS, "{report}");
    assert_eq!(report["groups"].as_array().unwrap().len(), 1, "{report}");
    // What may not be seen is not there for a pattern, nor for those who take all that they find.
    let all = "--json --topic o*";
    let report = run_as(&scene, EXAMPLE, "backup", all).done();
    assert_eq!(report["topics"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["groups"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["warnings"].as_array().unwrap().len(), 0, "{report}");
    acl::add(&address, &[Acl::allow(EXAMPLE, "Describe", "cluster", "")]);
    let report = run_as(&scene, EXAMPLE, "backup", all).done();
    let warning = "group audit: not allowed: grant ACL DESCRIBE on group audit";
    assert!(report["warnings"].to_string().contains(warning), "{report}");
}
