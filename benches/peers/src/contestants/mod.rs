//! One file for each contestant.

pub mod async_zmq;
pub mod blocking;
pub mod epoll;
pub mod ours;
pub mod pyzmq;
pub mod tmq;
mod tokio_loop;
pub mod zeromq;
