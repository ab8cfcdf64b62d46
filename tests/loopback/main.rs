//! Seconds, on 127.0.0.1: rooms joined to the real world.

mod media_devices;
mod media_faults;
mod media_file;
mod media_kit;
mod media_studio;
