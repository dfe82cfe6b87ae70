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

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use slab::Slab;
use zmq::SocketType;

use crate::error::Error;
use crate::ffi::{self, Errno};
use crate::kind::{CanSend, Kind};
use crate::multipart::Multipart;
use crate::readiness::{Direction, Place};
use crate::socket::AsyncZmqSocket;
use crate::state::{Standby, State, Wait};

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

    /// Fails if one of the sockets has ended.
    fn check(&mut self, cx: &Context<'_>) -> crate::Result<()> {
        for lane in self.lanes.iter_mut().flatten() {
            lane.end.poll(cx)?;
            lane.hand.end.poll(cx)?;
        }
        self.capture.as_mut().map_or(Ok(()), |capture| capture.end.poll(cx))
    }

    /// Sends what is in hand.
    fn poll_finish(&mut self, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        let mut waits = false;
        for lane in self.lanes.iter_mut().flatten() {
            lane.reading.leave();
            waits |= lane.poll_hand(&self.control, cx)?.is_pending();
        }
        if let Some(capture) = &mut self.capture {
            waits |= capture.poll_empty(cx)?.is_pending();
        }
        if waits {
            return Poll::Pending;
        }
        self.rest();
        Poll::Ready(Ok(()))
    }

    /// Stands in no line any more, where it would hold others up.
    fn rest(&mut self) {
        for lane in self.lanes.iter_mut().flatten() {
            lane.reading.leave();
            lane.hand.rest();
        }
        if let Some(capture) = &mut self.capture {
            capture.rest();
        }
    }
}

impl Future for Proxy<'_> {
    type Output = crate::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        let this = &mut *self;
        this.check(cx)?;
        if this.lanes.iter().all(Option::is_none) {
            let [front, back] = this.kinds;
            let refused = Errno::from(zmq::Error::ENOTSUP).error(format!("forward between a {front:?} and a {back:?}"));
            return Poll::Ready(Err(refused));
        }
        this.control.listen(this.listener, cx.waker());
        match this.control.order() {
            Order::Stop => return this.poll_finish(cx),
            Order::Pause => {
                this.rest();
                return Poll::Pending;
            }
            Order::Run => {}
        }
        // One message each in turns, until both directions have none, no room, or no budget left.
        let mut busy = [true; 2];
        while busy.contains(&true) {
            for (lane, busy) in this.lanes.iter_mut().zip(&mut busy).filter(|(_, busy)| **busy) {
                *busy = match lane {
                    Some(lane) => lane.poll_one(this.capture.as_mut(), &this.control, cx)?.is_ready(),
                    None => false,
                };
            }
        }
        Poll::Pending
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

/// Pauses, resumes and stops a [`Proxy`] from another task on its loop, and tells what went through it
/// (`zmq_proxy_steerable`).
///
/// Cheap to clone; all clones are the same control. It can be made before the proxy, and go from a proxy that was dropped
/// to the next. If several have it at a time, it steers all, and counts what goes through any of them.
///
/// # Examples
///
/// ```
/// use calloop_zmq::ProxyControl;
/// let control = ProxyControl::new();
/// let elsewhere = control.clone(); // the same control
/// elsewhere.pause();
/// control.resume();
/// assert_eq!(control.front_to_back().messages, 0);
/// ```
#[derive(Clone, Default)]
pub struct ProxyControl {
    shared: Rc<Shared>,
}

