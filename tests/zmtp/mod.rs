//! A peer that speaks just enough ZMTP 3.0 (RFC 23, mechanism NULL) to misbehave on purpose.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection after its handshake.
pub(crate) struct Peer(TcpStream);

/// A frame of a message, and whether more follow.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) more: bool,
}

impl Peer {
    /// Shakes hands as a socket of that type (`PULL`, `REP`, ...) with that routing id.
    pub(crate) fn handshake(stream: TcpStream, socket_type: &str, identity: &str) -> io::Result<Self> {
        Self::handshake_with(stream, &[("Socket-Type", socket_type), ("Identity", identity)])
    }

    /// Shakes hands with these properties.
    pub(crate) fn handshake_with(mut stream: TcpStream, properties: &[(&str, &str)]) -> io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_nodelay(true)?;
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting)?;
        stream.read_exact(&mut [0; 64])?;
        let mut ready = b"\x05READY".to_vec();
        for (name, value) in properties {
            ready.push(u8::try_from(name.len()).expect("a short name"));
            ready.extend(name.bytes());
            ready.extend(u32::try_from(value.len()).expect("a short value").to_be_bytes());
            ready.extend(value.bytes());
        }
        stream.write_all(&[0x04, u8::try_from(ready.len()).expect("a short command")])?;
        stream.write_all(&ready)?;
        let mut peer = Self(stream);
        let (flags, _) = peer.any_frame()?;
        assert_eq!(flags & 0x04, 0x04, "the other side is ready");
        Ok(peer)
    }

    /// How long [`frame`](Self::frame) waits; a connection that the other side ignores brings none.
    pub(crate) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(patience))
    }

    /// The next frame of a message; commands are passed over.
    pub(crate) fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let (flags, bytes) = self.any_frame()?;
            if flags & 0x04 == 0 {
                return Ok(Frame { bytes, more: flags & 0x01 != 0 });
            }
        }
    }

    pub(crate) fn send(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        for (at, frame) in frames.iter().enumerate() {
            let more = u8::from(at + 1 < frames.len());
            self.0.write_all(&[more | 0x02])?;
            self.0.write_all(&(frame.len() as u64).to_be_bytes())?;
            self.0.write_all(frame)?;
        }
        Ok(())
    }

    fn any_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut flags = [0];
        self.0.read_exact(&mut flags)?;
        let size = if flags[0] & 0x02 == 0 {
            let mut size = [0];
            self.0.read_exact(&mut size)?;
            u64::from(size[0])
        } else {
            let mut size = [0; 8];
            self.0.read_exact(&mut size)?;
            u64::from_be_bytes(size)
        };
        let mut bytes = vec![0; usize::try_from(size).expect("it fits into memory")];
        self.0.read_exact(&mut bytes)?;
        Ok((flags[0], bytes))
    }
}
