//! One whole message: what a socket sends and receives, and what people build it from.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Deref, DerefMut};

use smallvec::SmallVec;
use zmq::Message;

use crate::{FrameCountError, ffi};

/// One whole message: a list of frames ([`zmq::Message`]).
///
/// ZeroMQ sends and delivers all frames of a message or none. A message on the wire has at least one frame; an empty
/// `Multipart` can be built, but sending it is an [`Error::EmptyMessage`](crate::Error::EmptyMessage).
///
/// A single frame is stored inline. More frames take one allocation for their list, which
/// [`recv_into`](crate::AsyncZmqSocket::recv_into) uses again. (Room for two inline frames was measured to cost every
/// single-frame message a fifth of its throughput, in bytes moved.)
///
/// # Examples
///
/// ```
/// use calloop_zmq::Multipart;
///
/// let one = Multipart::from("hello");
/// let two = Multipart::from(["paris", "21C"]);
/// let mixed = Multipart::from(("paris", vec![0, 21])); // frames of different types
/// assert_eq!((one.len(), two.len(), mixed.len()), (1, 2, 2));
///
/// let [topic, body] = two.try_into()?;
/// assert_eq!(topic.as_str(), Some("paris"));
/// assert_eq!(&body[..], b"21C");
/// # Ok::<(), calloop_zmq::FrameCountError>(())
/// ```
#[derive(Default, PartialEq, Eq)]
pub struct Multipart {
    frames: SmallVec<[Message; 1]>,
}

impl Multipart {
    /// Creates a message without frames.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Multipart;
    /// let mut message = Multipart::new();
    /// message.push_back("hello");
    /// assert_eq!(message, "hello".into());
    /// ```
    #[inline]
    pub fn new() -> Self {
        Self { frames: SmallVec::new() }
    }

    /// Adds a frame at the front.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Multipart;
    /// let mut message = Multipart::from("12C");
    /// message.push_front("oslo");
    /// assert_eq!(message, ["oslo", "12C"].into());
    /// ```
    pub fn push_front(&mut self, frame: impl IntoFrame) {
        self.frames.insert(0, frame.into_frame());
    }

    /// Adds a frame at the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Multipart;
    /// let mut message = Multipart::from("oslo");
    /// message.push_back("12C");
    /// assert_eq!(message, ["oslo", "12C"].into());
    /// ```
    pub fn push_back(&mut self, frame: impl IntoFrame) {
        self.frames.push(frame.into_frame());
    }

    /// Takes the first frame off.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Multipart;
    /// let mut message = Multipart::from(["oslo", "12C"]);
    /// assert_eq!(message.pop_front().unwrap().as_str(), Some("oslo"));
    /// assert_eq!(message, "12C".into());
    /// ```
    pub fn pop_front(&mut self) -> Option<Message> {
        if self.frames.is_empty() { None } else { Some(self.frames.remove(0)) }
    }

    /// Takes the last frame off.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Multipart;
    /// let mut message = Multipart::from(["oslo", "12C"]);
    /// assert_eq!(message.pop_back().unwrap().as_str(), Some("12C"));
    /// assert_eq!(message, "oslo".into());
    /// ```
    pub fn pop_back(&mut self) -> Option<Message> {
        self.frames.pop()
    }

    /// Takes the routing envelope off: the frames up to and including the first empty one.
    ///
    /// This is what a ROUTER receives in front of a REQ's request: the routing ids of the hops, then the empty
    /// delimiter (RFC 28). Without an empty frame there is no envelope: nothing is taken, and what is returned is empty.
    ///
    /// Not every DEALER sends a delimiter, and the first empty frame may then be one of its own. Where it is agreed that
    /// there is none, the routing id is all there is in front: [`pop_front`](Self::pop_front) takes it, and
    /// [`push_front`](Self::push_front) puts it back.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Multipart;
    ///
    /// let mut request = Multipart::from(["client-7", "", "what time is it?"]);
    /// let envelope = request.take_envelope();
    /// assert_eq!(request, Multipart::from("what time is it?"));
    ///
    /// let mut reply = Multipart::from("noon");
    /// reply.put_envelope(envelope);
    /// assert_eq!(reply, Multipart::from(["client-7", "", "noon"]));
    /// ```
    #[must_use = "the frames are taken off the message"]
    pub fn take_envelope(&mut self) -> Self {
        let end = self.frames.iter().position(|frame| frame.is_empty()).map_or(0, |delimiter| delimiter + 1);
        self.frames.drain(..end).collect()
    }