impl ProxyControl {
    /// Creates a control that lets its proxy run.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::ProxyControl;
    /// let control = ProxyControl::new(); // for `proxy(&front, &back).control(&control)`
    /// # drop(control);
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is received or sent any more, until it is [resumed](Self::resume). Back pressure does the rest.
    ///
    /// A message in hand stays in hand.
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
    /// # let control = ProxyControl::new();
    /// # let forwarding = proxy(&front, &back).control(&control);
    /// # let work = async {
    /// control.pause();
    /// source.send("waits").await?;
    /// let waits = context.timeout(std::time::Duration::from_millis(2), drain.recv());
    /// assert!(waits.await.is_err(), "nothing passes");
    /// # control.stop();
    /// # calloop_zmq::Result::Ok(())
    /// # };
    /// # futures::try_join!(forwarding, work)?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pause(&self) {
        self.give(Order::Pause);
    }

    /// Ends a [pause](Self::pause).
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
    /// # let control = ProxyControl::new();
    /// # let forwarding = proxy(&front, &back).control(&control);
    /// # let work = async {
    /// # control.pause();
    /// source.send("waits").await?;
    /// control.resume();
    /// assert_eq!(drain.recv().await?, "waits".into());
    /// # control.stop();
    /// # calloop_zmq::Result::Ok(())
    /// # };
    /// # futures::try_join!(forwarding, work)?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(&self) {
        self.give(Order::Run);
    }

    /// Ends the proxy, paused or not: it answers `Ok`. There is no way back.
    ///
    /// Nothing is received any more. A message in hand goes out first, and that may wait for the one who is to receive
    /// it: drop the proxy if that lasts too long.
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
    /// control.stop();
    /// proxy(&front, &back).control(&control).await?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self) {
        self.give(Order::Stop);
    }

    /// What went from the first socket to the second.
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
    /// # let control = ProxyControl::new();
    /// # let forwarding = proxy(&front, &back).control(&control);
    /// # let work = async {
    /// source.send("hello").await?;
    /// drain.recv().await?;
    /// assert_eq!(control.front_to_back().messages, 1);
    /// # control.stop();
    /// # calloop_zmq::Result::Ok(())
    /// # };
    /// # futures::try_join!(forwarding, work)?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn front_to_back(&self) -> Traffic {
        self.shared.front_to_back.get()
    }

    /// What went from the second socket to the first.
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
    /// # let control = ProxyControl::new();
    /// # let forwarding = proxy(&front, &back).control(&control);
    /// # let work = async {
    /// source.send("hello").await?;
    /// drain.recv().await?;
    /// assert_eq!(control.back_to_front().messages, 0); // a PUSH receives nothing
    /// # control.stop();
    /// # calloop_zmq::Result::Ok(())
    /// # };
    /// # futures::try_join!(forwarding, work)?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn back_to_front(&self) -> Traffic {
        self.shared.back_to_front.get()
    }

    fn count(&self, way: Way, count: impl FnOnce(&mut Traffic)) {
        let cell = match way {
            Way::FrontToBack => &self.shared.front_to_back,
            Way::BackToFront => &self.shared.back_to_front,
        };
        let mut traffic = cell.get();
        count(&mut traffic);
        cell.set(traffic);
    }

    fn order(&self) -> Order {
        self.shared.order.get()
    }

    fn give(&self, order: Order) {
        if self.order() != Order::Stop {
            self.shared.order.set(order);
        }
        let listeners: Vec<Waker> =
            self.shared.listeners.borrow().iter().filter_map(|(_, waker)| waker.clone()).collect();
        listeners.into_iter().for_each(Waker::wake);
    }

    fn join(&self) -> usize {
        self.shared.listeners.borrow_mut().insert(None)
    }

    fn listen(&self, listener: usize, waker: &Waker) {
        let mut listeners = self.shared.listeners.borrow_mut();
        let unneeded = match listeners.get_mut(listener) {
            Some(Some(held)) if held.will_wake(waker) => None,
            Some(held) => held.replace(waker.clone()),
            None => None,
        };
        // It may be the last of a task, and drop anything.
        drop(listeners);
        drop(unneeded);
    }

    fn leave(&self, listener: usize) {
        let unneeded = self.shared.listeners.borrow_mut().try_remove(listener);
        drop(unneeded);
    }
}

impl fmt::Debug for ProxyControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyControl")
            .field("order", &self.order())
            .field("front_to_back", &self.front_to_back())
            .field("back_to_front", &self.back_to_front())
            .finish_non_exhaustive()
    }
}

