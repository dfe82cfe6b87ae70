//! What happens to sockets, told to those who collect events: the feature `tracing`. Without it nothing here is left.
//!
//! A subscriber is foreign code, as a waker is: it may come back to the socket, or panic. So nothing is borrowed where
//! something is told, an attempt that failed is told of after its task has parked (what the subscriber swallows then is
//! looked after like anything else that is swallowed), and a panic goes no further than here: it would abort a drop, or
//! end a dispatch.

use crate::endpoint::EndpointCall;
use crate::events::Direction;

pub(crate) use collected::{Life, Side, Trace, slow_end};

/// What happened to a socket. No payload is ever among it.
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "nobody listens"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    Opened,
    Adopted,
    Endpoint(EndpointCall, &'a str),
    Parked(Direction),
    Woken(Direction),
    /// Parked though there may be more: its budget of this turn is used up.
    Yielded(Direction),
    Closed,
    /// Taken out of the loop, and given back.
    Released,
}

#[cfg(feature = "tracing")]
mod collected {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU64, Ordering};

    use zmq::SocketType;

    use super::Event;
    use crate::events::Direction;

    /// The socket that events are about.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Trace {
        socket: u64,
        kind: SocketType,
    }

    impl Trace {
        pub(crate) fn new(kind: SocketType) -> Self {
            static COUNT: AtomicU64 = AtomicU64::new(1);
            Self { socket: COUNT.fetch_add(1, Ordering::Relaxed), kind }
        }

        pub(crate) fn tell(self, event: Event<'_>) {
            macro_rules! tell {
                ($text:expr $(, $field:ident)*) => {
                    tracing::trace!(target: TARGET, socket = self.socket, kind = ?self.kind, $($field,)* "{}", $text)
                };
            }
            quietly(|| match event {
                Event::Opened => tell!("open"),
                Event::Adopted => tell!("adopt"),
                Event::Endpoint(call, endpoint) => tell!(call.name(), endpoint),
                Event::Parked(direction) => with_name(direction, |direction| tell!("park", direction)),
                Event::Woken(direction) => with_name(direction, |direction| tell!("wake", direction)),
                Event::Yielded(direction) => with_name(direction, |direction| tell!("yield", direction)),
                Event::Closed => tell!("close"),
                Event::Released => tell!("release"),
            });
        }

        pub(crate) fn side(self, direction: Direction) -> Side {
            Side(Some((self, direction)))
        }
    }

    /// Where a waker comes from; by default, from no socket.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Side(Option<(Trace, Direction)>);

    impl Side {
        pub(crate) fn woken(self) {
            if let Some((trace, direction)) = self.0 {
                trace.tell(Event::Woken(direction));
            }
        }
    }

    /// A socket's time in the loop. Tells its end when dropped.
    #[derive(Debug)]
    pub(crate) struct Life {
        trace: Trace,
        released: bool,
    }

    impl Life {
        pub(crate) fn new(trace: Trace) -> Self {
            Self { trace, released: false }
        }

        /// It ends without the socket being closed.
        pub(crate) fn release(mut self) {
            self.released = true;
        }
    }

    impl Drop for Life {
        fn drop(&mut self) {
            self.trace.tell(if self.released { Event::Released } else { Event::Closed });
        }
    }

    /// A context does not end for long.
    pub(crate) fn slow_end(open_sockets: usize) {
        quietly(|| tracing::warn!(target: TARGET, open_sockets, "the ZeroMQ context does not end yet"));
    }

    fn with_name(direction: Direction, tell: impl FnOnce(&'static str)) {
        tell(match direction {
            Direction::Read => "receive",
            Direction::Write => "send",
        });
    }

    /// What panics in here was reported by the panic hook.
    fn quietly(tell: impl FnOnce()) {
        drop(catch_unwind(AssertUnwindSafe(tell)));
    }

    const TARGET: &str = "calloop_zmq";
}

#[cfg(not(feature = "tracing"))]
mod collected {
    use super::Event;
    use crate::events::Direction;

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Trace;

    #[allow(clippy::unused_self, reason = "as with the feature")]
    impl Trace {
        #[inline]
        pub(crate) fn new(_: zmq::SocketType) -> Self {
            Self
        }

        #[inline]
        pub(crate) fn tell(self, _: Event<'_>) {}

        #[inline]
        pub(crate) fn side(self, _: Direction) -> Side {
            Side(())
        }
    }

    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Side(());

    #[allow(clippy::unused_self, reason = "as with the feature")]
    impl Side {
        #[inline]
        pub(crate) fn woken(self) {}
    }

    #[derive(Debug)]
    pub(crate) struct Life;

    #[allow(clippy::unused_self, reason = "as with the feature")]
    impl Life {
        #[inline]
        pub(crate) fn new(_: Trace) -> Self {
            Self
        }

        #[inline]
        pub(crate) fn release(self) {}
    }

    #[inline]
    pub(crate) fn slow_end(_: usize) {}
}