    /// Puts a routing envelope, as [`take_envelope`](Self::take_envelope) gave it, in front of the frames.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Multipart;
    /// let mut reply = Multipart::from("noon");
    /// reply.put_envelope(Multipart::from(["client-7", ""]));
    /// assert_eq!(reply, ["client-7", "", "noon"].into());
    /// ```
    pub fn put_envelope(&mut self, envelope: Self) {
        self.frames.insert_many(0, envelope.frames);
    }

    /// Drops all frames; the room of their list is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Multipart;
    /// let mut message = Multipart::from(["oslo", "12C"]);
    /// message.clear();
    /// assert!(message.is_empty());
    /// ```
    pub fn clear(&mut self) {
        self.frames.clear();
    }

    /// A message of this frame.
    #[inline]
    pub(crate) fn from_frame(frame: Message) -> Self {
        Self { frames: SmallVec::from_buf([frame]) }
    }

    /// Makes room for what follows the first frame: an envelope and a body fit without moving again.
    pub(crate) fn reserve_rest(&mut self) {
        self.frames.reserve(3);
    }

    /// The list of frames, to receive into.
    #[inline]
    pub(crate) fn frames_mut(&mut self) -> &mut SmallVec<[Message; 1]> {
        &mut self.frames
    }

    /// Leaves exactly one frame, to receive into. Its bytes are whatever they were.
    #[inline]
    pub(crate) fn keep_one(&mut self) -> &mut Message {
        if self.frames.len() != 1 {
            self.frames.resize_with(1, Message::new);
        }
        self.frames.first_mut().expect("there is exactly one")
    }
}

/// Copies the bytes, to send them again or elsewhere. What libzmq knows of the peer that they came from stays with the
/// original: the copy has no [`user_id`](Self::user_id) and no other [`property`](Self::property).
impl Clone for Multipart {
    fn clone(&self) -> Self {
        self.iter().map(|frame| &frame[..]).collect()
    }
}

/// The frames, as a slice.
impl Deref for Multipart {
    type Target = [Message];

    #[inline]
    fn deref(&self) -> &[Message] {
        &self.frames
    }
}

impl DerefMut for Multipart {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Message] {
        &mut self.frames
    }
}

/// Prints the number of frames and their lengths, not their bytes: messages end up in logs.
impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Multipart")?;
        f.debug_list().entries(self.frames.iter().map(|frame| frame.len())).finish()
    }
}

/// Fails if the number of frames is not `N`; the error gives the message back.
impl<const N: usize> TryFrom<Multipart> for [Message; N] {
    type Error = FrameCountError;

    fn try_from(message: Multipart) -> Result<Self, FrameCountError> {
        if message.len() != N {
            return Err(FrameCountError { message, expected: N });
        }
        let mut frames = message.frames.into_iter();
        Ok(std::array::from_fn(|_| frames.next().unwrap_or_else(Message::new)))
    }
}

impl IntoIterator for Multipart {
    type Item = Message;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(self.frames.into_iter())
    }
}

impl<'a> IntoIterator for &'a Multipart {
    type Item = &'a Message;
    type IntoIter = std::slice::Iter<'a, Message>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames.iter()
    }
}

impl<'a> IntoIterator for &'a mut Multipart {
    type Item = &'a mut Message;
    type IntoIter = std::slice::IterMut<'a, Message>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames.iter_mut()
    }
}

/// The frames of a [`Multipart`], one by one.
///
/// # Examples
///
/// ```
/// use calloop_zmq::Multipart;
/// let message = Multipart::from(["oslo", "12C"]);
/// let lengths: Vec<usize> = message.into_iter().map(|frame| frame.len()).collect();
/// assert_eq!(lengths, [4, 3]);
/// ```
#[derive(Debug)]
pub struct IntoIter(smallvec::IntoIter<[Message; 1]>);

