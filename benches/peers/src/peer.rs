//! The raw blocking peers, the same for every contestant: a thread each, one libzmq call after the other.
//!
//! They bind and the contestants connect. Over inproc they share the contestant's context, as they must; over tcp and ipc
//! they have one of their own, as another process would. They never end: the process does.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use crate::workload::{Frames, Pattern, SMALL, Shape, Transport, Workload};

/// Where the peers are, and what the one that counts has to tell.
pub struct Peers {
    pub endpoints: Vec<String>,
    pub counted: Receiver<Instant>,
    /// Those that wait for [`Peers::go`].
    waiting: Vec<Sender<()>>,
    /// Keeps the endpoint that idle sockets connect to.
    _idle: Option<zmq::Socket>,
}

impl Peers {
    /// Starts those that a workload needs. `marks`: after how many messages [`Peers::counted`] is told.
    pub fn start(workload: &Workload, contestant: &zmq::Context, marks: [u32; 2]) -> Self {
        let context = match workload.transport {
            Transport::Inproc => contestant.clone(),
            Transport::Ipc | Transport::Tcp => zmq::Context::new(),
        };
        let open = |kind, name: &str| {
            let socket = context.socket(kind).expect("a socket");
            let endpoint = bind(&socket, workload.transport, name);
            (socket, endpoint)
        };
        let (tell, counted) = mpsc::channel();
        let mut idle = None;
        let mut waiting = Vec::new();
        let endpoints = match workload.shape {
            Shape::Receive { frames, .. } => {
                let (socket, endpoint) = open(zmq::PUSH, "peer");
                thread::spawn(move || flood(&socket, frames));
                vec![endpoint]
            }
            Shape::Timer => {
                let (socket, endpoint) = open(zmq::PUSH, "peer");
                thread::spawn(move || flood(&socket, SMALL));
                vec![endpoint]
            }
            Shape::Send { .. } => {
                let (socket, endpoint) = open(zmq::PULL, "peer");
                thread::spawn(move || count(&socket, marks, &tell));
                vec![endpoint]
            }
            Shape::RoundTrip { pattern: Pattern::ReqRep } => {
                let (socket, endpoint) = open(zmq::REP, "peer");
                thread::spawn(move || echo(&socket));
                vec![endpoint]
            }
            Shape::RoundTrip { pattern: Pattern::DealerRouter } => {
                let (socket, endpoint) = open(zmq::ROUTER, "peer");
                thread::spawn(move || echo(&socket));
                vec![endpoint]
            }
            Shape::BesideIdle { .. } => {
                let (socket, endpoint) = open(zmq::ROUTER, "peer");
                let (silent, silence) = open(zmq::PUSH, "silence");
                idle = Some(silent);
                thread::spawn(move || echo(&socket));
                vec![endpoint, silence]
            }
            Shape::Duplex => {
                let (socket, endpoint) = open(zmq::DEALER, "peer");
                thread::spawn(move || echo(&socket));
                vec![endpoint]
            }
            Shape::FanIn { .. } => ["one", "other"]
                .map(|name| {
                    let (socket, endpoint) = open(zmq::PUSH, name);
                    let (go, start) = mpsc::channel();
                    waiting.push(go);
                    thread::spawn(move || {
                        start.recv().expect("it is told to go");
                        flood(&socket, SMALL);
                    });
                    endpoint
                })
                .to_vec(),
        };
        Self { endpoints, counted, waiting, _idle: idle }
    }

    /// The contestant has connected all of its many sockets: the flood may come. Before that it would fill the queues.
    pub fn go(&self) {
        for waiting in &self.waiting {
            waiting.send(()).expect("it waits");
        }
    }
}

fn bind(socket: &zmq::Socket, transport: Transport, name: &str) -> String {
    let endpoint = match transport {
        Transport::Inproc => format!("inproc://{name}"),
        // The directory is the parent's, to be removed by it.
        Transport::Ipc => format!("ipc://{}/{name}", std::env::current_dir().expect("a directory").display()),
        Transport::Tcp => "tcp://127.0.0.1:*".to_owned(),
    };
    socket.bind(&endpoint).expect("an endpoint");
    socket.get_last_endpoint().expect("bound").expect("text")
}

fn flood(socket: &zmq::Socket, frames: Frames) {
    let frames: Vec<_> = frames.iter().map(|size| vec![0_u8; *size]).collect();
    let (last, first) = frames.split_last().expect("a frame");
    loop {
        for frame in first {
            socket.send(&frame[..], zmq::SNDMORE).expect("sent");
        }
        socket.send(&last[..], 0).expect("sent");
    }
}

fn count(socket: &zmq::Socket, marks: [u32; 2], tell: &Sender<Instant>) {
    let mut frame = zmq::Message::new();
    for mark in marks {
        for _ in 0..mark {
            socket.recv(&mut frame, 0).expect("a message");
            while frame.get_more() {
                socket.recv(&mut frame, 0).expect("a frame");
            }
        }
        tell.send(Instant::now()).expect("somebody waits");
    }
    // A thread that ended cannot be asked for its CPU time.
    loop {
        thread::park();
    }
}

fn echo(socket: &zmq::Socket) {
    let mut frame = zmq::Message::new();
    loop {
        socket.recv(&mut frame, 0).expect("a message");
        let flags = if frame.get_more() { zmq::SNDMORE } else { 0 };
        socket.send(std::mem::replace(&mut frame, zmq::Message::new()), flags).expect("sent");
    }
}
