//! What is answered to a request, as RFC 27 puts it. Pure.

use std::borrow::Cow;

use crate::Multipart;

use super::request::{MAX_FIELD, VERSION};

/// The answer to a [`Request`](super::Request).
///
/// # Examples
///
/// ```
/// use calloop_zmq::zap::Decision;
///
/// let decision = Decision::allow().with_user_id("alice").with_property("Role", "clerk");
/// assert_eq!(decision.status(), 200);
/// assert_eq!(Decision::deny().with_reason("no such user").status(), 400);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    status: Status,
    reason: Cow<'static, str>,
    user_id: String,
    properties: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Success = 200,
    Temporary = 300,
    Failure = 400,
    Internal = 500,
}

impl Decision {
    /// Lets the peer in (status 200).
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// assert_eq!(Decision::allow().status(), 200);
    /// ```
    pub fn allow() -> Self {
        Self::new(Status::Success, "welcome")
    }

    /// Shuts the peer out for now (status 300). It is told nothing; its connection ends with the server's handshake
    /// timeout (`set_handshake_ivl`, 30 seconds unless set), and then libzmq tries again.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// assert_eq!(Decision::retry_later().status(), 300);
    /// ```
    pub fn retry_later() -> Self {
        Self::new(Status::Temporary, "try again later")
    }

    /// Shuts the peer out (status 400). It is told so, and libzmq does not try again.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// assert_eq!(Decision::deny().status(), 400);
    /// ```
    pub fn deny() -> Self {
        Self::new(Status::Failure, "denied")
    }

    /// Shuts the peer out because the question could not be decided (status 500). libzmq does not try again, so
    /// [`retry_later`](Self::retry_later) may be what you mean.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// assert_eq!(Decision::fail().status(), 500);
    /// ```
    pub fn fail() -> Self {
        Self::new(Status::Internal, "cannot decide")
    }

    /// Who the peer is: what [`user_id`](crate::Multipart::user_id) of its messages answers. Without, it is empty.
    ///
    /// At most 255 bytes, and no NUL: libzmq keeps it as a C string. One that breaks this makes the whole answer a
    /// [`fail`](Self::fail). Only a peer that is let in has one. Sockets that connect and ask should be given none: see
    /// [which sockets ask](crate::zap#which-sockets-ask).
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// let decision = Decision::allow().with_user_id("alice");
    /// assert!(decision.is_allowed());
    /// ```
    pub fn with_user_id(mut self, user_id: impl Into<String>) -> Self {
        self.user_id = user_id.into();
        self
    }

    /// Something to know about the peer: what [`property`](crate::Multipart::property) of its messages answers for that
    /// name.
    ///
    /// **Set each property that you read, for each peer that you let in.** A peer sends properties of its own, which are
    /// to be had by name just as these, and only those of the same name are hidden by yours.
    ///
    /// The name is of the letters, digits and `-_.+` that RFC 23 allows, at most 255 of them, and none that ZMTP or
    /// libzmq uses itself (`Socket-Type`, `Identity`, `Routing-Id`, `User-Id`, `Peer-Address`); the value has no NUL.
    /// One that breaks this makes the whole answer a [`fail`](Self::fail).
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// let decision = Decision::allow().with_property("Role", "clerk").with_property("Floor", "2");
    /// assert!(decision.is_allowed());
    /// ```
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// A text for whoever reads the exchange; libzmq drops it. What is over 255 bytes is cut.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// let decision = Decision::deny().with_reason("no such user");
    /// assert!(!decision.is_allowed());
    /// ```
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// RFC 27's status code: 200, 300, 400 or 500.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// assert_eq!(Decision::allow().status(), 200);
    /// ```
    pub fn status(&self) -> u16 {
        self.status as u16
    }

    /// True for status 200.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::Decision;
    /// assert!(Decision::allow().is_allowed() && !Decision::retry_later().is_allowed());
    /// ```
    pub fn is_allowed(&self) -> bool {
        self.status == Status::Success
    }

    fn new(status: Status, reason: &'static str) -> Self {
        Self { status, reason: reason.into(), user_id: String::new(), properties: Vec::new() }
    }

