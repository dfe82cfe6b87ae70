//! A proxy: everything that one socket receives, another one sends.
//!
//! A direction takes a message up only when the other side has room for it, so that what nobody can take stays where
//! it is, and back pressure goes through. Asking for room costs four times a message, so it is asked once for a burst.
//! If the room, or the budget of a turn, runs out in a burst, one message has been received that cannot be sent: it is
//! in hand, and nothing more is received before it is gone. A proxy that is dropped leaves it with the socket it is for,
//! as a Sink would.
//!
//! Both directions are one future, woken for either. Trying the one that nobody called would cost a system call, and
//! where senders wait for their peers, it would call the other direction in turn, for ever. So each is left alone
//! until the socket that it waits for calls it.

mod control;
mod lane;

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use zmq::SocketType;

#[cfg(doc)]
use crate::error::Error;
use crate::ffi::Errno;
use crate::kind::{CanSend, Kind};
use crate::proxy::control::{Order, Way};
pub use crate::proxy::control::{ProxyControl, Traffic};
use crate::proxy::lane::{Hand, Lane, Port};
use crate::socket::AsyncZmqSocket;

/// Forwards messages between two sockets, in each direction in which one side receives and the other sends: both ways
/// for ROUTER and DEALER or XSUB and XPUB, one way for PULL and PUSH (`zmq_proxy`). If both are the same socket, what it
/// receives it sends.
///
/// (Where nothing is to be steered, counted or captured, a broker is two combinators:
/// `futures::try_join!((&front).forward(&back), (&back).forward(&front))`.)
///
/// REQ and REP are refused: they take turns, and what they have no turn for would be lost. A ROUTER takes the place of a
/// REP here, a DEALER that of a REQ. It is a compile error if there is nothing to forward; for [`Any`](crate::kind::Any),
/// whose kind is known at run time only, the proxy ends with `ENOTSUP` at once.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Dealer, Rep, Req, Router}};
/// use calloop_zmq::{ProxyControl, proxy};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let (front, back) = (context.socket::<Router>()?, context.socket::<Dealer>()?);
/// front.bind("inproc://clients")?;
/// back.bind("inproc://workers")?;
/// # let (client, worker) = (context.socket::<Req>()?, context.socket::<Rep>()?);
/// # client.connect("inproc://clients")?;
/// # worker.connect("inproc://workers")?;
///
/// let control = ProxyControl::new();
/// let broker = proxy(&front, &back).control(&control);
/// let work = async {
///     let reply = async {
///         client.send("6 * 7").await?;
///         client.recv().await
///     };
///     let served = async {
///         let request = worker.recv().await?;
///         worker.send(if request == "6 * 7".into() { "42" } else { "?" }).await?;
///         Ok(())
///     };
///     assert_eq!(futures::try_join!(reply, served)?.0, "42".into());
///     control.stop();
///     Ok(())
/// };
/// # event_loop.block_on(async {
/// futures::try_join!(broker, work)?;
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// assert_eq!((control.front_to_back().messages, control.back_to_front().messages), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn proxy<'a, F: Kind, B: Kind>(front: &'a AsyncZmqSocket<F>, back: &'a AsyncZmqSocket<B>) -> Proxy<'a> {
    const {
        assert!(
            may_forward(F::SOCKET_TYPE, B::SOCKET_TYPE) || may_forward(B::SOCKET_TYPE, F::SOCKET_TYPE),
            "a proxy needs a socket that receives and one that sends, and neither may be a `Req` or a `Rep`"
        );
    };
    Proxy::between(front, back)
}

