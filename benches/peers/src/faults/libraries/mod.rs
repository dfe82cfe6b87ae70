//! One file for each library.

mod async_zmq;
mod ours;
mod tmq;
mod tokio_loop;

pub use async_zmq::AsyncZmq;
pub use ours::Ours;
pub use tmq::Tmq;
