//! Subscriptions: made by a SUB, received by an XPUB and sent by an XSUB in the form that they have on the wire.

use std::fmt;

#[cfg(doc)]
use crate::error::Error;
use crate::ffi::Errno;
use crate::kind::{Sub, XSub};
use crate::multipart::Multipart;
use crate::socket::AsyncZmqSocket;

/// A message that an [`XPub`](crate::kind::XPub) received, or that an [`XSub`] sends (RFC 29).
///
/// On the wire a subscription is one frame: a byte 1, or 0 to take it back, then the topic. All else that comes upstream is
/// a message that an XSUB sent. Unless told otherwise (`set_xpub_verbose`), libzmq passes only the first subscription to a
/// topic on, and only the end of the last.
///
/// # Examples
///
/// A publisher that begins when the first subscriber has come:
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Sub, XPub}};
/// use calloop_zmq::Subscription;
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let (publisher, subscriber) = (context.socket::<XPub>()?, context.socket::<Sub>()?);
/// # publisher.bind("inproc://weather")?;
/// # subscriber.connect("inproc://weather")?;
/// subscriber.subscribe("oslo")?;
/// # event_loop.block_on(async {
/// match publisher.recv().await?.into() {
///     Subscription::Subscribe(topic) => publisher.send([topic, b"12C".to_vec()]).await?,
///     Subscription::Unsubscribe(_) | Subscription::Message(_) => {}
/// }
/// assert_eq!(subscriber.recv().await?, ["oslo", "12C"].into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Subscription {
    /// Somebody wants the messages whose first frame begins with this topic; with an empty one, all.
    Subscribe(Vec<u8>),
    /// Nobody wants them any more.
    Unsubscribe(Vec<u8>),
    /// A message of the user's own.
    Message(Multipart),
}

impl From<Multipart> for Subscription {
    fn from(message: Multipart) -> Self {
        let topic = match &*message {
            [frame] => frame.split_first().map(|(first, topic)| (*first, topic.to_vec())),
            _ => None,
        };
        match topic {
            Some((SUBSCRIBE, topic)) => Self::Subscribe(topic),
            Some((UNSUBSCRIBE, topic)) => Self::Unsubscribe(topic),
            _ => Self::Message(message),
        }
    }
}

impl From<Subscription> for Multipart {
    fn from(subscription: Subscription) -> Self {
        let with_first = |first, mut topic: Vec<u8>| {
            topic.insert(0, first);
            topic.into()
        };
        match subscription {
            Subscription::Subscribe(topic) => with_first(SUBSCRIBE, topic),
            Subscription::Unsubscribe(topic) => with_first(UNSUBSCRIBE, topic),
            Subscription::Message(message) => message,
        }
    }
}

/// Prints topics as text, and of a message no more than [`Multipart`] does.
impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscribe(topic) => write!(f, "Subscribe({})", topic.escape_ascii()),
            Self::Unsubscribe(topic) => write!(f, "Unsubscribe({})", topic.escape_ascii()),
            Self::Message(message) => f.debug_tuple("Message").field(message).finish(),
        }
    }
}

impl AsyncZmqSocket<Sub> {
    /// Subscribes to the messages whose first frame begins with `topic`; an empty topic is all of them.
    ///
    /// Subscriptions add up, and the same one made twice must be taken back twice (`ZMQ_SUBSCRIBE`).
    ///
    /// # Errors
    ///
    /// [`Error::Terminated`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, Subscription, kind::{Sub, XPub}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (publisher, subscriber) = (context.socket::<XPub>()?, context.socket::<Sub>()?);
    /// # publisher.bind("inproc://weather")?;
    /// # subscriber.connect("inproc://weather")?;
    /// # event_loop.block_on(async {
    /// subscriber.subscribe("oslo")?;
    /// # assert_eq!(Subscription::from(publisher.recv().await?), Subscription::Subscribe(b"oslo".to_vec()));
    /// publisher.send(["oslo", "12C"]).await?;
    /// assert_eq!(subscriber.recv().await?, ["oslo", "12C"].into());
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> crate::Result<()> {
        self.state().check()?;
        self.raw().get_ref().set_subscribe(topic.as_ref()).map_err(|error| Errno::from(error).error("subscribe"))
    }

