//! What operators read when something is wrong, word for word.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::{DaemonConfiguration, Diagnostics};

const KAFKEEP: &str = "\
[clusters.prod]
bootstrap_servers = [\"kafka1:9092\"]

[clusters.dr]
bootstrap_servers = [\"dr1:9092\"]

[repositories.main]
path = \"/var/lib/kafkeep\"
";

/// A policy without fault, but for `more`, which stands on its second line.
fn policy(more: &str) -> String {
    format!(
        "[backup.orders]\n{more}\ncluster = \"prod\"\nrepository = \"main\"\ntopics = [\"orders.*\"]\nschedule = \"@daily\"\n"
    )
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join("policies.d")).unwrap();
    for (name, text) in files {
        let text = text.replace("DIR", directory.path().to_str().unwrap());
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn wrong(directory: &TempDir) -> Diagnostics {
    DaemonConfiguration::load(directory.path()).unwrap_err()
}

/// What is told about these files, whose directory is shown as `DIR`.
fn told(files: &[(&str, &str)]) -> String {
    let directory = directory(files);
    let path = directory.path().to_str().unwrap();
    wrong(&directory).to_string().replace(path, "DIR")
}

/// The same about one file of policies, beside a `kafkeep.toml` without fault.
fn told_of_policies(text: &str) -> String {
    told(&[("kafkeep.toml", KAFKEEP), ("policies.d/a.toml", text)])
}

/// The same about `kafkeep.toml` with this below it.
fn told_of_kafkeep(more: &str) -> String {
    told(&[("kafkeep.toml", &format!("{KAFKEEP}{more}"))])
}

#[track_caller]
fn assert_told(told: &str, expected: &str) {
    let expected = expected.trim_start_matches('\n');
    assert!(told == expected, "told:\n{told}\n\nexpected:\n{expected}");
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    assert_told(
        &told_of_policies(&policy("ratelimit = \"1MiB/s\"")),
        "
error: unknown key `ratelimit`
 --> DIR/policies.d/a.toml:2:1
  |
2 | ratelimit = \"1MiB/s\"
  | ^^^^^^^^^
  = help: did you mean `rate_limit`?

1 error",
    );
    assert_told(
        &told_of_kafkeep("[backup.orders]\n"),
        "
error: unknown key `backup`
 --> DIR/kafkeep.toml:9:2
  |
9 | [backup.orders]
  |  ^^^^^^
  = help: policies belong into policies.d/*.toml

1 error",
    );
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_what_the_key_takes() {
    assert_told(
        &told_of_policies(&policy("max_age = 26")),
        "
error: `max_age` takes a duration such as \"15m\" or \"26h\", not an integer
 --> DIR/policies.d/a.toml:2:11
  |
2 | max_age = 26
  |           ^^

1 error",
    );
}

#[test]
fn durations_sizes_and_rates_that_do_not_parse_are_told_with_examples() {
    let text = policy(
        "max_age = \"26\"\nrate_limit = \"5 MiB\"\nretention = { max_size = \"1.5GiB\", keep_last = -1 }\nverify = \"quik\"",
    );
    assert_told(
        &told_of_policies(&text),
        "
error: `26` is not a duration such as \"15m\" or \"26h\"
 --> DIR/policies.d/a.toml:2:11
  |
2 | max_age = \"26\"
  |           ^^^^
  = help: write numbers with units: ms, s, m, h, days, weeks

error: `5 MiB` is not a rate such as \"50MiB/s\" or \"10000 records/s\"
 --> DIR/policies.d/a.toml:3:14
  |
3 | rate_limit = \"5 MiB\"
  |              ^^^^^^^
  = help: leave it out for no limit

error: `1.5GiB` is not a size such as \"64MiB\" or \"100GB\"
 --> DIR/policies.d/a.toml:4:26
  |
4 | retention = { max_size = \"1.5GiB\", keep_last = -1 }
  |                          ^^^^^^^^
  = help: units are B, kB, KiB, MB, MiB, GB, GiB, TB and TiB

error: `-1` is not a whole number from 0 to 4294967295
 --> DIR/policies.d/a.toml:4:48
  |
4 | retention = { max_size = \"1.5GiB\", keep_last = -1 }
  |                                                ^^

error: `quik` is not one of off, quick, full
 --> DIR/policies.d/a.toml:5:10
  |
5 | verify = \"quik\"
  |          ^^^^^^
  = help: did you mean `quick`?

5 errors",
    );
}

#[test]
fn a_name_with_dots_and_without_quotes_is_one_problem() {
    let text = policy("").replace("[backup.orders]", "[backup.my.own.orders]");
    let told = told_of_policies(&text);
    assert!(
        told.starts_with(
            "\
error: a name with dots is written in quotes
 --> DIR/policies.d/a.toml:1:9
  |
1 | [backup.my.own.orders]
  |         ^^
  = help: write \"my.own.orders\" in its place
"
        ),
        "{told}"
    );
    assert!(told.ends_with("\n1 error"), "{told}");
    // A table of its own is no name.
    let told = told_of_policies("[backup.orders.retention]\nkeep_last = 1\n");
    assert!(told.contains("`cluster` is missing"), "{told}");
}

#[test]
fn a_cluster_and_a_repository_that_are_not_there_name_the_nearest() {
    assert_told(
        &told_of_policies(
            "[backup.orders]\ncluster = \"prd\"\nrepository = \"elsewhere\"\ntopics = [\"orders\"]\nevery = \"1h\"\n",
        ),
        "
error: no cluster is called `prd`
 --> DIR/policies.d/a.toml:2:11
  |
2 | cluster = \"prd\"
  |           ^^^^^
  = help: did you mean `prod`?

error: no repository is called `elsewhere`
 --> DIR/policies.d/a.toml:3:14
  |
3 | repository = \"elsewhere\"
  |              ^^^^^^^^^^^
  = help: kafkeep.toml has: main

2 errors",
    );
}

#[test]
fn a_name_given_twice_shows_both_places() {
    let mirror = "[mirror.orders]\nsource = \"prod\"\ntarget = \"dr\"\ntopics = [\"a\"]\n";
    assert_told(
        &told(&[
            ("kafkeep.toml", KAFKEEP),
            ("policies.d/a.toml", &policy("")),
            ("policies.d/b.toml", mirror),
        ]),
        "
error: a policy `orders` is there already
 --> DIR/policies.d/b.toml:1:9
  |
1 | [mirror.orders]
  |         ^^^^^^
 ::: DIR/policies.d/a.toml:1:9
  |
1 | [backup.orders]
  |         ------ first given here
  = help: give one of them another name

1 error",
    );
    assert_told(
        &told_of_policies(&format!("{}\n[backup.orders]\n", policy(""))),
        "
error: duplicate key
 --> DIR/policies.d/a.toml:8:9
  |
8 | [backup.orders]
  |         ^^^^^^
 ::: DIR/policies.d/a.toml:1:1
  |
1 | [backup.orders]
  | --------------- first given here

1 error",
    );
}

#[test]
fn expressions_that_would_take_too_much_are_told_with_the_bound() {
    let sum = format!("{} > 0", vec!["1"; 1400].join("+"));
    let equal = vec!["1"; 1300].join("==");
    let elements = format!("value{} == 1", "[0]".repeat(1300));
    for source in [&sum, &equal, &elements] {
        for key in ["filter", "key_transformation"] {
            let policy = format!(
                "[mirror.orders]\nsource = \"prod\"\ntarget = \"dr\"\ntopics = [\"a\"]\n{key} = \"{source}\"\n"
            );
            let told = told_of_policies(&policy);
            assert!(told.contains("too deep: 100 operators"), "{told:.300}");
            assert!(told.contains("policies.d/a.toml:5:"), "{told:.300}");
        }
    }
}

#[test]
fn of_an_expression_that_was_taken_before_the_bounds_it_is_told_that_they_are_new() {
    let condition = "key == 'a'";
    let long = vec!["k"; 4100].concat();
    let parts = format!("size([{}]) > 0", vec!["1"; 2000].join(","));
    let pattern = "value.matches('[a-z]{1000}{100}')".to_owned();
    for (source, bound) in [
        (vec![condition; 150].join(" + "), "100 operators"),
        (long, "4096 are the most"),
        (parts, "more than 2000 parts"),
        (pattern, "the pattern takes more than 1 MiB"),
    ] {
        let policy = format!(
            "[mirror.orders]\nsource = \"prod\"\ntarget = \"dr\"\ntopics = [\"a\"]\nfilter = \"{source}\"\n"
        );
        let told = told_of_policies(&policy);
        for part in [
            bound,
            "policies.d/a.toml:5:",
            "could crash over it: write it shorter",
        ] {
            assert!(told.contains(part), "{part} is not in {told:.600}");
        }
    }
}

#[test]
fn what_a_mirror_cannot_do_to_records_is_told_where_it_is_written() {
    let mirror = "\
[mirror.orders]
source = \"prod\"
target = \"dr\"
topics = [\"a\"]
key_transformation = \"json(value\"
headers = { env = \"prod\", region = { cel = \"valu.region\" }, wrong = 1 }
on_error = \"dead_letter\"
from = \"yesterday\"
max_messages = 10
";
    assert_told(
        &told_of_policies(mirror),
        "
error: the expression is wrong at 1:11: the end where `)` must be
 --> DIR/policies.d/a.toml:5:22
  |
5 | key_transformation = \"json(value\"
  |                      ^^^^^^^^^^^^
  = help: for example value.contains('important'), or json(value).amount > 100

error: the expression is wrong at 1:1: a record has no `valu`
 --> DIR/policies.d/a.toml:6:44
  |
6 | headers = { env = \"prod\", region = { cel = \"valu.region\" }, wrong = 1 }
  |                                            ^^^^^^^^^^^^^
  = help: it has key, value, headers, timestamp, partition, offset, topic

error: `headers` takes a table of texts and of { cel = \"…\" }, not an integer
 --> DIR/policies.d/a.toml:6:69
  |
6 | headers = { env = \"prod\", region = { cel = \"valu.region\" }, wrong = 1 }
  |                                                                     ^

error: dead letters have no topic
 --> DIR/policies.d/a.toml:7:12
  |
7 | on_error = \"dead_letter\"
  |            ^^^^^^^^^^^^^
  = help: give dead_letter_topic = \"…\", a topic of the target

error: `yesterday` is not earliest, latest, an offset or a time
 --> DIR/policies.d/a.toml:8:8
  |
8 | from = \"yesterday\"
  |        ^^^^^^^^^^^
  = help: times are written as \"2026-11-24T09:00:00Z\"

error: a mirror that is continuous has no runs to be limited
 --> DIR/policies.d/a.toml:9:16
  |
9 | max_messages = 10
  |                ^^
  = help: give it a schedule as mode, or leave max_messages out

6 errors",
    );
    let groups = "[mirror.orders]\nsource = \"prod\"\ntarget = \"dr\"\ntopics = [\"a\"]\nkey_transformation = \"value\"\ngroups = true\ndead_letter_topic = \"dead\"\n";
    assert_told(
        &told_of_policies(groups),
        "
error: groups cannot follow: their records go to other partitions
 --> DIR/policies.d/a.toml:6:10
  |
6 | groups = true
  |          ^^^^
 ::: DIR/policies.d/a.toml:5:22
  |
5 | key_transformation = \"value\"
  |                      ------- by this
  = help: leave groups out, or key_transformation

error: no record becomes a dead letter
 --> DIR/policies.d/a.toml:7:21
  |
7 | dead_letter_topic = \"dead\"
  |                     ^^^^^^
  = help: set on_error = \"dead_letter\", or leave it out

2 errors",
    );
}

#[test]
fn a_mirror_that_writes_to_one_of_kafkas_own_topics_is_told() {
    let mirror = "[mirror.orders]\nsource = \"prod\"\ntarget = \"dr\"\ntopics = [\"__consumer_offsets\"]\non_error = \"dead_letter\"\ndead_letter_topic = \"__share_group_state\"\n";
    assert_told(
        &told_of_policies(mirror),
        "
error: this writes to one of Kafka's internal topics
 --> DIR/policies.d/a.toml:4:10
  |
4 | topics = [\"__consumer_offsets\"]
  |          ^^^^^^^^^^^^^^^^^^^^^^
  = help: leave it out, or rename it

error: this writes to one of Kafka's internal topics
 --> DIR/policies.d/a.toml:6:21
  |
6 | dead_letter_topic = \"__share_group_state\"
  |                     ^^^^^^^^^^^^^^^^^^^^^
  = help: give dead letters a topic of their own

2 errors",
    );
}

#[test]
fn two_mirrors_that_write_one_topic_are_told() {
    let mirror = |name: &str, topics: &str, rename: &str| {
        format!(
            "[mirror.{name}]\nsource = \"prod\"\ntarget = \"dr\"\ntopics = [{topics}]\nrename = \"{rename}\"\n"
        )
    };
    let both = |one: String, other: String| format!("{one}\n{other}");
    assert_told(
        &told_of_policies(&both(
            mirror("one", "\"orders.*\"", "dr.{topic}"),
            mirror("two", "\"payments\", \"orders.eu\"", "dr.{topic}"),
        )),
        "
error: this mirror writes `dr.orders.eu` in `dr`, as another one does
 --> DIR/policies.d/a.toml:7:9
  |
7 | [mirror.two]
  |         ^^^
 ::: DIR/policies.d/a.toml:1:9
  |
1 | [mirror.one]
  |         --- the other one
  = help: give one of them other topics, another target or another rename

1 error",
    );
    for (one, other) in [
        (
            mirror("one", "\"a.*\"", "{topic}"),
            mirror("two", "\"a.*\"", "{topic}"),
        ),
        (mirror("one", "\"a\"", "all"), mirror("two", "\"b\"", "all")),
        (
            mirror("one", "\"/^a/\"", "x.{topic}"),
            mirror("two", "\"/^a/\"", "x.{topic}"),
        ),
        (
            mirror("one", "\"x.a\"", "{topic}"),
            mirror("two", "\"a\"", "x.{topic}"),
        ),
    ] {
        let told = told_of_policies(&both(one, other));
        assert!(told.starts_with("error: this mirror writes"), "{told}");
    }
    for (one, other) in [
        (
            mirror("one", "\"a.*\"", "{topic}"),
            mirror("two", "\"b.*\"", "{topic}"),
        ),
        (
            mirror("one", "\"a.*\", \"!a.x\"", "{topic}"),
            mirror("two", "\"a.x\"", "{topic}"),
        ),
        (
            mirror("one", "\"a\"", "x.{topic}"),
            mirror("two", "\"a\"", "y.{topic}"),
        ),
    ] {
        let directory = directory(&[
            ("kafkeep.toml", KAFKEEP),
            ("policies.d/a.toml", &both(one, other)),
        ]);
        DaemonConfiguration::load(directory.path()).unwrap();
    }
}

#[test]
fn a_schedule_that_never_comes_and_a_zone_that_is_none_are_told() {
    let text = policy("timezone = \"Europe/Berlim\"").replace("@daily", "0 0 30 2 *");
    assert_told(
        &told_of_policies(&text),
        "
error: no time zone is called `Europe/Berlim`
 --> DIR/policies.d/a.toml:2:12
  |
2 | timezone = \"Europe/Berlim\"
  |            ^^^^^^^^^^^^^^^
  = help: did you mean `Europe/Berlin`? A time zone has an IANA name, such as Europe/Berlin or UTC

error: `0 0 30 2 *` is never due: no year has such a day
 --> DIR/policies.d/a.toml:6:12
  |
6 | schedule = \"0 0 30 2 *\"
  |            ^^^^^^^^^^^^

2 errors",
    );
    let told = told_of_policies(&policy("every = \"1h\""));
    assert!(told.contains("both schedule and every"), "{told}");
    assert!(told.contains("schedule is given here"), "{told}");
    let told = told_of_policies(&policy("").replace("schedule", "# schedule"));
    assert!(
        told.starts_with("error: nothing says when to run\n"),
        "{told}"
    );
}

#[test]
fn a_retention_that_keeps_nothing_is_told() {
    assert_told(
        &told_of_policies(&policy("retention = { keep_daily = 0 }")),
        "
error: these rules keep nothing
 --> DIR/policies.d/a.toml:2:13
  |
2 | retention = { keep_daily = 0 }
  |             ^^^^^^^^^^^^^^^^^^
  = help: give one of them more than 0

1 error",
    );
}

#[test]
fn bad_patterns_are_told_one_by_one() {
    assert_told(
        &told_of_policies(&policy("").replace("[\"orders.*\"]", "[\"ok\", \"a[\", \"\", \"/(/\"]")),
        "
error: pattern `a[`: unclosed character class; missing ']'
 --> DIR/policies.d/a.toml:5:17
  |
5 | topics = [\"ok\", \"a[\", \"\", \"/(/\"]
  |                 ^^^^
  = help: write a name, a glob (orders.*) or a regular expression between slashes (/^orders-\\d+$/), and ! before it to exclude

error: pattern ``: is empty; write a name, a glob or /a regular expression/
 --> DIR/policies.d/a.toml:5:23
  |
5 | topics = [\"ok\", \"a[\", \"\", \"/(/\"]
  |                       ^^
  = help: write a name, a glob (orders.*) or a regular expression between slashes (/^orders-\\d+$/), and ! before it to exclude

error: pattern `/(/`: unclosed group
 --> DIR/policies.d/a.toml:5:27
  |
5 | topics = [\"ok\", \"a[\", \"\", \"/(/\"]
  |                           ^^^^^
  = help: write a name, a glob (orders.*) or a regular expression between slashes (/^orders-\\d+$/), and ! before it to exclude

3 errors",
    );
}

#[test]
fn what_is_missing_is_told_at_the_header() {
    assert_told(
        &told_of_policies(
            "[backup.orders]\ncluster = \"prod\"\ntopics = [\"a\"]\nevery = \"1h\"\n",
        ),
        "
error: `repository` is missing
 --> DIR/policies.d/a.toml:1:1
  |
1 | [backup.orders]
  | ^^^^^^^^^^^^^^^
  = help: repository: the repository to write to, of kafkeep.toml

1 error",
    );
}

#[test]
fn a_secret_that_cannot_be_read_or_that_others_can_read_is_told() {
    let sasl = |name: &str| {
        format!(
            "[clusters.{name}]\nbootstrap_servers = [\"k:9092\"]\nsasl.mechanism = \"PLAIN\"\nsasl.username = \"u\"\nsasl.password = {{ file = \"DIR/{name}\" }}\n"
        )
    };
    let files = [
        (
            "kafkeep.toml",
            &*format!("{}{}", sasl("open"), sasl("gone")),
        ),
        ("open", "swordfish"),
    ];
    let directory = directory(&files);
    let open = directory.path().join("open");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o640)).unwrap();
    let path = directory.path().to_str().unwrap();
    let told = wrong(&directory).to_string().replace(path, "DIR");
    // How long the underline is depends on where the test runs.
    let lines: Vec<&str> = told.lines().filter(|line| !line.contains('^')).collect();
    assert_told(
        &lines.join("\n"),
        "
error: DIR/open can be read by others (mode 0640)
 --> DIR/kafkeep.toml:5:17
  |
5 | sasl.password = { file = \"DIR/open\" }
  = help: chmod 0600, and give it to the user that kafkeep runs as

error: DIR/gone: No such file or directory (os error 2)
  --> DIR/kafkeep.toml:10:17
   |
10 | sasl.password = { file = \"DIR/gone\" }

2 errors",
    );
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(wrong(&directory).told.len(), 1);
}

#[test]
fn no_literal_secret_is_ever_shown() {
    for more in [
        "[clusters.x]\nsasl = { mechanism = \"PLAIN\", username = \"u\", password = \"swordfish\" }\nnonsense = 1\n",
        "[clusters.x]\nsasl = { mechanism = \"PLAN\", pasword = \"swordfish\", password = [\"swordfish\"] }\n",
        "[clusters.x]\nsasl = \"swordfish\"\n",
        "[clusters.x]\nsasl.password = { value = \"swordfish\" }\n",
        "[clusters.x]\npassword = \"swordfish\n",
        "[clusters.x.sasl]\npassword = swordfish\n",
        "[clusters.x.sasl]\npassword = \"swordfish\" x\n",
        "[clusters.x.sasl]\npassword = [\n\"swordfish\" x,\n",
        "[clusters.x.sasl]\npassword = \"a\"\npassword = \"swordfish\"\n",
        "clusters = { x = { sasl = { password = \"swordfish\" } } }\n",
        "[cluster.x]\nsasl.password = \"swordfish\"\n",
        "cluster = { x = { password = \"swordfish\" } }\n",
    ] {
        for told in [
            told_of_kafkeep(more),
            told(&[("kafkeep.toml", more)]),
            told_of_policies(more),
        ] {
            assert!(told.starts_with("error: "), "{told}");
            assert!(!told.contains("fish"), "{more}\n{told}");
        }
    }
    assert_told(
        &told_of_kafkeep("[clusters.x]\nsasl = { mechanism = \"PLAIN\", password = \"swordfish\", usr = 1 }\n"),
        "
error: no bootstrap server is named
 --> DIR/kafkeep.toml:9:1
  |
9 | [clusters.x]
  | ^^^^^^^^^^^^
  = help: name at least one, as in bootstrap_servers = [\"kafka1:9092\"]

error: a secret does not belong into this file
  --> DIR/kafkeep.toml:10:42
   |
10 | sasl = { mechanism = \"PLAIN\", password = …, usr = … }
   |                                          ^
   = help: write { file = … }, { credential = … } or { env = … }

error: unknown key `usr`
  --> DIR/kafkeep.toml:10:55
   |
10 | sasl = { mechanism = \"PLAIN\", password = …, usr = … }
   |                                             ^^^
   = help: known here: `mechanism`, `username`, `password`, `token_file`, `token_endpoint`, `client_id`, `client_secret`, `scope`, `token_endpoint_ca_file`

3 errors",
    );
}

#[test]
fn a_repository_inside_another_is_told() {
    assert_told(
        &told_of_kafkeep("[repositories.inner]\npath = \"/var/lib/x/../kafkeep/inner\"\n"),
        "
error: /var/lib/x/../kafkeep/inner lies inside another repository
  --> DIR/kafkeep.toml:10:8
   |
10 | path = \"/var/lib/x/../kafkeep/inner\"
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  ::: DIR/kafkeep.toml:8:8
   |
 8 | path = \"/var/lib/kafkeep\"
   |        ------------------ the other one
   = help: give each repository a directory of its own, beside the others

1 error",
    );
    for (path, words) in [
        ("/var/lib", "has another repository inside"),
        ("/var/lib/kafkeep/", "is another repository's too"),
        ("backups", "is relative"),
    ] {
        let told = told_of_kafkeep(&format!("[repositories.other]\npath = \"{path}\"\n"));
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn an_address_beyond_loopback_is_told() {
    assert_told(
        &told_of_kafkeep("[http]\nlisten = \"0.0.0.0:9644\"\n"),
        "
error: 0.0.0.0 is beyond this machine, where all could be read on the way
  --> DIR/kafkeep.toml:10:10
   |
10 | listen = \"0.0.0.0:9644\"
   |          ^^^^^^^^^^^^^^
   = help: listen on 127.0.0.1:9644, give tls = { cert_file = …, key_file = … }, or say allow_plaintext = true

1 error",
    );
}

#[test]
fn keys_of_the_api_that_let_nobody_in_or_everybody_are_told() {
    let told = |text: &str| told_of_kafkeep(text);
    let all = told("[api.keys.a]\nalgorithm = 'HS256'\n[api.keys.b]\nalgorithm = 'ES512'\n");
    for words in [
        "`issuer` is missing",
        "`audience` is missing",
        "HS256 goes by a secret, and by that alone",
        "one of HS256, RS256, ES256, EdDSA",
    ] {
        assert!(all.contains(words), "{all}");
    }
    let api = "[api]\nissuer = 'i'\naudience = 'a'\nrepository = 'mian'\nleeway = '1h'\n\
               [api.keys.sso]\nalgorithm = 'RS256'\njwks_file = '/none.json'\n";
    let told = told(api);
    for words in [
        "/none.json cannot be read",
        "clocks are not that far apart",
        "no repository is called `mian`",
        "did you mean `main`?",
    ] {
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn keys_of_the_api_that_do_not_fit_their_algorithm_are_told() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokens");
    let ec = golden.join("ec.pem").display().to_string();
    let directory = directory(&[("short.key", "0123456789\n")]);
    let short = directory.path().join("short.key");
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).unwrap();
    let secret = format!("secret = {{ file = '{}' }}", short.display());
    let told = |key: &str| {
        let told = told_of_kafkeep(&format!(
            "[api]\nissuer = 'i'\naudience = 'a'\n[api.keys.ops]\n{key}\n"
        ));
        assert!(told.contains("DIR/kafkeep.toml:1"), "{told}");
        told
    };
    for (key, words) in [
        (
            format!("algorithm = 'HS256'\n{secret}"),
            "the secret has 10 bytes, and HS256 needs 32 or more",
        ),
        (
            format!("algorithm = 'HS256'\npublic_key_file = '{ec}'"),
            "HS256 goes by a secret, and by that alone",
        ),
        (
            format!("algorithm = 'HS256'\n{secret}\njwks_file = '/x'"),
            "HS256 goes by a secret, and by that alone",
        ),
        (
            format!("algorithm = 'ES256'\n{secret}"),
            "this algorithm goes by either public_key_file or jwks_file",
        ),
        (
            format!("algorithm = 'ES256'\npublic_key_file = '{ec}'\njwks_file = '/x'"),
            "this algorithm goes by either public_key_file or jwks_file",
        ),
        (
            format!("algorithm = 'RS256'\npublic_key_file = '{ec}'"),
            "holds no public key for RS256 in PEM",
        ),
        (
            "algorithm = 'EdDSA'\njwks_file = '/none.json'".to_owned(),
            "/none.json cannot be read",
        ),
        (secret.clone(), "`algorithm` is missing"),
        (
            "algorithm = 'HS256'\nsecret = '0123456789abcdef0123456789abcdef'".to_owned(),
            "a secret does not belong into this file",
        ),
    ] {
        let told = told(&key);
        assert!(told.contains(words), "{words} is not in\n{told}");
        assert!(!told.contains("0123456789"), "{told}");
    }
}

#[test]
fn a_private_key_that_others_can_read_is_told_of_the_port_and_of_clusters() {
    let kafkeep = format!(
        "{KAFKEEP}[http]\ntls = {{ cert_file = 'DIR/none.pem', key_file = 'DIR/port.key' }}\n\
         [clusters.tls]\nbootstrap_servers = ['k:9093']\ntls = {{ cert_file = 'DIR/a.pem', key_file = 'DIR/a.key' }}\n"
    );
    let directory = directory(&[("kafkeep.toml", &kafkeep), ("port.key", ""), ("a.key", "")]);
    for (mode, is_told) in [(0o644, true), (0o640, true), (0o600, false)] {
        for key in ["port.key", "a.key"] {
            let key = directory.path().join(key);
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = wrong(&directory).to_string();
            let words = format!("{} can be read by others (mode {mode:04o})", key.display());
            assert_eq!(told.contains(&words), is_told, "{told}");
        }
    }
}

#[test]
fn keys_that_are_taken_back_are_not_kept_for_long_and_secrets_are_not_kept() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokens");
    let (set, ec) = (golden.join("jwks.json"), golden.join("ec.pem"));
    let api = format!(
        "[api]\nissuer = 'i'\naudience = 'a'\n\
         [api.keys.a]\nalgorithm = 'ES256'\njwks_file = '{}'\nkeep_for = '25h'\n\
         [api.keys.b]\nalgorithm = 'ES256'\npublic_key_file = '{}'\nkeep_for = '24h'\n\
         [api.keys.c]\nalgorithm = 'HS256'\nsecret = {{ file = '/none' }}\nkeep_for = '1h'\n",
        set.display(),
        ec.display()
    );
    let told = told_of_kafkeep(&api);
    assert!(told.contains("give 24h or less"), "{told}");
    assert!(told.contains("a secret is not read again"), "{told}");
    assert_eq!(told.matches("keep_for =").count(), 2, "{told}");
}

#[test]
fn object_storage_is_not_built_yet() {
    let told = told_of_kafkeep("[repositories.far]\nurl = \"s3://bucket/prefix\"\n");
    assert!(
        told.starts_with("error: repositories in object storage are not built yet\n"),
        "{told}"
    );
}

#[test]
fn a_file_that_is_not_there_or_is_no_text_is_told() {
    assert_told(
        &told(&[]),
        "
error: DIR/kafkeep.toml cannot be read: No such file or directory (os error 2)
 --> DIR/kafkeep.toml

1 error",
    );
    let directory = directory(&[("kafkeep.toml", "")]);
    std::fs::write(directory.path().join("kafkeep.toml"), b"# \xff\n").unwrap();
    let told = wrong(&directory).to_string();
    assert!(
        told.starts_with("error: these bytes are not UTF-8\n"),
        "{told}"
    );
}

#[test]
fn of_a_long_line_what_is_around_the_place_is_shown() {
    let topics: Vec<String> = (0..100).map(|n| format!("\"topic-{n}\"")).collect();
    let topics = format!("[{}, \"a[\", {}]", topics.join(", "), topics.join(", "));
    let told = told_of_policies(&policy("").replace("[\"orders.*\"]", &topics));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[3..5],
        [
            "5 | …97\", \"topic-98\", \"topic-99\", \"a[\", \"topic-0\", \"topic-1\", \"topic-2\", \"topic-3\", \"topic-4\", \"topic-5\", \"topic-…",
            "  |                               ^^^^",
        ]
    );
}

#[test]
fn ten_errors_in_three_files_are_told_at_once() {
    let told = told(&[
        (
            "kafkeep.toml",
            "[http]\nlisten = \"10.0.0.1:9644\"\n[clusters.prod]\nbootstrap_servers = [\"kafka1\"]\n[repositories.main]\npath = \"/a\"\nsize = 1\n",
        ),
        ("policies.d/broken.toml", "[backup.a\ncluster = \"prod\"\n"),
        (
            "policies.d/more.toml",
            "[backup.b]\ncluster = \"prd\"\nrepository = \"mian\"\ntopics = []\nschedule = \"61 * * * *\"\ncompression = \"zst\"\nretention = {}\n",
        ),
    ]);
    let places: Vec<&str> = told
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--> "))
        .collect();
    assert_eq!(
        places,
        [
            "DIR/kafkeep.toml:2:10",
            "DIR/kafkeep.toml:3:1",
            "DIR/kafkeep.toml:4:22",
            "DIR/kafkeep.toml:7:1",
            "DIR/policies.d/broken.toml:1:10",
            "DIR/policies.d/more.toml:2:11",
            "DIR/policies.d/more.toml:3:14",
            "DIR/policies.d/more.toml:4:10",
            "DIR/policies.d/more.toml:5:12",
            "DIR/policies.d/more.toml:6:15",
            "DIR/policies.d/more.toml:7:13",
        ],
        "{told}"
    );
}

#[test]
fn the_shipped_examples_are_right() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    let configuration = DaemonConfiguration::load(&etc).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(configuration.backups.len(), 1);
    assert_eq!(configuration.clusters.len(), 1);
}

#[test]
fn too_small_a_memory_budget_is_told_with_the_smallest_that_works() {
    let told = told_of_kafkeep("[limits]\nmemory = \"4095KiB\"\n");
    for said in ["this is too little memory for a run", "give 4MiB or more"] {
        assert!(told.contains(said), "{told}");
    }
    let smallest = format!("{KAFKEEP}[limits]\nmemory = \"4MiB\"\n");
    let directory = directory(&[("kafkeep.toml", &smallest)]);
    let limits = DaemonConfiguration::load(directory.path()).unwrap().limits;
    assert_eq!(limits.memory.0, crate::memory::SMALLEST_BUDGET);
}

#[test]
fn files_of_certificates_that_are_not_there_are_told() {
    let sasl = "sasl = { mechanism = \"OAUTHBEARER\", token_endpoint = \"https://sso/token\", client_id = \"c\", client_secret = { file = \"DIR/s\" }, \
         token_endpoint_ca_file = \"DIR/sso.pem\" }";
    let kafkeep = format!("{KAFKEEP}tls = {{ ca_file = \"DIR/ca.pem\" }}\n{sasl}\n").replace(
        "[repositories.main]\npath = \"/var/lib/kafkeep\"\n",
        "[clusters.sso]\nbootstrap_servers = [\"sso:9092\"]\n",
    );
    let directory = directory(&[("kafkeep.toml", &kafkeep), ("s", "swordfish")]);
    let secret = directory.path().join("s");
    std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let told = wrong(&directory).to_string();
    for name in ["ca.pem", "sso.pem"] {
        let line = format!("/{name}: No such file or directory (os error 2)");
        assert!(told.contains(&line), "{told}");
    }
    assert!(told.ends_with("2 errors"), "{told}");
    for name in ["ca.pem", "sso.pem"] {
        std::fs::write(directory.path().join(name), "a certificate").unwrap();
    }
    assert!(DaemonConfiguration::load(directory.path()).is_ok());
}

#[test]
fn a_max_age_that_no_run_can_keep_is_a_warning_of_the_check_alone() {
    let warned = |policy: &str| {
        let files = [("kafkeep.toml", KAFKEEP), ("policies.d/a.toml", policy)];
        let directory = directory(&files);
        assert!(DaemonConfiguration::load(directory.path()).is_ok());
        let checked = DaemonConfiguration::check(directory.path()).unwrap();
        let warnings = checked.warnings.iter().map(ToString::to_string);
        let path = directory.path().to_str().unwrap();
        warnings.collect::<String>().replace(path, "DIR")
    };
    assert_eq!(warned(&policy("max_age = \"26h\"")), "");
    assert_told(
        &warned(&policy("max_age = \"20h\"")),
        "
warning: max_age is 20h, and up to 1day lie between two runs: each success becomes too old before the next run ends
 --> DIR/policies.d/a.toml:2:11
  |
2 | max_age = \"20h\"
  |           ^^^^^
  = help: give a max_age that is longer than that by what a run takes, or run more often",
    );
}
