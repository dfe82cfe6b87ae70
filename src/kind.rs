//! The kinds of sockets, as types: a program that sends on a PULL does not compile.
//!
//! Each kind is a type that is never made, only named: `AsyncZmqSocket<Pull>`. The directions it has are its
//! [`CanRecv`] and [`CanSend`].
//!
//! # Examples
//!
//! ```
//! use calloop_zmq::kind::{Any, Kind, Pull};
//! assert_eq!(Pull::SOCKET_TYPE, Some(zmq::PULL));
//! assert_eq!(Any::SOCKET_TYPE, None);
//! ```

use zmq::SocketType;

/// A kind of ZeroMQ socket. Sealed: libzmq knows no others.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{AsyncZmqSocket, kind::Kind};
///
/// fn endpoint<K: Kind>(socket: &AsyncZmqSocket<K>) -> calloop_zmq::Result<String> {
///     socket.bind("tcp://127.0.0.1:*") // what every kind can do
/// }
/// # let _ = endpoint::<calloop_zmq::kind::Pull>;
/// ```
pub trait Kind: sealed::Sealed + 'static {
    /// libzmq's name for the kind; `None` for [`Any`], where it is known at run time only.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::kind::{Kind, Req};
    /// assert_eq!(Req::SOCKET_TYPE, Some(zmq::REQ));
    /// ```
    const SOCKET_TYPE: Option<SocketType>;
}

/// A kind that receives: all but [`Pub`] and [`Push`].
///
/// # Examples
///
/// ```
/// use calloop_zmq::{AsyncZmqSocket, Multipart, kind::CanRecv};
///
/// async fn newest<K: CanRecv>(socket: &AsyncZmqSocket<K>) -> calloop_zmq::Result<Multipart> {
///     let mut newest = socket.recv().await?;
///     while let Some(newer) = socket.try_recv()? {
///         newest = newer;
///     }
///     Ok(newest)
/// }
/// # let _ = newest::<calloop_zmq::kind::Pull>;
/// ```
#[diagnostic::on_unimplemented(
    message = "a `{Self}` socket cannot receive",
    label = "this socket only sends",
    note = "sockets that receive: Pair, Sub, Req, Rep, Dealer, Router, Pull, XPub, XSub, Stream, Any"
)]
pub trait CanRecv: Kind {}

/// A kind that sends: all but [`Sub`] and [`Pull`].
///
/// # Examples
///
/// ```
/// use calloop_zmq::{AsyncZmqSocket, kind::CanSend};
///
/// async fn greet<K: CanSend>(socket: &AsyncZmqSocket<K>) -> calloop_zmq::Result<()> {
///     Ok(socket.send("hello").await?)
/// }
/// # let _ = greet::<calloop_zmq::kind::Push>;
/// ```
#[diagnostic::on_unimplemented(
    message = "a `{Self}` socket cannot send",
    label = "this socket only receives",
    note = "sockets that send: Pair, Pub, Req, Rep, Dealer, Router, Push, XPub, XSub, Stream, Any"
)]
pub trait CanSend: Kind {}

/// `ZMQ_PAIR`: exclusive pair (RFC 31). One peer, both directions, no routing.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::Pair};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let (left, right) = (context.socket::<Pair>()?, context.socket::<Pair>()?);
/// # left.bind("inproc://ping")?;
/// # right.connect("inproc://ping")?;
/// # event_loop.block_on(async {
/// left.send("ping").await?;
/// assert_eq!(right.recv().await?, "ping".into());
/// right.send("pong").await?;
/// assert_eq!(left.recv().await?, "pong".into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Pair {}

/// `ZMQ_PUB`: publishes to every subscriber whose subscription matches the start of the first frame (RFC 29).
///
/// Never waits (unless `ZMQ_XPUB_NODROP` is set): a subscriber whose queue is full misses the message, and so does one
/// whose subscription has not arrived yet. To see subscriptions arrive, or to
/// [wait for them](crate::AsyncZmqSocket::wait_for_subscribers), take an [`XPub`].
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::Pub};
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let publisher = context.socket::<Pub>()?;
/// publisher.bind("inproc://weather")?;
/// publisher.try_send(["oslo", "12C"])?; // nobody listens, and it does not wait for anybody
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Pub {}

/// `ZMQ_SUB`: receives what it [subscribed](crate::AsyncZmqSocket::subscribe) to (RFC 29). Without a subscription it
/// receives nothing.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Sub, XPub}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let (publisher, subscriber) = (context.socket::<XPub>()?, context.socket::<Sub>()?);
/// # publisher.bind("inproc://weather")?;
/// # subscriber.connect("inproc://weather")?;
/// # event_loop.block_on(async {
/// subscriber.subscribe("os")?;
/// publisher.wait_for_subscribers("os", 1).await?;
/// publisher.send(["rome", "21C"]).await?;
/// publisher.send(["oslo", "12C"]).await?;
/// assert_eq!(subscriber.recv().await?, ["oslo", "12C"].into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Sub {}

