//! What libzmq knows about the peer that a message came from.

use crate::ffi;
use crate::multipart::Multipart;

impl Multipart {
    /// Who sent this message: the user id that an [`Authenticator`](crate::zap::Authenticator), or another ZAP handler,
    /// gave the peer when it connected. Empty if it gave none.
    ///
    /// **Trust it on sockets that ask a handler, and on no others.** To a socket without security a peer can say of
    /// itself whatever it likes, this too. See [`zap`](crate::zap).
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(calloop_zmq::Multipart::from("not received from anywhere").user_id(), None);
    /// ```
    pub fn user_id(&self) -> Option<&str> {
        self.property("User-Id")
    }

    /// What the connection that this message came over says by that name (`zmq_msg_gets`); `None` if it says nothing, or
    /// nothing that is UTF-8. Messages over `inproc://`, and those that were not received, have none.
    ///
    /// `Peer-Address` is libzmq's own, `User-Id` and the properties of a
    /// [`Decision`](crate::zap::Decision::with_property) the handler's; `Socket-Type`, `Routing-Id` and all other names
    /// are what the peer says.
    ///
    /// They come with each frame that came over the connection: the routing id that a ROUTER puts in front has none, and
    /// this looks at the frames behind it too.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (pull, push) = (context.socket::<Pull>()?, context.socket::<Push>()?);
    /// # push.connect(&pull.bind("tcp://127.0.0.1:*")?)?;
    /// # event_loop.block_on(async {
    /// push.send("hello").await?;
    /// let message = pull.recv().await?;
    /// assert_eq!(message.property("Peer-Address"), Some("127.0.0.1"));
    /// assert_eq!(message.property("Socket-Type"), Some("PUSH"));
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn property(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|frame| ffi::property(frame, name))
    }
}