    /// Takes a subscription back (`ZMQ_UNSUBSCRIBE`). A message that was already on its way may still be received.
    ///
    /// # Errors
    ///
    /// [`Error::Terminated`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, Subscription, kind::{Sub, XPub}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (publisher, subscriber) = (context.socket::<XPub>()?, context.socket::<Sub>()?);
    /// # publisher.bind("inproc://weather")?;
    /// # subscriber.connect("inproc://weather")?;
    /// # event_loop.block_on(async {
    /// subscriber.subscribe("oslo")?;
    /// subscriber.unsubscribe("oslo")?;
    /// # publisher.recv().await?;
    /// let news = Subscription::from(publisher.recv().await?);
    /// assert_eq!(news, Subscription::Unsubscribe(b"oslo".to_vec()));
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> crate::Result<()> {
        self.state().check()?;
        self.raw().get_ref().set_unsubscribe(topic.as_ref()).map_err(|error| Errno::from(error).error("unsubscribe"))
    }
}

impl AsyncZmqSocket<XSub> {
    /// Sends the subscription message for `topic`: a byte 1, then the topic (RFC 29). libzmq never lets it wait.
    ///
    /// # Errors
    ///
    /// [`Error::Terminated`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, Subscription, kind::{XSub, XPub}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (publisher, subscriber) = (context.socket::<XPub>()?, context.socket::<XSub>()?);
    /// # publisher.bind("inproc://weather")?;
    /// # subscriber.connect("inproc://weather")?;
    /// # event_loop.block_on(async {
    /// subscriber.subscribe("oslo")?;
    /// # assert_eq!(Subscription::from(publisher.recv().await?), Subscription::Subscribe(b"oslo".to_vec()));
    /// publisher.send(["oslo", "12C"]).await?;
    /// assert_eq!(subscriber.recv().await?, ["oslo", "12C"].into());
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> crate::Result<()> {
        self.try_send(Subscription::Subscribe(topic.as_ref().to_vec()))?;
        Ok(())
    }

    /// Sends the unsubscription message for `topic`: a byte 0, then the topic (RFC 29).
    ///
    /// # Errors
    ///
    /// [`Error::Terminated`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, Subscription, kind::{XSub, XPub}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (publisher, subscriber) = (context.socket::<XPub>()?, context.socket::<XSub>()?);
    /// # publisher.bind("inproc://weather")?;
    /// # subscriber.connect("inproc://weather")?;
    /// # event_loop.block_on(async {
    /// subscriber.subscribe("oslo")?;
    /// subscriber.unsubscribe("oslo")?;
    /// # publisher.recv().await?;
    /// let news = Subscription::from(publisher.recv().await?);
    /// assert_eq!(news, Subscription::Unsubscribe(b"oslo".to_vec()));
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> crate::Result<()> {
        self.try_send(Subscription::Unsubscribe(topic.as_ref().to_vec()))?;
        Ok(())
    }
}

const SUBSCRIBE: u8 = 1;
const UNSUBSCRIBE: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_one_frame_that_begins_with_1_or_0() {
        for (message, subscription) in [
            (Multipart::from("\u{1}oslo"), Subscription::Subscribe(b"oslo".to_vec())),
            (Multipart::from("\u{0}oslo"), Subscription::Unsubscribe(b"oslo".to_vec())),
            (Multipart::from("\u{1}"), Subscription::Subscribe(Vec::new())),
            (Multipart::from("\u{0}"), Subscription::Unsubscribe(Vec::new())),
            (Multipart::from("\u{1}\u{1}"), Subscription::Subscribe(vec![1])),
        ] {
            let copy: Multipart = message.iter().map(|frame| &frame[..]).collect();
            assert_eq!(Subscription::from(copy), subscription);
            assert_eq!(Multipart::from(subscription), message);
        }
    }

    #[test]
    fn all_else_is_a_message_of_the_users_own() {
        for message in [
            Multipart::from(""),
            Multipart::from("\u{2}oslo"),
            Multipart::from("oslo"),
            Multipart::from(["\u{1}oslo", "more"]),
            Multipart::new(),
        ] {
            let copy: Multipart = message.iter().map(|frame| &frame[..]).collect();
            let Subscription::Message(same) = Subscription::from(copy) else { panic!("{message:?}") };
            assert_eq!(same, message);
            assert_eq!(Multipart::from(Subscription::Message(same)), message);
        }
    }

    #[test]
    fn debug_shows_topics_and_no_payload() {
        let debug = |text: &str| format!("{:?}", Subscription::from(Multipart::from(text)));
        assert_eq!(debug("\u{1}oslo\n"), r"Subscribe(oslo\n)");
        assert_eq!(debug("secret"), "Message(Multipart[6])");
    }
}
