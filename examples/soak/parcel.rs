//! What is sent: a label that says who sent it and which of theirs it is, then frames whose checksum stands in the label.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use calloop_zmq::Multipart;
use calloop_zmq::zmq::Message;

use crate::random::Random;

/// What the first frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) lane: u64,
    pub(crate) number: u64,
}

/// Makes messages of many shapes, and knows whole ones.
pub(crate) struct Parcels {
    random: Random,
    /// What all frames are cut from.
    noise: &'static [u8],
}

impl Parcels {
    pub(crate) fn new(random: Random) -> Self {
        static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
        let mut noise = Random::new(1);
        let noise = NOISE.get_or_init(|| (0..LARGEST / 4).flat_map(|_| noise.next().to_le_bytes()).collect());
        Self { random, noise }
    }

    /// The message of that label. Most are small, some have many frames, a few are large.
    pub(crate) fn make(&mut self, label: Label) -> Multipart {
        let (frames, largest) = match self.random.below(2000) {
            0 => (1, LARGEST),
            1..10 => (2, 64 << 10),
            10..20 => (200, 20),
            20..40 => (3, 8200),
            _ => (1 + self.random.below(4), 200),
        };
        let mut body = Vec::new();
        for _ in 0..frames {
            let (length, from) = (self.random.below(largest + 1), self.random.below(LARGEST));
            body.push(&self.noise[as_usize(from)..as_usize(from + length)]);
        }
        let sum = checksum(label, body.iter().copied());
        let mut message = Multipart::from([label.lane, label.number, sum].map(u64::to_le_bytes).concat());
        message.extend(body);
        message
    }
}

/// Reads the label. `None` if the message is not whole, or not what was sent.
pub(crate) fn open(frames: &[Message]) -> Option<Label> {
    let (first, body) = frames.split_first()?;
    let word = |at| first.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let label = Label { lane: word(0)?, number: word(8)? };
    (word(16)? == checksum(label, body.iter().map(|frame| &frame[..]))).then_some(label)
}

fn checksum<'a>(label: Label, body: impl ExactSizeIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (label.lane, label.number, body.len()).hash(&mut hasher);
    // Each with its length.
    body.for_each(|frame| frame.hash(&mut hasher));
    hasher.finish()
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).expect("less than 2^32")
}

const LARGEST: u64 = 1 << 20;
