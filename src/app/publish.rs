//! Where the notices go: every change of the one [`Status`] is told once to each window - standard output, log, viewer
//! page, control API.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tracing::info;

use crate::app::stdout::Lines;
use crate::control::feed::{Feed, Told};
use crate::status::Status;
use crate::status::notice::{Notice, notices};

/// What standard output carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line (`--events json`).
    Json,
}

/// The windows and the running number of events.
pub struct Board {
    output: Output,
    lines: Lines,
    page: Option<Arc<watch::Sender<String>>>,
    feed: Option<Feed>,
    sequence: u64,
}

impl Board {
    /// A board that writes to standard output and, if given, keeps a viewer page up to date with the JSON of the
    /// newest BroadcastStatus.
    #[must_use]
    pub fn new(output: Output, page: Option<Arc<watch::Sender<String>>>) -> Self {
        Self { output, lines: Lines::start(), page, feed: None, sequence: 0 }
    }

    /// The same board, which feeds the windows too.
    #[must_use]
    pub(super) fn with_feed(self, feed: Feed) -> Self {
        Self { feed: Some(feed), ..self }
    }

    /// Tells what has changed.
    pub fn publish(&mut self, before: &Status, after: &Status) {
        let mut told = Vec::new();
        for notice in notices(before, after) {
            self.sequence += 1;
            let now = wall_clock();
            let time = written(now);
            let notice = notice.dated(|ago| written(now.checked_sub(ago).unwrap_or(now)));
            let json = notice.to_json(&time, self.sequence);
            let line =
                is_for_people(&notice).then(|| format!("{}  {}", time.get(11..19).unwrap_or_default(), notice.line()));
            if let (Some(page), Notice::BroadcastStatus(status)) = (&self.page, &notice)
                && let Ok(text) = serde_json::to_string(status)
            {
                page.send_replace(text);
            }
            info!(target: "roamcast::events", event = %json);
            let shown = match self.output {
                Output::Json => Some(json.clone()),
                Output::Text => line.clone(),
            };
            shown.into_iter().for_each(|line| self.lines.write(line));
            let is_scene = matches!(notice, Notice::BroadcastStatus(_) | Notice::BroadcastStopped(_));
            told.push(Told { seq: self.sequence, json: json.into(), line: line.map(Into::into), is_scene });
        }
        if let Some(feed) = &self.feed {
            feed.publish(after, told);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the time field of events is wall-clock time; nothing is decided by it")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

fn written(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// The planes and the figures of each second are for machines; people are told what they mean for the broadcast.
const fn is_for_people(notice: &Notice) -> bool {
    match notice {
        Notice::ConnectionState(_) | Notice::Stats(_) => false,
        Notice::BroadcastError(_)
        | Notice::BroadcastStatus(_)
        | Notice::CaptureStatus(_)
        | Notice::StreamWarning(_)
        | Notice::ReconnectStuck(_)
        | Notice::Gap(_)
        | Notice::PathChanged(_)
        | Notice::GoingAway(_)
        | Notice::TokenProviderError(_)
        | Notice::BroadcastStopped(_) => true,
    }
}