/// `ZMQ_REQ`: sends a request, then receives its reply, in turns (RFC 28). Out of turn libzmq answers `EFSM`, at once.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Rep, Req}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let (rep, req) = (context.socket::<Rep>()?, context.socket::<Req>()?);
/// # rep.bind("inproc://time")?;
/// # req.connect("inproc://time")?;
/// # event_loop.block_on(async {
/// req.send("what time is it?").await?;
/// assert!(req.try_send("well?").is_err()); // not before the reply
/// # rep.recv().await?;
/// # rep.send("noon").await?;
/// assert_eq!(req.recv().await?, "noon".into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Req {}

/// `ZMQ_REP`: receives a request, then sends its reply, in turns (RFC 28). Out of turn libzmq answers `EFSM`, at once.
///
/// It never waits to send: libzmq drops a reply to a peer that went away, or whose queue is full, or seemed full a
/// millisecond ago. So leave its send high-water mark at its default of 1000, or above the number of peers' requests.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Rep, Req}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let (rep, req) = (context.socket::<Rep>()?, context.socket::<Req>()?);
/// # rep.bind("inproc://time")?;
/// # req.connect("inproc://time")?;
/// # event_loop.block_on(async {
/// # req.send("what time is it?").await?;
/// let question = rep.recv().await?;
/// rep.send(if question == "what time is it?".into() { "noon" } else { "pardon?" }).await?;
/// # assert_eq!(req.recv().await?, "noon".into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Rep {}

/// `ZMQ_DEALER`: sends round-robin to all peers, receives fair-queued from all (RFC 28). No turns to keep.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Dealer, Rep}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let (rep, dealer) = (context.socket::<Rep>()?, context.socket::<Dealer>()?);
/// # rep.bind("inproc://work")?;
/// # dealer.connect("inproc://work")?;
/// # event_loop.block_on(async {
/// dealer.send(["", "first"]).await?; // the empty frame stands where a REP expects the envelope to end
/// dealer.send(["", "second"]).await?; // no turns
/// # for _ in 0..2 {
/// #     let request = rep.recv().await?;
/// #     rep.send(request).await?;
/// # }
/// assert_eq!(dealer.recv().await?, ["", "first"].into());
/// assert_eq!(dealer.recv().await?, ["", "second"].into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Dealer {}

/// `ZMQ_ROUTER`: puts the sender's routing id in front of each message received, and takes the first frame of each
/// message sent as the peer to send to (RFC 28).
///
/// A message of one frame has no one to go to, and libzmq drops it without a word. So it does with a message to an unknown
/// peer, or to one whose queue is full, unless the socket has
/// `set_router_mandatory(true)`: then a send to an unknown peer is an error and one to a full peer waits.
///
/// If that peer goes, the send ends with `EHOSTUNREACH`. But libzmq sees that a peer has gone only when the messages that
/// came before are received, other peers' too: a task that receives and answers by turns can wait for ever. Answer from
/// another task, or with a [`timeout`](crate::AsyncZmqContext::timeout) around the send.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Dealer, Router}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let (router, dealer) = (context.socket::<Router>()?, context.socket::<Dealer>()?);
/// # router.bind("inproc://desk")?;
/// # dealer.connect("inproc://desk")?;
/// # event_loop.block_on(async {
/// dealer.send("hello").await?;
/// let [peer, text] = router.recv().await?.try_into()?;
/// router.send([peer, text]).await?; // back to who it came from
/// assert_eq!(dealer.recv().await?, "hello".into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Router {}

/// `ZMQ_PULL`: receives fair-queued from all PUSH peers (RFC 30).
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let (pull, push) = (context.socket::<Pull>()?, context.socket::<Push>()?);
/// # pull.bind("inproc://jobs")?;
/// # push.connect("inproc://jobs")?;
/// # event_loop.block_on(async {
/// # push.send("job").await?;
/// assert_eq!(pull.recv().await?, "job".into());
/// assert_eq!(pull.try_recv()?, None);
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Pull {}

/// `ZMQ_PUSH`: sends round-robin to all PULL peers (RFC 30); waits while there is none, or while all are full.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # let pull = context.socket::<Pull>()?;
/// # pull.bind("inproc://jobs")?;
/// # event_loop.block_on(async {
/// let push = context.socket::<Push>()?;
/// assert!(push.try_send("job").is_err_and(|error| error.is_full()), "nobody is there to take it");
/// push.connect("inproc://jobs")?;
/// push.send("job").await?;
/// # assert_eq!(pull.recv().await?, "job".into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Push {}

