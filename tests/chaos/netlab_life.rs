//! Labs live side by side, and nothing is left of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::echo::{Asker, Echo};
use crate::netlab::{Link, Netlab};
use crate::place::namespace_path;
use crate::program::PATIENCE;

fn lab() -> Option<Netlab> {
    Netlab::builder().uplink("wlan0", Link::default()).build()
}

/// The namespaces whose name begins so.
fn namespaces(prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(namespace_path("")).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries.map(|entry| entry.path()).filter(is_one).collect()
}

/// The three of a lab, by any of its places.
fn of(lab: &Netlab) -> String {
    let said = format!("{:?}", lab.encoder());
    let name = said.split('"').nth(1).unwrap();
    name.strip_suffix("enc").unwrap().to_owned()
}

/// A process in there that would live for ever, without an owner: as a double fork leaves it.
fn orphan(lab: &Netlab) -> PathBuf {
    let script = "sleep infinity >/dev/null 2>&1 & echo $!";
    let output = lab.server().command("sh").args(["-c", script]).output().unwrap();
    let pid = String::from_utf8(output.stdout).unwrap();
    Path::new("/proc").join(pid.trim())
}

/// Waits for the end of this process; a zombie has ended.
fn ends(process: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let lives = || std::fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while lives() {
        assert!(Instant::now() < deadline, "{} still runs", process.display());
        std::thread::yield_now();
    }
}

/// Threads of this process that carry a link of this name.
fn links(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let comm = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(comm).filter(|comm| comm.trim() == format!("link {name}")).count()
}

#[test]
fn nothing_is_left_behind_after_the_end() {
    let Some(lab) = Netlab::builder().uplink("gone0", Link::default()).build() else { return };
    let (prefix, process) = (of(&lab), orphan(&lab));
    assert_eq!((namespaces(&prefix).len(), links("gone0")), (3, 1));
    assert!(process.exists());
    let devices = Command::new("ip").args(["-brief", "link"]).output().unwrap().stdout;
    assert!(!String::from_utf8_lossy(&devices).contains("gone0"), "the lab is not in our own namespace");
    drop(lab);
    assert_eq!((namespaces(&prefix), links("gone0")), (vec![], 0));
    ends(&process);
}

#[test]
fn nothing_is_left_behind_after_a_panic() {
    let Some(lab) = lab() else { return };
    let (prefix, process) = (of(&lab), orphan(&lab));
    let test = std::thread::spawn(move || {
        lab.in_encoder(|| panic!("on purpose"));
        drop(lab);
    });
    assert!(test.join().is_err(), "a panic inside is a panic outside");
    assert_eq!(namespaces(&prefix), Vec::<PathBuf>::new());
    ends(&process);
}

#[test]
fn what_a_killed_run_has_left_is_swept_and_the_living_are_spared() {
    let Some(neighbour) = lab() else { return };
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let name = format!("rclab-{}-1-srv", dead.id());
    assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
    let mut left =
        Command::new("ip").args(["netns", "exec", &name, "sleep", "infinity"]).stdout(Stdio::null()).spawn().unwrap();
    // Until it is in there and no longer `ip`.
    let deadline = Instant::now() + PATIENCE;
    let program = || std::fs::read_to_string(format!("/proc/{}/comm", left.id())).unwrap();
    while program().trim() != "sleep" {
        assert!(Instant::now() < deadline);
    }
    let _lab = lab();
    assert_eq!(namespaces(&name), Vec::<PathBuf>::new());
    ends(&Path::new("/proc").join(left.id().to_string()));
    left.wait().unwrap();
    assert_eq!(namespaces(&of(&neighbour)).len(), 3);
}

#[test]
fn two_labs_do_not_see_each_other() {
    let (Some(one), Some(other)) = (lab(), lab()) else { return };
    let (_echo, _other_echo) = (Echo::start(&one), Echo::start(&other));
    one.silent_drop("wlan0");
    Asker::on(&other, "wlan0").seen();
    Asker::on(&one, "wlan0").hears_nothing(64);
    drop(one);
    Asker::on(&other, "wlan0").seen();
}

#[test]
fn commands_threads_and_tasks_run_where_they_are_told_to() {
    let Some(lab) = lab() else { return };
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let there = lab.in_encoder(here);
    assert_ne!(there, own);
    assert_ne!(there, lab.in_server(here));
    assert_eq!(here(), own, "the caller stays where it is");
    assert_eq!(lab.encoder().spawn(here).join().unwrap(), there);
    let runtime = lab.encoder().runtime();
    let (send, task) = std::sync::mpsc::channel();
    runtime.spawn(async move { send.send((here(), tokio::task::spawn_blocking(here).await.unwrap())) });
    assert_eq!(task.recv_timeout(PATIENCE).unwrap(), (there.clone(), there.clone()));
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo $$ $WORD ${HOME-none}; readlink /proc/self/ns/net"])
        .env("WORD", "said")
        .env_remove("HOME");
    let child = lab.encoder().wrap(&command).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said, format!("{pid} said none\n{}\n", there.display()));
    runtime.shutdown_timeout(Duration::from_secs(1));
}
