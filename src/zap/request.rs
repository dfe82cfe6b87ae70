//! A request as RFC 27 defines it: what a peer shows, read from frames. Pure.

use std::fmt;
use std::net::IpAddr;

use zmq::Message;

use super::PublicKey;

/// What a server asks about a peer that wants to connect: one request of RFC 27.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{Multipart, zap::{Credentials, Request}};
///
/// let frames = Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "NULL"]); // as libzmq sends it
/// let request = Request::parse(&frames)?;
/// assert_eq!((&*request.domain, request.credentials), ("shop", Credentials::Null));
/// # Ok::<(), calloop_zmq::zap::Malformed>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The domain of the socket that the peer connects to (`set_zap_domain`); empty unless set.
    pub domain: String,
    /// Where the peer connects from, as libzmq puts it: an IP address for `tcp://` and `ws://`; for `ipc://` something
    /// that depends on libzmq's build. See [`ip`](Self::ip).
    pub address: String,
    /// The *server's* routing id, if it has one: libzmq fills RFC 27's `identity` with that, not with the peer's.
    pub identity: Vec<u8>,
    /// What the peer shows.
    pub credentials: Credentials,
}

/// What a peer shows, by the mechanism of its connection.
///
/// # Examples
///
/// ```
/// use calloop_zmq::zap::Credentials;
///
/// fn name(credentials: &Credentials) -> String {
///     match credentials {
///         Credentials::Plain { username, .. } => username.clone(),
///         Credentials::Curve { key } => key.to_string(),
///         _ => "somebody".to_owned(),
///     }
/// }
/// assert_eq!(name(&Credentials::Null), "somebody");
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing. Everybody can connect with this mechanism, from an address that may be looked at.
    Null,
    /// A name and a password, as they were sent over the network: readable for everybody on the way.
    Plain {
        /// UTF-8 without NUL; a request with another is refused before it comes here.
        username: String,
        /// Bytes, as the client gave them.
        password: Vec<u8>,
    },
    /// A key, and libzmq has made sure that the peer owns the secret half of it.
    Curve {
        /// The peer's public key.
        key: PublicKey,
    },
}

impl Request {
    /// Reads a request from the frames after its envelope, the version frame being the first.
    ///
    /// For handlers of your own, and for tests: [`Authenticator`](super::Authenticator) calls it itself. It takes any
    /// frames and never panics.
    ///
    /// # Errors
    ///
    /// [`Malformed`] says what RFC 27 has against them. Two rules are ours: text is UTF-8 (the RFC's ASCII is part of
    /// it), and it holds no NUL. libzmq hands a user id out up to the first one, so that `alice\0...` would be taken for
    /// `alice`.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::{Multipart, zap::Request};
    ///
    /// let mut message = Multipart::from(["peer", "", "1.0", "1", "shop", "192.0.2.7", "", "NULL"]);
    /// let _envelope = message.take_envelope();
    /// assert_eq!(Request::parse(&message)?.domain, "shop");
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn parse(frames: &[Message]) -> Result<Self, Malformed> {
        let [version, _request_id, domain, address, identity, mechanism, credentials @ ..] = frames else {
            return Err(Malformed("there are frames missing"));
        };
        if version[..] != *VERSION {
            return Err(Malformed("the version is not 1.0"));
        }
        if identity.len() > MAX_FIELD {
            return Err(Malformed("the identity is too long"));
        }
        Ok(Self {
            domain: text(domain).ok_or(Malformed("the domain is no text"))?,
            address: text(address).ok_or(Malformed("the address is no text"))?,
            identity: identity.to_vec(),
            credentials: Credentials::parse(mechanism, credentials)?,
        })
    }

    /// The peer's IP address; an IPv4 peer of a socket with `set_ipv6(true)` by its IPv4 address. `None` if the
    /// connection has no such thing (`ipc://`).
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::Request};
    /// # let frames = Multipart::from(["1.0", "1", "shop", "::ffff:192.0.2.7", "", "NULL"]);
    /// let request = Request::parse(&frames)?;
    /// assert_eq!(request.address, "::ffff:192.0.2.7");
    /// assert_eq!(request.ip(), Some([192, 0, 2, 7].into()));
    /// # Ok::<(), calloop_zmq::zap::Malformed>(())
    /// ```
    pub fn ip(&self) -> Option<IpAddr> {
        // A link-local IPv6 address comes with the name of a network interface.
        let address = self.address.split_once('%').map_or(&*self.address, |(address, _interface)| address);
        address.parse().ok().map(|address: IpAddr| address.to_canonical())
    }
}

impl Credentials {
    fn parse(mechanism: &[u8], frames: &[Message]) -> Result<Self, Malformed> {
        match (mechanism, frames) {
            (b"NULL", []) => Ok(Self::Null),
            (b"PLAIN", [username, password]) => {
                let username = text(username).ok_or(Malformed("the user name is no text"))?;
                if password.len() > MAX_FIELD {
                    return Err(Malformed("the password is too long"));
                }
                Ok(Self::Plain { username, password: password.to_vec() })
            }
            (b"CURVE", [key]) => match <[u8; 32]>::try_from(&key[..]) {
                Ok(key) => Ok(Self::Curve { key: key.into() }),
                Err(_) => Err(Malformed("the key has not 32 bytes")),
            },
            (b"NULL" | b"PLAIN" | b"CURVE", _) => Err(Malformed("that mechanism has other credentials")),
            (b"GSSAPI", _) => Err(Malformed("GSSAPI is not supported")),
            _ => Err(Malformed("the mechanism is unknown")),
        }
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Plain { username, .. } => f.debug_struct("Plain").field("username", username).finish_non_exhaustive(),
            Self::Curve { key } => f.debug_struct("Curve").field("key", key).finish(),
        }
    }
}

