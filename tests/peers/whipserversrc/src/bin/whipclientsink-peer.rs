//! Publishes a test picture by WHIP with whipclientsink: what roamcast is compared with by `make bench`.
//! Usage: whipclientsink-peer URL TOKEN. Ends with 1 at an error, at the end of its stream, and as soon as its connection
//! says `failed`: whatever it can notice itself shall count. Ends with 0 when its standard input is closed.

use std::io::Read;

use gst::prelude::*;

/// As roamcast is told to send in the benchmarks.
const PICTURE: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=30/1 ! \
    whipclientsink name=sink video-caps=video/x-h264 start-bitrate=400000 max-bitrate=400000";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (url, token) = arguments.next().zip(arguments.next()).ok_or("usage: whipclientsink-peer URL TOKEN")?;
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "TLS provider")?;
    gst::init()?;
    gstrswebrtc::plugin_register_static()?;
    let pipeline = gst::parse::launch(PICTURE)?.downcast::<gst::Pipeline>().map_err(|_| "a pipeline")?;
    let sink = pipeline.by_name("sink").ok_or("a sink")?;
    // The default is a public one.
    sink.set_property("stun-server", None::<String>);
    let signaller = sink.property::<gst::glib::Object>("signaller");
    signaller.set_property("whip-endpoint", url);
    signaller.set_property("auth-token", token);
    sink.connect("consumer-added", false, |values| {
        let webrtc = values[2].get::<gst::Element>().ok()?;
        webrtc.connect_notify(Some("connection-state"), |webrtc, _| {
            let state = format!("{:?}", webrtc.property_value("connection-state"));
            println!("connection-state {state}");
            if state.to_lowercase().contains("failed") {
                std::process::exit(1);
            }
        });
        None
    });
    std::thread::spawn(|| {
        let _closed = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0)
    });
    pipeline.set_state(gst::State::Playing)?;
    println!("started");
    let bus = pipeline.bus().ok_or("a bus")?;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Error(error) => println!("error {}", error.error()),
            gst::MessageView::Eos(_) => println!("end of stream"),
            _ => continue,
        }
        // At once: its DELETE may block for 15 s, and systemd would wait for it.
        std::process::exit(1);
    }
    Ok(())
}
