//! What a test needs from this machine. Not every release has a package of everything: a test that lacks something is
//! skipped by its name, with the reason; all others run.

/// Is this program of this Debian package there? Says `skipped: ` with the test's name if it is not: to be asked on the
/// thread of the test.
pub(crate) fn is_there(program: &str, package: &str) -> bool {
    let is_there = is_on_path(program);
    if !is_there {
        skipped(&format!("`{program}` is not installed (Debian package `{package}`)"));
    }
    is_there
}

/// Can a program of this name be started?
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Says that the test of this thread is skipped, and why.
pub(crate) fn skipped(reason: &str) {
    let thread = std::thread::current();
    println!("skipped: {}: {reason}", thread.name().unwrap_or("a test without a name"));
}