/// What went through a proxy in one direction.
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
/// # let control = ProxyControl::new();
/// # let forwarding = proxy(&front, &back).control(&control);
/// # let work = async {
/// source.send(["oslo", "12C"]).await?;
/// drain.recv().await?;
/// let traffic = control.front_to_back();
/// assert_eq!((traffic.messages, traffic.bytes, traffic.undeliverable), (1, 7, 0));
/// # control.stop();
/// # calloop_zmq::Result::Ok(())
/// # };
/// # futures::try_join!(forwarding, work)?;
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages taken up: sent, in hand, or undeliverable.
    pub messages: u64,
    /// The bytes in their frames.
    pub bytes: u64,
    /// Messages among them that could not be sent and were dropped. What libzmq itself drops, as a ROUTER that is not
    /// mandatory does, nobody can count.
    pub undeliverable: u64,
}

/// What a control and its proxies share.
#[derive(Default)]
struct Shared {
    order: Cell<Order>,
    front_to_back: Cell<Traffic>,
    back_to_front: Cell<Traffic>,
    /// The proxies under this control.
    listeners: RefCell<Slab<Option<Waker>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Run,
    Pause,
    Stop,
}

/// One direction of a proxy.
struct Lane<'a> {
    from: &'a dyn Port,
    reading: Wait<'a>,
    end: Standby<'a>,
    hand: Hand<'a>,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    FrontToBack,
    BackToFront,
}

impl<'a> Lane<'a> {
    fn new(from: &'a dyn Port, to: &'a dyn Port, way: Way) -> Self {
        Self {
            from,
            reading: Wait::new(from.state(), Direction::Read),
            end: Standby::new(from.state()),
            hand: Hand::new(to),
            way,
        }
    }

    /// Forwards one message. Where that has to wait, the lane stands in one line and no other.
    #[inline]
    fn poll_one(
        &mut self,
        mut capture: Option<&mut Hand<'a>>,
        control: &ProxyControl,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        if self.reading.is_uncalled(cx) {
            return Poll::Pending;
        }
        if self.poll_room(capture.as_deref_mut(), control, cx)?.is_pending() {
            // Called to receive: that is for the next one now.
            self.reading.leave();
            return Poll::Pending;
        }
        let message = &mut self.hand.message;
        if self.from.poll_recv_into(message, self.reading.place(), cx)?.is_pending() {
            self.hand.knows_room = false;
            if let Some(capture) = capture {
                capture.knows_room = false;
            }
            return Poll::Pending;
        }
        self.hand.is_full = true;
        control.count(self.way, |traffic| {
            traffic.messages += 1;
            traffic.bytes += message.iter().map(|frame| frame.len() as u64).sum::<u64>();
        });
        if let Some(capture) = capture {
            capture.copy(message);
            // If it waits, so does the next message.
            if let Poll::Ready(Err(error)) = capture.poll_empty(cx) {
                return Poll::Ready(Err(error));
            }
        }
        self.poll_hand(control, cx)
    }

    /// Makes sure that a message can be sent.
    #[inline]
    fn poll_room(
        &mut self,
        capture: Option<&mut Hand<'a>>,
        control: &ProxyControl,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        ready!(self.poll_hand(control, cx))?;
        ready!(self.hand.poll_room(cx))?;
        match capture {
            Some(capture) => {
                ready!(capture.poll_empty(cx))?;
                capture.poll_room(cx)
            }
            None => Poll::Ready(Ok(())),
        }
    }

    /// Sends what is in hand.
    #[inline]
    fn poll_hand(&mut self, control: &ProxyControl, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        if ready!(self.hand.poll_empty(cx))? == Outcome::Undeliverable {
            control.count(self.way, |traffic| traffic.undeliverable += 1);
        }
        Poll::Ready(Ok(()))
    }
}

/// The sending end of a lane, or a capture: it has a message in hand only while that waits for room.
struct Hand<'a> {
    to: &'a dyn Port,
    sending: Wait<'a>,
    end: Standby<'a>,
    /// Its room is used again for the next message.
    message: Multipart,
    is_full: bool,
    /// `POLLOUT` was there when it was last asked, and no send has failed since.
    knows_room: bool,
}

