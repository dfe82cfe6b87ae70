//! The child process: one contestant, one workload, one line of JSON.

use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::One;
use crate::clock::Measured;

pub fn run(one: &One) -> ! {
    end_with_parent().expect("the kernel knows it");
    // Before there is any other thread: all of them inherit it.
    if one.workload.pinned {
        pin();
    }
    allow_descriptors();
    finish(one.contestant.run(&one.workload, one.messages).as_ref());
}

/// How a child ended.
pub enum Ended {
    /// By itself, and printed this.
    Done(ExitStatus, String),
    /// It had to be killed.
    Stalled,
}

/// Runs a child for so long at most. What it prints has to fit into a pipe.
pub fn output(child: &mut Command, patience: Duration) -> Ended {
    let mut child = child.stdout(Stdio::piped()).spawn().expect("this program again");
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("a child");
            child.wait().expect("a child");
            return Ended::Stalled;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut output = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
    Ended::Done(status, output)
}

/// Prints what was measured, and ends the process.
pub fn finish(measured: Option<&Measured>) -> ! {
    println!("{}", serde_json::to_string(&measured).expect("plain data"));
    std::io::stdout().flush().expect("somebody reads");
    // The peers are in the middle of something, and never end.
    // SAFETY: there is nothing to come that it could take by surprise.
    unsafe { libc::_exit(0) }
}

/// A child that stands still would stay for ever if its parent were interrupted.
pub fn end_with_parent() -> io::Result<()> {
    // SAFETY: it takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// To the first core that there is.
fn pin() {
    // SAFETY: a set of bits, of which zero is a valid one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is there for the calls, and its size is told.
    unsafe {
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0, "the kernel says where we may run");
        let first = (0..libc::CPU_SETSIZE as usize).find(|core| libc::CPU_ISSET(*core, &set)).expect("a core");
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(first, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0, "one of those where we run");
    }
}

/// As many as may be: libzmq takes two for each socket.
fn allow_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is there for the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0, "every process has one");
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0, "what is allowed is allowed");
    }
}
