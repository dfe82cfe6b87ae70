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
    /// delimiter that it puts in front of each request is up to us, once.
    owes_delimiter: Cell<bool>,
}

impl Transmitter {
    pub(crate) fn new(kind: SocketType) -> Self {
        Self { kind, owes_delimiter: Cell::new(false) }
    }

    /// True where having room depends on the peer that a message is for, and `POLLOUT` says nothing about it.
    pub(crate) fn waits_per_message(&self) -> bool {
        matches!(self.kind, SocketType::ROUTER | SocketType::XPUB | SocketType::STREAM)
    }

    /// Refuses what libzmq would take and then do something else with.
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
                    self.owes_delimiter.set(false);
                    return Ok(());
                }
                Err(Stopped { at, errno: Errno::EAGAIN }) if at > 0 => {
                    start = self.resynchronise(socket, at + 1 == frames.len())?;
                }
                Err(Stopped { errno, .. }) => return Err(errno),
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
        if self.owes_delimiter.get() {
            socket.send_frame(&mut Message::new(), true).map_err(|errno| Stopped { at: 0, errno })?;
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
            .map_err(|errno| Stopped { at, errno })?;
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
                // A reply counts only from the connection that the request began on, until that one is reaped.
                socket.events().map(|_| Start::Clean)
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

/// The frame that libzmq refused, and with what.
struct Stopped {
    at: usize,
    errno: Errno,
}

/// Ends the message that libzmq is swallowing. The frame is swallowed too.
fn end_message(socket: &ffi::Socket) -> Result<(), Errno> {
    socket.send_frame(&mut Message::new(), false)
}

/// Connections that one attempt outlives. Each is gone for good, so this is reached only if others come as fast.
const MAX_CONNECTIONS_LOST: usize = 16;
