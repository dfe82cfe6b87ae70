//! `zmq_sys`, but for those of libzmq's calls that may get a socket of the model: these answer for it.

#![allow(unsafe_code, reason = "they are called from C's side of the border")]
#![allow(clippy::missing_safety_doc, reason = "as in libzmq")]
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "as in ffi.rs")]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::rc::Rc;
use std::slice;

use super::socket::{ModelSocket, Refusal};
use crate::ffi;

pub(crate) use ::zmq_sys::*;

thread_local! {
    static ERRNO: Cell<c_int> = const { Cell::new(0) };
}

/// A socket of the crate that stands on `model`, which must live longer.
pub(crate) fn socket(model: &Rc<ModelSocket>) -> ffi::Socket {
    let tagged = Rc::as_ptr(model).wrapping_byte_add(TAG).cast_mut().cast();
    // SAFETY: it is neither used but through the calls below, nor dropped: see `is_model` in ffi.rs.
    ffi::Socket::new(unsafe { zmq::Socket::from_raw(tagged) })
}

/// True if this is no socket of libzmq's. Those are aligned.
pub(crate) fn is_model(socket: *mut c_void) -> bool {
    socket.addr() & TAG != 0
}

/// The model that this is, if it is one.
fn model<'a>(socket: *mut c_void) -> Option<&'a ModelSocket> {
    let untagged: *const ModelSocket = socket.wrapping_byte_sub(TAG).cast();
    // SAFETY: it was made by `socket`, whose caller keeps the model alive.
    is_model(socket).then(|| unsafe { &*untagged })
}

fn answer(done: Result<(), Refusal>) -> c_int {
    let errno = match done {
        Ok(()) => return 0,
        Err(Refusal::Again) => errno::EAGAIN,
        Err(Refusal::Interrupted) => errno::EINTR,
        Err(Refusal::Terminated) => errno::ETERM,
        Err(Refusal::Unreachable) => errno::EHOSTUNREACH,
    };
    ERRNO.set(errno);
    -1
}

pub(crate) unsafe fn zmq_errno() -> c_int {
    match ERRNO.take() {
        // SAFETY: reads this thread's errno.
        0 => unsafe { ::zmq_sys::zmq_errno() },
        errno => errno,
    }
}

pub(crate) unsafe fn zmq_msg_recv(message: *mut zmq_msg_t, socket: *mut c_void, flags: c_int) -> c_int {
    let Some(model) = model(socket) else {
        // SAFETY: upheld by the caller.
        return unsafe { ::zmq_sys::zmq_msg_recv(message, socket, flags) };
    };
    assert_eq!(flags, ZMQ_DONTWAIT as c_int, "a receive that blocks the loop");
    answer(model.recv().map(|payload| {
        // SAFETY: the message is initialised, the caller's alone, and has room for the payload then.
        unsafe {
            zmq_msg_close(message);
            zmq_msg_init_size(message, payload.len());
            zmq_msg_data(message).cast::<u8>().copy_from_nonoverlapping(payload.as_ptr(), payload.len());
        }
    }))
}

pub(crate) unsafe fn zmq_msg_send(message: *mut zmq_msg_t, socket: *mut c_void, flags: c_int) -> c_int {
    let Some(model) = model(socket) else {
        // SAFETY: upheld by the caller.
        return unsafe { ::zmq_sys::zmq_msg_send(message, socket, flags) };
    };
    assert_ne!(flags & ZMQ_DONTWAIT as c_int, 0, "a send that blocks the loop");
    // SAFETY: the message is initialised and the caller's alone.
    let frame = unsafe { slice::from_raw_parts(zmq_msg_data(message).cast::<u8>(), zmq_msg_size(message)) };
    let sent = model.send(frame, flags & ZMQ_SNDMORE as c_int != 0);
    if sent.is_ok() {
        // SAFETY: as above; what was sent is gone.
        unsafe {
            zmq_msg_close(message);
            zmq_msg_init(message);
        }
    }
    answer(sent)
}

pub(crate) unsafe fn zmq_getsockopt(socket: *mut c_void, option: c_int, value: *mut c_void, size: *mut usize) -> c_int {
    let Some(model) = model(socket) else {
        // SAFETY: upheld by the caller.
        return unsafe { ::zmq_sys::zmq_getsockopt(socket, option, value, size) };
    };
    let number = match option as u32 {
        ZMQ_EVENTS => model.events().map(|events| {
            let bit = |is: bool, bit| if is { bit as c_int } else { 0 };
            bit(events.readable, ZMQ_POLLIN) | bit(events.writable, ZMQ_POLLOUT)
        }),
        ZMQ_TYPE => Ok(model.kind() as c_int),
        ZMQ_IMMEDIATE => Ok(0),
        // No loop watches it, and nobody waits in it.
        ZMQ_FD | ZMQ_RCVTIMEO | ZMQ_SNDTIMEO => Ok(-1),
        _ => panic!("the model has no option {option}"),
    };
    answer(number.map(|number| {
        // SAFETY: all of these are ints, and the caller has room for one.
        unsafe { value.cast::<c_int>().write(number) };
    }))
}

pub(crate) unsafe fn zmq_setsockopt(socket: *mut c_void, option: c_int, value: *const c_void, size: usize) -> c_int {
    if is_model(socket) {
        return 0;
    }
    // SAFETY: upheld by the caller.
    unsafe { ::zmq_sys::zmq_setsockopt(socket, option, value, size) }
}

pub(crate) unsafe extern "C" fn zmq_connect(socket: *mut c_void, endpoint: *const c_char) -> c_int {
    match model(socket) {
        Some(model) => answer(model.endpoint()),
        // SAFETY: upheld by the caller.
        None => unsafe { ::zmq_sys::zmq_connect(socket, endpoint) },
    }
}

const TAG: usize = 1;
