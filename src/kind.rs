//! The kinds of sockets, as types: a program that sends on a PULL does not compile.
//!
//! Each kind is a type that is never made, only named: `AsyncZmqSocket<Pull>`. The directions it has are its
//! [`CanRecv`] and [`CanSend`].

use zmq::SocketType;

/// A kind of ZeroMQ socket. Sealed: libzmq knows no others.
pub trait Kind: sealed::Sealed + 'static {
    /// libzmq's name for the kind; `None` for [`Any`], where it is known at run time only.
    const SOCKET_TYPE: Option<SocketType>;
}

/// A kind that receives: all but [`Pub`] and [`Push`].
#[diagnostic::on_unimplemented(
    message = "a `{Self}` socket cannot receive",
    label = "this socket only sends",
    note = "sockets that receive: Pair, Sub, Req, Rep, Dealer, Router, Pull, XPub, XSub, Stream, Any"
)]
pub trait CanRecv: Kind {}

/// A kind that sends: all but [`Sub`] and [`Pull`].
#[diagnostic::on_unimplemented(
    message = "a `{Self}` socket cannot send",
    label = "this socket only receives",
    note = "sockets that send: Pair, Pub, Req, Rep, Dealer, Router, Push, XPub, XSub, Stream, Any"
)]
pub trait CanSend: Kind {}

/// `ZMQ_PAIR`: exclusive pair (RFC 31). One peer, both directions, no routing.
#[derive(Debug)]
pub enum Pair {}

/// `ZMQ_PUB`: publishes to every subscriber whose subscription matches the start of the first frame (RFC 29).
///
/// Never waits: a subscriber whose queue is full misses the message, and so does one whose subscription has not arrived
/// yet. To see subscriptions arrive, take an [`XPub`].
#[derive(Debug)]
pub enum Pub {}

/// `ZMQ_SUB`: receives what it [subscribed](crate::AsyncZmqSocket::subscribe) to (RFC 29). Without a subscription it
/// receives nothing.
#[derive(Debug)]
pub enum Sub {}

/// `ZMQ_REQ`: sends a request, then receives its reply, in turns (RFC 28). Out of turn libzmq answers `EFSM`, at once.
#[derive(Debug)]
pub enum Req {}

/// `ZMQ_REP`: receives a request, then sends its reply, in turns (RFC 28). Out of turn libzmq answers `EFSM`, at once.
///
/// It never waits to send: libzmq drops a reply to a peer that went away, or whose queue is full, or seemed full a
/// millisecond ago. So leave its send high-water mark at its default of 1000, or above the number of peers' requests.
#[derive(Debug)]
pub enum Rep {}

/// `ZMQ_DEALER`: sends round-robin to all peers, receives fair-queued from all (RFC 28). No turns to keep.
#[derive(Debug)]
pub enum Dealer {}

/// `ZMQ_ROUTER`: puts the sender's routing id in front of each message received, and takes the first frame of each
/// message sent as the peer to send to (RFC 28).
///
/// A message of one frame has no one to go to, and libzmq drops it without a word. So it does with a message to an unknown
/// peer, or to one whose queue is full, unless the socket has
/// `set_router_mandatory(true)`: then a send to an unknown peer is an error and one to a full peer waits.
#[derive(Debug)]
pub enum Router {}

/// `ZMQ_PULL`: receives fair-queued from all PUSH peers (RFC 30).
#[derive(Debug)]
pub enum Pull {}

/// `ZMQ_PUSH`: sends round-robin to all PULL peers (RFC 30); waits while there is none, or while all are full.
#[derive(Debug)]
pub enum Push {}

/// `ZMQ_XPUB`: a PUB that receives its subscribers' subscriptions as messages (RFC 29): one byte, 1 to subscribe or 0
/// to unsubscribe, then the topic.
#[derive(Debug)]
pub enum XPub {}

/// `ZMQ_XSUB`: a SUB that subscribes by sending messages (RFC 29), and can send others upstream.
///
/// A frame that begins with a byte 1 or 0 is a subscription or its end. It never waits to send: what a publisher has no
/// room for is dropped.
#[derive(Debug)]
pub enum XSub {}

/// `ZMQ_STREAM`: talks to TCP peers that are no ZeroMQ sockets. Each message is a routing id and the bytes.
///
/// libzmq does not tell a peer that has gone from one that is full before its last message, the empty one that tells of
/// its going, is received. So a send to it waits until then, and ends with `EHOSTUNREACH`: receive in another task, or
/// put a [`timeout`](crate::AsyncZmqContext::timeout) around what you send.
#[derive(Debug)]
pub enum Stream {}

/// A kind that the program learns at run time. Both directions compile; libzmq answers `ENOTSUP` to the wrong one.
///
/// Such a socket is [adopted](crate::AsyncZmqContext::adopt), as nothing in its type says what to create.
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
