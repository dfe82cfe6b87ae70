//! One message, handed to libzmq whole or not at all.
//!
//! The high-water mark counts messages, not frames: libzmq refuses the first frame of a message or none. An EAGAIN
//! further on has another meaning: the connection that the message was going to died. What had been handed over is
//! rolled back, and then it depends on the kind of socket what libzmq thinks comes next. So each frame but the last is
//! handed over as a second reference, the message stays here whole, libzmq is brought back to a message boundary, and
//! the message starts again from its first frame, to whoever is left.
//!
//! Nothing may be called on the socket between two frames: commands that are processed there can tear a message
//! without any error, where a third peer goes away.

use std::cell::Cell;

use zmq::{Message, SocketType};

use crate::error::Error;
use crate::ffi::{self, Errno};

/// Hands over the messages of one socket.
#[derive(Debug)]
pub(crate) struct Transmitter {
    kind: SocketType,
    /// A REQ lost its connection at the last frame of a request: it goes on as if in the middle of one, and the
    /// delimiter that it puts in front of each request is up to us, once. If it correlated requests and replies
    /// (`ZMQ_REQ_CORRELATE`), it stops to.
    owes_delimiter: Cell<bool>,
}

impl Transmitter {
    pub(crate) fn new(kind: SocketType) -> Self {
        Self { kind, owes_delimiter: Cell::new(false) }
    }

    pub(crate) fn kind(&self) -> SocketType {
        self.kind
    }

    /// True where having room depends on the peer that a message is for, and `POLLOUT` says nothing about it.
    pub(crate) fn waits_per_message(&self) -> bool {
        // A PUB is an XPUB that receives nothing: it has `ZMQ_XPUB_NODROP`, too.
        matches!(self.kind, SocketType::ROUTER | SocketType::XPUB | SocketType::PUB | SocketType::STREAM)
    }

    /// Refuses what libzmq would take and then do something else with.
    #[inline]
    pub(crate) fn check(&self, frames: &[Message]) -> Result<(), Error> {
        match frames.len() {
            0 => Err(Error::EmptyMessage),
            // A STREAM takes whatever follows a routing id as its data, up to the next message.
            actual if self.kind == SocketType::STREAM && actual != 2 => Err(Error::FrameCount { expected: 2, actual }),
            _ => Ok(()),
        }
    }

    /// Tries to hand the frames over. On an error they are all still here, and libzmq awaits a first frame.
    #[inline]
    pub(crate) fn transmit(&self, socket: &ffi::Socket, frames: &mut [Message]) -> Result<(), Errno> {
        match frames {
            [frame] if !self.owes_delimiter.get() => socket.send_frame(frame, false),
            frames => self.transmit_frames(socket, frames, |_| {}),
        }
    }

    /// `between` runs before each frame but the first: where tests let connections die.
    fn transmit_frames(
        &self,
        socket: &ffi::Socket,
        frames: &mut [Message],
        mut between: impl FnMut(usize),
    ) -> Result<(), Errno> {
        let mut start = Start::Clean;
        for _ in 0..MAX_CONNECTIONS_LOST {
            match self.pass(socket, frames, start, &mut between) {
                Ok(()) => {
                    if self.owes_delimiter.replace(false) {
                        // The reply counts only once the connection that the request began on is reaped, and that
                        // begins with a look. Whatever it says, the request is out.
                        let _ = socket.events();
                    }
                    return Ok(());
                }
                Err(Stopped::Midway { last }) => start = self.resynchronise(socket, last)?,
                Err(Stopped::Untouched(errno)) => return Err(errno),
            }
        }
        Err(Errno::EAGAIN)
    }

    fn pass(
        &self,
        socket: &ffi::Socket,
        frames: &mut [Message],
        start: Start,
        between: &mut impl FnMut(usize),
    ) -> Result<(), Stopped> {
        let mut untouched = true;
        if self.owes_delimiter.get() {
            socket.send_frame(&mut Message::new(), true).map_err(Stopped::Untouched)?;
            untouched = false;
        }
        let last = frames.len() - 1;
        for (at, frame) in frames.iter_mut().enumerate() {
            if at > 0 {
                between(at);
            }
            let mut hand_over = || {
                if at == last {
                    socket.send_frame(frame, false)
                } else {
                    socket.send_frame(&mut ffi::share(frame), true)
                }
            };
            match hand_over() {
                Err(Errno::EFSM) if at == 0 && start == Start::NewRequest => socket.relaxed(hand_over),
                done => done,
            }
            .map_err(|errno| match errno {
                Errno::EAGAIN if !untouched => Stopped::Midway { last: at == last },
                errno => Stopped::Untouched(errno),
            })?;
            untouched = false;
        }
        Ok(())
    }

