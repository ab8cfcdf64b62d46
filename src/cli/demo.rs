//! `roamcast demo`: encoder, ingest server and viewer page in one process.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::args::Demo;
use super::ingest::Manner;
use super::{Exit, default_config, exit_of, load_config, logging, print, world};
use crate::app;
use crate::app::publish::Board;
use crate::config::{Config, Protocol, TokenSource, Uplink};
use crate::ingest::{Options, addresses};

/// Broadcasts to itself until it is stopped.
#[must_use]
pub fn run(args: &Demo) -> Exit {
    let opened = match &args.config {
        Some(path) => load_config(Some(path)),
        None => default_config(),
    };
    let (mut config, mut origin) = match opened {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    if let Some(media) = &args.media {
        play(&mut config, media);
    }
    origin.log_level = Box::new(logging::start(&config.log));
    let (page, feed) = watch::channel(String::new());
    let board = Board::new(super::run::output(&args.events), Some(Arc::new(page)));
    let identity = match super::ingest::identity(&args.tls, args.listen.ip()) {
        Ok(identity) => identity,
        Err(exit) => return exit,
    };
    let token = token(&config);
    let manner = Manner { identity: identity.clone(), has_token: token.is_some() };
    let options = super::ingest::options(args.listen, &args.allow_hosts, &args.reach);
    let options = Options { status_feed: Some(feed), token, tls: identity, ..options };
    let public = options.public_addresses.clone();
    let stop_after = args.stop_after;
    world::enter(async move {
        let mut server = match super::ingest::open(options).await {
            Ok(server) => server,
            Err(exit) => return exit,
        };
        let door = format!("{}://{}", manner.scheme(), addresses::from_here(server.address()));
        match format!("{door}/whip/live").parse() {
            Ok(url) => {
                let (protocol, fallback_urls) = (Protocol::Whip, Vec::new());
                let fingerprints = manner.fingerprint().into_iter().collect();
                // To one of our own addresses: it does not leave this machine.
                let allow_clear_text = true;
                config.uplink = Uplink {
                    protocol,
                    url,
                    fallback_urls,
                    janus: None,
                    fingerprints,
                    allow_clear_text,
                    ..config.uplink
                };
                config.policy.endpoints = 1;
            }
            Err(error) => tracing::error!("the address of the ingest makes no URL: {error}"),
        }
        config.policy.needs_network = false;
        print::err(&format!("{}\nstop with    Ctrl-C", manner.pages(server.address(), &public).join("\n")));
        let exit = tokio::select! {
            reason = app::run(config, origin, board, stop_after) => exit_of(reason),
            () = server.dead() => return Exit::INTERNAL,
        };
        server.stop().await;
        exit
    })
}

/// Pictures and sound of a file, again and again.
fn play(config: &mut Config, media: &Path) {
    "file".clone_into(&mut config.video.pipeline);
    config.video.uri = Some(media.to_string_lossy().into_owned());
    if let Some(audio) = &mut config.audio {
        "file".clone_into(&mut audio.pipeline);
    }
}

/// The ingest asks for the token that the encoder will send.
fn token(config: &Config) -> Option<secrecy::SecretString> {
    match &config.uplink.token {
        Some(TokenSource::Value(secret)) => Some(secret.expose().into()),
        Some(TokenSource::File(path)) => std::fs::read_to_string(path).ok().map(|text| text.trim().into()),
        // The ingest of the demo is on loopback: what the encoder has to ask for elsewhere is of no use to it.
        Some(TokenSource::Command(_) | TokenSource::Url(_) | TokenSource::Credential(_)) | None => None,
    }
}
