//! `[http] tls`: the port speaks TLS alone, with a certificate that may be renewed.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::daemon_process::Daemon;
use crate::fixture::Fixture;
use crate::kafkeep;
use crate::testbed::Authority;

/// A daemon whose certificate lies beside its repository, under a name that stays the same when it is renewed.
fn encrypted<'a>(scene: &'a Fixture<'a>, authority: &Authority) -> Daemon<'a> {
    install(scene, authority);
    let http = format!(
        "tls = {{ cert_file = '{}', key_file = '{}' }}",
        scene.beside("port.pem").display(),
        scene.beside("port.key").display()
    );
    Daemon::start_encrypted(scene, &http, "")
}

/// Puts a new certificate of this authority where the daemon's is, as certbot does: first the one file, then the other.
fn install(scene: &Fixture<'_>, authority: &Authority) {
    authority.issue("port", &["127.0.0.1"], 2099);
    for file in ["port.pem", "port.key"] {
        let new = scene.beside(&format!("{file}.new"));
        fs::copy(authority.file(file), &new).unwrap();
        fs::rename(new, scene.beside(file)).unwrap();
    }
}

/// What curl gets, which believes this authority alone.
fn curl(daemon: &Daemon<'_>, ca_file: &Path, path: &str) -> Result<String, String> {
    let ran = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
        .arg("--cacert")
        .arg(ca_file)
        .arg(format!("https://127.0.0.1:{}{path}", daemon.port))
        .output()
        .unwrap();
    match ran.status.success() {
        true => Ok(String::from_utf8(ran.stdout).unwrap()),
        false => Err(String::from_utf8(ran.stderr).unwrap()),
    }
}

#[test]
fn a_port_with_a_certificate_speaks_tls_alone_and_takes_up_a_new_one() {
    let scene = Fixture::shared();
    let (first, second) = (Authority::new(), Authority::new());
    let daemon = encrypted(&scene, &first);
    let ca = first.ca_file();
    assert_eq!(curl(&daemon, &ca, "/livez").unwrap(), "ok\n");
    assert!(
        curl(&daemon, &ca, "/metrics")
            .unwrap()
            .contains("kafkeep_build_info")
    );
    assert!(curl(&daemon, &second.ca_file(), "/livez").is_err());
    let plain = Command::new("curl")
        .args(["--silent", "--max-time", "20"])
        .arg(format!("http://127.0.0.1:{}/metrics", daemon.port))
        .output()
        .unwrap();
    assert!(!plain.status.success() && plain.stdout.is_empty());

    // A renewal that went wrong changes nothing.
    fs::write(scene.beside("port.key"), "no key\n").unwrap();
    daemon.wait_until("the log says what is wrong", |daemon| {
        assert_eq!(curl(daemon, &ca, "/livez").unwrap(), "ok\n");
        daemon.log().contains("the certificate stays what it was")
    });
    let config = daemon.directory.to_str().unwrap();
    let key = scene.beside("port.key").display().to_string();
    kafkeep(["check", "--config", config]).refused(
        78,
        &[&format!("error: {key}: "), "kafkeep.toml:3", "key_file = "],
    );
    install(&scene, &second);
    daemon.wait_until("the new certificate is shown", |daemon| {
        curl(daemon, &second.ca_file(), "/livez").is_ok()
    });
    assert!(curl(&daemon, &ca, "/livez").is_err());
}

#[test]
fn the_status_is_asked_of_who_shows_the_configured_certificate() {
    let scene = Fixture::shared();
    let (authority, other) = (Authority::new(), Authority::new());
    let daemon = encrypted(&scene, &authority);
    let config = daemon.directory.to_str().unwrap();
    let status = kafkeep(["status", "--config", config]).done_plain();
    assert!(status.contains("up since"), "{status}");
    let url = format!("https://127.0.0.1:{}", daemon.port);
    let asked = |ca_file: &Path| {
        kafkeep([
            "status",
            "--url",
            &url,
            "--ca-file",
            ca_file.to_str().unwrap(),
        ])
    };
    assert_eq!(asked(&authority.ca_file()).done_plain(), status);
    asked(&other.ca_file()).refused(75, &["invalid peer certificate"]);
    kafkeep(["status", "--url", &url]).refused(75, &["UnknownIssuer"]);
    let nothing = asked(&scene.beside("etc/kafkeep.toml"));
    nothing.refused(64, &["holds no certificate"]);
    // Whoever else took the port is not believed.
    let kept = fs::read(scene.beside("port.pem")).unwrap();
    other.issue("port", &["127.0.0.1"], 2099);
    fs::copy(other.file("port.pem"), scene.beside("port.pem")).unwrap();
    kafkeep(["status", "--config", config]).refused(75, &["certificate"]);
    fs::write(scene.beside("port.pem"), kept).unwrap();
}