    /// Brings libzmq to a message boundary after a connection died in the middle of a message.
    fn resynchronise(&self, socket: &ffi::Socket, at_last_frame: bool) -> Result<Start, Errno> {
        match (self.kind, at_last_frame) {
            // libzmq swallows frames up to the end of the message, and that is for us to say. If it was the last frame
            // that failed, it has seen the end.
            (SocketType::PUSH | SocketType::DEALER, false) => end_message(socket).map(|()| Start::Clean),
            (SocketType::REQ, false) => {
                end_message(socket)?;
                self.owes_delimiter.set(false);
                Ok(Start::NewRequest)
            }
            (SocketType::REQ, true) => {
                self.owes_delimiter.set(true);
                // The request id that a correlating REQ puts in front is not for us to know, and it would wait for it.
                socket.uncorrelate()?;
                Ok(Start::Clean)
            }
            _ => Ok(Start::Clean),
        }
    }
}

/// How a message starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Clean,
    /// A REQ believes that its request is out and a reply due. Only a relaxed one may start anew.
    NewRequest,
}

/// Why a pass did not reach the end.
enum Stopped {
    /// libzmq has none of it, or is of no use any more.
    Untouched(Errno),
    /// The connection died after the first frame, at the last one or before.
    Midway { last: bool },
}

/// Ends the message that libzmq is swallowing. The frame is swallowed too.
fn end_message(socket: &ffi::Socket) -> Result<(), Errno> {
    socket.send_frame(&mut Message::new(), false)
}

