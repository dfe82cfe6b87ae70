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
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::{CStr, CString, c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::{io, ptr, thread};

use smallvec::SmallVec;
use zmq::Message;
use zmq_sys::{zmq_errno, zmq_msg_t};

use crate::endpoint::{EndpointCall, EndpointError, NoEndpoint};
use crate::error::{Error, OsError};
use crate::events::Events;
#[cfg(test)]
use crate::model::libzmq as zmq_sys;

/// A ZeroMQ socket, with the pointer that libzmq's own calls need.
pub(crate) struct Socket {
    /// From `inner`, which owns it. Valid for as long as `self` is: nothing but `into_inner` takes the owner out.
    raw: *mut c_void,
    inner: ManuallyDrop<zmq::Socket>,
    /// It may be the last to hold its context: closing it then ends that. Dropped when it has.
    foreign: Option<Closing>,
    /// It was given an endpoint of a transport whose connections libzmq reports: any but `inproc`.
    reports: Cell<bool>,
    /// It has connections that libzmq drops with all that is in them when they are lost: see
    /// [`begin_message`](Self::begin_message).
    immediate: Cell<bool>,
    /// Frames of whole messages that were taken out of libzmq [early](Self::finish_begun). They are received first.
    early: RefCell<VecDeque<Message>>,
}

impl Socket {
    /// Creates a socket of a context that is kept by somebody else here.
    pub(crate) fn open(context: &zmq::Context, kind: zmq::SocketType) -> Result<Self, Errno> {
        // The zmq crate hides its context's pointer, and panics on an errno that it has no name for: when the system,
        // not the process, is out of descriptors (ENFILE).
        let opened = catch_unwind(AssertUnwindSafe(|| context.socket(kind)));
        Ok(Self::with(opened.map_err(|_| Errno::last())??, None))
    }

    /// A socket of a context that is kept by somebody else here.
    #[cfg(test)]
    pub(crate) fn new(socket: zmq::Socket) -> Self {
        Self::with(socket, None)
    }

    /// A socket that may be the last to hold its context.
    pub(crate) fn foreign(socket: zmq::Socket, closing: Closing) -> Self {
        Self::with(socket, Some(closing))
    }

    fn with(mut socket: zmq::Socket, foreign: Option<Closing>) -> Self {
        Self {
            raw: socket.as_mut_ptr(),
            inner: ManuallyDrop::new(socket),
            foreign,
            reports: Cell::new(false),
            immediate: Cell::new(false),
            early: RefCell::default(),
        }
    }

    pub(crate) fn get_ref(&self) -> &zmq::Socket {
        &self.inner
    }

    pub(crate) fn into_inner(self) -> zmq::Socket {
        let mut this = ManuallyDrop::new(self);
        drop(this.early.take());
        drop(this.foreign.take());
        // SAFETY: `this` is not dropped, so the socket is taken out once.
        unsafe { ManuallyDrop::take(&mut this.inner) }
    }

    /// Receives one frame without blocking. `frame`'s old content is dropped, also on most errors.
    #[inline]
    pub(crate) fn recv_frame(&self, frame: &mut Message) -> Result<(), Errno> {
        if let Some(early) = self.take_early() {
            *frame = early;
            return Ok(());
        }
        self.recv_from_libzmq(frame)
    }

    #[inline]
    fn recv_from_libzmq(&self, frame: &mut Message) -> Result<(), Errno> {
        // SAFETY: `self.raw` is a live socket, `as_raw` an initialised message that we hold exclusively.
        retry(|| unsafe { zmq_sys::zmq_msg_recv(as_raw(frame), self.raw, DONTWAIT) })
    }

    /// Receives one frame without blocking, as the only one of an empty list. On an error the list stays empty.
    ///
    /// Where the frame stays from the start nothing is moved: what libzmq has just written in small pieces is slow to
    /// read in large ones.
    #[inline]
    pub(crate) fn recv_first(&self, frames: &mut SmallVec<[Message; 1]>) -> Result<(), Errno> {
        debug_assert!(frames.is_empty(), "what is there would leak");
        if let Some(early) = self.take_early() {
            frames.push(early);
            return Ok(());
        }
        let first: *mut zmq_msg_t = frames.as_mut_ptr().cast();
        // SAFETY: the list has room for one element, always, and `Message` is a struct of one `zmq_msg_t` (see
        // `as_raw`). An empty message owns nothing: if none is received, it may be forgotten.
        retry(|| unsafe {
            zmq_sys::zmq_msg_init(first);
            zmq_sys::zmq_msg_recv(first, self.raw, DONTWAIT)
        })?;
        // SAFETY: the first element is an initialised message.
        unsafe { frames.set_len(1) };
        Ok(())
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
        let readable = bits & zmq_sys::ZMQ_POLLIN != 0 || !self.early.borrow().is_empty();
        Ok(Events { readable, writable: bits & zmq_sys::ZMQ_POLLOUT != 0 })
    }

    /// Brings libzmq to the end of a message that it has begun to receive by itself, and keeps that message as the next
    /// one to be received here.
    ///
    /// SUB, XSUB, ROUTER, REP and STREAM take the first frame of a message out of its connection when `ZMQ_EVENTS` is
    /// read, to know whether there is one. In the middle of a message its connection must not end: the next receive
    /// aborts the process (libzmq's issue 3485).
    pub(crate) fn finish_begun(&self) -> Result<(), Errno> {
        loop {
            let mut frame = Message::new();
            match self.recv_from_libzmq(&mut frame) {
                Ok(()) => {}
                // There was none; or its turn is another: a REP that owes a reply has begun nothing.
                Err(Errno::EAGAIN | Errno::EFSM) => return Ok(()),
                Err(errno) => return Err(errno),
            }
            let more = frame.get_more();
            self.early.borrow_mut().push_back(frame);
            if !more {
                return Ok(());
            }
        }
    }

    #[inline]
    fn take_early(&self) -> Option<Message> {
        let mut early = self.early.borrow_mut();
        // Nearly always there is none.
        if early.is_empty() { None } else { early.pop_front() }
    }

    /// The descriptor that announces work. A number: after termination libzmq does not tell it any more.
    pub(crate) fn fd(&self) -> Result<ZmqFd, Errno> {
        self.option(zmq_sys::ZMQ_FD).map(ZmqFd)
    }

    /// True if the message that was received last has frames left.
    pub(crate) fn is_half_received(&self) -> Result<bool, Errno> {
        self.flag(zmq_sys::ZMQ_RCVMORE)
    }

    /// `ZMQ_IMMEDIATE`, for the connections that are made now, or were made before the socket came here.
    pub(crate) fn note_immediate(&self) -> Result<bool, Errno> {
        let immediate = self.flag(zmq_sys::ZMQ_IMMEDIATE)?;
        if immediate {
            self.immediate.set(true);
        }
        Ok(immediate)
    }

    /// To be called before the first frame of a message is received.
    ///
    /// A receive processes commands now and then, also between two frames. If one of them is the loss of a connection
    /// with `ZMQ_IMMEDIATE`, the rest of the message is gone, and libzmq aborts. So there they are processed before.
    #[inline]
    pub(crate) fn begin_message(&self) -> Result<(), Errno> {
        if self.immediate.get() { self.events().map(|_| ()) } else { Ok(()) }
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

    /// For a PAIR that only receives: takes in whatever comes, and has nothing to linger for.
    pub(crate) fn unlimit_receiving(&self) -> Result<(), Errno> {
        self.set_option(zmq_sys::ZMQ_RCVHWM, 0)?;
        self.set_linger(0)
    }

    /// Has an XPUB receive every subscription and every end of one, not only the first and the last for a topic.
    pub(crate) fn report_every_subscription(&self) -> Result<(), Errno> {
        self.set_option(zmq_sys::ZMQ_XPUB_VERBOSER, 1)
    }

    /// True if its context is kept by somebody else here; false if it may be of any other context.
    pub(crate) fn is_of_our_context(&self) -> bool {
        self.foreign.is_none()
    }

    /// Has libzmq bind a PAIR to `endpoint` and send it the events in the mask. Any earlier monitor is stopped.
    ///
    /// libzmq waits until an event is sent: in this call, in later ones on this socket, and in its own threads, which
    /// stop for all sockets then. So unless the mask is empty, a PAIR must be connected to the endpoint already, must
    /// have no high-water mark, and must outlive [`stop_monitor`](Self::stop_monitor).
    pub(crate) fn start_monitor(&self, endpoint: &CStr, events: EventMask) -> Result<(), Errno> {
        let mask = match events {
            EventMask::None => 0,
            EventMask::All => zmq_sys::ZMQ_EVENT_ALL as c_int,
        };
        // SAFETY: `self.raw` is a live socket, `endpoint` a NUL-terminated string that outlives the call.
        retry(|| unsafe { zmq_sys::zmq_socket_monitor(self.raw, endpoint.as_ptr(), mask) })
    }

    /// Has libzmq send the last event, and no more. Must come before the socket is closed: nobody can call it then, and
    /// what libzmq's threads still send would wait for a monitor that may be gone.
    pub(crate) fn stop_monitor(&self) {
        // SAFETY: `self.raw` is a live socket. No endpoint says to stop. It fails after termination only, which stops
        // it too.
        unsafe { zmq_sys::zmq_socket_monitor(self.raw, ptr::null(), 0) };
    }

    /// True if all its endpoints, as far as one can see, are `inproc`: libzmq has no events for these.
    pub(crate) fn is_inproc_only(&self) -> bool {
        !self.reports.get() && self.last_endpoint().is_ok_and(|endpoint| endpoint.starts_with(INPROC))
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
        self.text_option(zmq_sys::ZMQ_LAST_ENDPOINT)
    }

    /// What the options say about whom the socket lets in.
    pub(crate) fn security(&self) -> Result<Security, Errno> {
        Ok(Security {
            null: self.option(zmq_sys::ZMQ_MECHANISM)? == zmq_sys::ZMQ_NULL as c_int,
            plain_server: self.flag(zmq_sys::ZMQ_PLAIN_SERVER)?,
            curve_server: self.flag(zmq_sys::ZMQ_CURVE_SERVER)?,
            has_domain: !self.text_option(zmq_sys::ZMQ_ZAP_DOMAIN)?.is_empty(),
            enforces_domain: self.flag(ZAP_ENFORCE_DOMAIN)?,
            rcvhwm: self.option(zmq_sys::ZMQ_RCVHWM)?,
        })
    }

    /// Sets `ZMQ_ZAP_ENFORCE_DOMAIN`, which the zmq crate does not know.
    pub(crate) fn enforce_domain(&self) -> Result<(), Errno> {
        self.set_option(ZAP_ENFORCE_DOMAIN, 1)
    }

    /// Ends a REQ's `ZMQ_REQ_CORRELATE`.
    pub(crate) fn uncorrelate(&self) -> Result<(), Errno> {
        self.set_option(zmq_sys::ZMQ_REQ_CORRELATE, 0)
    }

    /// One of libzmq's four calls that take an endpoint.
    pub(crate) fn endpoint_call(&self, call: EndpointCall, endpoint: &str) -> crate::Result<()> {
        let function: unsafe extern "C" fn(_, _) -> _ = match call {
            EndpointCall::Bind => zmq_sys::zmq_bind,
            EndpointCall::Connect => zmq_sys::zmq_connect,
            EndpointCall::Unbind => zmq_sys::zmq_unbind,
            EndpointCall::Disconnect => zmq_sys::zmq_disconnect,
        };
        let refused = |reason| EndpointError { call, endpoint: endpoint.to_owned(), reason };
        let text = CString::new(endpoint).map_err(|_| refused(NoEndpoint::Nul))?;
        if endpoint.len() >= MAX_TEXT {
            // libzmq would bind it, and nobody could read back that it did.
            return Err(refused(NoEndpoint::Length).into());
        }
        if !endpoint.starts_with(INPROC) {
            self.reports.set(true);
        }
        // SAFETY: `self.raw` is a live socket, `text` a NUL-terminated string that outlives the call.
        retry(|| unsafe { function(self.raw, text.as_ptr()) }).map_err(|errno| match errno.name() {
            Some(
                source @ (zmq::Error::EINVAL
                | zmq::Error::EPROTONOSUPPORT
                | zmq::Error::ENOCOMPATPROTO
                | zmq::Error::ENODEV),
            ) => refused(NoEndpoint::Refused(source)).into(),
            Some(zmq::Error::ENOENT) => errno.error(format!("{}{}", call.of(endpoint), call.in_vain())),
            _ => errno.error(call.of(endpoint)),
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

    /// An option that not every build of libzmq has.
    fn flag(&self, option: u32) -> Result<bool, Errno> {
        match self.option(option) {
            Ok(value) => Ok(value != 0),
            Err(Errno::EINVAL) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// An option that is a string. libzmq does not tell how long it is.
    fn text_option(&self, option: u32) -> Result<String, Errno> {
        let mut buffer = vec![0_u8; 256];
        loop {
            let mut size = buffer.len();
            // SAFETY: `self.raw` is a live socket; `buffer` and `size` describe bytes that outlive the call.
            let read = retry(|| unsafe {
                zmq_sys::zmq_getsockopt(self.raw, option as c_int, buffer.as_mut_ptr().cast(), &raw mut size)
            });
            match read {
                Ok(()) => {
                    // It ends with a NUL.
                    buffer.truncate(size.saturating_sub(1));
                    return Ok(String::from_utf8_lossy(&buffer).into_owned());
                }
                Err(Errno::EINVAL) if buffer.len() < MAX_TEXT => buffer.resize(buffer.len() * 4, 0),
                Err(errno) => return Err(errno),
            }
        }
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
        #[cfg(test)]
        if zmq_sys::is_model(self.raw) {
            return;
        }
        // SAFETY: the field is not used again; `into_inner`, which takes it too, does not drop `self`.
        let socket = unsafe { ManuallyDrop::take(&mut self.inner) };
        if let Some(closing) = self.foreign.take() {
            drop_elsewhere(socket, || drop(closing));
        }
    }
}

/// What closes goes on to hold this until it is closed. Who has the other end can wait for all of them.
pub(crate) type Closing = Sender<Infallible>;

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

/// A frame with a copy of these bytes. The zmq crate's own clears it first, and moves it.
#[inline]
pub(crate) fn copy(bytes: &[u8]) -> Message {
    let mut frame = MaybeUninit::<Message>::uninit();
    let raw: *mut zmq_msg_t = frame.as_mut_ptr().cast();
    // SAFETY: `Message` is a struct of one `zmq_msg_t` (see `as_raw`), which libzmq initialises.
    if unsafe { zmq_sys::zmq_msg_init_size(raw, bytes.len()) } != 0 {
        // Out of memory. This ends as it does in the zmq crate.
        return Message::from(bytes);
    }
    // SAFETY: the message has room for that many bytes, which are its own, and is initialised.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), zmq_sys::zmq_msg_data(raw).cast(), bytes.len());
        frame.assume_init()
    }
}

/// A second reference to a frame's bytes, not a copy of them (up to 33 bytes libzmq stores inline and does copy).
pub(crate) fn share(frame: &mut Message) -> Message {
    let mut shared = Message::new();
    // SAFETY: both are initialised messages that we hold exclusively. It fails only on messages that are neither.
    unsafe { zmq_sys::zmq_msg_copy(as_raw(&mut shared), as_raw(frame)) };
    shared
}

/// What is known by that name about the connection that a frame came over, if it is UTF-8.
pub(crate) fn property<'a>(frame: &'a Message, name: &str) -> Option<&'a str> {
    let name = CString::new(name).ok()?;
    // SAFETY: `Message` is a struct of one `zmq_msg_t`, see `as_raw`; libzmq only reads it. The string that it answers,
    // if any, ends with a NUL and lives as long as the frame, which holds a reference to the connection's metadata.
    let value = unsafe {
        let value = zmq_sys::zmq_msg_gets((&raw const *frame).cast(), name.as_ptr());
        if value.is_null() { None } else { Some(CStr::from_ptr::<'a>(value)) }
    };
    value.and_then(|value| value.to_str().ok())
}

/// A frame of these bytes, where they are. They are dropped when libzmq is done with them, on any thread.
#[cfg(feature = "bytes")]
pub(crate) fn lend(bytes: bytes::BytesMut) -> Message {
    unsafe extern "C" fn give_back(_: *mut c_void, lent: *mut c_void) {
        // SAFETY: `lent` is the box below, and libzmq calls this once. `BytesMut` is `Send`.
        drop(unsafe { Box::from_raw(lent.cast::<bytes::BytesMut>()) });
    }
    let mut lent = Box::new(bytes);
    let (data, size) = (lent.as_mut_ptr(), lent.len());
    let lent = Box::into_raw(lent);
    let mut frame = ManuallyDrop::new(Message::new());
    // SAFETY: `frame` is an initialised message, empty, so that nothing in it needs to be closed. `data` and `size`
    // describe bytes that `lent` owns, that nobody else can see (`BytesMut` is exclusive), and that stay where they are
    // until it is dropped, by `give_back`.
    let made =
        unsafe { zmq_sys::zmq_msg_init_data(as_raw(&mut frame), data.cast(), size, Some(give_back), lent.cast()) };
    if made == 0 {
        return ManuallyDrop::into_inner(frame);
    }
    // Out of memory: libzmq took nothing, and `frame` is no message now. The copy ends as the zmq crate's own do then.
    // SAFETY: `lent` came from a box, and `give_back` is not going to be called.
    Message::from(&unsafe { Box::from_raw(lent) }[..])
}

/// Which events a monitor is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EventMask {
    None,
    All,
}

/// See [`Socket::security`].
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are options of libzmq, each by itself")]
pub(crate) struct Security {
    pub(crate) null: bool,
    pub(crate) plain_server: bool,
    pub(crate) curve_server: bool,
    pub(crate) has_domain: bool,
    pub(crate) enforces_domain: bool,
    pub(crate) rcvhwm: c_int,
}

impl Security {
    /// True if a ZAP handler is asked about peers.
    pub(crate) fn asks(self) -> bool {
        self.plain_server || self.curve_server || self.null && self.has_domain
    }
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

impl ZmqFd {
    pub(crate) fn number(&self) -> RawFd {
        self.0
    }
}

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
    pub(crate) const ENOTSUP: Self = Self(zmq_sys::errno::ENOTSUP);
    pub(crate) const EADDRINUSE: Self = Self(zmq_sys::errno::EADDRINUSE);
    pub(crate) const EINVAL: Self = Self(zmq_sys::errno::EINVAL);
    pub(crate) const EFSM: Self = Self(zmq_sys::errno::EFSM);
    pub(crate) const ETERM: Self = Self(zmq_sys::errno::ETERM);

    pub(crate) fn raw(self) -> i32 {
        self.0
    }

    /// As an event of a monitor carries it.
    pub(crate) fn from_event(value: u32) -> Self {
        Self(value as c_int)
    }

    #[cold]
    fn last() -> Self {
        // SAFETY: reads this thread's errno.
        Self(unsafe { zmq_errno() })
    }

    /// The errno of an error that says that there are no more descriptors.
    pub(crate) fn of_descriptors(error: &io::Error) -> Option<Self> {
        error.raw_os_error().filter(|errno| [zmq_sys::errno::EMFILE, ENFILE].contains(errno)).map(Self)
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

const INPROC: &str = "inproc://";
/// Bytes that the text of an option is read in, at most.
const MAX_TEXT: usize = 1 << 20;
/// The same on all systems; the zmq crate has no name for it.
const ENFILE: c_int = 23;
/// Not in the zmq crate: it counts as a draft, though libzmq takes it in every build.
const ZAP_ENFORCE_DOMAIN: u32 = 93;
/// Bytes that a frame has room for in itself.
#[cfg(feature = "bytes")]
pub(crate) const INLINE: usize = 33;
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
