//! ZeroMQ sockets that you `await`, on calloop's event loop.

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod context;
mod error;
mod ffi;
mod hub;
pub mod kind;
mod multipart;
mod readiness;
mod recv;
mod send;
mod sleep;
mod socket;
mod source;
mod state;
mod timer;

pub use context::AsyncZmqContext;
pub use error::{Elapsed, EndpointError, Error, FrameCountError, OsError, Result, SendError};
pub use multipart::{IntoFrame, IntoIter, Multipart};
pub use socket::AsyncZmqSocket;
pub use zmq;
