//! A thread in the child that notices when nothing goes on any more, and the hook that notices panics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{panic, thread};

use super::finding::Finding;

/// Messages that arrived, or whatever else shows that the case goes on.
static PROGRESS: AtomicU64 = AtomicU64::new(0);

/// How long there may be no progress. All cases have some many times in a second.
const PATIENCE: Duration = Duration::from_secs(4);

pub fn progress() {
    PROGRESS.fetch_add(1, Ordering::Relaxed);
}

pub fn start() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("something that is no text").lines().next().unwrap_or_default();
        Finding::wrong(&format!("panics: {message}")).tell()
    }));
    thread::spawn(|| {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            thread::sleep(Duration::from_millis(50));
            let now = PROGRESS.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                Finding::wrong_with("stalls after {} messages", seen).tell();
            }
        }
    });
}