    /// The reply to the request with that id, without the envelope.
    pub(super) fn encode(&self, request_id: &[u8]) -> Multipart {
        let (user_id, metadata) = match self.status {
            Status::Success if !is_user_id(&self.user_id) => {
                return Self::fail().with_reason("the user id cannot be sent").encode(request_id);
            }
            Status::Success => match encode_properties(&self.properties) {
                Some(metadata) => (&*self.user_id, metadata),
                None => return Self::fail().with_reason("a property cannot be sent").encode(request_id),
            },
            _ => ("", Vec::new()),
        };
        let status = self.status().to_string();
        let end = (0..=MAX_FIELD.min(self.reason.len())).rev().find(|end| self.reason.is_char_boundary(*end));
        let reason = end.and_then(|end| self.reason.get(..end)).unwrap_or_default();
        let frames = [&VERSION[..], request_id, status.as_bytes(), reason.as_bytes(), user_id.as_bytes(), &metadata];
        frames.into_iter().collect()
    }
}

fn is_user_id(user_id: &str) -> bool {
    user_id.len() <= MAX_FIELD && !user_id.contains('\0')
}

/// ZMTP's metadata: each name behind a byte that counts it, each value behind four.
fn encode_properties(properties: &[(String, String)]) -> Option<Vec<u8>> {
    let mut metadata = Vec::new();
    for (name, value) in properties {
        let taken = RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
        let spelled =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
        if taken || !spelled || value.contains('\0') {
            return None;
        }
        metadata.push(u8::try_from(name.len()).ok()?);
        metadata.extend(name.bytes());
        metadata.extend(u32::try_from(value.len()).ok()?.to_be_bytes());
        metadata.extend(value.bytes());
    }
    Some(metadata)
}

/// Names that mean something to libzmq: `Socket-Type` would be checked, `Identity` become the peer's routing id.
const RESERVED: [&str; 5] = ["Socket-Type", "Identity", "Routing-Id", "User-Id", "Peer-Address"];

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(decision: &Decision) -> Vec<Vec<u8>> {
        decision.encode(b"\xffid").iter().map(|frame| frame.to_vec()).collect()
    }

    #[test]
    fn a_reply_has_six_frames_and_echoes_the_id() {
        let allowed = texts(&Decision::allow().with_user_id("alice").with_property("Role", "clerk"));
        let metadata = b"\x04Role\0\0\0\x05clerk";
        assert_eq!(allowed, [&b"1.0"[..], b"\xffid", b"200", b"welcome", b"alice", metadata]);
        let denied = texts(&Decision::deny().with_user_id("alice").with_property("Role", "clerk"));
        assert_eq!(denied, [&b"1.0"[..], b"\xffid", b"400", b"denied", b"", b""]);
        assert_eq!((&*texts(&Decision::retry_later())[2], &*texts(&Decision::fail())[2]), (&b"300"[..], &b"500"[..]));
    }

    #[test]
    fn what_cannot_be_sent_lets_nobody_in() {
        let long = "x".repeat(256);
        let with = |name: &str, value: &str| Decision::allow().with_property(name, value);
        let bad = [
            Decision::allow().with_user_id("alice\0"),
            Decision::allow().with_user_id(&*long),
            with("", "x"),
            with("two words", "x"),
            with("R\u{f6}le", "x"),
            with(&long, "x"),
            with("Role", "a\0b"),
            with("Socket-Type", "PULL"),
            with("identity", "x"),
            with("User-Id", "root"),
        ];
        for decision in bad {
            assert_eq!(texts(&decision)[2], b"500", "{decision:?}");
        }
        assert_eq!(texts(&with(&long[1..], &long))[2], b"200");
        assert_eq!(texts(&Decision::allow().with_user_id(&long[1..]))[2], b"200");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = texts(&Decision::deny().with_reason("\u{f6}".repeat(200))).swap_remove(3);
        assert_eq!(String::from_utf8(reason).unwrap(), "\u{f6}".repeat(127));
        assert_eq!(texts(&Decision::deny().with_reason(""))[3], b"");
    }
}
