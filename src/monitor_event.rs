//! What a monitor tells, read from libzmq's frames. Pure: frames in, an event out, whatever the frames are.

use std::os::fd::RawFd;
use std::time::Duration;

use zmq::Message;

use crate::error::Error;
use crate::ffi::Errno;

/// Something that happened to the connections of a socket, as its [`Monitor`](crate::Monitor) tells.
///
/// An endpoint is the one that was bound or connected to. So the peers that one bound endpoint has accepted all have the
/// same; the descriptor, where there is one, tells them apart. It is libzmq's: good to compare, and for nothing else.
/// Where a peer connects from no event tells; its messages do, by
/// [`property("Peer-Address")`](crate::Multipart::property).
///
/// # Examples
///
/// ```
/// use calloop_zmq::MonitorEvent;
///
/// fn describe(event: &MonitorEvent) -> String {
///     match event {
///         MonitorEvent::HandshakeSucceeded { endpoint } => format!("a peer at {endpoint}"),
///         MonitorEvent::Disconnected { endpoint, fd } => format!("connection {fd} at {endpoint} broke"),
///         MonitorEvent::Stopped => "no more events".to_owned(),
///         other => format!("{other:?}"),
///     }
/// }
/// assert_eq!(describe(&MonitorEvent::Stopped), "no more events");
/// ```
#[non_exhaustive]
#[derive(Debug)]
pub enum MonitorEvent {
    /// A connection to the endpoint stands; the handshake follows.
    Connected {
        /// The endpoint connected to.
        endpoint: String,
        /// The connection's descriptor.
        fd: RawFd,
    },
    /// The connection did not stand at once, and libzmq waits for it.
    ConnectDelayed {
        /// The endpoint to connect to.
        endpoint: String,
        /// `EINPROGRESS`.
        error: Error,
    },
    /// The connection was refused or has broken, and libzmq will try again.
    ConnectRetried {
        /// The endpoint to connect to.
        endpoint: String,
        /// The time until then; see `ZMQ_RECONNECT_IVL`.
        interval: Duration,
    },
    /// The endpoint was bound.
    Listening {
        /// The endpoint.
        endpoint: String,
        /// The listener's descriptor.
        fd: RawFd,
    },
    /// The endpoint could not be bound.
    BindFailed {
        /// The endpoint, or what of it libzmq had got to.
        endpoint: String,
        /// Why.
        error: Error,
    },
    /// A peer connected to the bound endpoint; the handshake follows.
    Accepted {
        /// The endpoint bound.
        endpoint: String,
        /// The connection's descriptor.
        fd: RawFd,
    },
    /// A peer that connected to the bound endpoint could not be accepted.
    AcceptFailed {
        /// The endpoint bound.
        endpoint: String,
        /// Why: `EMFILE`, for one.
        error: Error,
    },
    /// A listener was closed, or an attempt to connect that had failed.
    Closed {
        /// The endpoint.
        endpoint: String,
        /// The descriptor that it had.
        fd: RawFd,
    },
    /// A listener could not be closed as it should.
    CloseFailed {
        /// The endpoint.
        endpoint: String,
        /// Why.
        error: Error,
    },
    /// A connection broke: the peer closed it, or its handshake failed.
    Disconnected {
        /// The endpoint.
        endpoint: String,
        /// The descriptor that it had.
        fd: RawFd,
    },
    /// The handshake is done: the two sides are peers.
    HandshakeSucceeded {
        /// The endpoint.
        endpoint: String,
    },
    /// The connection broke in its handshake, or the handshake took longer than `ZMQ_HANDSHAKE_IVL`.
    HandshakeFailed {
        /// The endpoint.
        endpoint: String,
        /// What libzmq's last call said, which need not be the reason.
        error: Error,
    },
    /// The peer, or a ZAP handler, does not keep to the protocol.
    HandshakeFailedProtocol {
        /// The endpoint.
        endpoint: String,
        /// What was wrong.
        reason: ProtocolError,
    },
    /// A ZAP handler refused the peer.
    HandshakeFailedAuth {
        /// The endpoint.
        endpoint: String,
        /// The handler's status code (RFC 27): 300, 400 or 500.
        status: u32,
    },
    /// The last event: the socket was closed, or another monitor took this one's place.
    Stopped,
    /// Some other event. A signal that hits libzmq while it sends one makes it lose all but the endpoint: then the
    /// numbers are 0.
    Unknown {
        /// Its `ZMQ_EVENT_` number.
        event: u16,
        /// Its value.
        value: u32,
        /// The endpoint.
        endpoint: String,
    },
}

