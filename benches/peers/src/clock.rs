//! What a run costs: time, CPU, allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What one run of one contestant gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    pub messages: u64,
    pub seconds: f64,
    /// Of the thread that runs the contestant; `None` where it is not ours to count.
    pub allocations: Option<u64>,
    /// CPU seconds of that thread.
    pub cpu_loop: f64,
    /// CPU seconds of the process but for the raw peer and its context's threads.
    pub cpu_all: f64,
    /// Of round trips or of a timer's delays, in nanoseconds.
    pub percentiles: Option<Percentiles>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    pub median: f64,
    pub p99: f64,
}

/// Runs from the end of the warm-up to the last message. To be started and stopped by the contestant's thread.
pub struct Clock {
    allocations: u64,
    cpu_loop: f64,
    cpu_all: f64,
    begin: Instant,
}

impl Clock {
    pub fn start() -> Self {
        let (cpu_loop, cpu_all) = (cpu(libc::CLOCK_THREAD_CPUTIME_ID), cpu_all());
        Self { allocations: ALLOCATIONS.get(), cpu_loop, cpu_all, begin: Instant::now() }
    }

    pub fn stop(self, messages: impl Into<u64>) -> Measured {
        self.stop_at(Instant::now(), messages)
    }

    /// The last message was there at `end`.
    pub fn stop_at(self, end: Instant, messages: impl Into<u64>) -> Measured {
        Measured {
            messages: messages.into(),
            seconds: (end - self.begin).as_secs_f64(),
            allocations: Some(ALLOCATIONS.get() - self.allocations),
            cpu_loop: cpu(libc::CLOCK_THREAD_CPUTIME_ID) - self.cpu_loop,
            cpu_all: cpu_all() - self.cpu_all,
            percentiles: None,
        }
    }
}

/// Durations, in room that was made before the clock started.
pub struct Durations(Vec<u64>);

impl Durations {
    pub fn with_capacity(capacity: u32) -> Self {
        Self(Vec::with_capacity(capacity as usize))
    }

    pub fn push(&mut self, duration: Duration) {
        self.0.push(u64::try_from(duration.as_nanos()).expect("no ages"));
    }

    pub fn len(&self) -> u32 {
        u32::try_from(self.0.len()).expect("it was made for that many")
    }

    pub fn percentiles(mut self) -> Option<Percentiles> {
        self.0.sort_unstable();
        let at = |percent: usize| Some(*self.0.get(self.0.len() * percent / 100)? as f64);
        Some(Percentiles { median: at(50)?, p99: at(99)? })
    }
}

/// The threads of the raw peer, which are not the contestant's. To be called when the peer stands and the contestant does
/// not yet: whatever threads there are by then are the peer's.
pub fn note_peers() {
    let own = std::process::id();
    let threads = fs::read_dir("/proc/self/task").expect("Linux");
    let peers = threads
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|thread| *thread != own)
        .collect();
    PEERS.set(peers).expect("noted once");
}

static PEERS: OnceLock<Vec<u32>> = OnceLock::new();

fn cpu_all() -> f64 {
    let peers = PEERS.get().map_or(&[][..], Vec::as_slice);
    cpu(libc::CLOCK_PROCESS_CPUTIME_ID) - peers.iter().map(|thread| cpu_of(*thread)).sum::<f64>()
}

/// What a thread of this process has used.
fn cpu_of(thread: u32) -> f64 {
    // The kernel's encoding of a thread's clock, as pthread_getcpuclockid makes it (CPUCLOCK_PERTHREAD, CPUCLOCK_SCHED).
    cpu((!thread << 3 | 6).cast_signed())
}

fn cpu(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is there for the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "the threads asked for live as long as the process");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Counts the allocations of each thread. libzmq's own, in C++, do not come here.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // While a thread ends there is nothing to count in.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
