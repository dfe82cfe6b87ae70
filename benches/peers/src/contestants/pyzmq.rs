//! pyzmq's asyncio sockets, in a process of their own; the raw peer stays in this one.

use std::env;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use crate::child::end_with_parent;
use crate::clock::Measured;
use crate::contestant::{Job, Program};
use crate::workload::Transport;

pub struct Pyzmq;

impl Program for Pyzmq {
    fn receive(&self, job: &'static Job) -> Option<Measured> {
        run("receive", job)
    }

    fn receive_into(&self, _: &'static Job) -> Option<Measured> {
        None
    }

    fn send(&self, job: &'static Job) -> Option<Measured> {
        run("send", job)
    }

    fn request(&self, job: &'static Job) -> Option<Measured> {
        run("request", job)
    }

    fn round_trip(&self, job: &'static Job) -> Option<Measured> {
        run("round_trip", job)
    }

    fn beside_idle(&self, _: &'static Job) -> Option<Measured> {
        None
    }

    fn duplex(&self, job: &'static Job) -> Option<Measured> {
        run("duplex", job)
    }

    fn fan_in(&self, _: &'static Job) -> Option<Measured> {
        None
    }

    fn timer(&self, job: &'static Job) -> Option<Measured> {
        run("timer", job)
    }
}

/// A python that has pyzmq.
pub fn python() -> Option<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    let candidates = [env::var("PYTHON").ok(), own.to_str().map(str::to_owned), Some("python3".to_owned())];
    candidates.into_iter().flatten().find(|python| version(python).is_some())
}

/// Which pyzmq it has, and which libzmq that one brings.
pub fn version(python: &str) -> Option<String> {
    let script = "import zmq, zmq.asyncio; print(zmq.__version__, 'with libzmq', zmq.zmq_version())";
    let output = Command::new(python).args(["-c", script]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn run(course: &str, job: &Job) -> Option<Measured> {
    if job.workload.transport == Transport::Inproc {
        return None;
    }
    let arguments = json!({
        "course": course,
        "endpoint": job.endpoint(),
        "warm_up": job.warm_up,
        "messages": job.messages,
        "frames": job.sizes(),
    });
    // The parent has looked it up.
    let mut command = Command::new(env::var("PYTHON").ok()?);
    command.args(["-c", include_str!("pyzmq.py"), &arguments.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: between fork and exec it makes one system call and allocates nothing.
    unsafe { command.pre_exec(end_with_parent) };
    let mut python = command.spawn().expect("it was there");
    let mut seconds = None;
    if course == "send" {
        job.counted();
        let begin = Instant::now();
        python.stdin.take().expect("piped").write_all(b"go\n").expect("it reads");
        seconds = Some((job.counted() - begin).as_secs_f64());
    }
    let mut output = String::new();
    python.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
    python.wait().expect("a child");
    let measured: Measured = serde_json::from_str(&output).expect("what was measured");
    Some(Measured { seconds: seconds.unwrap_or(measured.seconds), ..measured })
}