impl MonitorEvent {
    /// The endpoint that this is about; empty if none.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::MonitorEvent;
    /// let event = MonitorEvent::HandshakeSucceeded { endpoint: "tcp://127.0.0.1:5555".to_owned() };
    /// assert_eq!(event.endpoint(), "tcp://127.0.0.1:5555");
    /// ```
    pub fn endpoint(&self) -> &str {
        match self {
            Self::Connected { endpoint, .. }
            | Self::ConnectDelayed { endpoint, .. }
            | Self::ConnectRetried { endpoint, .. }
            | Self::Listening { endpoint, .. }
            | Self::BindFailed { endpoint, .. }
            | Self::Accepted { endpoint, .. }
            | Self::AcceptFailed { endpoint, .. }
            | Self::Closed { endpoint, .. }
            | Self::CloseFailed { endpoint, .. }
            | Self::Disconnected { endpoint, .. }
            | Self::HandshakeSucceeded { endpoint }
            | Self::HandshakeFailed { endpoint, .. }
            | Self::HandshakeFailedProtocol { endpoint, .. }
            | Self::HandshakeFailedAuth { endpoint, .. }
            | Self::Unknown { endpoint, .. } => endpoint,
            Self::Stopped => "",
        }
    }

    /// Reads the two frames of an event: a number of 16 bits and a value of 32, in the machine's byte order and without
    /// a gap; then the endpoint.
    pub(crate) fn decode(frames: &[Message]) -> Self {
        let (numbers, endpoint): (&[u8], &[u8]) = match frames {
            [numbers, endpoint] => (numbers, endpoint),
            // The others are of an event that lost its endpoint.
            [.., endpoint] => (&[], endpoint),
            [] => (&[], &[]),
        };
        let (event, value) = read_numbers(numbers).unwrap_or_default();
        let endpoint = String::from_utf8_lossy(endpoint).into_owned();
        let fd = RawFd::from_ne_bytes(value.to_ne_bytes());
        let failed = |operation: &str| Errno::from_event(value).error(format!("{operation} {endpoint}"));
        match u32::from(event) {
            zmq_sys::ZMQ_EVENT_CONNECTED => Self::Connected { endpoint, fd },
            zmq_sys::ZMQ_EVENT_CONNECT_DELAYED => {
                Self::ConnectDelayed { error: failed("connect at once to"), endpoint }
            }
            zmq_sys::ZMQ_EVENT_CONNECT_RETRIED => {
                Self::ConnectRetried { endpoint, interval: Duration::from_millis(value.into()) }
            }
            zmq_sys::ZMQ_EVENT_LISTENING => Self::Listening { endpoint, fd },
            zmq_sys::ZMQ_EVENT_BIND_FAILED => Self::BindFailed { error: failed("bind"), endpoint },
            zmq_sys::ZMQ_EVENT_ACCEPTED => Self::Accepted { endpoint, fd },
            zmq_sys::ZMQ_EVENT_ACCEPT_FAILED => Self::AcceptFailed { error: failed("accept a peer at"), endpoint },
            zmq_sys::ZMQ_EVENT_CLOSED => Self::Closed { endpoint, fd },
            zmq_sys::ZMQ_EVENT_CLOSE_FAILED => Self::CloseFailed { error: failed("close"), endpoint },
            zmq_sys::ZMQ_EVENT_DISCONNECTED => Self::Disconnected { endpoint, fd },
            zmq_sys::ZMQ_EVENT_MONITOR_STOPPED => Self::Stopped,
            zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED => Self::HandshakeSucceeded { endpoint },
            zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL => {
                Self::HandshakeFailed { error: failed("shake hands at"), endpoint }
            }
            zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => {
                Self::HandshakeFailedProtocol { endpoint, reason: ProtocolError::from_raw(value) }
            }
            zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => Self::HandshakeFailedAuth { endpoint, status: value },
            _ => Self::Unknown { event, value, endpoint },
        }
    }
}

fn read_numbers(frame: &[u8]) -> Option<(u16, u32)> {
    let (event, value) = frame.split_first_chunk()?;
    Some((u16::from_ne_bytes(*event), u32::from_ne_bytes(value.try_into().ok()?)))
}

