//! An XPUB's subscribers, waited for, so that they miss nothing of what is published then.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

use slab::Slab;

use crate::events::Direction;
use crate::kind::XPub;
use crate::multipart::Multipart;
use crate::socket::AsyncZmqSocket;
use crate::subscription::Subscription;
use crate::wait::Wait;
use crate::wakes::Wakes;

impl AsyncZmqSocket<XPub> {
    /// Waits until the subscriptions to exactly this topic are at least so many. What is published then reaches them
    /// all.
    ///
    /// It receives what subscribers send, as [`recv`](Self::recv) does, and counts it, for all topics, until the one that
    /// it waits for is complete; what comes after that is left for `recv` or the next wait. What `recv` takes it cannot
    /// count. Subscribers may send other messages, too: those that it comes across are left with
    /// [`take_passed_over`](Self::take_passed_over).
    ///
    /// By itself an XPUB tells of a topic's first subscriber only. This call, before it is awaited, sets
    /// `ZMQ_XPUB_VERBOSER` on the socket, and it stays set: the socket receives all subscriptions and all ends of one.
    /// Those to one topic that had come before count as one. So to wait for more than one, make the call before
    /// [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what it counted stays counted for the next wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Sub, XPub}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// let publisher = context.socket::<XPub>()?;
    /// let both_listen = publisher.wait_for_subscribers("oslo", 2); // they count from here on
    /// let endpoint = publisher.bind("tcp://127.0.0.1:*")?;
    ///
    /// let subscribers = [context.socket::<Sub>()?, context.socket::<Sub>()?];
    /// for subscriber in &subscribers {
    ///     subscriber.subscribe("oslo")?;
    ///     subscriber.connect(&endpoint)?;
    /// }
    ///
    /// both_listen.await?;
    /// publisher.send(["oslo", "12C"]).await?; // nobody misses it
    /// for subscriber in &subscribers {
    ///     assert_eq!(subscriber.recv().await?.len(), 2);
    /// }
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_subscribers(
        &self,
        topic: impl AsRef<[u8]>,
        count: usize,
    ) -> impl Future<Output = crate::Result<()>> + Unpin {
        let topic = topic.as_ref().to_vec();
        // It fails after termination only, which the first poll tells.
        let _ = self.raw().report_every_subscription();
        let mut wait = Wait::new(self.state(), Direction::Read);
        let listener = Listener::new(self.audience());
        poll_fn(move |cx| {
            loop {
                if self.audience().borrow().count(&topic) >= count {
                    // Others in the line may find the message that would have been for this one.
                    self.state().left(Direction::Read, &mut wait.place(), true);
                    return Poll::Ready(self.state().check());
                }
                let Poll::Ready(message) = self.poll_recv(wait.place(), cx) else {
                    listener.listen(cx.waker());
                    return Poll::Pending;
                };
                let message = message?;
                let others = self.audience().borrow_mut().hear(message);
                drop(others);
            }
        })
    }

    /// The oldest of the messages that [`wait_for_subscribers`](Self::wait_for_subscribers) came across and that were no
    /// subscriptions; `None` if there is none.
    ///
    /// Only an XSUB sends such.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{XPub, XSub}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (publisher, subscriber) = (context.socket::<XPub>()?, context.socket::<XSub>()?);
    /// # publisher.bind("inproc://weather")?;
    /// # subscriber.connect("inproc://weather")?;
    /// # event_loop.block_on(async {
    /// subscriber.send("hello upstream").await?;
    /// subscriber.subscribe("oslo")?;
    /// publisher.wait_for_subscribers("oslo", 1).await?;
    /// assert_eq!(publisher.take_passed_over(), Some("hello upstream".into()));
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_passed_over(&self) -> Option<Multipart> {
        self.audience().borrow_mut().passed_over.pop_front()
    }
}

/// Subscriptions, as far as they were received by who waits for them.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    counts: BTreeMap<Vec<u8>, usize>,
    passed_over: VecDeque<Multipart>,
    /// Whoever of them receives a message, it may be what another one waits for.
    listeners: Slab<Option<Waker>>,
}

impl Audience {
    fn count(&self, topic: &[u8]) -> usize {
        self.counts.get(topic).copied().unwrap_or(0)
    }

    /// Takes a message in, and answers who is to be woken.
    fn hear(&mut self, message: Multipart) -> Wakes {
        match message.into() {
            Subscription::Subscribe(topic) => *self.counts.entry(topic).or_default() += 1,
            Subscription::Unsubscribe(topic) => {
                if let Some(count) = self.counts.get_mut(&topic) {
                    *count -= 1;
                    if *count == 0 {
                        self.counts.remove(&topic);
                    }
                }
            }
            Subscription::Message(message) => self.passed_over.push_back(message),
        }
        self.listeners.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }
}

/// One wait's place among the listeners.
struct Listener<'a> {
    audience: &'a RefCell<Audience>,
    key: usize,
}

impl<'a> Listener<'a> {
    fn new(audience: &'a RefCell<Audience>) -> Self {
        let key = audience.borrow_mut().listeners.insert(None);
        Self { audience, key }
    }

    fn listen(&self, waker: &Waker) {
        let waker = waker.clone();
        let replaced = self.audience.borrow_mut().listeners.get_mut(self.key).map(|held| held.replace(waker));
        // It may be the last of a task, and drop anything.
        drop(replaced);
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let unneeded = self.audience.borrow_mut().listeners.try_remove(self.key);
        drop(unneeded);
    }
}
