#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calloop_zmq::fuzzing::monitor_event(data));