/// How a peer, or a ZAP handler, broke the protocol: libzmq's `ZMQ_PROTOCOL_ERROR_` numbers.
///
/// # Examples
///
/// ```
/// use calloop_zmq::ProtocolError;
/// assert_eq!(ProtocolError::MechanismMismatch.to_string(), "the peer uses another security mechanism");
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No more is known.
    #[error("the peer does not speak ZMTP properly")]
    Zmtp,
    /// A command that has no place here.
    #[error("the peer sent a command that it may not send now")]
    UnexpectedCommand,
    /// A CURVE nonce that is not above the one before.
    #[error("the peer's messages are out of sequence")]
    InvalidSequence,
    /// The CURVE keys could not be exchanged.
    #[error("the exchange of keys failed")]
    KeyExchange,
    /// A command that cannot be read.
    #[error("the peer sent a malformed command")]
    MalformedCommand,
    /// A malformed MESSAGE.
    #[error("the peer sent a malformed MESSAGE command")]
    MalformedMessage,
    /// A malformed HELLO.
    #[error("the peer sent a malformed HELLO command")]
    MalformedHello,
    /// A malformed INITIATE.
    #[error("the peer sent a malformed INITIATE command")]
    MalformedInitiate,
    /// A malformed ERROR.
    #[error("the peer sent a malformed ERROR command")]
    MalformedError,
    /// A malformed READY.
    #[error("the peer sent a malformed READY command")]
    MalformedReady,
    /// A malformed WELCOME.
    #[error("the peer sent a malformed WELCOME command")]
    MalformedWelcome,
    /// Properties that cannot be read, or a socket type that is no match.
    #[error("the peer's properties are invalid")]
    InvalidMetadata,
    /// The peer has other keys than it should.
    #[error("the peer failed a cryptographic check")]
    Cryptographic,
    /// The two sides use different security mechanisms.
    #[error("the peer uses another security mechanism")]
    MechanismMismatch,
    /// No more is known about what the ZAP handler did.
    #[error("the ZAP handler does not keep to its protocol")]
    Zap,
    /// A reply of another shape.
    #[error("the ZAP handler sent a malformed reply")]
    ZapMalformedReply,
    /// A reply to another request.
    #[error("the ZAP handler replied to another request")]
    ZapBadRequestId,
    /// A reply of another version than 1.0.
    #[error("the ZAP handler speaks another version")]
    ZapBadVersion,
    /// A status code that is none of 200, 300, 400 and 500.
    #[error("the ZAP handler gave an invalid status code")]
    ZapInvalidStatusCode,
    /// Properties that cannot be read.
    #[error("the ZAP handler gave invalid properties")]
    ZapInvalidMetadata,
    /// A number that has no name here.
    #[error("protocol error {0:#x}")]
    Unknown(u32),
}