/// A running proxy, made by [`proxy`]: a future that forwards until it is [stopped](ProxyControl::stop) or one of its
/// sockets ends.
///
/// # Order, room and back pressure
///
/// Messages go whole and in order, and none is taken up before the other side has room (`POLLOUT`). A producer whose
/// messages nobody takes is held up by its own high-water mark, as if the proxy were not there. When the room, or the
/// budget of a turn, runs out in the middle of a burst, one message for each direction is in hand; it goes first when
/// there is room again.
///
/// Where having room depends on the peer (a mandatory ROUTER, an XPUB without drops), one peer that takes nothing holds
/// up what is behind its message, until it takes it or goes. A ROUTER that is not mandatory drops instead.
///
/// Both sockets can go on being used by others, and their [budgets](AsyncZmqSocket::set_budget) hold for the proxy too.
///
/// # Undeliverable messages
///
/// A message that can never be sent does not end the proxy: it is dropped and [counted](Traffic::undeliverable). It is
/// one for a peer that a mandatory ROUTER does not know (`EHOSTUNREACH`), or one for a STREAM that is not of two frames.
///
/// # Errors
///
/// [`Error::Terminated`] when the context of one of the sockets is shut down, as `zmq_proxy` answers `ETERM`;
/// [`Error::LoopGone`].
///
/// # Cancel safety
///
/// Dropping the proxy loses nothing. What it has in hand then stays with the socket that it is for, as what its Sink
/// accepted: the next proxy on it sends it first, its Sink does, and
/// [`take_unsent`](AsyncZmqSocket::take_unsent) gives it back.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, ProxyControl, proxy, kind::{Pull, Push}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let (front, back) = (context.socket::<Pull>()?, context.socket::<Push>()?);
/// # let (source, drain) = (context.socket::<Push>()?, context.socket::<Pull>()?);
/// # front.bind("inproc://in")?;
/// # source.connect("inproc://in")?;
/// # drain.bind("inproc://out")?;
/// # back.connect("inproc://out")?;
/// # event_loop.block_on(async {
/// let control = ProxyControl::new();
/// let forwarding = proxy(&front, &back).control(&control);
/// let work = async {
///     source.send("hello").await?;
///     assert_eq!(drain.recv().await?, "hello".into());
///     control.stop();
///     Ok(())
/// };
/// futures::try_join!(forwarding, work)?;
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Proxy<'a> {
    lanes: [Option<Lane<'a>>; 2],
    capture: Option<Hand<'a>>,
    control: ProxyControl,
    listener: usize,
    kinds: [SocketType; 2],
}

impl<'a> Proxy<'a> {
    fn between(front: &'a dyn Port, back: &'a dyn Port) -> Self {
        let lane = |from: &'a dyn Port, to: &'a dyn Port, way| {
            may_forward(Some(from.kind()), Some(to.kind())).then(|| Lane::new(from, to, way))
        };
        let one_socket = Rc::ptr_eq(front.state(), back.state());
        let control = ProxyControl::new();
        Self {
            lanes: [lane(front, back, Way::FrontToBack), lane(back, front, Way::BackToFront).filter(|_| !one_socket)],
            capture: None,
            listener: control.join(),
            control,
            kinds: [front.kind(), back.kind()],
        }
    }

    /// Sends each message that the proxy takes up to this socket too: a PUB, PUSH, DEALER or PAIR.
    ///
    /// Nothing is copied but frames of up to 33 bytes. The copy goes first, whatever becomes of the message, and if there
    /// is no room for it, the proxy waits: nothing passes uncaptured. A PUB never makes it wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, ProxyControl, proxy, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (front, back) = (context.socket::<Pull>()?, context.socket::<Push>()?);
    /// # let (source, drain) = (context.socket::<Push>()?, context.socket::<Pull>()?);
    /// # front.bind("inproc://in")?;
    /// # source.connect("inproc://in")?;
    /// # drain.bind("inproc://out")?;
    /// # back.connect("inproc://out")?;
    /// # event_loop.block_on(async {
    /// let (tap, listener) = (context.socket::<Push>()?, context.socket::<Pull>()?);
    /// listener.bind("inproc://tap")?;
    /// tap.connect("inproc://tap")?;
    /// # let control = ProxyControl::new();
    /// let forwarding = proxy(&front, &back).capture(&tap)
    /// #   .control(&control)
    /// ;
    /// # let work = async {
    /// #     source.send("hello").await?;
    /// #     assert_eq!(drain.recv().await?, "hello".into());
    /// #     control.stop();
    /// #     Ok(())
    /// # };
    /// # futures::try_join!(forwarding, work)?;
    /// assert_eq!(listener.recv().await?, "hello".into()); // what passed
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn capture<K: CanSend>(mut self, socket: &'a AsyncZmqSocket<K>) -> Self {
        self.capture = Some(Hand::new(socket));
        self
    }

