//! The example `graceful_shutdown` as a process that gets real signals.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::{alone, wait};

#[test]
fn a_loop_with_live_sockets_stops_in_good_order_on_sigint() {
    stops_on("SIGINT", Some(libc::SIGINT));
}

#[test]
fn a_loop_with_live_sockets_stops_in_good_order_on_sigterm() {
    stops_on("SIGTERM", Some(libc::SIGTERM));
}

#[test]
fn the_example_stops_itself() {
    stops_on("SIGTERM", None);
}

fn stops_on(name: &str, signal: Option<libc::c_int>) {
    let _alone = alone();
    let mut example = Command::new(example())
        .args(signal.map(|_| "wait"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(example.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    assert!(first.contains("is running"), "{first}");
    if let Some(signal) = signal {
        let pid = libc::pid_t::try_from(example.id()).unwrap();
        // SAFETY: touches no memory; the process was not waited for yet, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
    let ended = wait(&mut example);
    if ended.is_err() {
        example.kill().unwrap();
    }
    let said: Vec<_> = lines.collect();
    println!("{}", said.join("\n"));
    let status = ended.expect("it ends by itself");
    assert_eq!(status.code(), Some(0), "{status}");
    for line in [&*format!("{name}: stopping"), "the sensor has ended", "the server has ended"] {
        assert_eq!(said.iter().filter(|said| *said == line).count(), 1, "{line:?} in {said:?}");
    }
    assert!(said.last().unwrap().ends_with("values sent, and all of them delivered"), "{said:?}");
}

/// Where cargo puts the examples of the profile that this test was built with. `cargo test` has built them; with a
/// `--test` of its own it has not.
fn example() -> PathBuf {
    let this = env::current_exe().unwrap();
    let profile = this.parent().and_then(|deps| deps.parent()).unwrap();
    let example = profile.join("examples/graceful_shutdown");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/graceful_shutdown.rs");
    let changed = |path: &std::path::Path| fs::metadata(path).and_then(|file| file.modified());
    if changed(&example).is_ok_and(|built| built >= changed(source.as_ref()).unwrap()) {
        return example;
    }
    let release = profile.ends_with("release").then_some("--release");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "graceful_shutdown"])
        .args(release)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.unwrap().success());
    assert!(example.exists(), "{} was not built: run `cargo build --examples`", example.display());
    example
}
