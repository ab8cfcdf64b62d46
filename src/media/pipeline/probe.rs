//! Plays a media file to nobody until its first encoded picture: only so it shows whether there is anything to play.

use std::time::Duration;

use crate::config::Config;
use crate::inbox::Inbox;
use crate::media::Studio;
use crate::media::tracks::{Hatch, SharedClock, TrackKind};
use crate::supervisor::event::{Attempt, Event, MediaEvent};

/// A file is at hand, so its first picture comes within a second; a busy small board gets more.
const FIRST_PICTURE_MAX: Duration = Duration::from_secs(20);

/// Plays the file of this config. Opens no microphone: without its sound, when that comes from elsewhere.
///
/// # Errors
/// One sentence when it cannot be played.
pub(in crate::media) fn rehearse(config: &Config, sound_is_in_it: bool) -> Result<(), String> {
    let mut config = config.clone();
    config.audio = config.audio.filter(|_| sound_is_in_it);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| format!("the media file cannot be tried: {error}"))?;
    let (inbox, hatch) = (Inbox::default(), Hatch::new(&[TrackKind::Video, TrackKind::Audio]));
    let studio = Studio::start(Attempt(1), &config, &hatch, &SharedClock::start(), inbox.clone());
    let studio = studio.map_err(|failure| failure.words)?;
    let heard = runtime.block_on(async { tokio::time::timeout(FIRST_PICTURE_MAX, first_word(&inbox)).await });
    studio.stop();
    heard.unwrap_or_else(|_elapsed| {
        let seconds = FIRST_PICTURE_MAX.as_secs();
        Err(format!("`video.uri`: the media file gives no picture within {seconds} s"))
    })
}

/// What comes first: a picture, or the reason why there is none.
async fn first_word(inbox: &Inbox) -> Result<(), String> {
    loop {
        match inbox.next().await {
            Event::Media(_, MediaEvent::Flowing | MediaEvent::Ended) => return Ok(()),
            Event::Media(_, MediaEvent::Failed(failure)) => return Err(failure.words),
            // It may still come.
            Event::Media(_, MediaEvent::Stalled | MediaEvent::Stopped | MediaEvent::Warnings(_)) => {}
            Event::Deadline
            | Event::Woke
            | Event::Command(_)
            | Event::Network(_)
            | Event::Token(_)
            | Event::Answered(_)
            | Event::Session(..) => {}
        }
    }
}
