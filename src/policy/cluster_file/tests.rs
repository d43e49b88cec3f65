use super::*;

/// Reads a cluster's keys; `FILE` in them stands for a file that holds `swordfish`.
fn load(text: &str) -> Result<Cluster, PolicyError> {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "swordfish\n").unwrap();
    let file = directory.path().join("cluster.toml");
    let text = text.replace("FILE", &format!("{{ file = '{}' }}", secret.display()));
    std::fs::write(&file, text).unwrap();
    load_cluster(&[], Some(&file))
}

const SERVERS: &str = "bootstrap_servers = ['kafka1:9093', '[::1]:9093']\n";

fn sasl(keys: &str) -> Result<Sasl, PolicyError> {
    load(&format!("{SERVERS}sasl = {{ {keys} }}")).map(|cluster| cluster.sasl.unwrap())
}

#[track_caller]
fn assert_refused(outcome: Result<impl std::fmt::Debug, PolicyError>, words: &[&str]) {
    let error = outcome.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("cluster.toml"), "{said}");
    for word in words {
        assert!(said.contains(word), "{said}");
    }
    assert!(!format!("{said} {error:?}").contains("swordfish"), "{said}");
}

#[test]
fn bootstrap_servers_alone_are_a_cluster_in_plain_text() {
    let cluster = load(SERVERS).unwrap();
    assert_eq!(cluster.bootstrap_servers, ["kafka1:9093", "[::1]:9093"]);
    assert!(cluster.tls.is_none() && cluster.sasl.is_none());
}

#[test]
fn servers_of_the_command_line_come_first() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "tls = {}").unwrap();
    let given = ["other:9092".to_owned()];
    let cluster = load_cluster(&given, Some(file.path())).unwrap();
    assert_eq!(cluster.bootstrap_servers, given);
    assert!(cluster.tls.is_some());
    assert!(load_cluster(&[], Some(file.path())).is_err());
}

#[test]
fn tls_has_an_authority_and_a_client_certificate_or_not() {
    let tls = |keys: &str| load(&format!("{SERVERS}tls = {{ {keys} }}")).map(|c| c.tls.unwrap());
    let none = tls("").unwrap();
    assert!(none.ca_file.is_none() && none.cert_file.is_none());
    let all = tls("ca_file = 'ca', cert_file = 'cert', key_file = 'key'").unwrap();
    assert_eq!(all.ca_file.unwrap(), Path::new("ca"));
    assert_eq!(all.cert_file.unwrap(), Path::new("cert"));
    assert_eq!(all.key_file.unwrap(), Path::new("key"));
    assert_refused(tls("cert_file = 'cert'"), &["cert_file needs its key_file"]);
    assert_refused(tls("key_file = 'key'"), &["key_file needs its cert_file"]);
    assert_refused(
        tls("ca = 'ca'"),
        &[":2:", "unknown key `ca`", "known here: `ca_file`"],
    );
}

#[test]
fn mechanisms_with_passwords_take_a_username_and_a_secret() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let keys = format!("mechanism = '{mechanism}', username = 'alice', password = FILE");
        let (name, username, password) = match sasl(&keys).unwrap() {
            Sasl::Plain { username, password } => ("PLAIN", username, password),
            Sasl::ScramSha256 { username, password } => ("SCRAM-SHA-256", username, password),
            Sasl::ScramSha512 { username, password } => ("SCRAM-SHA-512", username, password),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            (name, username.as_str(), password.reveal()),
            (mechanism, "alice", "swordfish")
        );
        for (keys, words) in [
            ("password = FILE", "needs a username"),
            ("username = '', password = FILE", "`username` is empty"),
            ("username = 'alice'", "needs a password"),
            (
                "username = 'alice', password = FILE, token_file = 't'",
                "username and password only",
            ),
            (
                "username = 'alice', password = FILE, scope = 's'",
                "username and password only",
            ),
        ] {
            let outcome = sasl(&format!("mechanism = '{mechanism}', {keys}"));
            assert_refused(outcome, &[":2:", words]);
        }
    }
}

#[test]
fn bearer_tokens_come_from_a_file_or_from_an_endpoint() {
    let oauth = |keys: &str| sasl(&format!("mechanism = 'OAUTHBEARER', {keys}"));
    match oauth("token_file = '/run/token'").unwrap() {
        Sasl::OauthBearer(TokenSource::File(file)) => assert_eq!(file, Path::new("/run/token")),
        other => panic!("{other:?}"),
    }
    let endpoint = "token_endpoint = 'https://idp/token', client_id = 'kafkeep'";
    let all =
        format!("{endpoint}, client_secret = FILE, scope = 'kafka', token_endpoint_ca_file = 'ca'");
    match oauth(&all).unwrap() {
        Sasl::OauthBearer(TokenSource::ClientCredentials(client)) => {
            assert_eq!(client.token_endpoint, "https://idp/token");
            assert_eq!(client.client_id, "kafkeep");
            assert_eq!(client.client_secret.reveal(), "swordfish");
            assert_eq!(client.scope.as_deref(), Some("kafka"));
            assert_eq!(client.ca_file.as_deref(), Some(Path::new("ca")));
        }
        other => panic!("{other:?}"),
    }
    for keys in [
        "scope = 's'".to_owned(),
        "token_file = 't', token_endpoint = 'https://idp/token'".to_owned(),
        "token_file = 't', client_secret = FILE".to_owned(),
        "token_file = 't', username = 'alice'".to_owned(),
        endpoint.to_owned(),
        "token_endpoint = 'https://idp/token', client_secret = FILE".to_owned(),
    ] {
        assert_refused(oauth(&keys), &["OAUTHBEARER takes either token_file"]);
    }
}

#[test]
fn what_is_not_known_is_told_with_its_place_and_what_would_be() {
    let user = "username = 'alice'";
    assert_refused(
        sasl(&format!(
            "mechanism = 'SCRAM', {user}, password = 'swordfish'"
        )),
        &[":2:", "`SCRAM` is not one of", "SCRAM-SHA-512"],
    );
    assert_refused(
        sasl(&format!(
            "mechanism = 'PLAIN', {user}, pasword = 'swordfish'"
        )),
        &[":2:", "unknown key `pasword`", "did you mean `password`?"],
    );
    assert_refused(sasl(user), &["`mechanism` is missing"]);
    assert_refused(load("bootstrap.servers = 'k:9092'"), &[":1:", "bootstrap"]);
}

#[test]
fn a_literal_password_is_refused_and_not_shown() {
    let outcome = sasl("mechanism = 'PLAIN', username = 'alice', password = 'swordfish'");
    let error = outcome.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("a secret does not belong"), "{said}");
    assert!(!format!("{said} {error:?}").contains("swordfish"), "{said}");
}

#[test]
fn servers_that_are_no_addresses_are_named() {
    for server in ["kafka1", "SSL://kafka1:9093", "kafka1:http", ""] {
        let outcome = load(&format!("bootstrap_servers = ['{server}']"));
        assert_refused(outcome, &[":1:22", server]);
    }
    assert_refused(
        load("bootstrap_servers = []"),
        &["no bootstrap server is named"],
    );
}
