//! Jupyter's messages as ZeroMQ's: identities, a delimiter, a signature, and four frames of JSON that it signs.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::str;

use calloop_zmq::Multipart;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// One end of a conversation: signs what it sends, and refuses what nobody with the same key has signed.
pub(crate) struct Session {
    id: String,
    mac: Hmac<Sha256>,
    sent: Cell<u64>,
}

/// What a channel carries.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) header: Value,
    /// The header of the request that brought it about.
    pub(crate) parent: Value,
    pub(crate) content: Value,
}

/// Why a received message is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the message lacks frames")]
    Truncated,
    #[error("the message is not signed with our key")]
    Signature,
    #[error("the message is signed, but no JSON")]
    Json(#[from] serde_json::Error),
}

impl Session {
    pub(crate) fn new(key: &str) -> io::Result<Self> {
        let mac = Hmac::new_from_slice(key.as_bytes()).map_err(io::Error::other)?;
        Ok(Self { id: random_hex()?, mac, sent: Cell::new(0) })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// A new message. The protocol's `date` is left out: ipykernel does without.
    pub(crate) fn request(&self, kind: &str, content: Value) -> Message {
        let number = self.sent.replace(self.sent.get() + 1);
        let header = json!({
            "msg_id": format!("{}_{number}", self.id),
            "msg_type": kind,
            "session": self.id,
            "username": "calloop",
            "version": "5.3",
        });
        Message { header, parent: json!({}), content }
    }

    pub(crate) fn encode(&self, message: &Message) -> Multipart {
        let parts = [&message.header, &message.parent, &json!({}), &message.content].map(Value::to_string);
        let mac = parts.iter().fold(self.mac.clone(), Hmac::chain_update);
        let mut frames = Multipart::from([DELIMITER, &hex(&mac.finalize().into_bytes())]);
        frames.extend(parts);
        frames
    }

    pub(crate) fn decode(&self, frames: &Multipart) -> Result<Message, Refused> {
        let delimiter = frames.iter().position(|frame| **frame == *DELIMITER.as_bytes()).ok_or(Refused::Truncated)?;
        // After the four there may be buffers, which are not signed.
        let [signature, header, parent, metadata, content, ..] = &frames[delimiter + 1..] else {
            return Err(Refused::Truncated);
        };
        let mac =
            [header, parent, metadata, content].iter().fold(self.mac.clone(), |mac, part| mac.chain_update(&***part));
        // Compares in constant time.
        mac.verify_slice(&unhex(signature).ok_or(Refused::Signature)?).map_err(|_| Refused::Signature)?;
        let parse = |frame| serde_json::from_slice(frame);
        Ok(Message { header: parse(header)?, parent: parse(parent)?, content: parse(content)? })
    }
}

impl Message {
    pub(crate) fn kind(&self) -> &str {
        self.header["msg_type"].as_str().unwrap_or_default()
    }

    pub(crate) fn is_about(&self, request: &Self) -> bool {
        self.parent["msg_id"] == request.header["msg_id"]
    }

    /// A text of the content; empty if there is none of that name.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.content[name].as_str().unwrap_or_default()
    }
}

/// 128 bits that nobody guesses.
pub(crate) fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    text.chunks(2).map(byte).collect()
}

const DELIMITER: &str = "<IDS|MSG>";

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "key";

    /// The frames of a message with a routing id in front and a buffer behind, as a kernel sends it.
    fn frames(session: &Session) -> Multipart {
        let message = Message { parent: json!({"msg_id": 7}), ..session.request("stream", json!({"text": "ö\n"})) };
        let mut frames = session.encode(&message);
        frames.push_front("routing id");
        frames.push_back([0, 255]);
        frames
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let session = Session::new(KEY).unwrap();
        let message = session.decode(&frames(&session)).unwrap();
        assert_eq!((message.kind(), message.text("text")), ("stream", "ö\n"));
        assert_eq!(message.header["session"], session.id());
        let request = Message { header: json!({"msg_id": 7}), parent: json!({}), content: json!({}) };
        assert!(message.is_about(&request) && !request.is_about(&message));
    }

    #[test]
    fn no_two_messages_have_the_same_id() {
        let (one, other) = (Session::new(KEY).unwrap(), Session::new(KEY).unwrap());
        let mut ids = [&one, &one, &other].map(|it| it.request("x", json!({})).header["msg_id"].to_string());
        ids.sort();
        assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    }

    /// The signature of a fixed message, by Python's `hmac`: what both ends make up together would prove nothing.
    #[test]
    fn the_signature_is_hmac_sha256_of_the_four_parts() {
        let session = Session::new("a0436f6c-1916-498b-8eb9-e81ab9368e84").unwrap();
        let message = Message { header: json!({"msg_id": "1"}), parent: json!({}), content: json!({"code": "1+1"}) };
        let frames = session.encode(&message);
        let texts: Vec<_> = frames.iter().map(|frame| frame.as_str().unwrap()).collect();
        assert_eq!(texts[0], "<IDS|MSG>");
        assert_eq!(texts[1], "571f54ca20ac469366661f0eb466e6d650eee65ae12436bc786b76a5eb890b86");
        assert_eq!(texts[2..], [r#"{"msg_id":"1"}"#, "{}", "{}", r#"{"code":"1+1"}"#]);
    }

    #[test]
    fn a_bad_signature_is_refused() {
        let (session, stranger) = (Session::new(KEY).unwrap(), Session::new("another").unwrap());
        assert!(matches!(session.decode(&frames(&stranger)), Err(Refused::Signature)));
        // The signature itself, and each of the four parts that it is for.
        for part in 2..=6 {
            let mut frames = frames(&session);
            frames[part][1] ^= 1;
            assert!(matches!(session.decode(&frames), Err(Refused::Signature)), "frame {part}");
        }
        for signature in ["", "no hex", "ää", "0"] {
            let mut frames = frames(&session);
            frames[2] = signature.into();
            assert!(matches!(session.decode(&frames), Err(Refused::Signature)), "{signature}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let session = Session::new(KEY).unwrap();
        for length in 0..7 {
            let short: Multipart = frames(&session).into_iter().take(length).collect();
            assert!(matches!(session.decode(&short), Err(Refused::Truncated)), "{length} frames");
        }
        let mac = session.mac.clone().chain_update("no JSON{}{}{}");
        let signature = hex(&mac.finalize().into_bytes());
        let signed = Multipart::from([DELIMITER, &signature, "no JSON", "{}", "{}", "{}"]);
        assert!(matches!(session.decode(&signed), Err(Refused::Json(_))));
    }
}
