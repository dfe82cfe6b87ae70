//! libzmq by hand, in calls that do not block, with its descriptors in an epoll set: what a program with an event loop of
//! its own does.
//!
//! A descriptor only says that libzmq has internal commands. A receive that finds nothing has processed them, and a send
//! that finds no room has perhaps not: that one reads `ZMQ_EVENTS` and tries again before it waits.

use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use zmq::{DONTWAIT, Message, POLLIN, POLLOUT, SNDMORE, Socket};

use super::blocking::{connect, tried};
use crate::clock::{Clock, Measured};
use crate::contestant::{Job, Program};
use crate::course::{self, Beat, Counter};

pub struct Epoll;

impl Program for Epoll {
    fn receive(&self, job: &'static Job) -> Option<Measured> {
        let pull = connect(job, zmq::PULL, job.endpoint());
        let mut set = Set::of([&pull]);
        let mut frame = Message::new();
        Some(course::stream_now(job, || {
            while !try_receive(&pull, &mut frame) {
                set.wait(-1);
            }
        }))
    }

    fn receive_into(&self, job: &'static Job) -> Option<Measured> {
        self.receive(job)
    }

    fn send(&self, job: &'static Job) -> Option<Measured> {
        let push = connect(job, zmq::PUSH, job.endpoint());
        let mut set = Set::of([&push]);
        let frames = job.frames();
        let (last, first) = frames.split_last().expect("a frame");
        Some(course::delivery_now(job, |count| {
            for _ in 0..count {
                match first {
                    [] => send(&push, last, 0, &mut set),
                    [head, middle @ ..] => {
                        send(&push, head, SNDMORE, &mut set);
                        for frame in middle {
                            push.send(&frame[..], DONTWAIT | SNDMORE).expect("what has begun fits");
                        }
                        push.send(&last[..], DONTWAIT).expect("what has begun fits");
                    }
                }
            }
        }))
    }

    fn request(&self, job: &'static Job) -> Option<Measured> {
        Some(round_trips(job, zmq::REQ, &[]))
    }

    fn round_trip(&self, job: &'static Job) -> Option<Measured> {
        Some(round_trips(job, zmq::DEALER, &[]))
    }

    fn beside_idle(&self, job: &'static Job) -> Option<Measured> {
        let idle: Vec<_> = job.idle().map(|endpoint| connect(job, zmq::PULL, endpoint)).collect();
        Some(round_trips(job, zmq::DEALER, &idle))
    }

    fn duplex(&self, job: &'static Job) -> Option<Measured> {
        let dealer = connect(job, zmq::DEALER, job.endpoint());
        let mut set = Set::of([&dealer]);
        let body = job.frame();
        let total = job.warm_up + job.messages;
        let (mut sent, mut received) = (0, 0);
        let mut clock = None;
        let mut frame = Message::new();
        loop {
            let before = (sent, received);
            while tried(dealer.recv(&mut frame, DONTWAIT)) {
                received += 1;
                if received == job.warm_up {
                    clock = Some(Clock::start());
                }
            }
            if received == total {
                return clock.map(|clock| clock.stop(job.messages));
            }
            while sent < total && tried(dealer.send(&body[..], DONTWAIT)) {
                sent += 1;
            }
            if before == (sent, received) {
                let wanted = if sent < total { POLLIN | POLLOUT } else { POLLIN };
                if !dealer.get_events().expect("events").intersects(wanted) {
                    set.wait(-1);
                }
            }
        }
    }

    fn fan_in(&self, job: &'static Job) -> Option<Measured> {
        let sockets: Vec<_> = job.spread().map(|endpoint| connect(job, zmq::PULL, endpoint)).collect();
        let mut set = Set::of(&sockets);
        let counter = Counter::new(job);
        job.peers.go();
        let mut frame = Message::new();
        let mut drain = |socket: &Socket| {
            while tried(socket.recv(&mut frame, DONTWAIT)) {
                counter.one();
            }
        };
        // A new connection does not announce its first message.
        sockets.iter().for_each(&mut drain);
        loop {
            set.wait(-1);
            for index in set.ready() {
                drain(&sockets[index]);
            }
        }
    }