/// Connections that one attempt outlives. Each is gone for good, so this is reached only if others come as fast.
const MAX_CONNECTIONS_LOST: usize = 16;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::{Duration, Instant};

    use super::*;

    /// A socket under test, with one peer that dies in the middle of a message and one that takes its place.
    struct Scene {
        socket: ffi::Socket,
        fd: i32,
        transmitter: Transmitter,
        doomed: RefCell<Option<zmq::Socket>>,
        heir: zmq::Socket,
    }

    impl Scene {
        fn new(kind: SocketType, peer: SocketType, endpoint: &str) -> Self {
            let context = zmq::Context::new();
            let socket = context.socket(kind).unwrap();
            socket.bind(endpoint).unwrap();
            let new_peer = || {
                let socket = context.socket(peer).unwrap();
                socket.set_rcvtimeo(2000).unwrap();
                socket.set_linger(0).unwrap();
                socket
            };
            let (doomed, heir) = (new_peer(), new_peer());
            doomed.set_rcvhwm(1).unwrap();
            doomed.connect(endpoint).unwrap();
            let fd = socket.get_fd().unwrap();
            let socket = ffi::Socket::new(socket);
            socket.events().unwrap();
            if kind == SocketType::PUSH {
                for _ in 0..3 {
                    socket.send_frame(&mut Message::from("queued"), false).unwrap();
                }
            }
            Self { socket, fd, transmitter: Transmitter::new(kind), doomed: RefCell::new(Some(doomed)), heir }
        }

        /// Takes the connection away, and lets another come. Libzmq knows of it, but no more than that.
        fn succession(&self, endpoint: &str) {
            let kind = self.transmitter.kind;
            // A PAIR turns a second peer away while it has its first.
            if kind != SocketType::PAIR {
                self.heir.connect(endpoint).unwrap();
            }
            if kind == SocketType::PUSH {
                // A PUSH is through with a dead peer in no time, and then swallows the rest of the message. A connection
                // whose mark falls below what is queued is refused the next frame in the same way.
                self.socket.get_ref().set_sndhwm(1).unwrap();
                return;
            }
            // This processes commands, and reads nothing: the connection stays until its end is read.
            let process = || self.socket.get_ref().unbind("inproc://nobody").unwrap_err();
            process();
            drop(self.doomed.take());
            let announced = zmq::poll(&mut [zmq::PollItem::from_fd(self.fd, zmq::POLLIN)], 2000);
            assert_eq!(announced, Ok(1), "the death is announced");
            process();
        }

        /// Sends `message`; the connection goes before the frame `gone_at`, once. Answers how often the message started.
        fn send(&self, message: &[&str], gone_at: usize, endpoint: &str) -> usize {
            let mut frames: Vec<Message> = message.iter().map(|frame| Message::from(*frame)).collect();
            let (starts, gone) = (Cell::new(0), Cell::new(false));
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                let sent = self.transmitter.transmit_frames(&self.socket, &mut frames, |at| {
                    if at == 1 {
                        starts.set(starts.get() + 1);
                    }
                    if at == gone_at && !gone.replace(true) {
                        self.succession(endpoint);
                    }
                });
                match sent {
                    Ok(()) => return starts.get(),
                    Err(Errno::EAGAIN) => {
                        assert!(frames.iter().zip(message).all(|(frame, text)| frame[..] == *text.as_bytes()));
                        self.reap();
                        self.heir.connect(endpoint).unwrap();
                    }
                    Err(errno) => panic!("{errno:?}"),
                }
                assert!(Instant::now() < deadline, "the message finds no way out");
            }
        }

        /// Lets libzmq work off the death.
        fn reap(&self) {
            loop {
                self.socket.events().unwrap();
                if zmq::poll(&mut [zmq::PollItem::from_fd(self.fd, zmq::POLLIN)], 20) != Ok(1) {
                    break;
                }
            }
        }

        fn received(&self) -> Vec<String> {
            let frames = self.heir.recv_multipart(0).unwrap();
            frames.into_iter().map(|frame| String::from_utf8(frame).unwrap()).collect()
        }
    }

    /// Takes the connection away before each frame but the first.
    fn play(kind: SocketType, peer: SocketType, relaxed: bool, message: &[&str], check: impl Fn(&Scene)) {
        for gone_at in 1..message.len() {
            let endpoint = format!("inproc://{kind:?}-{gone_at}");
            let scene = Scene::new(kind, peer, &endpoint);
            if relaxed {
                scene.socket.get_ref().set_req_relaxed(true).unwrap();
                scene.socket.get_ref().set_req_correlate(true).unwrap();
            }
            assert!(scene.send(message, gone_at, &endpoint) > 1, "{kind:?} kept its connection at frame {gone_at}");
            check(&scene);
        }
    }

    #[test]
    fn a_message_starts_again_on_another_connection_and_the_next_is_untouched() {
        for (kind, peer) in [
            (SocketType::PUSH, SocketType::PULL),
            (SocketType::DEALER, SocketType::DEALER),
            (SocketType::PAIR, SocketType::PAIR),
        ] {
            play(kind, peer, false, &["one", "two", "three"], |scene| {
                assert_eq!(scene.received(), ["one", "two", "three"], "{kind:?}");
                assert_eq!(scene.send(&["next", "whole"], usize::MAX, ""), 1);
                assert_eq!(scene.received(), ["next", "whole"], "{kind:?}");
            });
        }
    }

    #[test]
    fn a_request_starts_again_and_gets_its_reply() {
        for relaxed in [false, true] {
            let play = |check: &dyn Fn(&Scene)| {
                play(SocketType::REQ, SocketType::REP, relaxed, &["one", "two", "three"], check);
            };
            play(&|scene| {
                for _ in 0..2 {
                    assert_eq!(scene.received(), ["one", "two", "three"], "relaxed: {relaxed}");
                    scene.reap();
                    scene.heir.send("reply", 0).unwrap();
                    let socket = scene.socket.get_ref();
                    socket.set_rcvtimeo(2000).unwrap();
                    assert_eq!(socket.recv_bytes(0).unwrap(), b"reply");
                    // The next request is an ordinary one.
                    assert_eq!(scene.send(&["one", "two", "three"], usize::MAX, ""), 1);
                }
                // The socket is as strict as it was.
                let early = scene.socket.send_frame(&mut Message::from("early"), false);
                assert_eq!(early, if relaxed { Ok(()) } else { Err(Errno::EFSM) });
            });
        }
    }
}
