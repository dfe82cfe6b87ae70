//! System calls for each message, counted by strace in the thread that runs the contestant.
//!
//! That is the main thread, and strace without `-f` follows no other. What comes once, at the start, is known from a run of
//! a single message. strace slows every call down, and so changes how much is there at each wake-up: these are counts of
//! the right size, not exact ones.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::arguments::{Arguments, One};
use crate::contestant::Contestant;
use crate::results::Calls;
use crate::rounds::Scratch;

pub fn count(arguments: &Arguments) -> Vec<Calls> {
    let mut counted = Vec::new();
    if !is_there() {
        eprintln!("system calls: skipped, strace does not work here");
        return counted;
    }
    for workload in arguments.workloads() {
        let Some(messages) = workload.calls_counted() else { continue };
        eprintln!("system calls: {workload}");
        let messages = arguments.scale(messages);
        for contestant in &arguments.contestants {
            // That one has its loop in another process.
            if *contestant == Contestant::Pyzmq {
                continue;
            }
            let run = |messages| traced(&One { contestant: *contestant, workload: workload.clone(), messages });
            let Some(start) = run(1) else { continue };
            let Some(whole) = run(messages + 1) else { continue };
            let each = |name: &String, calls: f64| (calls - start.get(name).unwrap_or(&0.0)) / f64::from(messages);
            let calls = whole.iter().map(|(name, calls)| (name.clone(), each(name, *calls).max(0.0)));
            counted.push(Calls {
                workload: workload.to_string(),
                contestant: contestant.name(),
                calls: calls.collect(),
                by: *contestant,
            });
        }
    }
    counted
}

fn is_there() -> bool {
    let strace = Command::new("strace").args(["-c", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    strace.is_ok_and(|status| status.success())
}

fn traced(one: &One) -> Option<BTreeMap<String, f64>> {
    let scratch = Scratch::new();
    let counts = scratch.path().join("counts");
    let output = Command::new("timeout")
        .args(["30", "strace", "-c", "-o"])
        .arg(&counts)
        .arg(env::current_exe().expect("this program"))
        .args(one.arguments())
        .current_dir(scratch.path())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if !output.status.success() {
        eprintln!("   {} stalled", one.contestant);
        return None;
    }
    if output.stdout.starts_with(b"null") {
        return None;
    }
    // % time, seconds, usecs/call, calls, perhaps errors, syscall
    let table = fs::read_to_string(counts).ok()?;
    let call = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let calls = fields.get(3)?.parse().ok()?;
        fields.last().filter(|name| **name != "total").map(|name| ((*name).to_owned(), calls))
    };
    Some(table.lines().filter_map(call).collect())
}