    fn timer(&self, job: &'static Job) -> Option<Measured> {
        const BUDGET: u32 = 512;
        const TIMER: usize = 1;
        let pull = connect(job, zmq::PULL, job.endpoint());
        let mut set = Set::of([&pull]);
        let timer = timer();
        set.add(timer, TIMER);
        let mut beat = Beat::new(job);
        let mut frame = Message::new();
        let mut due = arm(timer);
        let mut warm = 0;
        loop {
            let received = (0..BUDGET).take_while(|_| try_receive(&pull, &mut frame)).count();
            warm += received;
            if warm >= job.warm_up as usize && !beat.has_begun() {
                beat.begin();
            }
            let timeout = if received == BUDGET as usize { 0 } else { -1 };
            set.wait(timeout);
            if set.ready().any(|index| index == TIMER) {
                beat.push(due.elapsed());
                due = arm(timer);
            }
            if beat.has_begun() && beat.is_over() {
                return Some(beat.measured());
            }
        }
    }
}

fn try_receive(socket: &Socket, frame: &mut Message) -> bool {
    if !tried(socket.recv(frame, DONTWAIT)) {
        return false;
    }
    while frame.get_more() {
        socket.recv(frame, DONTWAIT).expect("messages come whole");
    }
    true
}

fn send(socket: &Socket, frame: &[u8], flags: i32, set: &mut Set) {
    while !tried(socket.send(frame, DONTWAIT | flags)) {
        if !socket.get_events().expect("events").contains(POLLOUT) {
            set.wait(-1);
        }
    }
}

fn round_trips(job: &Job, kind: zmq::SocketType, idle: &[Socket]) -> Measured {
    let socket = connect(job, kind, job.endpoint());
    let mut set = Set::of(std::iter::once(&socket).chain(idle));
    let body = job.frame();
    let mut frame = Message::new();
    course::trips_now(job, || {
        send(&socket, &body, 0, &mut set);
        while !tried(socket.recv(&mut frame, DONTWAIT)) {
            set.wait(-1);
            for index in set.ready().filter(|index| *index > 0) {
                // News of its connection. Reading this silences it.
                idle[index - 1].get_events().expect("events");
            }
        }
    })
}

/// An epoll set, level-triggered. What is in it is known by a number.
struct Set {
    epoll: RawFd,
    events: Vec<libc::epoll_event>,
    /// How many of these happened.
    ready: usize,
}

impl Set {
    /// The sockets, by their place.
    fn of<'a>(sockets: impl IntoIterator<Item = &'a Socket>) -> Self {
        // SAFETY: it takes no pointers.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0, "{}", io::Error::last_os_error());
        let mut set = Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024], ready: 0 };
        for (index, socket) in sockets.into_iter().enumerate() {
            set.add(socket.get_fd().expect("a descriptor"), index);
        }
        set
    }

    fn add(&mut self, fd: RawFd, index: usize) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
        // SAFETY: the event is there for the call.
        let result = unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn wait(&mut self, timeout: i32) {
        let room = i32::try_from(self.events.len()).expect("it is small");
        // SAFETY: there is room for that many.
        let count = unsafe { libc::epoll_wait(self.epoll, self.events.as_mut_ptr(), room, timeout) };
        self.ready = usize::try_from(count).expect("no signals");
    }

    /// What the last wait found.
    fn ready(&self) -> impl Iterator<Item = usize> {
        self.events[..self.ready].iter().map(|event| event.u64 as usize)
    }
}

fn timer() -> RawFd {
    // SAFETY: it takes no pointers.
    let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK) };
    assert!(timer >= 0, "{}", io::Error::last_os_error());
    timer
}

/// Sets the timer to go off once, which silences it until then. Returns when.
fn arm(timer: RawFd) -> Instant {
    let nanoseconds = Beat::PERIOD.as_nanos().try_into().expect("a millisecond");
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let value = libc::itimerspec { it_interval: zero, it_value: libc::timespec { tv_sec: 0, tv_nsec: nanoseconds } };
    // SAFETY: the value is there for the call; the old one is not asked for.
    let result = unsafe { libc::timerfd_settime(timer, 0, &raw const value, std::ptr::null_mut()) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    Instant::now() + Beat::PERIOD
}
