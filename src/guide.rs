//! A guide in seven short chapters. All of their code runs: it is tested with the crate.
//!
//! | chapter | for you if |
//! |---|---|
//! | [`from_callbacks`] | you know calloop's callbacks, or the ZeroMQ source in its book |
//! | [`patterns`] | you want to see ZeroMQ's patterns written with this crate |
//! | [`cancellation`] | you use `timeout`, `select!`, or drop futures in other ways |
//! | [`shutdown`] | your program shall end by itself, and lose nothing |
//! | [`performance`] | you want to know what costs what, and which knobs there are |
//! | [`security`] | strangers can reach your sockets |
//! | [`porting`] | you come from tmq, pyzmq, or the bare zmq crate |
//!
//! Questions that come up first are answered on the [crate's page](crate#questions).

#[doc = include_str!("guide/from_callbacks.md")]
pub mod from_callbacks {}

#[doc = include_str!("guide/patterns.md")]
pub mod patterns {}

#[doc = include_str!("guide/cancellation.md")]
pub mod cancellation {}

#[doc = include_str!("guide/shutdown.md")]
pub mod shutdown {}

#[doc = include_str!("guide/performance.md")]
pub mod performance {}

#[doc = include_str!("guide/security.md")]
pub mod security {}

#[doc = include_str!("guide/porting.md")]
pub mod porting {}
