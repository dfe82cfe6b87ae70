//! Frames from and into the `bytes` crate's types (feature `bytes`), without a copy where that is sound.
//!
//! Whoever has a frame may write to it: `zmq::Message` is `DerefMut`, and over inproc the receiver's frame is the very
//! memory that was sent. So only bytes that nobody else can see become a frame as they are.

use ::bytes::{Bytes, BytesMut};
use zmq::Message;

use crate::ffi;
use crate::multipart::{IntoFrame, Multipart};

/// Without a copy if this is the only reference to its bytes.
///
/// If there is another, or they are static, they are copied: a frame can be written to, and they must not change. Bytes
/// [from a frame](IntoBytes) are copied too, as nothing tells whether others see them: pass the frame itself on.
impl IntoFrame for Bytes {
    fn into_frame(self) -> Message {
        match self.try_into_mut() {
            Ok(unique) => unique.into_frame(),
            Err(shared) => shared[..].into_frame(),
        }
    }
}

/// Without a copy. Up to 33 bytes are copied: libzmq keeps them in the frame itself.
impl IntoFrame for BytesMut {
    fn into_frame(self) -> Message {
        if self.len() <= ffi::INLINE { self[..].into_frame() } else { ffi::lend(self) }
    }
}

/// One frame, without a copy if this is the only reference to its bytes.
impl From<Bytes> for Multipart {
    fn from(bytes: Bytes) -> Self {
        Self::from_frame(bytes.into_frame())
    }
}

/// One frame, without a copy.
impl From<BytesMut> for Multipart {
    fn from(bytes: BytesMut) -> Self {
        Self::from_frame(bytes.into_frame())
    }
}

/// A frame as [`Bytes`]. For [`zmq::Message`] alone.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{IntoBytes, Multipart};
///
/// let message = Multipart::from(["topic", "a body of more bytes than libzmq keeps in the frame"]);
/// let [_topic, body] = message.try_into()?;
/// let body = body.into_bytes();
/// assert_eq!(body.slice(2..6), "body");
/// # Ok::<(), calloop_zmq::FrameCountError>(())
/// ```
pub trait IntoBytes: sealed::Sealed {
    /// The frame's bytes, without a copy. Up to 33 are copied, for that costs less than keeping the frame.
    ///
    /// The frame is freed with the last of the `Bytes`, on whichever thread that is.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::IntoBytes;
    /// assert_eq!(zmq::Message::from("hello").into_bytes(), "hello");
    /// ```
    fn into_bytes(self) -> Bytes;
}

impl IntoBytes for Message {
    fn into_bytes(self) -> Bytes {
        if self.len() <= ffi::INLINE { Bytes::copy_from_slice(&self) } else { Bytes::from_owner(Frame(self)) }
    }
}

/// A frame that `Bytes` can own.
struct Frame(Message);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

mod sealed {
    #[allow(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {}

    impl Sealed for super::Message {}
}
