//! What the fuzzers found worth keeping, run again, and then some bytes at random. The targets are in `fuzz/`, and what they
//! do with their bytes in `fuzz/logic/`. Each file is named before it is run, so that the last one named is the one that
//! fails. `RUNS` in the environment sets how often bytes are made up, `SEED` which.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "the targets' code is in here")]

#[path = "common/mod.rs"]
mod common;
#[path = "../fuzz/logic/multipart.rs"]
mod multipart;
#[path = "../fuzz/logic/operations.rs"]
mod operations;
#[path = "../fuzz/logic/source.rs"]
mod source;
#[path = "../fuzz/logic/zap.rs"]
mod zap;

use std::path::Path;
use std::{env, fs};

use common::Rng;

#[test]
fn operations_on_sockets_keep_their_promises() {
    replay("operations", operations::run);
}

#[test]
fn requests_to_an_authenticator_are_answered() {
    replay("zap", zap::run);
}

#[test]
fn a_multipart_is_a_list_of_frames() {
    replay("multipart", multipart::run);
}

fn replay(target: &str, run: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display());
        run(&fs::read(file).unwrap());
    }
    let mut rng = Rng::new();
    for _ in 0..env::var("RUNS").map_or(200, |runs| runs.parse().unwrap()) {
        let mut once = rng.fork();
        println!("{once:?}");
        let bytes: Vec<u8> = (0..once.below(300)).map(|_| once.below(256) as u8).collect();
        run(&bytes);
    }
}
