//! `uplink.tokenCommand`: a program that prints the token.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::signal::failure::no_token;
use crate::supervisor::event::Failure;

use super::text::{self, Given, TOKEN_BYTES_MAX};

/// How the failures name it. The line itself is not shown: it may hold a password.
const NAME: &str = "`uplink.tokenCommand`";
/// What is kept of stderr; the rest is read and dropped, so that the program is not held up.
const STDERR_BYTES_MAX: usize = 4 * 1024;

/// Runs `line` in a shell. `secrets` are masked in what it says.
///
/// # Errors
/// `TokenProviderFailed`, to be tried again.
pub(super) async fn run(line: &str, limit: Duration, secrets: &[&str]) -> Result<Given, Failure> {
    let child = Command::new("/bin/sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that all that it starts can be ended with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| no_token(format!("{NAME} cannot be started: {}", error.kind())))?;
    let mut group = Group(child);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let finished = tokio::time::timeout(limit, finish(&mut group.0, &mut stdout, &mut stderr)).await;
    let said = || {
        // What should have been the token, or was cut off in the middle of it, may stand in stderr as well.
        let printed = String::from_utf8_lossy(&stdout);
        let secrets: Vec<&str> = printed.split_whitespace().chain(secrets.iter().copied()).collect();
        text::excerpt(&stderr, &secrets).map(|said| format!(" (it says: {said})")).unwrap_or_default()
    };
    match finished {
        Err(_elapsed) => {
            group.kill();
            // Not left as a zombie.
            let _status = group.0.wait().await;
            let words = "or what it has started holds its output open; it was ended";
            Err(no_token(format!("{NAME} has not ended within {} s, {words}{}", limit.as_secs_f64(), said())))
        }
        Ok(Err(error)) => Err(no_token(format!("{NAME} cannot be read: {}", error.kind()))),
        Ok(Ok(status)) if !status.success() => Err(no_token(format!("{NAME} {}{}", ended(status), said()))),
        Ok(Ok(_success)) => match std::str::from_utf8(&stdout) {
            Ok(printed) => text::plain(printed, &format!("what {NAME} printed")),
            Err(_) => Err(no_token(format!("what {NAME} printed is no text; a bearer token was expected"))),
        },
    }
}

/// Reads both outputs to their ends before the child is waited for: as long as it has not been, its process group is surely
/// still ours to kill.
async fn finish(child: &mut Child, stdout: &mut Vec<u8>, stderr: &mut Vec<u8>) -> std::io::Result<ExitStatus> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    tokio::try_join!(drain(out, stdout, TOKEN_BYTES_MAX + 1), drain(err, stderr, STDERR_BYTES_MAX))?;
    child.wait().await
}

/// Reads to the end and keeps the first `limit` bytes.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, limit: usize) -> std::io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    (&mut pipe).take(limit as u64).read_to_end(kept).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(())
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended strangely".to_owned(),
    }
}

/// A child that leads a process group; what is left of the group dies with this.
struct Group(Child);

impl Group {
    fn kill(&self) {
        // `None`: waited for already, and its number may belong to somebody else by now.
        if let Some(pid) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _nobody_left = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ErrorCode;

    const PATIENT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_token_is_what_the_command_prints() {
        let given = run("echo a note >&2; printf ' %s \\n' \"t0ken\"", PATIENT, &[]).await.unwrap();
        assert_eq!(given.token.expose(), "t0ken");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_shown_with_its_exit_code_and_without_secrets() {
        let failure = run("echo new-hush; echo cannot swap old-hush for new-hush >&2; exit 7", PATIENT, &["old-hush"])
            .await
            .unwrap_err();
        assert_eq!(failure.code, ErrorCode::TokenProviderFailed);
        assert_eq!(failure.words, "`uplink.tokenCommand` ended with exit code 7 (it says: cannot swap *** for ***)");
        let failure = run("kill -9 $$", PATIENT, &[]).await.unwrap_err();
        assert_eq!(failure.words, "`uplink.tokenCommand` was ended by signal 9");
        let failure = run("/no/such/program --password hush", PATIENT, &[]).await.unwrap_err();
        assert!(failure.words.contains("exit code 127") && !failure.words.contains("hush"), "{failure}");
        let failure = run("true", PATIENT, &[]).await.unwrap_err();
        assert!(failure.words.contains("printed is empty"), "{failure}");
    }

    #[tokio::test]
    async fn a_flood_of_words_is_cut_and_holds_nothing_up() {
        let failure = run("head -c 1000000 /dev/zero | tr '\\0' x", PATIENT, &[]).await.unwrap_err();
        assert!(failure.words.contains("longer than"), "{failure}");
        let given = run("head -c 1000000 /dev/zero >&2; echo t", PATIENT, &[]).await.unwrap();
        assert_eq!(given.token.expose(), "t");
    }

    /// The whole group dies: neither the shell nor what it put into the background goes on, and no zombie is left.
    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_all_that_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        // The limit is reached in any case: the output stays open until both are gone.
        let line =
            format!("sleep 1000 & echo $! $$ > '{0}.new'; mv '{0}.new' '{0}'; echo waiting >&2; wait", pids.display());
        let failure = run(&line, Duration::from_secs(2), &[]).await.unwrap_err();
        assert!(failure.words.contains("has not ended within 2 s"), "{failure}");
        assert!(failure.words.ends_with("(it says: waiting)"), "{failure}");
        let pids = std::fs::read_to_string(&pids).unwrap();
        assert_eq!(pids.split_whitespace().count(), 2);
        // The signal has been sent; the grandchild, an orphan by now, takes its time to die of it, and whoever adopts it
        // reaps it when it likes.
        let is_gone = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
        };
        let dying = async {
            while !pids.split_whitespace().all(is_gone) {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(PATIENT, dying).await.is_ok(), "something of it is still there: {pids}");
        let shell = pids.split_whitespace().nth(1).unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{shell}")).exists(), "the shell is a zombie");
    }

    #[tokio::test]
    async fn a_command_that_nobody_waits_for_any_more_is_ended_too() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // The pipe ends when the last process that holds it is gone.
        let line = format!("exec 3> '{}'; echo up >&3; sleep 1000", fifo.display());
        let task = tokio::spawn(async move { run(&line, PATIENT, &[]).await });
        let mut pipe =
            tokio::io::BufReader::new(tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap());
        let mut word = String::new();
        while tokio::io::AsyncBufReadExt::read_line(&mut pipe, &mut word).await.unwrap() == 0 {
            tokio::task::yield_now().await; // Nobody has opened the other end yet.
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        let mut rest = String::new();
        let end = pipe.read_to_string(&mut rest);
        assert_eq!(tokio::time::timeout(PATIENT, end).await.unwrap().unwrap(), 0);
    }
}
