//! A headless Chromium, driven through chromedriver.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Chromium takes seconds to start on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How often [`Browser::wait_until`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Flags for tests as root, without a GPU and without traffic of Chromium's own.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1280,800",
];

/// One browser with one window. Dropping it ends chromedriver, which ends Chromium.
pub(crate) struct Browser {
    client: Client,
    driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one with a fresh profile; `None`, with the reason printed, where there is no chromedriver.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_by(std::process::Command::new("chromedriver")).await
    }

    /// The same by this command, which becomes chromedriver; its pages come from where that runs, and so must we.
    pub(crate) async fn start_by(driver: std::process::Command) -> Option<Self> {
        Self::start_with(driver, &[]).await
    }

    /// The same with more flags for Chromium.
    pub(crate) async fn start_with(driver: std::process::Command, more: &[&str]) -> Option<Self> {
        // Its own process group, so that Chromium ends with it even if the test is killed half-way.
        let driver = Command::from(driver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .process_group(0)
            .spawn();
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                println!("skipped: no `chromedriver` (Debian package `chromium-driver`): {error}");
                return None;
            }
        };
        let port = tokio::time::timeout(START_WITHIN, port_of(&mut driver)).await.expect("chromedriver says its port");
        let profile = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = FLAGS.iter().chain(more).map(ToString::to_string).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({ "goog:chromeOptions": { "args": arguments } });
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities.as_object().cloned().unwrap())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("chromedriver starts Chromium");
        Some(Self { client, driver, _profile: profile })
    }

    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
    }

    /// The value of a JavaScript expression; promises are awaited.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => ({expression}))().then(done, (error) => done({{ error: String(error) }}));"
        );
        self.client.execute_async(&script, vec![]).await.expect("the script runs")
    }

    /// Waits until the expression is truthy, and gives its value.
    ///
    /// # Panics
    /// After `within`, with the last value seen.
    pub(crate) async fn wait_until(&self, expression: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        loop {
            let value = self.eval(expression).await;
            let falsy =
                matches!(&value, Value::Null | Value::Bool(false)) || value == 0 || value.get("error").is_some();
            if !falsy {
                return value;
            }
            assert!(Instant::now() < deadline, "not within {within:?}: {expression} (now: {value})");
            // The condition lives in another process: it can only be asked again.
            tokio::time::sleep_until(Instant::now() + LOOK_EVERY).await;
        }
    }

    /// The window as PNG, written to a file.
    pub(crate) async fn screenshot(&self, to: &Path) {
        let png = self.client.screenshot().await.expect("a screenshot");
        std::fs::write(to, png).expect("the screenshot is written");
    }

    /// An element as PNG.
    pub(crate) async fn screenshot_of(&self, css: &str) -> Vec<u8> {
        let element = self.client.find(fantoccini::Locator::Css(css)).await.expect("the element exists");
        element.screenshot().await.expect("a screenshot")
    }

    /// Another window with the same profile: `f` runs with it in front, then the first one is back.
    pub(crate) async fn in_another_window<T>(&self, f: impl AsyncFnOnce(&Self) -> T) -> T {
        let first = self.client.window().await.unwrap();
        let second = self.client.new_window(false).await.unwrap().handle;
        self.client.switch_to_window(second).await.unwrap();
        let value = f(self).await;
        self.client.close_window().await.unwrap();
        self.client.switch_to_window(first).await.unwrap();
        value
    }

    /// Closes Chromium in an orderly way.
    pub(crate) async fn close(self) {
        let _ = self.client.clone().close().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // chromedriver and all that it started are one process group of our own making.
        if let Some(pid) = self.driver.id() {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).status();
        }
    }
}

/// chromedriver prints the port it was told (0: any), then the one it took.
async fn port_of(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let port = line.split("successfully on port ").nth(1).and_then(|rest| rest.trim_end_matches('.').parse().ok());
        if let Some(port) = port {
            return port;
        }
    }
    panic!("chromedriver ended without saying its port");
}
