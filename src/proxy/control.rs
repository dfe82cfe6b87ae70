//! Who steers a proxy, and what went through it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;

#[cfg(doc)]
use crate::proxy::Proxy;

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

    pub(super) fn count(&self, way: Way, count: impl FnOnce(&mut Traffic)) {
        let cell = match way {
            Way::FrontToBack => &self.shared.front_to_back,
            Way::BackToFront => &self.shared.back_to_front,
        };
        let mut traffic = cell.get();
        count(&mut traffic);
        cell.set(traffic);
    }

    pub(super) fn order(&self) -> Order {
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

    pub(super) fn join(&self) -> usize {
        self.shared.listeners.borrow_mut().insert(None)
    }

    pub(super) fn listen(&self, listener: usize, waker: &Waker) {
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

    pub(super) fn leave(&self, listener: usize) {
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
pub(super) enum Order {
    #[default]
    Run,
    Pause,
    Stop,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    FrontToBack,
    BackToFront,
}
