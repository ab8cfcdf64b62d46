//! `roamcast run`: the encoder.

use super::args::{Events, EventsForm, Run};
use super::{Exit, exit_of, load_config, logging, world};
use crate::app;
use crate::app::publish::{Board, Output};

/// Broadcasts until it is stopped, or has to stop.
#[must_use]
pub fn run(args: &Run) -> Exit {
    let (config, mut origin) = match load_config(args.config.config.as_deref()) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    origin.log_level = Box::new(logging::start(&config.log));
    let board = Board::new(output(&args.events), None);
    world::enter(async move { exit_of(app::run(config, origin, board, None).await) })
}

/// What stdout carries.
pub(super) fn output(events: &Events) -> Output {
    match events.events {
        Some(EventsForm::Json) => Output::Json,
        None => Output::Text,
    }
}
