#![no_main]

#[path = "../logic/source.rs"]
mod source;
#[path = "../logic/zap.rs"]
mod zap;

libfuzzer_sys::fuzz_target!(|data: &[u8]| zap::run(data));