impl Iterator for IntoIter {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for IntoIter {
    fn next_back(&mut self) -> Option<Message> {
        self.0.next_back()
    }
}

impl ExactSizeIterator for IntoIter {}

impl FusedIterator for IntoIter {}

impl<T: IntoFrame> FromIterator<T> for Multipart {
    fn from_iter<I: IntoIterator<Item = T>>(frames: I) -> Self {
        Self { frames: frames.into_iter().map(IntoFrame::into_frame).collect() }
    }
}

impl<T: IntoFrame> Extend<T> for Multipart {
    fn extend<I: IntoIterator<Item = T>>(&mut self, frames: I) {
        self.frames.extend(frames.into_iter().map(IntoFrame::into_frame));
    }
}

impl<T: IntoFrame, const N: usize> From<[T; N]> for Multipart {
    fn from(frames: [T; N]) -> Self {
        frames.into_iter().collect()
    }
}

/// A message of two frames of different types.
impl<A: IntoFrame, B: IntoFrame> From<(A, B)> for Multipart {
    fn from((first, second): (A, B)) -> Self {
        [first.into_frame(), second.into_frame()].into()
    }
}

/// A message of three frames of different types.
impl<A: IntoFrame, B: IntoFrame, C: IntoFrame> From<(A, B, C)> for Multipart {
    fn from((first, second, third): (A, B, C)) -> Self {
        [first.into_frame(), second.into_frame(), third.into_frame()].into()
    }
}

/// A message of several frames. (A `Vec<u8>` is one frame, by its own conversion.)
impl<T: IntoFrame> From<Vec<T>> for Multipart {
    fn from(frames: Vec<T>) -> Self {
        frames.into_iter().collect()
    }
}

impl From<Message> for Multipart {
    #[inline]
    fn from(frame: Message) -> Self {
        Self::from_frame(frame)
    }
}

impl From<&str> for Multipart {
    #[inline]
    fn from(text: &str) -> Self {
        Self::from_frame(text.into_frame())
    }
}

impl From<String> for Multipart {
    fn from(text: String) -> Self {
        Self::from_frame(text.into_frame())
    }
}

impl From<&String> for Multipart {
    #[inline]
    fn from(text: &String) -> Self {
        Self::from_frame(text.into_frame())
    }
}

impl From<&[u8]> for Multipart {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        Self::from_frame(bytes.into_frame())
    }
}

/// One frame of these bytes.
impl<const N: usize> From<[u8; N]> for Multipart {
    #[inline]
    fn from(bytes: [u8; N]) -> Self {
        Self::from_frame(bytes.into_frame())
    }
}

impl<const N: usize> From<&[u8; N]> for Multipart {
    #[inline]
    fn from(bytes: &[u8; N]) -> Self {
        Self::from_frame(bytes.into_frame())
    }
}

/// One frame, without a copy.
impl From<Vec<u8>> for Multipart {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_frame(bytes.into_frame())
    }
}

impl From<&Vec<u8>> for Multipart {
    #[inline]
    fn from(bytes: &Vec<u8>) -> Self {
        Self::from_frame(bytes.into_frame())
    }
}

/// One frame, without a copy.
impl From<Box<[u8]>> for Multipart {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::from_frame(bytes.into_frame())
    }
}

/// What becomes one frame.
///
/// The zmq crate's `Into<Message>` lacks `String` and `&[u8; N]`, and nobody else may add them. Implement this for your
/// own types to send them in arrays, `Vec`s and iterators.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{IntoFrame, Multipart, zmq};
///
/// struct Celsius(i16);
///
/// impl IntoFrame for Celsius {
///     fn into_frame(self) -> zmq::Message {
///         self.0.to_be_bytes().into_frame()
///     }
/// }
/// assert_eq!(Multipart::from([Celsius(12)]), [[0, 12]].into());
/// ```
pub trait IntoFrame {
    /// Makes the frame. Borrowed bytes are copied; owned bytes are not.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::IntoFrame;
    /// assert_eq!(String::from("oslo").into_frame().as_str(), Some("oslo"));
    /// ```
    fn into_frame(self) -> Message;
}

impl IntoFrame for Message {
    #[inline]
    fn into_frame(self) -> Message {
        self
    }
}

impl IntoFrame for &str {
    #[inline]
    fn into_frame(self) -> Message {
        ffi::copy(self.as_bytes())
    }
}

impl IntoFrame for String {
    fn into_frame(self) -> Message {
        Message::from(self.into_bytes())
    }
}

impl IntoFrame for &String {
    fn into_frame(self) -> Message {
        ffi::copy(self.as_bytes())
    }
}

impl IntoFrame for &[u8] {
    #[inline]
    fn into_frame(self) -> Message {
        ffi::copy(self)
    }
}

impl<const N: usize> IntoFrame for &[u8; N] {
    #[inline]
    fn into_frame(self) -> Message {
        ffi::copy(self.as_slice())
    }
}

impl<const N: usize> IntoFrame for [u8; N] {
    #[inline]
    fn into_frame(self) -> Message {
        ffi::copy(self.as_slice())
    }
}

impl IntoFrame for Vec<u8> {
    fn into_frame(self) -> Message {
        Message::from(self)
    }
}

impl IntoFrame for &Vec<u8> {
    #[inline]
    fn into_frame(self) -> Message {
        ffi::copy(self.as_slice())
    }
}

