//! A still picture (PNG, JPEG ...) as `video.uri`: decoded and scaled once, then repeated at the configured frame rate.

use gst::prelude::*;

/// True when what this element of a pipeline file plays (a `uridecodebin`) is a picture and no film, by its first bytes.
pub(in crate::media) fn is_still(file: &gst::Element) -> bool {
    let Some(bin) = file.downcast_ref::<gst::Bin>() else { return false };
    let typefinds = bin.iterate_recurse().into_iter().flatten().filter(is_typefind);
    let found = typefinds.filter_map(|element| element.property::<Option<gst::Caps>>("caps"));

    found.into_iter().any(|caps| caps.structure(0).is_some_and(|structure| structure.name().starts_with("image/")))
}

fn is_typefind(element: &gst::Element) -> bool {
    element.factory().is_some_and(|factory| factory.name() == "typefind")
}

/// Puts a repeater between this pad, which gives one picture, and what it is linked to. Gives the repeater's own pad.
///
/// It scales first: a photo of 24 megapixels would else be scaled anew for each frame.
pub(in crate::media) fn repeat(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    size: (u32, u32),
    framerate: u32,
) -> Result<gst::Pad, gst::glib::BoolError> {
    let branch = pad.peer().ok_or_else(|| gst::glib::bool_error!("the picture is not linked"))?;
    let (width, height) = size;
    let launch = format!(
        "videoconvertscale ! video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1 \
         ! imagefreeze ! capsfilter caps=video/x-raw,framerate={framerate}/1"
    );
    let repeater = gst::parse::bin_from_description(&launch, true)
        .map_err(|error| gst::glib::bool_error!("the picture cannot be repeated: {}", error))?;
    pipeline.add(&repeater)?;
    let pads = repeater.static_pad("sink").zip(repeater.static_pad("src"));
    let (sink, src) = pads.ok_or_else(|| gst::glib::bool_error!("the repeater has no pads"))?;
    pad.unlink(&branch)?;
    let link = |from: &gst::Pad, to: &gst::Pad| {
        from.link(to).map(drop).map_err(|error| gst::glib::bool_error!("the picture cannot be linked: {}", error))
    };
    link(&src, &branch)?;
    link(pad, &sink)?;
    repeater.sync_state_with_parent()?;
    Ok(src)
}
