//! What a case is given, and the raw sockets that it needs.

use super::arguments::One;

pub struct Scene {
    /// For the library's sockets and, over inproc, their peers.
    pub context: zmq::Context,
    pub one: One,
    pub dice: Dice,
}

/// To be bound to, in the case's own process.
pub const INPROC: &str = "inproc://case";
pub const TCP: &str = "tcp://127.0.0.1:*";

impl Scene {
    pub fn new(one: &One) -> Self {
        let one = one.clone();
        Self { context: zmq::Context::new(), dice: Dice::new(one.seed), one }
    }

    /// So many, or a tenth where it is to be quick.
    pub fn scale(&self, messages: u64) -> u64 {
        if self.one.quick { messages / 10 } else { messages }
    }

    /// A socket with this high-water mark in both directions, 0 for libzmq's default, bound; and its endpoint.
    pub fn bound(&self, kind: zmq::SocketType, high_water_mark: i32, endpoint: &str) -> (zmq::Socket, String) {
        let socket = self.socket(kind, high_water_mark);
        socket.bind(endpoint).expect("an endpoint");
        let endpoint = socket.get_last_endpoint().expect("bound").expect("text");
        (socket, endpoint)
    }

    pub fn connected(&self, kind: zmq::SocketType, high_water_mark: i32, endpoint: &str) -> zmq::Socket {
        let socket = self.socket(kind, high_water_mark);
        socket.connect(endpoint).expect("an endpoint");
        socket
    }

    pub fn socket(&self, kind: zmq::SocketType, high_water_mark: i32) -> zmq::Socket {
        let socket = self.context.socket(kind).expect("a socket");
        if high_water_mark > 0 {
            socket.set_sndhwm(high_water_mark).expect("a number");
            socket.set_rcvhwm(high_water_mark).expect("a number");
        }
        socket
    }
}

/// Numbers that look random, the same for the same seed (splitmix64).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Less than this.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