    /// Puts the proxy under this control: whoever has a clone of it pauses, resumes and stops the proxy, and reads its
    /// counters.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, ProxyControl, proxy, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (front, back) = (context.socket::<Pull>()?, context.socket::<Push>()?);
    /// # let (source, drain) = (context.socket::<Push>()?, context.socket::<Pull>()?);
    /// # front.bind("inproc://in")?;
    /// # source.connect("inproc://in")?;
    /// # drain.bind("inproc://out")?;
    /// # back.connect("inproc://out")?;
    /// let control = ProxyControl::new();
    /// let forwarding = proxy(&front, &back).control(&control);
    /// control.stop(); // whoever has a clone of it may
    /// # event_loop.block_on(forwarding, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn control(mut self, control: &ProxyControl) -> Self {
        self.control.leave(self.listener);
        self.control = control.clone();
        self.listener = control.join();
        self
    }

    fn poll_forward(&mut self, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.check(cx)?;
        if self.lanes.iter().all(Option::is_none) {
            let [front, back] = self.kinds;
            let refused = Errno::from(zmq::Error::ENOTSUP).error(format!("forward between a {front:?} and a {back:?}"));
            return Poll::Ready(Err(refused));
        }
        self.control.listen(self.listener, cx.waker());
        match self.control.order() {
            Order::Stop => return self.poll_finish(cx),
            Order::Pause => {
                self.rest();
                return Poll::Pending;
            }
            Order::Run => {}
        }
        // One message each in turns, until both directions have none, no room, or no budget left.
        let mut busy = [true; 2];
        while busy.contains(&true) {
            for (lane, busy) in self.lanes.iter_mut().zip(&mut busy).filter(|(_, busy)| **busy) {
                *busy = match lane {
                    Some(lane) => lane.poll_one(self.capture.as_mut(), &self.control, cx)?.is_ready(),
                    None => false,
                };
            }
        }
        Poll::Pending
    }

    /// Fails if one of the sockets has ended.
    fn check(&mut self, cx: &Context<'_>) -> crate::Result<()> {
        for lane in self.lanes.iter_mut().flatten() {
            lane.check(cx)?;
        }
        self.capture.as_mut().map_or(Ok(()), |capture| capture.check(cx))
    }

    /// Sends what is in hand.
    fn poll_finish(&mut self, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        let mut waits = false;
        for lane in self.lanes.iter_mut().flatten() {
            waits |= lane.poll_finish(&self.control, cx)?.is_pending();
        }
        if let Some(capture) = &mut self.capture {
            waits |= capture.poll_empty(cx)?.is_pending();
        }
        if waits { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Stands in no line any more, where it would hold others up.
    fn rest(&mut self) {
        for lane in self.lanes.iter_mut().flatten() {
            lane.rest();
        }
        if let Some(capture) = &mut self.capture {
            capture.rest();
        }
    }
}

impl Future for Proxy<'_> {
    type Output = crate::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        let polled = self.poll_forward(cx);
        if polled.is_ready() {
            // It may be kept, and is not to hold up others in the lines that it stands in.
            self.rest();
        }
        polled
    }
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        self.control.leave(self.listener);
    }
}

impl fmt::Debug for Proxy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [front, back] = self.kinds;
        f.debug_struct("Proxy")
            .field("front", &front)
            .field("back", &back)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// True if the first receives and the second sends, as far as that is known before the program runs.
const fn may_forward(from: Option<SocketType>, to: Option<SocketType>) -> bool {
    use SocketType::{PUB, PULL, PUSH, REP, REQ, SUB};
    !matches!(from, Some(PUB | PUSH | REQ | REP)) && !matches!(to, Some(SUB | PULL | REQ | REP))
}
