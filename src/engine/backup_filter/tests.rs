use super::*;

/// Backups by policy (`-` for none), cluster id, cluster name (`-` for none) and topics, oldest first.
fn backups(rows: &[(&str, &str, &str, &[&str])]) -> Vec<BackupHead> {
    let some = |text: &str| Some(text.to_owned()).filter(|text| text != "-");
    let rows = rows.iter().enumerate();
    rows.map(|(at, (policy, id, name, topics))| BackupHead {
        backup_id: format!("20261124T02150000{at}Z-3f9a1c").parse().unwrap(),
        policy: some(policy),
        cluster_id: (*id).to_owned(),
        cluster_name: some(name),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
    })
    .collect()
}

/// A filter written as on the command line.
fn filter(text: &str) -> BackupFilter {
    let mut words = text.split_whitespace();
    let mut filter = BackupFilter::default();
    let mut topics = Vec::new();
    while let (Some(option), Some(value)) = (words.next(), words.next()) {
        match option {
            "--policy" => filter.policy = Some(value.to_owned()),
            "--cluster" => filter.cluster = Some(value.to_owned()),
            "--topic" => topics.push(value.parse().unwrap()),
            option => panic!("{option}"),
        }
    }
    filter.topics = TopicPatterns::new(topics);
    filter
}

/// The places of the chosen ones, or why there are none.
fn chosen(text: &str, backups: &[BackupHead]) -> Result<Vec<usize>, String> {
    let chosen = filter(text).choose(backups, &Configured::default());
    let chosen = chosen.map_err(|none| none.to_string())?;
    let place = |head: &BackupHead| backups.iter().position(|b| b.backup_id == head.backup_id);
    Ok(chosen.into_iter().filter_map(place).collect())
}

/// The place of the newest, or why there is none.
fn latest(text: &str, backups: &[BackupHead]) -> Result<usize, String> {
    let latest = filter(text).latest(backups);
    let latest = latest.map_err(|error| error.to_string())?.unwrap();
    let place = backups.iter().position(|backup| backup.backup_id == latest);
    Ok(place.unwrap())
}

fn two_policies() -> Vec<BackupHead> {
    backups(&[
        ("orders", "id-a", "-", &["orders.eu"]),
        ("payments", "id-a", "prod", &["payments"]),
        ("-", "id-b", "test", &["orders.eu", "tmp"]),
        ("orders", "id-a", "prod", &["orders.eu", "orders.us"]),
    ])
}

#[test]
fn each_part_of_a_filter_narrows_what_is_chosen() {
    let held = two_policies();
    assert_eq!(chosen("", &held), Ok(vec![0, 1, 2, 3]));
    assert_eq!(chosen("--policy orders", &held), Ok(vec![0, 3]));
    assert_eq!(chosen("--policy -", &held), Ok(vec![2]));
    assert_eq!(chosen("--topic orders.*", &held), Ok(vec![0, 2, 3]));
    let all = "--policy orders --cluster prod --topic orders.us";
    assert_eq!(chosen(all, &held), Ok(vec![3]));
}

#[test]
fn a_cluster_is_named_by_its_id_or_by_a_name_that_it_had() {
    let held = two_policies();
    for cluster in ["id-a", "prod"] {
        let of_cluster = chosen(&format!("--cluster {cluster}"), &held);
        assert_eq!(of_cluster, Ok(vec![0, 1, 3]), "{cluster}");
    }
}

#[test]
fn what_no_backup_has_is_an_error_that_names_what_there_is() {
    let held = two_policies();
    assert_eq!(
        chosen("--policy order", &held).unwrap_err(),
        "no backup is of policy `order`; there are backups of policies orders, payments"
    );
    assert_eq!(
        chosen("--cluster dr", &held).unwrap_err(),
        "no backup is of cluster `dr`; there are backups of clusters prod (id-a), test (id-b)"
    );
    assert_eq!(
        chosen("--policy orders --cluster test", &held).unwrap_err(),
        "no backup of policy `orders` is of cluster `test`; there are backups of clusters id-a, prod"
    );
    assert_eq!(
        chosen("--topic audit", &held).unwrap_err(),
        "no backup holds a topic `audit`; there are backups of topics orders.eu, orders.us, payments, tmp"
    );
    let elsewhere = chosen("--policy orders --topic payments", &held).unwrap_err();
    let id = held[1].backup_id;
    assert!(
        elsewhere.ends_with(&format!(
            "backup {id} of policy payments of cluster prod (id-a) does"
        )),
        "{elsewhere}"
    );
    assert_eq!(chosen("--policy order", &[]), Ok(vec![]));
}

#[test]
fn what_is_configured_may_have_no_backup_yet() {
    let configured = Configured {
        policies: ["new".to_owned()].into(),
        clusters: ["dr".to_owned()].into(),
    };
    let held = two_policies();
    for text in [
        "--policy new",
        "--cluster dr",
        "--policy orders --cluster dr",
    ] {
        let chosen = filter(text).choose(&held, &configured);
        assert_eq!(chosen.unwrap().len(), 0, "{text}");
    }
    let unknown = filter("--policy other --cluster dr").choose(&held, &configured);
    assert_eq!(unknown.unwrap_err().part, FilterPart::Policy);
}

#[test]
fn lists_of_what_there_is_are_bounded() {
    let names: Vec<String> = (0..15).map(|number| format!("topic-{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let held = backups(&[("-", "id-a", "-", &names)]);
    let none = chosen("--topic x", &held).unwrap_err();
    assert!(none.ends_with("topic-08, topic-09 and 5 more"), "{none}");
}

#[test]
fn the_latest_of_several_policies_or_clusters_is_refused_with_what_to_add() {
    let held = two_policies();
    let said = latest("", &held).unwrap_err();
    for part in [
        "`latest` is ambiguous",
        "no policy (`-`) of cluster test (id-b)",
        "policy payments of cluster prod (id-a)",
        "add --policy and --cluster",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let said = latest("--cluster prod", &held).unwrap_err();
    assert!(said.contains("; add --policy, or"), "{said}");
    assert_eq!(latest("--policy orders", &held), Ok(3));
    assert_eq!(latest("--cluster test", &held), Ok(2));
    let moved = backups(&[
        ("orders", "id-a", "prod", &["t"]),
        ("orders", "id-b", "prod", &["t"]),
    ]);
    let said = latest("--policy orders --cluster prod", &moved).unwrap_err();
    assert!(said.contains("add --cluster with Kafka's id"), "{said}");
    assert_eq!(latest("--cluster id-b", &moved), Ok(1));
}

#[test]
fn a_topic_chooses_the_policy_and_never_an_older_backup() {
    let held = two_policies();
    assert_eq!(latest("--topic payments", &held), Ok(1));
    let held = backups(&[
        ("orders", "id-a", "prod", &["orders", "old"]),
        ("orders", "id-a", "prod", &["orders"]),
    ]);
    assert_eq!(latest("--topic old", &held), Ok(1));
}
