//! What the picture of the studio has to do with offer and answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Line;
use super::offered::Offered;
use crate::config::VideoCodec;
use crate::media::tracks::{Track, TrackKind};

/// An IP camera is reached within a second and has a keyframe every 1 - 4 s; before that nothing can be seen of it anyway.
const CAMERA_WAIT_MAX: Duration = Duration::from_secs(5);

impl Line {
    fn picture(&self) -> Option<&Arc<Track>> {
        self.hatch.track(TrackKind::Video)
    }

    /// What the next offer says of the formats. Waits for a camera that encodes by itself: it alone knows.
    pub(super) async fn offered(&self) -> Offered {
        let picture = self.picture();
        if let Some(picture) = picture.filter(|_| self.promise.is_passthrough && self.video.codec == VideoCodec::H264) {
            let _nothing_known_yet = timeout(CAMERA_WAIT_MAX, picture.wait_until_made()).await;
        }
        Offered::new(&self.video, self.promise, picture.and_then(|picture| picture.made()), self.stereo)
    }

    /// Warns of an answer that takes another format than is sent.
    pub(super) fn compare(&self, offered: &Offered, answer: &str) {
        if let Some(picture) = self.picture() {
            picture.answered_otherwise(offered.is_answered_otherwise(answer));
        }
    }
}
