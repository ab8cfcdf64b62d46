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
//!  [driver = hands]        [8 notice board] -> log, events, systemd, [9 windows]
//! ```
//!
//! # The rooms
//!
//! (P) = pure: std and our own types only; no IO, no clock, no tasks, no locks, no dice. (-) = touches the world.
//!
//! ```text
//! main.rs            (-) args -> config -> app -> exit code
//! cli/               (-) one file a command: args.rs (what may be said), run.rs, demo.rs, ingest.rs, check.rs, devices.rs,
//!                        completions.rs, man.rs, status.rs, events.rs, wish.rs (start, stop, reconnect, set, reload);
//!                        shared: client.rs (of the control socket), print.rs, logging.rs, log_sink.rs (where the log leaves),
//!                        journal.rs, world.rs (GStreamer, TLS, runtime)
//! app/               (-) mod.rs opens the rooms and joins them; driver.rs: THE HANDS, the one loop, which reads the clock;
//!                        publish.rs tells every window; stdout.rs; writer.rs: a thread that writes what others read;
//!                        signals.rs hears SIGTERM, SIGHUP
//! inbox.rs           (-) the one bounded queue into the brain
//! config/              1 THE FRONT DOOR - nothing unchecked gets past
//!   mod.rs           (P) Config (checked); load(text) -> Config, or every complaint at once
//!   file.rs          (P) what the TOML may say: serde types, doc comments, defaults
//!   schema.rs document.rs (P) JSON schema of those types; text and environment held against it
//!   check/           (P) mod.rs: file -> Config, one fn a section; uplink.rs: where the media and the token go; control.rs
//!   complaint.rs words.rs (P) what is wrong, where, what would be right - and no secret
//!   changes.rs       (P) which keys two configs differ in
//!   origin.rs fingerprint.rs clear_text.rs (P) who may get the token; the certificate of a server; where secrets go unencrypted
//!   units.rs         (P) Bitrate, durations, Secret (prints as ***), IceServer
//!   address.rs mask.rs (P)(-) addresses as people may see them; every secret of the process, masked in words and log
//!   tests.rs             exact words for malformed configs
//! media/               2 THE STUDIO - capture and encode; runs whether or not anyone listens
//!   mod.rs           (-) Studio: start, stop, set_bitrate, force_keyframe
//!   pipeline/        (-) template.rs, placeholder.rs (P): pipelines/*.launch + Config -> launch line, or a complaint; library.rs
//!                        build.rs: where those files are found, config -> checked plan -> GStreamer pipeline; probe.rs: is there
//!                        anything to play in a file? promise.rs: what is known of the picture before its first frame;
//!                        bus.rs packages.rs (P): an error of the pipeline -> Failure in words; Debian packages
//!   input/           (-) devices.rs what is plugged in; playback.rs still.rs test_card.rs a file as a live source; a still
//!                        picture; the clock, flash and beep of the test picture
//!   raw_video.rs frame_rate.rs (-)(P) raw pictures are completed and thinned out before any element that asserts on them
//!   passthrough.rs   (-) what a source sends instead of raw pictures
//!   flow.rs keyframes.rs (P) frame counters -> flowing / stalled; keyframe wishes -> keyframes, not too many
//!   watch.rs wake.rs (-) one thread: bus, frame counter, deferred keyframes; how it is woken
//!   tracks/          (-) 3 THE HATCH - encoded tracks out, keyframe wishes back; h264/ (P): what an H.264 stream says of
//!                        itself: profile, level, B-frames; rising.rs (P): time does not step back
//! uplink/              4 THE LINE - one session, one webrtcbin, one life
//!   mod.rs           (-) Session: open, close(self)
//!   negotiate.rs     (-) from offer to answer; where a server refuses the sound, once more without
//!   peer.rs          (-) the only file that names webrtcbin; outlet.rs: one track on its way into it; restart.rs: new ICE credentials for it
//!   offered.rs       (P) what our offer says of the formats, and what an answer may say of them; picture.rs (-): a camera is waited for
//!   messenger.rs     (-) the task that owns the messenger of one session
//!   certificate.rs   (-) ECDSA P-256 for DTLS
//!   ice_server.rs    (P) RTCIceServer -> webrtcbin's own URLs
//!   stats.rs         (-) figures of the RTP session -> LinkStats
//! ice/                   THE ROAMING AGENT - many paths, one connection
//!   mod.rs           (-) Roaming: takes the place of webrtcbin's own agent; types.rs (P): what its parts say to each other
//!   agent/           (P) the sans-IO ICE agent driven by (now, input) -> orders: checks.rs our own, pacing.rs how soon they follow
//!                        each other, state.rs how the connection stands, clock.rs the time we were awake
//!   paths/           (P) which path media takes: sockets.rs which there are, liveness.rs how a path is, select.rs when media
//!                        moves, flapping.rs who dies young, lifecycle.rs sockets come and go, resend.rs what the far end may
//!                        have missed, rtcp_watch.rs does it still report?
//!   turn/            (-) STUN and TURN servers: mod.rs when they are asked; servers.rs, stun.rs, allocation/ (P): what they see of
//!                        us, one address that one lends us; relays.rs one task a lease; connection.rs UDP, TCP or TLS to it
//!   io/              (-) the hands: mod.rs one task a session; sockets.rs one UDP socket an address; history.rs (P): what leaves
//!                        once more. clock.rs: their clock; wire.rs: what a datagram leaves through
//!   disguise.rs      (P) ICE credentials of odd characters on their way through webrtcbin
//!   names.rs mdns.rs (-)(P) candidates at host names; one question of multicast DNS
//!   gst/             (-) the GObject face webrtcbin sees, and methods.rs: the only `unsafe` in the house
//!   fuzz.rs          (-) any bytes on all of these, for the fuzzer
//! sdp/               (P) mod.rs: is the answer one that we can live with? description.rs, candidate.rs: others' SDP, read
//!                        generously; normal.rs: a checked answer as webrtcbin takes it; edit.rs: the edits of the offer
//! rtp/               (P) packet.rs: what a packet is; rtcp.rs: what tells us that the far end gets our media
//! signal/              5 THE MESSENGERS - carry words, decide nothing, never retry
//!   mod.rs           (-) enum Signaller { Whip }; the same few verbs for all
//!   failure/         (P) every error -> Failure { phase, retry, code, words }; websocket.rs: refused handshakes and closes
//!   origin.rs        (P) which origins may see the token, which addresses a server may name
//!   whip/ janus/ roamcast/ one folder a protocol: mod.rs (-) the conversation; text.rs (P) the words of RFC 9725, Janus
//!                        VideoRoom, docs/signalling.md; failures.rs (P) their own errors; resume.rs (-) the session of a
//!                        process that died; janus/ unasked.rs (-) what Janus says of itself
//!   transport/       (-) shared by them: http.rs one request with limits, redirect.rs where it may lead, headers.rs (P) what
//!                        all servers say alike; websocket.rs one WebSocket with limits, keepalive.rs (P) does its server hang?
//!                        dns.rs names -> addresses, with a memory, Happy Eyeballs; tls.rs which certificates are trusted;
//!                        unencrypted.rs guarded.rs which addresses of a name may get a secret unencrypted
//!   state/           (-) what outlives a kill -9; proofs.rs: which servers have taken our media
//!   token/           (-) mod.rs: where credentials come from; command.rs url.rs: programs and servers; text.rs (P): their words
//!                        renewal.rs: when the one of a live session is renewed
//! probe/             (-) mod.rs: one probe each time that the brain wants one; target.rs (P): what can be probed; packet.rs (P)
//! network/             6 THE LOOKOUT - mod.rs (-) and netlink.rs (P): snapshot; diff.rs (P) -> PathEvent
//! supervisor/          7 THE BRAIN - std and status types only
//!   mod.rs           (P) Supervisor: step(now, event) -> Vec<Action>, deadline(), status(); policy.rs: the numbers it lives by
//!   event.rs         (P) all it can hear (Event), all it can order (Action), Attempt, Failure
//!   broadcast/       (P) mod.rs: the whole broadcast: budgets (minDelay, maxDelay, maxRetries), halting, BroadcastStatus
//!   reachability.rs  (P) whose outage is it, ours or the server's? What else answers
//!     successor.rs wait.rs session_loss.rs media_loss.rs proof.rs status.rs outage.rs: make before break; what follows from a
//!                        loss, of media alone; what a refusal means from a server that has taken our media; what is shown
//!   session.rs signalling.rs media/ teardown.rs (P) the present session, its two planes, those being closed
//!   acknowledgements/ (P) how long the far end may be silent about our media, by its own rhythm
//!   ice_restart.rs   (P) ICE restarts while media is lost and the server hears us
//!   endpoints.rs     (P) which server next: fallbackUrls, what is remembered of each, the way back
//!   capture.rs       (P) machine of the capture side
//!   backoff.rs slot.rs trouble.rs (P) how long to wait, seeded, or by a number of the server; Failure -> what the outside is told
//!   tests/               golden traces
//! status/              8 THE NOTICE BOARD
//!   mod.rs           (P) Status: one value, the only truth shown outside
//!   notice.rs text.rs (P) events derived by comparing two Status values; the same in words
//!   path.rs          (P) what is shown of the paths that media can take
//!   conditions.rs    (P) table of what can be wrong: code, words, help, severity
//! control/             9 THE WINDOWS
//!   mod.rs           (-) opens and closes them: HTTP on a unix socket, on TCP when asked; listen.rs: the sockets
//!   api.rs guard.rs  (-) the routes of /api/v1; who may come in over TCP
//!   feed.rs          (-) what the board lets them see: the status, and every event as it is told
//!   desk.rs          (-) every wish of an operator -> inbox; settings.rs (P): which settings may change while media flows
//! server/            (-) HTTP FOR STRANGERS - mod.rs: the accept loop, its timeouts; crowd.rs: who is connected; seats.rs (P): who
//!                        stays when it is full; stream.rs: readers that do not read; host.rs (P): Host and Origin, for pages of
//!                        strangers; seldom.rs (P): lines in the log that anybody can cause; files.rs: how many files are open
//! systemd.rs         (-) THE LANDLORD - READY, STATUS, WATCHDOG, STOPPING
//! ingest/            (-) THE HOUSE ACROSS THE STREET - embedded ingest on str0m: mod.rs, server.rs (what all handlers share),
//!                        refusal.rs, http/ (WHIP, WHEP; events.rs, page.rs, fault_orders.rs; signalling/ and its upgrade.rs: WebSocket), media/ (the
//!                        loop; sessions.rs), peer.rs (one connection), tls.rs, faults.rs, addresses.rs (where we are reached), handshake.rs (a lost DTLS flight is sent again), contained.rs (panics of
//!                        str0m), pulse.rs (does the loop turn?), room.rs, rehearsal.rs (for the fuzzer); pure: broadcast.rs, offer.rs, outage.rs, timeline.rs, tally.rs, slots.rs, sdp.rs
//! ```
//!
//! # The laws
//!
//! 1. One brain, pure: `step(now, event) -> Vec<Action>`; a state owns its deadline, so stale timers cannot exist.
//! 2. Every attempt has a number; a voice from an old attempt is ignored in one line, in one place.
//! 3. Capture and encode never stop for the network. One session = one attempt = one webrtcbin = one pipeline of its own, fed
//!    through the hatch; closed by value, on a blocking thread, with a deadline.
//! 4. Errors answer "may we try again?": [`supervisor::event::Failure`].
//! 5. Connected is not healthy: `broadcasting` only when the far end acknowledges media, or, where it never does, with a
//!    condition that says so.
//! 6. One retry owner: the brain. Transports never loop, never sleep.
//! 7. One fact, told once: log, events, systemd, API and page all derive from the one [`status::Status`].
//! 8. Callbacks from GStreamer threads only send an event; a streaming thread never blocks on the inbox.
//! 9. Two config types, one door; all complaints at once; unknown keys are errors.
//! 10. Small: functions <= 70 lines, files <= 400 code lines.
//! 11. Comments say why; constants say why this number.
//! 12. Laws are tests: `tests/pure/house_rules/mod.rs`.
//! 13. `unsafe` lives in `ice/gst` alone.
//!
//! # Absent on purpose
//!
//! - No retry anywhere but in `supervisor/`: a transport that loops hides what the operator must see.
//! - No GStreamer clock but one ([`media::tracks::SharedClock`]): running time means the same in studio and sessions.
//! - No candidates in the offer: they are trickled once the server has named its ICE servers, so nothing is gathered twice.
//! - No key in the config for what is not built yet.

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod ice;
pub mod inbox;
#[cfg(feature = "ingest")]
pub mod ingest;
pub mod media;
pub mod network;
pub mod probe;
pub mod rtp;
pub mod sdp;
pub mod server;
pub mod signal;
pub mod status;
pub mod supervisor;
pub mod systemd;
pub mod uplink;