/// `ZMQ_XPUB`: a PUB that receives its subscribers' subscriptions as messages (RFC 29), which become a
/// [`Subscription`](crate::Subscription) by `into()`.
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
/// # subscriber.subscribe("oslo")?;
/// let news = Subscription::from(publisher.recv().await?);
/// assert_eq!(news, Subscription::Subscribe(b"oslo".to_vec()));
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum XPub {}

/// `ZMQ_XSUB`: a SUB that subscribes by sending messages (RFC 29), and can send others upstream.
///
/// A frame that begins with a byte 1 or 0 is a subscription or its end. It never waits to send: what a publisher has no
/// room for is dropped.
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
/// subscriber.subscribe("oslo")?;
/// publisher.wait_for_subscribers("oslo", 1).await?;
/// publisher.send(["oslo", "12C"]).await?;
/// assert_eq!(subscriber.recv().await?.len(), 2);
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum XSub {}

/// `ZMQ_STREAM`: talks to TCP peers that are no ZeroMQ sockets. Each message is a routing id and the bytes.
///
/// libzmq does not tell a peer that has gone from one that is full before its last message, the empty one that tells of
/// its going, is received. So a send to it waits until then, and ends with `EHOSTUNREACH`: receive in another task, or
/// put a [`timeout`](crate::AsyncZmqContext::timeout) around what you send.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::Stream};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// use std::io::{Read, Write};
/// let stream = context.socket::<Stream>()?;
/// let endpoint = stream.bind("tcp://127.0.0.1:*")?;
/// let mut browser = std::net::TcpStream::connect(&endpoint["tcp://".len()..])?;
/// browser.write_all(b"GET /")?;
///
/// # event_loop.block_on(async {
/// let [peer, nothing] = stream.recv().await?.try_into()?; // it has connected
/// assert!(nothing.is_empty());
/// let [_peer, request] = stream.recv().await?.try_into()?;
/// assert_eq!(&request[..], b"GET /");
/// stream.send([&peer[..], b"hello"]).await?;
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// let mut page = [0; 5];
/// browser.read_exact(&mut page)?;
/// assert_eq!(&page, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Stream {}

/// A kind that the program learns at run time. Both directions compile; libzmq answers `ENOTSUP` to the wrong one.
///
/// Such a socket is [adopted](crate::AsyncZmqContext::adopt), as nothing in its type says what to create.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::Any};
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let kind = zmq::PULL; // as the program's arguments say
/// let socket = context.adopt::<Any>(context.zmq_context().socket(kind)?)?;
/// assert!(socket.try_recv()?.is_none());
/// assert!(socket.try_send("x").is_err(), "a PULL cannot");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Any {}

impl Kind for Pair {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::PAIR);
}
impl Kind for Pub {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::PUB);
}
impl Kind for Sub {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::SUB);
}
impl Kind for Req {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::REQ);
}
impl Kind for Rep {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::REP);
}
impl Kind for Dealer {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::DEALER);
}
impl Kind for Router {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::ROUTER);
}
impl Kind for Pull {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::PULL);
}
impl Kind for Push {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::PUSH);
}
impl Kind for XPub {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::XPUB);
}
impl Kind for XSub {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::XSUB);
}
impl Kind for Stream {
    const SOCKET_TYPE: Option<SocketType> = Some(SocketType::STREAM);
}
impl Kind for Any {
    const SOCKET_TYPE: Option<SocketType> = None;
}

impl CanRecv for Pair {}
impl CanRecv for Sub {}
impl CanRecv for Req {}
impl CanRecv for Rep {}
impl CanRecv for Dealer {}
impl CanRecv for Router {}
impl CanRecv for Pull {}
impl CanRecv for XPub {}
impl CanRecv for XSub {}
impl CanRecv for Stream {}
impl CanRecv for Any {}

impl CanSend for Pair {}
impl CanSend for Pub {}
impl CanSend for Req {}
impl CanSend for Rep {}
impl CanSend for Dealer {}
impl CanSend for Router {}
impl CanSend for Push {}
impl CanSend for XPub {}
impl CanSend for XSub {}
impl CanSend for Stream {}
impl CanSend for Any {}

mod sealed {
    #[allow(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {}

    impl Sealed for super::Pair {}
    impl Sealed for super::Pub {}
    impl Sealed for super::Sub {}
    impl Sealed for super::Req {}
    impl Sealed for super::Rep {}
    impl Sealed for super::Dealer {}
    impl Sealed for super::Router {}
    impl Sealed for super::Pull {}
    impl Sealed for super::Push {}
    impl Sealed for super::XPub {}
    impl Sealed for super::XSub {}
    impl Sealed for super::Stream {}
    impl Sealed for super::Any {}
}
