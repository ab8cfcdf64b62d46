//! Does it grow? How often a thing is done, and how to see what stays behind.

use std::process::Command;

/// So many times, unless this environment variable says otherwise.
pub(crate) fn times(variable: &str, usually: usize) -> usize {
    std::env::var(variable).map_or(usually, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: a number")))
}

/// Has the encoder's memory show what it uses. glibc has sixteen heaps, with holes, and a stock for each thread, GLib has a
/// stock of its own; all of them take some 300 sessions to get their size (17 kB a session in the first hundred), and then
/// a leak fills the holes first. jemalloc, told so, gives back at once what is freed.
pub(crate) fn without_stocks(command: &mut Command) {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let library = folders.map(|folder| folder.join("libjemalloc.so.2")).find(|path| path.exists());
    command.env("LD_PRELOAD", library.expect("the package `libjemalloc2` is installed"));
    command.env("MALLOC_CONF", "narenas:1,tcache:false,dirty_decay_ms:0,muzzy_decay_ms:0");
    command.env("G_SLICE", "always-malloc");
}
