//! The only unsafe code of the crate: libzmq called on messages that stay ours when it refuses them, and the
//! descriptor number that the loop watches.
//!
//! The zmq crate's `send` consumes its message: on EAGAIN it is gone. Its error conversion panics on an errno that it
//! has no name for, its string arguments on a NUL. So the calls on the path of a message, and those that take an
//! endpoint, are made here. EINTR can come from any of them and is answered by calling again: libzmq has not touched
//! the message then.

#![allow(unsafe_code)]
// The binding has libzmq's constants as u32, its functions take int.
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::borrow::Cow;
use std::ffi::{CString, c_int, c_void};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, thread};

use zmq::Message;
use zmq_sys::{zmq_errno, zmq_msg_t};

use crate::error::{EndpointError, Error, OsError};
use crate::readiness::Events;

/// A ZeroMQ socket, with the pointer that libzmq's own calls need.
pub(crate) struct Socket {
    /// From `inner`, which owns it. Valid for as long as `self` is: nothing but `into_inner` takes the owner out.
    raw: *mut c_void,
    inner: ManuallyDrop<zmq::Socket>,
    /// It may be the last to hold its context: closing it then ends that.
    keeps_context: bool,
}

impl Socket {
    /// Creates a socket of a context that is kept by somebody else here.
    pub(crate) fn open(context: &zmq::Context, kind: zmq::SocketType) -> Result<Self, Errno> {
        // The zmq crate hides its context's pointer, and panics on an errno that it has no name for: when the system,
        // not the process, is out of descriptors (ENFILE).
        let opened = catch_unwind(AssertUnwindSafe(|| context.socket(kind)));
        Ok(Self::with(opened.map_err(|_| Errno::last())??, false))
    }

    /// A socket of a context that is kept by somebody else here.
    #[cfg(test)]
    pub(crate) fn new(socket: zmq::Socket) -> Self {
        Self::with(socket, false)
    }

    /// A socket that may be the last to hold its context.
    pub(crate) fn foreign(socket: zmq::Socket) -> Self {
        Self::with(socket, true)
    }

    fn with(mut socket: zmq::Socket, keeps_context: bool) -> Self {
        Self { raw: socket.as_mut_ptr(), inner: ManuallyDrop::new(socket), keeps_context }
    }

    pub(crate) fn get_ref(&self) -> &zmq::Socket {
        &self.inner
    }

    pub(crate) fn into_inner(self) -> zmq::Socket {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the socket is taken out once.
        unsafe { ManuallyDrop::take(&mut this.inner) }
    }

    /// Receives one frame without blocking. `frame`'s old content is dropped, also on most errors.
    #[inline]
    pub(crate) fn recv_frame(&self, frame: &mut Message) -> Result<(), Errno> {
        // SAFETY: `self.raw` is a live socket, `as_raw` an initialised message that we hold exclusively.
        retry(|| unsafe { zmq_sys::zmq_msg_recv(as_raw(frame), self.raw, DONTWAIT) })
    }

    /// Sends one frame without blocking. On success `frame` is left empty; on an error it is untouched.
    #[inline]
    pub(crate) fn send_frame(&self, frame: &mut Message, more: bool) -> Result<(), Errno> {
        let flags = if more { DONTWAIT | SNDMORE } else { DONTWAIT };
        // SAFETY: as in `recv_frame`.
        retry(|| unsafe { zmq_sys::zmq_msg_send(as_raw(frame), self.raw, flags) })
    }

    /// Reads `ZMQ_EVENTS`: lets libzmq process its pending commands, which silences the descriptor.
    pub(crate) fn events(&self) -> Result<Events, Errno> {
        let bits = self.option(zmq_sys::ZMQ_EVENTS)? as u32;
        Ok(Events { readable: bits & zmq_sys::ZMQ_POLLIN != 0, writable: bits & zmq_sys::ZMQ_POLLOUT != 0 })
    }

    /// The descriptor that announces work. A number: after termination libzmq does not tell it any more.
    pub(crate) fn fd(&self) -> Result<ZmqFd, Errno> {
        self.option(zmq_sys::ZMQ_FD).map(ZmqFd)
    }

    /// `ZMQ_TYPE`, as the zmq crate names it. The crate panics on the thread-safe types that it does not know.
    pub(crate) fn kind(&self) -> Result<zmq::SocketType, Errno> {
        let raw = self.option(zmq_sys::ZMQ_TYPE)?;
        usize::try_from(raw).ok().and_then(|raw| KINDS.get(raw)).copied().ok_or(Errno(zmq_sys::errno::ENOTSUP))
    }

    /// The receive and send timeouts: what a call that was meant to wait does instead of blocking the loop.
    pub(crate) fn timeouts(&self) -> Result<Timeouts, Errno> {
        Ok(Timeouts { recv: self.option(zmq_sys::ZMQ_RCVTIMEO)?, send: self.option(zmq_sys::ZMQ_SNDTIMEO)? })
    }