impl ProtocolError {
    fn from_raw(raw: u32) -> Self {
        match raw {
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_UNSPECIFIED => Self::Zmtp,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_UNEXPECTED_COMMAND => Self::UnexpectedCommand,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_INVALID_SEQUENCE => Self::InvalidSequence,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_KEY_EXCHANGE => Self::KeyExchange,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_UNSPECIFIED => Self::MalformedCommand,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_MESSAGE => Self::MalformedMessage,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_HELLO => Self::MalformedHello,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_INITIATE => Self::MalformedInitiate,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_ERROR => Self::MalformedError,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_READY => Self::MalformedReady,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_WELCOME => Self::MalformedWelcome,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_INVALID_METADATA => Self::InvalidMetadata,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC => Self::Cryptographic,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH => Self::MechanismMismatch,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_UNSPECIFIED => Self::Zap,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_MALFORMED_REPLY => Self::ZapMalformedReply,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_BAD_REQUEST_ID => Self::ZapBadRequestId,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_BAD_VERSION => Self::ZapBadVersion,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_INVALID_STATUS_CODE => Self::ZapInvalidStatusCode,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_INVALID_METADATA => Self::ZapInvalidMetadata,
            raw => Self::Unknown(raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(event: u32, value: u32, endpoint: &str) -> MonitorEvent {
        let event = u16::try_from(event).unwrap();
        let numbers = [&event.to_ne_bytes()[..], &value.to_ne_bytes()].concat();
        MonitorEvent::decode(&[Message::from(&numbers), Message::from(endpoint)])
    }

    #[test]
    fn every_event_has_its_name_and_value() {
        let known = [
            (zmq_sys::ZMQ_EVENT_CONNECTED, 7, "Connected { endpoint: \"tcp://x\", fd: 7 }"),
            (zmq_sys::ZMQ_EVENT_LISTENING, 8, "Listening { endpoint: \"tcp://x\", fd: 8 }"),
            (zmq_sys::ZMQ_EVENT_ACCEPTED, 9, "Accepted { endpoint: \"tcp://x\", fd: 9 }"),
            (zmq_sys::ZMQ_EVENT_CLOSED, u32::MAX, "Closed { endpoint: \"tcp://x\", fd: -1 }"),
            (zmq_sys::ZMQ_EVENT_DISCONNECTED, 11, "Disconnected { endpoint: \"tcp://x\", fd: 11 }"),
            (zmq_sys::ZMQ_EVENT_CONNECT_RETRIED, 120, "ConnectRetried { endpoint: \"tcp://x\", interval: 120ms }"),
            (zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED, 0, "HandshakeSucceeded { endpoint: \"tcp://x\" }"),
            (
                zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH,
                400,
                "HandshakeFailedAuth { endpoint: \"tcp://x\", status: 400 }",
            ),
            (
                zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL,
                zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_BAD_VERSION,
                "HandshakeFailedProtocol { endpoint: \"tcp://x\", reason: ZapBadVersion }",
            ),
            (zmq_sys::ZMQ_EVENT_MONITOR_STOPPED, 0, "Stopped"),
            (0x8000, 3, "Unknown { event: 32768, value: 3, endpoint: \"tcp://x\" }"),
        ];
        for (event, value, text) in known {
            let event = decode(event, value, "tcp://x");
            assert_eq!(format!("{event:?}"), text);
            assert_eq!(event.endpoint(), if matches!(event, MonitorEvent::Stopped) { "" } else { "tcp://x" });
        }
    }

    #[test]
    fn an_errno_is_an_error_that_names_the_operation() {
        let refused = u32::try_from(zmq_sys::errno::ECONNREFUSED).unwrap();
        let failures = [
            (zmq_sys::ZMQ_EVENT_CONNECT_DELAYED, "cannot connect at once to ipc://y"),
            (zmq_sys::ZMQ_EVENT_BIND_FAILED, "cannot bind ipc://y"),
            (zmq_sys::ZMQ_EVENT_ACCEPT_FAILED, "cannot accept a peer at ipc://y"),
            (zmq_sys::ZMQ_EVENT_CLOSE_FAILED, "cannot close ipc://y"),
            (zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL, "cannot shake hands at ipc://y"),
        ];
        // For the last two the zmq crate has no name, and would panic.
        for errno in [refused, 104, u32::MAX] {
            for (event, text) in failures {
                assert_eq!(decode(event, errno, "ipc://y").endpoint(), "ipc://y");
                let error = match (event, decode(event, errno, "ipc://y")) {
                    (zmq_sys::ZMQ_EVENT_CONNECT_DELAYED, MonitorEvent::ConnectDelayed { error, .. })
                    | (zmq_sys::ZMQ_EVENT_BIND_FAILED, MonitorEvent::BindFailed { error, .. })
                    | (zmq_sys::ZMQ_EVENT_ACCEPT_FAILED, MonitorEvent::AcceptFailed { error, .. })
                    | (zmq_sys::ZMQ_EVENT_CLOSE_FAILED, MonitorEvent::CloseFailed { error, .. })
                    | (zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL, MonitorEvent::HandshakeFailed { error, .. }) => {
                        error
                    }
                    (event, decoded) => panic!("{event}: {decoded:?}"),
                };
                let errno = i32::from_ne_bytes(errno.to_ne_bytes());
                assert_eq!((error.errno(), error.to_string()), (Some(errno), text.to_owned()));
            }
        }
    }

    #[test]
    fn every_protocol_error_has_its_name() {
        let numbers = (zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_UNSPECIFIED
            ..=zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_INVALID_METADATA)
            .chain([
                zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC,
                zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH,
            ])
            .chain(zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_UNSPECIFIED..=zmq_sys::ZMQ_PROTOCOL_ERROR_ZAP_INVALID_METADATA);
        let named: Vec<_> = numbers
            .map(ProtocolError::from_raw)
            .filter(|reason| !matches!(reason, ProtocolError::Unknown(_)))
            .map(|reason| reason.to_string())
            .collect();
        assert_eq!(named.len(), 20);
        assert_eq!(named.iter().collect::<std::collections::BTreeSet<_>>().len(), 20, "no two are the same");
        assert_eq!(ProtocolError::from_raw(5).to_string(), "protocol error 0x5");
    }

    #[test]
    fn what_is_no_event_is_unknown() {
        let unknown = |frames: &[&[u8]]| {
            let frames: Vec<_> = frames.iter().map(|frame| Message::from(*frame)).collect();
            match MonitorEvent::decode(&frames) {
                MonitorEvent::Unknown { event, value, endpoint } => (event, value, endpoint),
                event => panic!("{event:?}"),
            }
        };
        assert_eq!(unknown(&[]), (0, 0, String::new()));
        assert_eq!(unknown(&[b""]), (0, 0, String::new()));
        assert_eq!(unknown(&[b"tcp://127.0.0.1:5"]), (0, 0, "tcp://127.0.0.1:5".to_owned()));
        assert_eq!(unknown(&[b"12345", b"x"]), (0, 0, "x".to_owned()));
        assert_eq!(unknown(&[b"1234567", b"\xff"]), (0, 0, "\u{fffd}".to_owned()));
        assert_eq!(unknown(&[b"\x01\x00abcd"]), (0, 0, "\x01\0abcd".to_owned()));
        assert_eq!(unknown(&[&[0; 6], b"x", b"y"]), (0, 0, "y".to_owned()));
        // An endpoint may have six bytes.
        assert!(
            matches!(decode(0x1000, 0, "ipc://"), MonitorEvent::HandshakeSucceeded { endpoint } if endpoint == "ipc://")
        );
    }
}
