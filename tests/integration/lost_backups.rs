//! What is lost from a repository, though nothing expired it, is noticed.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon_process::{Daemon, policy};
use crate::fixture::{Fixture, numbered};
use crate::testbed::Compression;

/// Backups of a new topic, a record more in each: their ids, oldest first.
fn backups(scene: &Fixture<'_>, topic: &str, count: i64) -> Vec<String> {
    scene.client.create_topic(topic, 1, &[]);
    let made = (0..count).map(|number| {
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(number, 1));
        let report = scene.backup(&format!("--topic {topic}"));
        report["backup_id"].as_str().unwrap().to_owned()
    });
    made.collect()
}

#[test]
fn a_backup_does_not_build_on_what_is_gone_or_cut_short() {
    for (number, part) in ["packs", "packs", "index"].into_iter().enumerate() {
        let scene = Fixture::shared();
        let (lost, whole) = (format!("lost.part-{number}"), format!("kept.part-{number}"));
        let back_up_first = |topic: &str| {
            scene.client.create_topic(topic, 1, &[]);
            scene
                .client
                .produce(topic, 0, Compression::None, numbered(0, 100));
            scene.backup(&format!("--topic {topic}"));
        };
        back_up_first(&lost);
        let of_lost = scene.files(part).remove(0);
        back_up_first(&whole);
        match number {
            1 => std::fs::write(&of_lost, &std::fs::read(&of_lost).unwrap()[..1000]).unwrap(),
            _ => std::fs::remove_file(&of_lost).unwrap(),
        }
        // Nothing is new.
        let report = scene.backup(&format!("--topic {lost} --topic {whole}"));
        let warnings = report["warnings"].to_string();
        let name = of_lost.file_name().unwrap().to_str().unwrap();
        let id = name.split('.').next().unwrap();
        for text in [&*format!("topic {lost} is copied anew"), id, "verify them"] {
            assert!(warnings.contains(text), "{text:?}: {report:#}");
        }
        assert!(!warnings.contains(&whole), "{report:#}");
        // The topic that lost something is copied whole, the other goes on.
        assert_eq!(report["new_messages"], 100, "{report:#}");
        assert_eq!(report["total_messages"], 200, "{report:#}");
        scene.run("verify", "latest --json").done();
        let all = scene.run("verify", "--json");
        assert_eq!(all.code, 2, "{all}");
        scene.restore(&format!(
            "latest --topic {lost} --rename {lost}={lost}.back"
        ));
        assert_eq!(scene.client.read(&format!("{lost}.back"))[0].len(), 100);
        // And from there it goes on.
        let next = scene.backup(&format!("--topic {lost} --topic {whole}"));
        assert_eq!(next["new_messages"], 0, "{next:#}");
        assert!(!next["warnings"].to_string().contains("anew"), "{next:#}");
    }
}

#[test]
fn a_manifest_that_is_gone_is_told_until_somebody_takes_note_of_it_and_one_that_expired_is_not() {
    let scene = Fixture::shared();
    let made = backups(&scene, "lost.manifest", 3);
    let lost = &made[1];
    std::fs::remove_file(scene.repository().join(format!("backups/{lost}.json"))).unwrap();
    let advice = format!(
        "kafkeep expire --repository {} --forget-lost {lost}",
        scene.repository().display()
    );
    let found = scene.run("verify", "");
    assert_eq!(found.code, 2, "{found}");
    for text in [&advice, &format!("touches backup(s) {}", made[2])] {
        assert!(found.stdout.contains(text), "{text:?}: {found}");
    }
    let next = scene.backup("--topic lost.manifest");
    assert!(next["warnings"].to_string().contains(&advice), "{next:#}");

    scene
        .run("expire", &format!("--forget-lost {}", made[0]))
        .refused(1, &["is not lost"]);
    let noted = scene.run("expire", &format!("--forget-lost {lost} --json"));
    assert_eq!(noted.done()["forgotten_backups"][0], **lost);
    scene.verify();
    scene.run("expire", "--keep-last 1 --json").done();
    scene.verify();
    // One record tells of all.
    let records = scene.files("expired");
    assert_eq!(records.len(), 1, "{records:?}");
    let record: Value = serde_json::from_slice(&std::fs::read(&records[0]).unwrap()).unwrap();
    let record = record["expired"]["backups"].as_array().unwrap();
    let whys: Vec<&Value> = record.iter().map(|gone| &gone["why"]).collect();
    assert_eq!(whys, ["retention", "lost", "retention"]);
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .args(["-a".as_ref(), from, to])
        .status();
    assert!(copied.unwrap().success());
}

#[test]
fn a_daemon_remembers_what_a_repository_held_that_is_rolled_back() {
    let scene = Fixture::shared();
    let mut made = backups(&scene, "lost.rollback", 2);
    let snapshot = scene.beside("snapshot");
    copy(&scene.repository(), &snapshot);
    scene
        .client
        .produce("lost.rollback", 0, Compression::None, numbered(2, 1));
    let newest = scene.backup("--topic lost.rollback");
    made.push(newest["backup_id"].as_str().unwrap().to_owned());

    let state = scene.beside("state");
    std::fs::create_dir(&state).unwrap();
    let policies = policy("remembering", "lost.rollback", "1d", "catch_up = false");
    let start = || Daemon::start_remembering(&scene, &policies, &state);
    let stop = |mut daemon: Daemon<'_>| {
        daemon.signal(Signal::TERM);
        assert!(daemon.process.wait().unwrap().success());
    };
    let lost =
        |daemon: &Daemon<'_>| daemon.metric("kafkeep_repository_lost_backups{repository=\"main\"}");
    let remembers = |_: &Daemon<'_>| {
        std::fs::read_to_string(state.join("state.json")).is_ok_and(|text| text.contains(&made[2]))
    };
    let daemon = start();
    daemon.wait_until("the newest backup is remembered", remembers);
    assert_eq!(lost(&daemon), Some(0.0));
    stop(daemon);

    std::fs::remove_dir_all(scene.repository()).unwrap();
    copy(&snapshot, &scene.repository());
    // The repository alone tells nothing, now or later.
    scene.verify();
    scene.backup("--topic lost.rollback");
    for _ in 0..2 {
        let daemon = start();
        daemon.wait_until("it is told", |daemon| lost(daemon) == Some(1.0));
        let shown = &daemon.status()["repositories"][0]["lost_backups"];
        assert_eq!(shown[0], *made[2]);
        let advice = format!("kafkeep expire --repository main --forget-lost {}", made[2]);
        assert!(daemon.log().contains(&advice), "{}", daemon.log());
        stop(daemon);
    }
    scene
        .run("expire", &format!("--forget-lost {} --json", made[2]))
        .done();
    let daemon = start();
    daemon.wait_until("nothing is lost any more", |daemon| {
        lost(daemon) == Some(0.0)
    });
    assert_eq!(
        daemon.status()["repositories"][0]["lost_packs"],
        serde_json::json!([])
    );
    stop(daemon);
}
