//! The courses that contestants run: warm up, start the clock, do it so often, stop the clock.
//!
//! Each is there twice, for those who await and for those who call.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::child::finish;
use crate::clock::{Clock, Durations, Measured};
use crate::contestant::Job;

/// One message after the other.
pub async fn stream(job: &Job, mut one: impl AsyncFnMut()) -> Measured {
    for _ in 0..job.warm_up {
        one().await;
    }
    let clock = Clock::start();
    for _ in 0..job.messages {
        one().await;
    }
    clock.stop(job.messages)
}

pub fn stream_now(job: &Job, mut one: impl FnMut()) -> Measured {
    for _ in 0..job.warm_up {
        one();
    }
    let clock = Clock::start();
    for _ in 0..job.messages {
        one();
    }
    clock.stop(job.messages)
}

/// One message after the other, each with the time that it took.
pub async fn trips(job: &Job, mut one: impl AsyncFnMut()) -> Measured {
    for _ in 0..job.warm_up {
        one().await;
    }
    let mut trips = Durations::with_capacity(job.messages);
    let clock = Clock::start();
    for _ in 0..job.messages {
        let begin = Instant::now();
        one().await;
        trips.push(begin.elapsed());
    }
    Measured { percentiles: trips.percentiles(), ..clock.stop(job.messages) }
}

pub fn trips_now(job: &Job, mut one: impl FnMut()) -> Measured {
    for _ in 0..job.warm_up {
        one();
    }
    let mut trips = Durations::with_capacity(job.messages);
    let clock = Clock::start();
    for _ in 0..job.messages {
        let begin = Instant::now();
        one();
        trips.push(begin.elapsed());
    }
    Measured { percentiles: trips.percentiles(), ..clock.stop(job.messages) }
}

/// So many messages, until the raw peer has them all. `send` sends as many as it is told, and returns when it has nothing
/// more to do for them; the wait for the peer blocks.
pub async fn delivery(job: &Job, mut send: impl AsyncFnMut(u32)) -> Measured {
    send(job.warm_up).await;
    job.counted();
    let clock = Clock::start();
    send(job.messages).await;
    clock.stop_at(job.counted(), job.messages)
}

pub fn delivery_now(job: &Job, mut send: impl FnMut(u32)) -> Measured {
    send(job.warm_up);
    job.counted();
    let clock = Clock::start();
    send(job.messages);
    clock.stop_at(job.counted(), job.messages)
}

/// Counts what many sockets receive together.
pub struct Counter {
    job: &'static Job,
    received: Cell<u32>,
    clock: RefCell<Option<Clock>>,
}

impl Counter {
    pub fn new(job: &'static Job) -> Self {
        Self { job, received: Cell::new(0), clock: RefCell::default() }
    }

    /// One more. The last one ends the process there and then: where a task never yields as long as there is a message, no
    /// other would come to hear of it.
    #[inline]
    pub fn one(&self) {
        let received = self.received.get() + 1;
        self.received.set(received);
        if received == self.job.warm_up {
            *self.clock.borrow_mut() = Some(Clock::start());
        } else if received == self.job.warm_up + self.job.messages {
            let clock = self.clock.borrow_mut().take().expect("it was started");
            finish(Some(&clock.stop(self.job.messages)));
        }
    }
}

/// How late a timer was, as often as it is wanted or for as long as there is patience.
pub struct Beat {
    late: Durations,
    wanted: u32,
    /// When the flood was there.
    begin: Option<Instant>,
}

impl Beat {
    pub const PERIOD: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(2);

    pub fn new(job: &Job) -> Self {
        Self { late: Durations::with_capacity(job.messages), wanted: job.messages, begin: None }
    }

    pub fn has_begun(&self) -> bool {
        self.begin.is_some()
    }

    /// What was before does not count.
    pub fn begin(&mut self) {
        self.begin = Some(Instant::now());
    }

    pub fn push(&mut self, late: Duration) {
        if self.begin.is_some() && self.late.len() < self.wanted {
            self.late.push(late);
        }
    }

    pub fn is_over(&self) -> bool {
        self.late.len() >= self.wanted || self.elapsed() > Self::PATIENCE
    }

    /// To be asked when it is over.
    pub fn measured(&mut self) -> Measured {
        let elapsed = self.elapsed();
        if self.late.len() == 0 {
            // It never came: it is that late at least.
            self.late.push(elapsed);
        }
        let late = std::mem::replace(&mut self.late, Durations::with_capacity(0));
        Measured {
            messages: late.len().into(),
            seconds: elapsed.as_secs_f64(),
            percentiles: late.percentiles(),
            ..Measured::default()
        }
    }

    fn elapsed(&self) -> Duration {
        self.begin.expect("it was begun").elapsed()
    }
}
