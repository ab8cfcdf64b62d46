//! Foreign code on foreign input: a panic in it costs the connection that it was about, not what others share.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::path::{Component, Path};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use crate::server::seldom::Seldom;

/// One after the other, each about other input.
static TOLD: Mutex<Seldom> = Mutex::new(Seldom::new());

thread_local! {
    /// Foreign code runs on this thread now: its panics are ours to tell.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    /// The place of the last one.
    static WHERE: Cell<Option<String>> = const { Cell::new(None) };
}

/// A value of foreign code. Gone for good after a panic in it, because nobody knows what state it is in.
pub(super) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    /// What `make` makes. `None`: it panicked.
    pub(super) fn new(make: impl FnOnce() -> T) -> Option<Self> {
        catch(make).map(|value| Self(Some(value)))
    }

    /// Has foreign code do something. `None`: it panicked, now or earlier.
    pub(super) fn run<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let value = self.0.as_mut()?;
        let done = catch(|| work(value));
        if done.is_none() {
            self.discard();
        }
        done
    }

    /// Whether it is still there.
    pub(super) const fn is_whole(&self) -> bool {
        self.0.is_some()
    }

    /// As after a panic.
    pub(super) fn discard(&mut self) {
        if let Some(value) = self.0.take() {
            // What a panic left half done may panic once more.
            catch(|| drop(value));
        }
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        self.discard();
    }
}

fn catch<R>(work: impl FnOnce() -> R) -> Option<R> {
    install_hook();
    let nested = RUNS.replace(true);
    // Whatever `work` may have left in a state of its own is dropped by those who call this.
    let done = catch_unwind(AssertUnwindSafe(work));
    RUNS.set(nested);
    done.inspect_err(|_| tell()).ok()
}

/// Rust writes every panic to standard error, as often as strangers like; those that are caught here are told seldom.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            if RUNS.get() {
                WHERE.set(panic.location().map(|place| format!("{}:{}", short(place.file()), place.line())));
            } else {
                others(panic);
            }
        }));
    });
}

fn tell() {
    let place = WHERE.take();
    let times = TOLD.lock().unwrap_or_else(PoisonError::into_inner).again(now());
    if let Some(times) = times {
        let place = place.unwrap_or_else(|| "an unknown place".to_owned());
        // Not its message: that may quote what strangers say.
        tracing::error!(
            "a fault of the WebRTC library, at {place}, costs the connection that it was about ({times} times)"
        );
    }
}

/// `str0m-0.24.1/src/rtp/id.rs` instead of where this was built.
fn short(file: &str) -> String {
    let parts: Vec<_> = Path::new(file).components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let source = parts.iter().rposition(|part| part.as_os_str() == "src").unwrap_or(0);
    let parts = parts.iter().skip(source.saturating_sub(1)).map(|part| part.as_os_str().to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

#[allow(clippy::disallowed_methods, reason = "how often the log is told of something is a matter of real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Fragile(Arc<()>);

    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("even that");
        }
    }

    #[test]
    fn after_a_panic_the_value_is_gone_and_its_own_end_may_panic_as_well() {
        let alive = Arc::new(());
        let mut value = Contained::new(|| Fragile(Arc::clone(&alive))).unwrap();
        assert_eq!(value.run(|value| Arc::strong_count(&value.0)), Some(2));
        assert_eq!(value.run(|_| -> u8 { panic!("here") }), None);
        assert_eq!((value.is_whole(), value.run(|_| 1)), (false, None));
        assert!(Contained::new(|| -> u8 { panic!("at once") }).is_none());
    }

    #[test]
    fn a_caught_panic_is_not_told_by_others_and_an_uncaught_one_is() {
        install_hook();
        RUNS.set(true);
        let (_caught, expected) = (catch_unwind(|| panic!("seen")), format!("{}:{}", file!(), line!()));
        RUNS.set(false);
        assert_eq!(WHERE.take(), Some(expected));
        assert!(catch(|| -> u8 { panic!("quiet") }).is_none());
        assert!(!RUNS.get(), "others hear panics again");
        let _heard_by_others = catch_unwind(|| panic!("loud"));
        assert_eq!(WHERE.take(), None);
    }

    #[test]
    fn a_place_is_told_without_where_this_was_built() {
        for (file, told) in [
            ("/root/.cargo/registry/src/index/str0m-0.24.1/src/rtp/id.rs", "str0m-0.24.1/src/rtp/id.rs"),
            ("src/ingest/peer.rs", "src/ingest/peer.rs"),
            ("/rustc/1234/library/core/src/option.rs", "core/src/option.rs"),
            ("", ""),
        ] {
            assert_eq!(short(file), told);
        }
    }
}
