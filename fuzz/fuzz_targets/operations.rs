#![no_main]

#[path = "../logic/operations.rs"]
mod operations;
#[path = "../logic/source.rs"]
mod source;

libfuzzer_sys::fuzz_target!(|data: &[u8]| operations::run(data));
