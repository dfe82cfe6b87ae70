//! What the libzmq behind this crate can do. Builds differ, and the one that the zmq crate makes can do less than most.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use crate::error::Error;
use crate::ffi;

/// What the libzmq that this program runs with can do.
///
/// Two sets of values are common. The zmq crate compiles a libzmq of its own, 4.3.4, without CURVE, with a pair of
/// sockets for each descriptor and without TCP keep-alive. A libzmq of the system usually has all three. To link that one
/// (Debian's package is `libzmq3-dev`), put this into the program's `.cargo/config.toml`; nothing is compiled then:
///
/// ```toml
/// [target.x86_64-unknown-linux-gnu.zmq]
/// rustc-link-lib = ["zmq"]
/// ```
///
/// # Examples
///
/// ```
/// let features = calloop_zmq::features();
/// println!("{features}"); // libzmq 4.3.4: ipc, ws; descriptor: socket pair; TCP keep-alive: ignored
/// if !features.curve {
///     println!("connections will not be encrypted");
/// }
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Features {
    /// Major, minor, patch.
    pub version: (i32, i32, i32),
    /// CURVE: encryption, and authentication by keys. Without, `set_curve_server` and all other options of CURVE answer
    /// `EINVAL`, and `CurveKeyPair::new` answers `ENOTSUP`.
    pub curve: bool,
    /// GSSAPI (Kerberos). [`zap`](crate::zap) refuses it.
    pub gssapi: bool,
    /// `ipc://` endpoints.
    pub ipc: bool,
    /// `ws://` endpoints.
    pub ws: bool,
    /// `wss://` endpoints.
    pub wss: bool,
    /// The draft API: socket types and options that are not stable.
    pub draft: bool,
    /// What `ZMQ_FD` is; `None` where the system does not tell (it takes a `/proc`).
    pub descriptor: Option<Descriptor>,
    /// Whether `set_tcp_keepalive` and its like have an effect; otherwise libzmq accepts and ignores them.
    ///
    /// libzmq does not tell. This is concluded from [`descriptor`](Self::descriptor): the build that was not told of
    /// eventfd was told of nothing else about the system. So it is known on Linux only, and `None` elsewhere. Use
    /// `set_heartbeat_ivl` to find dead peers; it works in all builds.
    pub tcp_keepalive: Option<bool>,
}

/// What a socket's descriptor (`ZMQ_FD`) is.
///
/// # Examples
///
/// ```
/// use calloop_zmq::Descriptor;
/// let of_each_socket = match calloop_zmq::features().descriptor {
///     Some(Descriptor::EventFd) => "one descriptor",
///     Some(Descriptor::SocketPair) => "two descriptors",
///     _ => "who knows",
/// };
/// # let _ = of_each_socket;
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// An eventfd: one descriptor for each socket.
    EventFd,
    /// A pair of connected sockets: two descriptors for each socket.
    SocketPair,
}

/// Asks the libzmq that this program runs with what it can do.
///
/// The first call makes a socket for a moment, to look at its descriptor.
///
/// # Examples
///
/// ```
/// let (major, minor, _patch) = calloop_zmq::features().version;
/// assert!((major, minor) >= (4, 1));
/// ```
pub fn features() -> Features {
    let has = |name| zmq::has(name).unwrap_or(false);
    let descriptor = descriptor();
    Features {
        version: zmq::version(),
        curve: has("curve"),
        gssapi: has("gssapi"),
        ipc: has("ipc"),
        // As libzmq spells them.
        ws: has("WS"),
        wss: has("WSS"),
        draft: has("draft"),
        descriptor,
        tcp_keepalive: descriptor.filter(|_| cfg!(target_os = "linux")).map(|it| it == Descriptor::EventFd),
    }
}

pub(crate) fn require_curve() -> crate::Result<()> {
    if zmq::has("curve") == Some(true) { Ok(()) } else { Err(Error::CurveMissing) }
}

impl Features {
    /// Fails with an error that says what to do if there is no CURVE. libzmq itself only says `EINVAL`, to options and
    /// keys alike.
    ///
    /// # Errors
    ///
    /// [`Error::CurveMissing`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn secure(socket: &zmq::Socket, pair: &zmq::CurveKeyPair) -> calloop_zmq::Result<()> {
    /// calloop_zmq::features().require_curve()?;
    /// socket.set_curve_server(true)?;
    /// socket.set_curve_secretkey(&pair.secret_key)?;
    /// # Ok(())
    /// # }
    /// # let _ = secure;
    /// ```
    pub fn require_curve(&self) -> crate::Result<()> {
        if self.curve { Ok(()) } else { Err(Error::CurveMissing) }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "libzmq {major}.{minor}.{patch}:")?;
        let parts = [
            (self.curve, "curve"),
            (self.gssapi, "gssapi"),
            (self.ipc, "ipc"),
            (self.ws, "ws"),
            (self.wss, "wss"),
            (self.draft, "draft"),
        ];
        let names: Vec<&str> = parts.into_iter().filter_map(|(has, name)| has.then_some(name)).collect();
        write!(f, " {}", names.join(", "))?;
        let descriptor = match self.descriptor {
            Some(Descriptor::EventFd) => "eventfd",
            Some(Descriptor::SocketPair) => "socket pair",
            None => "unknown",
        };
        let keepalive = match self.tcp_keepalive {
            Some(true) => "works",
            Some(false) => "ignored",
            None => "unknown",
        };
        write!(f, "; descriptor: {descriptor}; TCP keep-alive: {keepalive}")
    }
}

fn descriptor() -> Option<Descriptor> {
    static KNOWN: OnceLock<Descriptor> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Some(*known);
    }
    let context = zmq::Context::new();
    let socket = ffi::Socket::open(&context, zmq::PAIR).ok()?;
    let link = socket.fd().ok().and_then(|fd| fs::read_link(format!("/proc/self/fd/{}", fd.number())).ok());
    drop(socket);
    // That waits for libzmq's threads.
    ffi::drop_elsewhere(context, || {});
    let link = link?;
    let found = match link.to_str()? {
        "anon_inode:[eventfd]" => Descriptor::EventFd,
        link if link.starts_with("socket:") => Descriptor::SocketPair,
        _ => return None,
    };
    Some(*KNOWN.get_or_init(|| found))
}