impl<'a> Hand<'a> {
    fn new(to: &'a dyn Port) -> Self {
        Self {
            to,
            sending: Wait::new(to.state(), Direction::Write),
            end: Standby::new(to.state()),
            message: Multipart::new(),
            is_full: false,
            knows_room: false,
        }
    }

    /// Sends the message in hand, if there is one.
    #[inline]
    fn poll_empty(&mut self, cx: &Context<'_>) -> Poll<crate::Result<Outcome>> {
        // What a proxy before this one had in hand is with the socket. It goes first.
        if !self.is_full && (self.knows_room || self.to.holds_nothing()) {
            return Poll::Ready(Ok(Outcome::Sent));
        }
        if self.sending.is_uncalled(cx) {
            return Poll::Pending;
        }
        let sent = if self.is_full {
            self.to.poll_send(&mut self.message, self.sending.place(), cx)
        } else {
            self.to.poll_held(self.sending.place(), cx)
        };
        let outcome = match sent {
            Poll::Ready(Ok(())) => Outcome::Sent,
            Poll::Ready(Err(error)) if is_for_nobody(&error) => Outcome::Undeliverable,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                self.knows_room = false;
                return Poll::Pending;
            }
        };
        // What libzmq has of it is the last frame; the others are here in a second reference, and are not to be kept until
        // the next message comes.
        if self.message.len() > 1 || outcome == Outcome::Undeliverable {
            self.message.clear();
        }
        self.is_full = false;
        Poll::Ready(Ok(outcome))
    }

    /// Waits for room, with nothing in hand.
    #[inline]
    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        if self.knows_room {
            return Poll::Ready(Ok(()));
        }
        if self.sending.is_uncalled(cx) {
            return Poll::Pending;
        }
        ready!(self.to.poll_events(Direction::Write, self.sending.place(), cx))?;
        self.knows_room = true;
        Poll::Ready(Ok(()))
    }

    /// Takes a copy in hand, whose frames are the same.
    fn copy(&mut self, message: &mut Multipart) {
        self.message.clear();
        self.message.extend(message.iter_mut().map(ffi::share));
        self.is_full = true;
    }

    fn rest(&mut self) {
        self.sending.leave();
        self.knows_room = false;
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        if self.is_full {
            self.to.hold(std::mem::take(&mut self.message));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    Undeliverable,
}

/// A socket of any kind.
trait Port {
    fn state(&self) -> &Rc<State>;
    fn kind(&self) -> SocketType;
    fn poll_recv_into(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>>;
    fn poll_send(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>>;
    fn poll_events(&self, direction: Direction, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>>;
    /// Sends what its Sink holds.
    fn poll_held(&self, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>>;
    fn holds_nothing(&self) -> bool;
    fn hold(&self, message: Multipart);
}

impl<K: Kind> Port for AsyncZmqSocket<K> {
    fn state(&self) -> &Rc<State> {
        self.state()
    }

    fn kind(&self) -> SocketType {
        self.transmitter().kind()
    }

    fn poll_recv_into(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_recv_into(message, place, cx)
    }

    fn poll_send(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_send(message, place, cx)
    }

    fn poll_events(&self, direction: Direction, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_events(direction, place, cx)
    }

    fn poll_held(&self, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_outbox(place, cx)
    }

    fn holds_nothing(&self) -> bool {
        self.outbox().is_empty()
    }

    fn hold(&self, message: Multipart) {
        self.outbox().push(message);
    }
}

/// True if the first receives and the second sends, as far as that is known before the program runs.
const fn may_forward(from: Option<SocketType>, to: Option<SocketType>) -> bool {
    use SocketType::{PUB, PULL, PUSH, REP, REQ, SUB};
    !matches!(from, Some(PUB | PUSH | REQ | REP)) && !matches!(to, Some(SUB | PULL | REQ | REP))
}

/// True if the message that met this error can never be sent, and the next one may.
fn is_for_nobody(error: &Error) -> bool {
    matches!(error, Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. } | Error::FrameCount { .. })
}