impl IntoFrame for Box<[u8]> {
    fn into_frame(self) -> Message {
        Message::from(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(message: &Multipart) -> Vec<&str> {
        message.iter().map(|frame| frame.as_str().unwrap()).collect()
    }

    #[test]
    fn every_conversion_gives_the_frames_in_order() {
        assert_eq!(texts(&"a".into()), ["a"]);
        assert_eq!(texts(&String::from("a").into()), ["a"]);
        assert_eq!(texts(&(&b"a"[..]).into()), ["a"]);
        assert_eq!(texts(&b"ab".into()), ["ab"]);
        assert_eq!(texts(&(*b"ab").into()), ["ab"]);
        assert_eq!(texts(&vec![b'a', b'b'].into()), ["ab"]);
        assert_eq!(texts(&Box::<[u8]>::from(*b"ab").into()), ["ab"]);
        assert_eq!(texts(&["a", "b"].into()), ["a", "b"]);
        assert_eq!(texts(&vec!["a".to_owned(), "b".to_owned()].into()), ["a", "b"]);
        assert_eq!(texts(&[vec![b'a'], vec![b'b']].into()), ["a", "b"]);
        assert_eq!(texts(&[b"a", b"b"].into()), ["a", "b"]);
        assert_eq!(texts(&("a", vec![b'b']).into()), ["a", "b"]);
        assert_eq!(texts(&("a", vec![b'b'], Message::from("c")).into()), ["a", "b", "c"]);
        assert_eq!(texts(&["a", "b", "c"].iter().copied().collect()), ["a", "b", "c"]);
    }

    #[test]
    fn frames_come_in_order_and_from_the_back() {
        let message = Multipart::from(["a", "b", "c"]);
        assert!((&message).into_iter().map(|frame| frame.as_str().unwrap()).eq(["a", "b", "c"]));
        let mut frames = message.into_iter();
        assert_eq!(frames.next_back().unwrap().as_str(), Some("c"));
        assert_eq!(frames.len(), 2);
        assert!(frames.rev().map(|frame| frame.as_str().unwrap().to_owned()).eq(["b", "a"]));
    }

    #[test]
    fn frames_can_be_replaced_in_place() {
        let mut message = Multipart::from(["a", "b"]);
        for frame in &mut message {
            *frame = "c".into();
        }
        assert_eq!(texts(&message), ["c", "c"]);
    }

    #[test]
    fn one_frame_stays_inline() {
        assert!(!Multipart::from("a").frames.spilled());
        assert_eq!(size_of::<Multipart>(), 72);
    }

    #[test]
    fn a_copy_has_the_bytes_and_is_its_own() {
        let long = "x".repeat(100); // libzmq would share these bytes among its copies
        for message in [Multipart::new(), "a".into(), ["a", ""].into(), [&long, "b"].into()] {
            let mut copy = message.clone();
            assert_eq!(copy, message);
            for byte in copy.iter_mut().flat_map(|frame| frame.iter_mut()) {
                *byte = b'!';
            }
            assert!(message.iter().all(|frame| !frame.contains(&b'!')));
        }
    }

    #[test]
    fn the_wrong_number_of_frames_gives_the_message_back() {
        let error = <[Message; 3]>::try_from(Multipart::from(["a", "b"])).unwrap_err();
        assert_eq!(error.to_string(), "expected 3 frames, the message has 2");
        assert_eq!(texts(&error.into_message()), ["a", "b"]);
        assert!(<[Message; 1]>::try_from(Multipart::new()).is_err());
    }

    #[test]
    fn ends_are_pushed_and_popped() {
        let mut message = Multipart::from("b");
        message.push_front("a");
        message.push_back(String::from("c"));
        assert_eq!(texts(&message), ["a", "b", "c"]);
        assert_eq!(message.pop_front().unwrap().as_str(), Some("a"));
        assert_eq!(message.pop_back().unwrap().as_str(), Some("c"));
        assert_eq!(texts(&message), ["b"]);
        assert!(message.pop_front().is_some() && message.pop_front().is_none() && message.pop_back().is_none());
    }

    #[test]
    fn an_envelope_comes_off_and_goes_back_on() {
        let mut message = Multipart::from(["x", "y", "", "body", "", "more"]);
        let envelope = message.take_envelope();
        assert_eq!((texts(&envelope), texts(&message)), (vec!["x", "y", ""], vec!["body", "", "more"]));
        message.put_envelope(envelope);
        assert_eq!(message.len(), 6);

        let mut empty_body = Multipart::from(["id", "", ""]);
        assert_eq!(texts(&empty_body.take_envelope()), ["id", ""]);
        assert_eq!(texts(&empty_body), [""]);

        let mut bare = Multipart::from(["id", "body"]);
        assert!(bare.take_envelope().is_empty());
        assert_eq!(bare.len(), 2);
    }

    #[test]
    fn debug_shows_lengths_and_no_payload() {
        let message = Multipart::from(["secret", "token"]);
        assert_eq!(format!("{message:?}"), "Multipart[6, 5]");
    }
}
