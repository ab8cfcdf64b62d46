//! Pure: [`super::file::File`] -> [`Config`], one fn a section. A section with a complaint comes out as `None`; the others
//! are checked all the same, so that every complaint is told at once.

mod control;
mod uplink;

use std::net::IpAddr;
use std::time::Duration;

use super::address::secrets_of;
use super::document::Document;
use super::file::{self, File, Quantity};
use super::units::{Bitrate, duration_text, parse_duration};
use super::words::quoted;
use super::{Audio, Config, IceAgent, Log, Network, Video, mask};
use crate::supervisor::policy::{Policy, Retries, SignallingPolicy};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Faster retries than this are a storm to the server and a spinning loop here.
const DELAY_MIN: Duration = Duration::from_millis(100);

pub(super) fn check(document: &mut Document<'_>, file: &File, is_own: &dyn Fn(IpAddr) -> bool) -> Option<Config> {
    let video = video(document, &file.video);
    let audio = audio(document, &file.audio);
    let uplink = uplink::check(document, &file.uplink, &file.broadcast.name, is_own);
    let reconnect = reconnect(document, &file.reconnect);
    let signalling = signalling(document, &file.signalling);
    let media = &file.media_plane.disconnected_timeout;
    let disconnected = time(document, "mediaPlane.disconnectedTimeout", media, DELAY_MIN, 300 * SECOND);
    let grace = time(document, "mediaPlane.statusGrace", &file.media_plane.status_grace, Duration::ZERO, 60 * SECOND);
    let suspect = &file.media_plane.suspect_after;
    let suspect_after = time(document, "mediaPlane.suspectAfter", suspect, DELAY_MIN, SECOND / 2);
    let capture = &file.fallback.capture_timeout;
    let capture = time(document, "fallback.captureTimeout", capture, SECOND / 2, 300 * SECOND);
    let retry = time(document, "fallback.retryDelay", &file.fallback.retry_delay, DELAY_MIN, HOUR);
    let control = control::check(document, &file.control);
    let log = log(document, &file.log);

    let (uplink, reconnect) = (uplink?, reconnect?);
    let needs_network = !uplink.urls().any(uplink::is_loopback);
    let endpoints = uplink.urls().count();
    let ice_restart_attempts = match file.uplink.ice_agent {
        IceAgent::Roaming => file.media_plane.ice_restart_attempts,
        IceAgent::Libnice => 0, // It has no such thing.
    };
    Some(Config {
        name: file.broadcast.name.clone(),
        video: video?,
        audio: audio?,
        policy: Policy {
            disconnected_timeout: disconnected?,
            ice_restart_attempts,
            force_reconnect_after_drop: file.media_plane.force_reconnect_after_drop,
            status_grace: grace?,
            capture_retry_delay: retry?,
            watches_consent: file.uplink.ice_agent == IceAgent::Roaming,
            needs_network,
            signalling: signalling?,
            endpoints,
            ..reconnect
        },
        uplink,
        network: Network {
            interfaces: file.network.interfaces.clone(),
            exclude: file.network.exclude.clone(),
            redundancy: file.network.redundancy,
            suspect_after: suspect_after?,
            agent: file.uplink.ice_agent,
        },
        capture_timeout: capture?,
        control: control?,
        log: log?,
    })
}

fn video(document: &mut Document<'_>, file: &file::Video) -> Option<Video> {
    for (key, pixels) in [("video.width", file.width), ("video.height", file.height)] {
        if pixels % 2 == 1 {
            document.complain(key, format!("`{key}` must be an even number, not {pixels}"), None);
        }
    }
    if matches!(file.pipeline.as_str(), "file" | "rtsp") && file.uri.is_none() && document.is_clean("video.uri") {
        let words = format!("the pipeline `{}` needs `video.uri`", file.pipeline);
        let help = if file.pipeline == "file" { "uri = \"/path/to/media.mkv\"" } else { "uri = \"rtsp://host/path\"" };
        document.complain("video.pipeline", words, Some(help));
    }
    let bitrate = bitrate(document, "video.bitrate", &file.bitrate, 50_000, 100_000_000);
    let interval = &file.keyframe_interval;
    let keyframe_interval = time(document, "video.keyframeInterval", interval, DELAY_MIN, 60 * SECOND);
    // Drivers and servers quote addresses, whole and in part.
    file.uri.iter().flat_map(|uri| secrets_of(uri)).for_each(mask::remember);
    Some(Video {
        pipeline: file.pipeline.clone(),
        device: file.device.clone(),
        uri: file.uri.clone(),
        repeat: file.repeat,
        width: file.width,
        height: file.height,
        framerate: file.framerate,
        codec: file.codec,
        encoder: Some(file.encoder.clone()).filter(|name| name != "auto"),
        bitrate: bitrate?,
        keyframe_interval: keyframe_interval?,
    })
}

/// The outer `None` is a complaint, the inner one a broadcast without sound.
fn audio(document: &mut Document<'_>, file: &file::Audio) -> Option<Option<Audio>> {
    match file.codec {
        file::AudioCodec::Opus => {}
    }
    // RFC 6716, section 2.1.1: Opus codes from 6 to 510 kb/s.
    let bitrate = bitrate(document, "audio.bitrate", &file.bitrate, 6_000, 510_000)?;
    Some(file.enabled.then(|| Audio {
        pipeline: file.pipeline.clone(),
        device: file.device.clone(),
        bitrate,
        channels: file.channels,
    }))
}

