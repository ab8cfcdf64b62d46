//! How a streaming thread wakes the watcher: a word on the bus, never a wait.

use gst::prelude::*;
/// Why a streaming thread wakes the watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// Something to look at: the first frame, or a deferred keyframe.
    Look,
    /// The picture has come to its end.
    PictureEnded,
    /// All streams of a repeated file have ended.
    FileEnded,
    /// The file has no picture.
    NoPicture,
}

impl Wake {
    pub(super) const ALL: [Self; 4] = [Self::Look, Self::PictureEnded, Self::FileEnded, Self::NoPicture];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Look => "roamcast-look",
            Self::PictureEnded => "roamcast-picture-ended",
            Self::FileEnded => "roamcast-file-ended",
            Self::NoPicture => "roamcast-no-picture",
        }
    }
}

/// Puts a word for the watcher on the bus. Never blocks.
pub(super) fn wake(pipeline: &gst::Pipeline, why: Wake) {
    let Some(bus) = pipeline.bus() else { return };
    let message = gst::message::Application::new(gst::Structure::new_empty(why.name()));
    // Refused only by a bus that is being closed: then there is no watcher to wake.
    let _refused = bus.post(message);
}
