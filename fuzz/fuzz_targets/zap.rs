#![no_main]

#[path = "../logic/zap.rs"]
mod zap;
#[path = "../logic/source.rs"]
mod source;

libfuzzer_sys::fuzz_target!(|data: &[u8]| zap::run(data));
