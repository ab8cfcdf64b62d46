//! What every command that broadcasts or serves needs from the process: GStreamer, TLS, a runtime.

use super::{Exit, print};
use crate::media;
use crate::server::files;

/// Gets all of it ready and runs `work` to its end. Tasks and threads that hang do not hold up the end.
pub(super) fn enter(work: impl Future<Output = Exit>) -> Exit {
    // Before GStreamer's DTLS loads it: as it would do it, OpenSSL cleans up when the process exits, under the feet of threads
    // that are still at it (of sessions being closed, whose end nobody waits for). `openssl` asks it not to.
    openssl::init();
    // Before anything is opened: GLib aborts the process when it has no file for a thread's wake-ups.
    files::raise_limit();
    // A core of this process holds tokens. Refused by nothing: a limit may always be lowered.
    let _lowered = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    // Fails only when a provider is in place already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Err(words) = media::start_gstreamer() {
        print::err(&format!("error: {words}"));
        return Exit::INTERNAL;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::err(&format!("error: the runtime does not start: {error} (are threads or files used up?)"));
            return Exit::INTERNAL;
        }
    };
    let exit = runtime.block_on(work);
    runtime.shutdown_background();
    exit
}
