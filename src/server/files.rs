//! How many files this process may have open. A connection is one, and each session of an encoder needs a few dozen.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::debug;

/// The soft limit is raised to this, where the hard one allows it. The usual 1024 is for programs that use select(2), which
/// nothing here does; more than this would only let leaks grow.
const WANTED: u64 = 8192;

/// Raises the soft limit of open files, for this process and its children.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(WANTED);
        if wanted > soft { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        debug!("the limit of open files stays as it is: {error}");
    }
}

/// `wanted` connections, or as many as leave half of the files for all else.
#[must_use]
pub fn connections(wanted: usize) -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(WANTED, |(soft, _)| soft);
    wanted.min(usize::try_from(soft / 2).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_and_never_lowered() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        raise_limit();
        let (after, still) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((after, still), (before.max(hard.min(WANTED)), hard));
        assert_eq!(connections(10), 10);
        assert!(connections(usize::MAX) as u64 <= after / 2);
    }
}
