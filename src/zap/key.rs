//! A CURVE public key, and its text form.

use std::fmt;
use std::str::FromStr;

/// A CURVE public key. Its text is Z85 (RFC 32), 40 characters, as libzmq's tools print it.
///
/// The zmq crate has keys as plain bytes, which convert: `PublicKey::from(pair.public_key)`.
///
/// # Examples
///
/// ```
/// use calloop_zmq::zap::PublicKey;
///
/// let key: PublicKey = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7".parse()?;
/// assert_eq!(key.as_bytes()[..4], [0x54, 0xfc, 0xba, 0x24]);
/// assert_eq!(key.to_string(), "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7");
/// assert!("not a key".parse::<PublicKey>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub(super) [u8; 32]);

impl PublicKey {
    /// The key as libzmq's options take it.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::zap::PublicKey;
    /// assert_eq!(PublicKey::from([7; 32]).as_bytes(), &[7; 32]);
    /// ```
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Reads Z85. The zmq crate's own `z85_decode` answers a key of zeros to what is none.
impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut key = [0; 32];
        if text.len() != 40 {
            return Err(InvalidKey(()));
        }
        for (four, five) in key.chunks_exact_mut(4).zip(text.as_bytes().chunks_exact(5)) {
            let value = five.iter().try_fold(0_u32, |value, byte| {
                let digit = Z85.iter().position(|letter| letter == byte)?;
                value.checked_mul(85)?.checked_add(u32::try_from(digit).ok()?)
            });
            four.copy_from_slice(&value.ok_or(InvalidKey(()))?.to_be_bytes());
        }
        Ok(Self(key))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.chunks_exact(4).flat_map(|four| {
            let value = four.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
            [85_usize.pow(4), 85_usize.pow(3), 85_usize.pow(2), 85, 1].map(|power| value / power % 85)
        });
        f.pad(&digits.filter_map(|digit| Z85.get(digit)).map(|letter| char::from(*letter)).collect::<String>())
    }
}

/// As text: it is public.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The text is no CURVE key: it has not 40 characters, or one that Z85 does not have.
///
/// # Examples
///
/// ```
/// use calloop_zmq::zap::PublicKey;
/// let error = "not a key".parse::<PublicKey>().unwrap_err();
/// assert_eq!(error.to_string(), "a CURVE key is 40 characters of Z85");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CURVE key is 40 characters of Z85")]
pub struct InvalidKey(());

const Z85: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree_with_libzmq() {
        let mut byte = 0_u8;
        for _ in 0..100 {
            let key = PublicKey(std::array::from_fn(|_| {
                byte = byte.wrapping_mul(5).wrapping_add(113);
                byte
            }));
            assert_eq!(key.to_string(), zmq::z85_encode(&key.0).unwrap());
            assert_eq!(key.to_string().parse(), Ok(key));
            byte = byte.wrapping_add(1);
        }
        for bytes in [[0; 32], [255; 32]] {
            let key = PublicKey::from(bytes);
            assert_eq!(key.to_string().parse(), Ok(key));
            assert_eq!(key.as_bytes(), &bytes);
            assert_eq!(format!("{key:?}"), format!("PublicKey({key})"));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = PublicKey([255; 32]).to_string();
        assert_eq!(&good[..5], "%nSc0");
        for bad in [String::new(), good[1..].into(), format!("{good}0"), good.replace('n', "~"), good.replace('n', "o")]
        {
            assert_eq!(bad.parse::<PublicKey>(), Err(InvalidKey(())), "{bad}");
        }
        assert!("\u{f6}".repeat(20).parse::<PublicKey>().is_err(), "40 bytes, but none of Z85");
    }
}
