//! The unit files are what systemd takes, without a complaint, and no two encoders get in each other's way.

use std::path::{Path, PathBuf};
use std::process::Command;

fn unit(name: &str) -> String {
    std::fs::read_to_string(format!("{}/systemd/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn systemd_has_no_complaint_about_our_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: `systemd-analyze` is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["roamcast.service", "roamcast@.service"] {
        let unit = unit(name);
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

/// The folder that systemd makes for a unit, as `key` of the unit says.
fn folder(unit: &str, key: &str) -> PathBuf {
    let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key}")).into()
}

/// A folder inside that of another unit would change its owner when that one starts, and go when that one stops.
#[test]
fn no_two_services_share_a_socket_or_a_state() {
    let instance = |name: &str| unit("roamcast@.service").replace("%i", name);
    let units = [unit("roamcast.service"), instance("front"), instance("back")];
    for key in ["RuntimeDirectory", "StateDirectory", "CacheDirectory"] {
        let folders: Vec<PathBuf> = units.iter().map(|unit| folder(unit, key)).collect();
        for (at, one) in folders.iter().enumerate() {
            for other in &folders[at + 1..] {
                assert!(!one.starts_with(other) && !other.starts_with(one), "{key}: {one:?} and {other:?}");
            }
        }
    }
    // Where the README and the verbs look for the sockets.
    assert_eq!(folder(&units[0], "RuntimeDirectory"), Path::new("roamcast"));
    assert_eq!(folder(&units[1], "RuntimeDirectory"), Path::new("roamcast-front"));
}

/// What is mended in one of the two files is mended in the other.
#[test]
fn the_instances_run_as_the_single_service_does() {
    let settings = |text: String| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("User="));
        lines.map(|line| line.replace("roamcast-%i", "roamcast").replace("%i.toml", "config.toml")).collect()
    };
    let instance = unit("roamcast@.service").replace(" for %i", "");
    assert_eq!(settings(instance), settings(unit("roamcast.service")));
}

/// A group that is named but not there keeps a service down (status 216/GROUP).
#[test]
fn every_group_of_the_units_is_made_by_sysusers() {
    let made = unit("sysusers.conf");
    let unit = unit("roamcast.service");
    let groups = unit.lines().find_map(|line| line.strip_prefix("SupplementaryGroups=")).unwrap();
    for group in groups.split(' ') {
        assert!(made.lines().any(|line| line == format!("g {group} - -")), "{group}");
    }
}
