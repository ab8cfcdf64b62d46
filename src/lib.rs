//! # roamcast - the map of the house
//!
//! A live-broadcast ingest encoder: GStreamer captures and encodes, webrtcbin webcasts, a pure brain keeps the broadcast
//! on air while networks change.
//!
//! ```text
//!  config.toml      pipelines/*.launch
//!      |               |                     encoded frames (never stop)
//!  [1 front door]->[2 studio]=====>[3 hatch]=====>[4 line: webrtcbin]====> internet
//!      |Policy         |MediaEvent               |SessionEvent(#n)  \-[5 messengers] SDP / ICE words
//!      v               v                         v         [6 lookout] interfaces, routes --PathEvent-+
//!  [7 brain]  <======= one bounded inbox: numbered events; `now` comes from the driver ==============+
//!      | Vec<Action>            | Status                       ^ Command
//!      v                        v                              |
//!  [driver = hands]        [8 notice board] -> log, events, systemd
//! ```

pub mod cli;
pub mod config;
pub mod driver;
pub mod house;
pub mod inbox;
#[cfg(feature = "ingest")]
pub mod ingest;
pub mod media;
pub mod network;
pub mod signal;
pub mod status;
pub mod supervisor;
pub mod systemd;
pub mod uplink;