/// Why frames are no request. Such a request is answered with status 400 and this text.
///
/// # Examples
///
/// ```
/// use calloop_zmq::zap::Request;
/// assert_eq!(Request::parse(&[]).unwrap_err().to_string(), "there are frames missing");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(super) &'static str);

/// A string field of RFC 27.
fn text(frame: &Message) -> Option<String> {
    let text = frame.as_str().filter(|text| text.len() <= MAX_FIELD && !text.contains('\0'));
    text.map(str::to_owned)
}

pub(super) const VERSION: &[u8; 3] = b"1.0";
/// Bytes in a field of RFC 27, at most.
pub(super) const MAX_FIELD: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Multipart;

    fn parse(frames: &[&[u8]]) -> Result<Request, Malformed> {
        Request::parse(&frames.iter().copied().collect::<Multipart>())
    }

    /// A request from 192.0.2.7 to the domain `shop`, with these frames at its end.
    fn with(rest: &[&[u8]]) -> Result<Credentials, Malformed> {
        let head: [&[u8]; 5] = [b"1.0", b"1", b"shop", b"192.0.2.7", b"server"];
        parse(&[&head, rest].concat()).map(|request| request.credentials)
    }

    #[test]
    fn each_mechanism_is_read() {
        let request = parse(&[b"1.0", b"\0id", b"shop", b"192.0.2.7", b"\xff", b"NULL"]).unwrap();
        assert_eq!((&*request.domain, &*request.address, &*request.identity), ("shop", "192.0.2.7", &b"\xff"[..]));
        assert_eq!(request.credentials, Credentials::Null);
        let plain = Credentials::Plain { username: "alice".into(), password: b"\xfe".to_vec() };
        assert_eq!(with(&[b"PLAIN", b"alice", b"\xfe"]), Ok(plain));
        assert_eq!(with(&[b"CURVE", &[7; 32]]), Ok(Credentials::Curve { key: [7; 32].into() }));
    }

    #[test]
    fn whatever_is_malformed_is_refused() {
        let long = [b'x'; MAX_FIELD + 1];
        let refused: [&[&[u8]]; 12] = [
            &[b"NULL", b""],
            &[b"PLAIN"],
            &[b"PLAIN", b"alice"],
            &[b"PLAIN", b"alice", b"", b""],
            &[b"PLAIN", b"\xff", b""],
            &[b"PLAIN", b"alice\0", b""],
            &[b"PLAIN", &long, b""],
            &[b"PLAIN", b"alice", &long],
            &[b"CURVE"],
            &[b"CURVE", &[7; 31]],
            &[b"CURVE", &[7; 32], b""],
            &[b"GSSAPI", b"principal"],
        ];
        for rest in refused {
            assert!(with(rest).is_err(), "{rest:?}");
        }
        for mechanism in [&b""[..], b"null", b"NULL\0", b"ROT13", &long, b"\xff"] {
            assert_eq!(with(&[mechanism]), Err(Malformed("the mechanism is unknown")));
        }
        assert!(with(&[]).is_err() && parse(&[]).is_err());
        assert!(with(&[b"PLAIN", &long[1..], &long[1..]]).is_ok(), "255 bytes are allowed");
    }

    #[test]
    fn the_fields_in_front_are_looked_at() {
        let long = [b'x'; MAX_FIELD + 1];
        let good: [&[u8]; 6] = [b"1.0", b"1", b"shop", b"192.0.2.7", b"", b"NULL"];
        for (at, bad) in [(0, &b"1.1"[..]), (0, b""), (2, &long), (2, b"\xff"), (3, &long), (3, b"a\0"), (4, &long)] {
            let mut frames = good;
            frames[at] = bad;
            assert!(parse(&frames).is_err(), "frame {at}");
        }
        let mut frames = good;
        frames[1] = &long;
        assert!(parse(&frames).is_ok(), "the request id is the server's own");
        for end in 0..good.len() {
            assert!(parse(&good[..end]).is_err());
        }
    }

    #[test]
    fn random_frames_never_panic() {
        // A generator of its own: the tests' is not to be had in here.
        let mut state = 1_u32;
        let mut next = move |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % bound
        };
        let words: [&[u8]; 10] =
            [b"1.0", b"", b"NULL", b"PLAIN", b"CURVE", b"GSSAPI", b"\xff\xfe", b"a\0b", &[7; 32], &[b'x'; 300]];
        let (mut good, mut bad) = (0, 0);
        for _ in 0..20_000 {
            let mut frames = vec![words[0]];
            frames.extend((0..next(9)).map(|_| words[next(words.len())]));
            match parse(&frames) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
        assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
    }

    #[test]
    fn an_address_is_compared_as_an_address() {
        let ip = |address: &str| {
            parse(&[b"1.0", b"1", b"", address.as_bytes(), b"", b"NULL"]).unwrap().ip().map(|ip| ip.to_string())
        };
        assert_eq!(ip("192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(ip("::ffff:192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(ip("FE80:0::1%eth0").as_deref(), Some("fe80::1"));
        assert_eq!(ip("localhost:0:0:17"), None);
        assert_eq!(ip(""), None);
    }

    #[test]
    fn debug_shows_no_password() {
        let plain = Credentials::Plain { username: "alice".into(), password: b"hush".to_vec() };
        assert_eq!(format!("{plain:?}"), "Plain { username: \"alice\", .. }");
    }
}
