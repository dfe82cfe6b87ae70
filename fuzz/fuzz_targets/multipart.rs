#![no_main]

#[path = "../logic/multipart.rs"]
mod multipart;
#[path = "../logic/source.rs"]
mod source;

libfuzzer_sys::fuzz_target!(|data: &[u8]| multipart::run(data));