/// The part of the policy that `[reconnect]` fills; the caller fills the rest.
fn reconnect(document: &mut Document<'_>, file: &file::Reconnect) -> Option<Policy> {
    let min_delay = time(document, "reconnect.minDelay", &file.min_delay, DELAY_MIN, HOUR);
    let max_delay = time(document, "reconnect.maxDelay", &file.max_delay, DELAY_MIN, 24 * HOUR);
    in_order(document, "reconnect", min_delay, max_delay);
    // The outer `None` is a complaint, the inner one no limit.
    let give_up_after = match &file.give_up_after {
        Some(wait) => time(document, "reconnect.giveUpAfter", wait, SECOND, Duration::MAX).map(Some),
        None => Some(None),
    };
    let stuck_after = time(document, "reconnect.stuckAfter", &file.stuck_after, SECOND, 24 * HOUR);
    let max_retries = retries(document, "reconnect.maxRetries", &file.max_retries);
    Some(Policy {
        min_delay: min_delay?,
        max_delay: max_delay?,
        max_retries: max_retries?,
        give_up_after: give_up_after?,
        stuck_after: stuck_after?,
        disconnected_timeout: Duration::ZERO,
        ice_restart_attempts: 0,
        force_reconnect_after_drop: false,
        status_grace: Duration::ZERO,
        capture_retry_delay: Duration::ZERO,
        watches_consent: true,
        needs_network: true,
        signalling: SignallingPolicy::default(),
        endpoints: 1,
    })
}

fn signalling(document: &mut Document<'_>, file: &file::Signalling) -> Option<SignallingPolicy> {
    let min_delay = time(document, "signalling.minDelay", &file.min_delay, DELAY_MIN, HOUR);
    let max_delay = time(document, "signalling.maxDelay", &file.max_delay, DELAY_MIN, 24 * HOUR);
    in_order(document, "signalling", min_delay, max_delay);
    let max_attempts = retries(document, "signalling.maxAttempts", &file.max_attempts);
    let inactivity = time(document, "signalling.inactivityTimeout", &file.inactivity_timeout, SECOND, HOUR);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the schema lets through 0 to 1 only")]
    let jitter_percent = (file.jitter * 100.0).round() as u32;
    Some(SignallingPolicy {
        keep_media_on_loss: file.keep_media_on_loss,
        min_delay: min_delay?,
        max_delay: max_delay?,
        jitter_percent,
        max_attempts: max_attempts?,
        inactivity_timeout: inactivity?,
    })
}

/// `minDelay` and `maxDelay` of a section.
fn in_order(document: &mut Document<'_>, section: &str, min: Option<Duration>, max: Option<Duration>) {
    let (min_key, max_key) = (format!("{section}.minDelay"), format!("{section}.maxDelay"));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
        && document.is_clean(&min_key)
        && document.is_clean(&max_key)
    {
        let (min, max) = (duration_text(min), duration_text(max));
        let words = format!("`{min_key}` ({min}) must not be longer than `{max_key}` ({max})");
        document.complain(if document.is_set(&min_key) { &min_key } else { &max_key }, words, None);
    }
}

fn retries(document: &mut Document<'_>, key: &str, file: &Quantity) -> Option<Retries> {
    match file {
        Quantity::Whole(number) => u32::try_from(*number).ok().map(Retries::AtMost),
        Quantity::Text(word) if word == "unlimited" => Some(Retries::Unlimited),
        Quantity::Text(_) | Quantity::Fraction(_) => {
            let words = format!("`{key}` must be a whole number or \"unlimited\", not {}", quoted(&file.to_string()));
            document.complain(key, words, None);
            None
        }
    }
}

fn log(document: &mut Document<'_>, file: &file::Log) -> Option<Log> {
    // tracing takes a lone word that is not a level for the name of a module, so that `inof` would silence the log.
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    let lone = |part: &&str| !part.contains('=') && !levels.contains(&part.to_lowercase().as_str());
    let words = if let Some(part) = file.level.split(',').map(str::trim).find(lone) {
        format!("`log.level` must be one of error, warn, info, debug, trace, off, or a filter, not {}", quoted(part))
    } else if !file.level.is_ascii() || tracing_subscriber::EnvFilter::try_new(&file.level).is_err() {
        // (tracing-subscriber 0.3.23 panics on some filters beyond ASCII, such as " \u{1700}=".)
        format!("`log.level` is not a filter such as \"info,roamcast::signal=debug\": {}", quoted(&file.level))
    } else {
        return Some(Log { level: file.level.clone(), format: file.format });
    };
    document.complain("log.level", words, None);
    None
}

/// A time between two limits.
fn time(document: &mut Document<'_>, key: &str, file: &Quantity, min: Duration, max: Duration) -> Option<Duration> {
    let words = match parse_duration(&file.to_string()) {
        Ok(time) if (min..=max).contains(&time) => return Some(time),
        Ok(_) if max == Duration::MAX => format!("must be at least {}, not {file}", duration_text(min)),
        Ok(_) => format!("must be between {} and {}, not {file}", duration_text(min), duration_text(max)),
        Err(words) => format!("{words}, not {}", quoted(&file.to_string())),
    };
    document.complain(key, format!("`{key}` {words}"), None);
    None
}

/// A bitrate between two limits.
fn bitrate(document: &mut Document<'_>, key: &str, file: &Quantity, min: u32, max: u32) -> Option<Bitrate> {
    let (min, max) = (Bitrate::from_bps(min), Bitrate::from_bps(max));
    let plain = !matches!(file, Quantity::Text(_));
    let words = match Bitrate::parse(&file.to_string()) {
        Ok(bitrate) if (min..=max).contains(&bitrate) => return Some(bitrate),
        Ok(bitrate) => format!("must be between {min} and {max}, not {bitrate}"),
        Err(words) => format!("{words}, not {}", quoted(&file.to_string())),
    };
    let help = plain.then(|| format!("a plain number is bits per second; for kilobits write \"{file}k\""));
    document.complain(key, format!("`{key}` {words}"), help.as_deref());
    None
}
