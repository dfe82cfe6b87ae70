//! libzmq by hand, in calls that block: what everything else is compared with.
//!
//! One message is received into again and again. Where several things are waited for there is `zmq_poll`.

use zmq::{DONTWAIT, Error, Message, POLLIN, POLLOUT, SNDMORE, Socket};

use crate::clock::{Clock, Measured};
use crate::contestant::{Job, Program};
use crate::course::{self, Counter};

pub struct Blocking;

impl Program for Blocking {
    fn receive(&self, job: &'static Job) -> Option<Measured> {
        let pull = connect(job, zmq::PULL, job.endpoint());
        let mut frame = Message::new();
        Some(course::stream_now(job, || receive(&pull, &mut frame)))
    }

    fn receive_into(&self, job: &'static Job) -> Option<Measured> {
        self.receive(job)
    }

    fn send(&self, job: &'static Job) -> Option<Measured> {
        let push = connect(job, zmq::PUSH, job.endpoint());
        let frames = job.frames();
        let (last, first) = frames.split_last().expect("a frame");
        Some(course::delivery_now(job, |count| {
            for _ in 0..count {
                for frame in first {
                    push.send(&frame[..], SNDMORE).expect("sent");
                }
                push.send(&last[..], 0).expect("sent");
            }
        }))
    }

    fn request(&self, job: &'static Job) -> Option<Measured> {
        Some(round_trips(job, zmq::REQ))
    }

    fn round_trip(&self, job: &'static Job) -> Option<Measured> {
        Some(round_trips(job, zmq::DEALER))
    }

    fn beside_idle(&self, job: &'static Job) -> Option<Measured> {
        let dealer = connect(job, zmq::DEALER, job.endpoint());
        let idle: Vec<_> = job.idle().map(|endpoint| connect(job, zmq::PULL, endpoint)).collect();
        let mut items: Vec<_> =
            std::iter::once(&dealer).chain(&idle).map(|socket| socket.as_poll_item(POLLIN)).collect();
        let body = job.frame();
        let mut frame = Message::new();
        Some(course::trips_now(job, || {
            dealer.send(&body[..], 0).expect("sent");
            zmq::poll(&mut items, -1).expect("an event");
            assert!(items[0].is_readable());
            dealer.recv(&mut frame, DONTWAIT).expect("a reply");
        }))
    }

    fn duplex(&self, job: &'static Job) -> Option<Measured> {
        let dealer = connect(job, zmq::DEALER, job.endpoint());
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
                let events = if sent < total { POLLIN | POLLOUT } else { POLLIN };
                dealer.poll(events, -1).expect("an event");
            }
        }
    }

    fn fan_in(&self, job: &'static Job) -> Option<Measured> {
        let sockets: Vec<_> = job.spread().map(|endpoint| connect(job, zmq::PULL, endpoint)).collect();
        let mut items: Vec<_> = sockets.iter().map(|socket| socket.as_poll_item(POLLIN)).collect();
        let counter = Counter::new(job);
        job.peers.go();
        let mut frame = Message::new();
        loop {
            zmq::poll(&mut items, -1).expect("an event");
            for (item, socket) in items.iter().zip(&sockets) {
                if item.is_readable() {
                    while tried(socket.recv(&mut frame, DONTWAIT)) {
                        counter.one();
                    }
                }
            }
        }
    }

    fn timer(&self, _: &'static Job) -> Option<Measured> {
        // A thread that blocks has no timer.
        None
    }
}

pub fn connect(job: &Job, kind: zmq::SocketType, endpoint: &str) -> Socket {
    let socket = job.context.socket(kind).expect("a socket");
    socket.connect(endpoint).expect("an endpoint");
    socket
}

/// Whether a call that does not wait did something.
pub fn tried(result: zmq::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(Error::EAGAIN) => false,
        Err(error) => panic!("{error}"),
    }
}

fn receive(socket: &Socket, frame: &mut Message) {
    socket.recv(frame, 0).expect("a message");
    while frame.get_more() {
        socket.recv(frame, 0).expect("a frame");
    }
}

fn round_trips(job: &Job, kind: zmq::SocketType) -> Measured {
    let socket = connect(job, kind, job.endpoint());
    let body = job.frame();
    let mut frame = Message::new();
    course::trips_now(job, || {
        socket.send(&body[..], 0).expect("sent");
        socket.recv(&mut frame, 0).expect("a reply");
    })
}
