#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| roamcast_fuzz::datagram(data));