    pub(crate) fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), Errno> {
        self.set_option(zmq_sys::ZMQ_RCVTIMEO, timeouts.recv)?;
        self.set_option(zmq_sys::ZMQ_SNDTIMEO, timeouts.send)
    }

    pub(crate) fn set_linger(&self, milliseconds: c_int) -> Result<(), Errno> {
        self.set_option(zmq_sys::ZMQ_LINGER, milliseconds)
    }

    /// Makes a call on a REQ as if it had `ZMQ_REQ_RELAXED`. Only for one that does not: libzmq does not tell.
    pub(crate) fn relaxed(&self, call: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        self.set_option(zmq_sys::ZMQ_REQ_RELAXED, 1)?;
        let done = call();
        self.set_option(zmq_sys::ZMQ_REQ_RELAXED, 0)?;
        done
    }

    /// `ZMQ_LAST_ENDPOINT`. The zmq crate has 255 bytes for it, and a path or an inproc name may be longer.
    pub(crate) fn last_endpoint(&self) -> Result<String, Errno> {
        let mut buffer = vec![0_u8; 256];
        loop {
            let mut size = buffer.len();
            // SAFETY: `self.raw` is a live socket; `buffer` and `size` describe bytes that outlive the call.
            let read = retry(|| unsafe {
                zmq_sys::zmq_getsockopt(
                    self.raw,
                    zmq_sys::ZMQ_LAST_ENDPOINT as c_int,
                    buffer.as_mut_ptr().cast(),
                    &raw mut size,
                )
            });
            match read {
                Ok(()) => {
                    // It ends with a NUL.
                    buffer.truncate(size.saturating_sub(1));
                    return Ok(String::from_utf8_lossy(&buffer).into_owned());
                }
                Err(Errno::EINVAL) if buffer.len() < MAX_ENDPOINT => buffer.resize(buffer.len() * 4, 0),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Ends a REQ's `ZMQ_REQ_CORRELATE`.
    pub(crate) fn uncorrelate(&self) -> Result<(), Errno> {
        self.set_option(zmq_sys::ZMQ_REQ_CORRELATE, 0)
    }

    /// One of libzmq's four calls that take an endpoint.
    pub(crate) fn endpoint_call(&self, call: EndpointCall, endpoint: &str) -> crate::Result<()> {
        let (operation, function): (_, unsafe extern "C" fn(_, _) -> _) = match call {
            EndpointCall::Bind => ("bind", zmq_sys::zmq_bind),
            EndpointCall::Connect => ("connect", zmq_sys::zmq_connect),
            EndpointCall::Unbind => ("unbind", zmq_sys::zmq_unbind),
            EndpointCall::Disconnect => ("disconnect", zmq_sys::zmq_disconnect),
        };
        let refused = |source| EndpointError { operation, endpoint: endpoint.to_owned(), source };
        let text = CString::new(endpoint).map_err(|_| refused(None))?;
        // SAFETY: `self.raw` is a live socket, `text` a NUL-terminated string that outlives the call.
        retry(|| unsafe { function(self.raw, text.as_ptr()) }).map_err(|errno| match errno.name() {
            Some(
                source @ (zmq::Error::EINVAL
                | zmq::Error::EPROTONOSUPPORT
                | zmq::Error::ENOCOMPATPROTO
                | zmq::Error::ENODEV),
            ) => refused(Some(source)).into(),
            _ => errno.error(format!("{operation} {endpoint}")),
        })
    }

    fn option(&self, option: u32) -> Result<c_int, Errno> {
        let mut value: c_int = 0;
        let mut size = size_of::<c_int>();
        // SAFETY: `self.raw` is a live socket; `value` and `size` describe an int that outlives the call.
        retry(|| unsafe {
            zmq_sys::zmq_getsockopt(self.raw, option as c_int, (&raw mut value).cast(), &raw mut size)
        })?;
        Ok(value)
    }

    fn set_option(&self, option: u32, value: c_int) -> Result<(), Errno> {
        // SAFETY: as in `option`.
        retry(|| unsafe {
            zmq_sys::zmq_setsockopt(self.raw, option as c_int, (&raw const value).cast(), size_of::<c_int>())
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the field is not used again; `into_inner`, which takes it too, does not drop `self`.
        let socket = unsafe { ManuallyDrop::take(&mut self.inner) };
        if self.keeps_context {
            drop_elsewhere(socket, || {});
        }
    }
}

/// Drops a value that may end a context, which blocks until libzmq is done with it: on a thread of its own.
///
/// `then` runs afterwards. If there is no thread to be had, the value is leaked, better than a frozen loop, and `then` is
/// dropped without being run.
pub(crate) fn drop_elsewhere<T: Send + 'static>(value: T, then: impl FnOnce() + Send + 'static) {
    let value = ManuallyDrop::new(value);
    let dropped = thread::Builder::new().name("zmq-close".into()).spawn(move || {
        drop(ManuallyDrop::into_inner(value));
        then();
    });
    drop(dropped);
}

/// A second reference to a frame's bytes, not a copy of them (up to 33 bytes libzmq stores inline and does copy).
pub(crate) fn share(frame: &mut Message) -> Message {
    let mut shared = Message::new();
    // SAFETY: both are initialised messages that we hold exclusively. It fails only on messages that are neither.
    unsafe { zmq_sys::zmq_msg_copy(as_raw(&mut shared), as_raw(frame)) };
    shared
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum EndpointCall {
    Bind,
    Connect,
    Unbind,
    Disconnect,
}

/// `ZMQ_RCVTIMEO` and `ZMQ_SNDTIMEO` in milliseconds; -1 waits for ever, 0 not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) recv: c_int,
    pub(crate) send: c_int,
}

impl Timeouts {
    pub(crate) const NONE: Self = Self { recv: 0, send: 0 };
}

/// The number of a `ZMQ_FD`, to register with the loop. It does not own the descriptor: libzmq does.
#[derive(Debug)]
pub(crate) struct ZmqFd(RawFd);

impl AsFd for ZmqFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open until its socket is closed, and the socket's `Attachment` drops the
        // registration, the only holder of a `ZmqFd`, before that.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// An errno of libzmq, known to the zmq crate or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(c_int);

impl Errno {
    pub(crate) const EAGAIN: Self = Self(zmq_sys::errno::EAGAIN);
    const EINVAL: Self = Self(zmq_sys::errno::EINVAL);
    pub(crate) const EFSM: Self = Self(zmq_sys::errno::EFSM);
    pub(crate) const ETERM: Self = Self(zmq_sys::errno::ETERM);

    #[cold]
    fn last() -> Self {
        // SAFETY: reads this thread's errno.
        Self(unsafe { zmq_errno() })
    }

    fn name(self) -> Option<zmq::Error> {
        NAMES.into_iter().find(|name| name.to_raw() == self.0)
    }

    /// The error for the caller.
    #[cold]
    pub(crate) fn error(self, operation: impl Into<Cow<'static, str>>) -> Error {
        match self.name() {
            Some(zmq::Error::ETERM) => Error::Terminated,
            Some(source) => Error::Zmq { operation: operation.into(), source },
            None => OsError { operation: operation.into(), source: io::Error::from_raw_os_error(self.0) }.into(),
        }
    }
}

impl From<zmq::Error> for Errno {
    fn from(error: zmq::Error) -> Self {
        Self(error.to_raw())
    }
}

#[inline]
fn retry(mut call: impl FnMut() -> c_int) -> Result<(), Errno> {
    loop {
        if call() >= 0 {
            return Ok(());
        }
        let errno = Errno::last();
        if errno != Errno(zmq_sys::errno::EINTR) {
            return Err(errno);
        }
    }
}

#[inline]
fn as_raw(message: &mut Message) -> *mut zmq_msg_t {
    // `Message` is a struct of one `zmq_msg_t`; equal size leaves the field no other place than the start.
    const { assert!(size_of::<Message>() == size_of::<zmq_msg_t>() && align_of::<Message>() == align_of::<zmq_msg_t>()) }
    (&raw mut *message).cast()
}

/// Bytes that the text of an endpoint is read in, at most.
const MAX_ENDPOINT: usize = 1 << 20;
const DONTWAIT: c_int = zmq_sys::ZMQ_DONTWAIT as c_int;
const SNDMORE: c_int = zmq_sys::ZMQ_SNDMORE as c_int;

/// In the order of libzmq's numbers, from `ZMQ_PAIR` 0 to `ZMQ_STREAM` 11.
const KINDS: [zmq::SocketType; 12] = {
    use zmq::SocketType::{DEALER, PAIR, PUB, PULL, PUSH, REP, REQ, ROUTER, STREAM, SUB, XPUB, XSUB};
    [PAIR, PUB, SUB, REQ, REP, DEALER, ROUTER, PULL, PUSH, XPUB, XSUB, STREAM]
};

const NAMES: [zmq::Error; 28] = {
    use zmq::Error::{
        EACCES, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBUSY, ECONNREFUSED, EFAULT, EFSM, EHOSTUNREACH, EINPROGRESS, EINTR,
        EINVAL, EMFILE, EMSGSIZE, EMTHREAD, ENAMETOOLONG, ENETDOWN, ENOBUFS, ENOCOMPATPROTO, ENODEV, ENOENT, ENOMEM,
        ENOTCONN, ENOTSOCK, ENOTSUP, EPROTO, EPROTONOSUPPORT, ETERM,
    };
    [
        EACCES,
        EADDRINUSE,
        EADDRNOTAVAIL,
        EAGAIN,
        EBUSY,
        ECONNREFUSED,
        EFAULT,
        EFSM,
        EHOSTUNREACH,
        EINPROGRESS,
        EINTR,
        EINVAL,
        EMFILE,
        EMSGSIZE,
        EMTHREAD,
        ENAMETOOLONG,
        ENETDOWN,
        ENOBUFS,
        ENOCOMPATPROTO,
        ENODEV,
        ENOENT,
        ENOMEM,
        ENOTCONN,
        ENOTSOCK,
        ENOTSUP,
        EPROTO,
        EPROTONOSUPPORT,
        ETERM,
    ]
};
