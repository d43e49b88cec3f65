//! `kafkeep demo` on the broker in its process.

use std::process::Command;

#[test]
fn the_demonstration_proves_a_backup_and_a_restore() {
    let output = Command::new(env!("CARGO_BIN_EXE_kafkeep"))
        .args(["demo", "--json"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["status"], "completed");
    assert_eq!(summary["damage_found"], true);
    assert_eq!(summary["records_compared"], summary["records_backed_up"]);
}
