//! Receives WHIP with whipserversrc and counts what it gets: one line `<kind> <buffers so far>` a second for each stream.
//! Usage: whipserversrc-peer ADDRESS:PORT. Ends when its standard input is closed.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: whipserversrc-peer ADDRESS:PORT")?;
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "TLS provider")?;
    gst::init()?;
    gstrswebrtc::plugin_register_static()?;
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("whipserversrc").build()?;
    source.set_property("stun-server", None::<String>);
    source.property::<gst::glib::Object>("signaller").set_property("host-addr", format!("http://{address}"));
    pipeline.add(&source)?;
    let counts: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let (into, seen) = (pipeline.downgrade(), Arc::clone(&counts));
    source.connect_pad_added(move |_, pad| {
        let Some(pipeline) = into.upgrade() else { return };
        let kind = pad.name().split('_').next().unwrap_or("unknown").to_owned();
        let sink = gst::ElementFactory::make("fakesink").property("sync", false).property("signal-handoffs", true).build();
        let Ok(sink) = sink else { return };
        let seen = Arc::clone(&seen);
        sink.connect("handoff", false, move |_| {
            *seen.lock().unwrap().entry(kind.clone()).or_default() += 1;
            None
        });
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
    });
    pipeline.set_state(gst::State::Playing)?;
    println!("ready");
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _closed = std::io::stdin().read_to_end(&mut Vec::new());
        ended.send(())
    });
    while end.recv_timeout(Duration::from_secs(1)).is_err() {
        for (kind, count) in counts.lock().unwrap().iter() {
            println!("{kind} {count}");
        }
    }
    // No orderly end: the process is all there is to clean up.
    std::process::exit(0)
}
