//! The unit files are what systemd takes, without a complaint.

use std::process::Command;

#[test]
fn systemd_has_no_complaint_about_our_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: `systemd-analyze` is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["roamcast.service", "roamcast@.service"] {
        let unit = std::fs::read_to_string(format!("{}/systemd/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(unit.contains("ExecStart=/usr/bin/roamcast run -c /etc/roamcast/"), "{name}");
        for line in [
            "Type=notify",
            "DynamicUser=yes",
            "RestartPreventExitStatus=64 77 78",
            "StartLimitIntervalSec=0",
            "ExecReload=/bin/kill -HUP $MAINPID",
        ] {
            assert!(unit.lines().any(|other| other == line), "{name} lacks `{line}`");
        }
        // systemd-analyze also looks whether the program exists.
        let path = dir.path().join(name);
        std::fs::write(&path, unit.replace("/usr/bin/roamcast", "/bin/true")).unwrap();
        let output = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !complaints.contains("roamcast"), "{name}: {complaints}");
    }
}
