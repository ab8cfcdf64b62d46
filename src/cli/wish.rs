//! `roamcast start`, `stop`, `reconnect`, `set` and `reload`: wishes to the running encoder.

use reqwest::Method;
use serde_json::{Value, json};

use super::args::{Set, Socket};
use super::{Exit, client, print};
use crate::control::Changed;

/// What needs no more words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on air.
    Start,
    /// Leave the air.
    Stop,
    /// Try again now.
    Reconnect,
    /// Read the config again.
    Reload,
}

/// Tells the encoder.
#[must_use]
pub fn run(args: &Socket, wish: Wish) -> Exit {
    let (path, words) = match wish {
        Wish::Start => ("start", "going on air"),
        Wish::Stop => ("stop", "leaving the air; `roamcast start` goes on air again"),
        Wish::Reconnect => ("reconnect", "reconnecting"),
        Wish::Reload => ("reload", ""),
    };
    tell(args, path, None, words)
}

/// Tells the encoder one key and its new value.
#[must_use]
pub fn set(args: &Set) -> Exit {
    let (key, value) = &args.pair;
    tell(&args.socket, "set", Some(json!({ "key": key, "value": value })), "")
}

fn tell(args: &Socket, path: &str, body: Option<Value>, words: &str) -> Exit {
    client::talk(args, async |client| {
        let answer = client.ask(Method::POST, path, body).await?;
        let text = if args.json {
            answer.to_string()
        } else if words.is_empty() {
            changed_words(&serde_json::from_value(answer).map_err(|_| client.strange())?)
        } else {
            words.to_owned()
        };
        let _nobody_reads = print::out(&text);
        Ok(())
    })
}

fn changed_words(answer: &Changed) -> String {
    match answer.changed.as_slice() {
        [] => "nothing has changed".to_owned(),
        keys => format!("changed: {}", keys.join(", ")),
    }
}
