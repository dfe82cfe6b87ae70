//! Faults injected into a running loop: peers killed, slow and hostile, signals, and a process that runs out of
//! descriptors. Each test is named after a row of that list; other rows have files of their own (atomic.rs, router.rs,
//! endings.rs, backpressure.rs, timers.rs, errors.rs).
//!
//! `ROUNDS` in the environment sets how often the faults of killed.rs and reconnects.rs are injected. Some tests start
//! this very binary again, to have another process: [`role`] tells it what it is to do there.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod descriptors;
mod hostile;
mod interrupts;
mod killed;
mod many;
mod reconnects;
mod security;
mod shutdown;
mod sizes;
mod slow;
mod storm;

#[path = "../common/mod.rs"]
mod common;
#[path = "../support/mod.rs"]
mod support;
#[path = "../zmtp/mod.rs"]
mod zmtp;

use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use calloop::EventLoop;
use calloop_zmq::AsyncZmqContext;

/// These tests count what the process has: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}

/// How many descriptors the process has open.
fn descriptors() -> usize {
    // One of them is the directory's own.
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Resident memory of the process, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Waits until the process has no more descriptors than that. libzmq closes them on its own threads.
async fn down_to(context: &AsyncZmqContext, baseline: usize) {
    let begin = Instant::now();
    while descriptors() > baseline {
        assert!(begin.elapsed() < STALL, "{} descriptors of {baseline} at first", descriptors());
        context.sleep(Duration::from_millis(1)).await;
    }
}

fn rounds(default: u64) -> u64 {
    env::var("ROUNDS").map_or(default, |rounds| rounds.parse().unwrap())
}

/// What this process is to do, if a test started it as its [`Child`].
fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Another process that runs the same test, with a role. Killed when dropped.
struct Child(process::Child);

impl Child {
    fn start(test: &str, role: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--include-ignored", "--nocapture"]).env(ROLE, role);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Kills it. It must have been alive.
    fn kill(mut self) {
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it ended before it was killed: {status}");
    }

    /// Waits until it has ended well.
    fn join(self) {
        let status = self.ended();
        assert!(status.success(), "{status}");
    }

    /// Waits until it has ended.
    fn ended(mut self) -> process::ExitStatus {
        wait(&mut self.0).expect("it ends in time")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a process, but not for ever.
fn wait(child: &mut process::Child) -> io::Result<process::ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < support::DEADLINE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        // Nothing announces the end of a process to who also waits for a deadline.
        thread::park_timeout(Duration::from_millis(1));
    }
    Err(io::ErrorKind::TimedOut.into())
}

const ROLE: &str = "CALLOOP_ZMQ_ROLE";
const TCP: &str = "tcp://127.0.0.1:*";
/// So long without progress is a stall.
const STALL: Duration = Duration::from_secs(10);
/// The same for the zmq crate's timeouts.
const STALL_MS: i32 = 10_000;
