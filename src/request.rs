//! A request and its reply as one operation.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::task::{Poll, ready};

use crate::error::SendError;
use crate::events::Direction;
use crate::ffi::Errno;
use crate::kind::Req;
use crate::multipart::Multipart;
use crate::socket::AsyncZmqSocket;
use crate::wait::Wait;

impl AsyncZmqSocket<Req> {
    /// Sends a request and receives its reply.
    ///
    /// A plain REQ that never gets its reply is stuck: it can neither send again nor tell a late reply from the one to
    /// the next request. So this sets `ZMQ_REQ_RELAXED` and `ZMQ_REQ_CORRELATE` on the socket, and they stay set: a
    /// request may be given up, and replies to earlier ones are discarded.
    ///
    /// One request at a time: a second one before the first has ended is refused with `EFSM`.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send) and [`recv`](Self::recv). The [`SendError`] gives the message back if it was not
    /// sent; after that its message is empty.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the request up, and the next one works. Whether the server saw it cannot be told.
    ///
    /// # Examples
    ///
    /// A server that is slow, and a client that has no time:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Rep, Req}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (req, rep) = (context.socket::<Req>()?, context.socket::<Rep>()?);
    /// # rep.bind("inproc://time")?;
    /// # req.connect("inproc://time")?;
    /// # event_loop.block_on(async {
    /// let late = context.timeout(Duration::from_millis(5), req.request("what time is it?")).await;
    /// assert!(late.is_err());
    ///
    /// let served = async {
    ///     for _ in 0..2 {
    ///         let question = rep.recv().await?;
    ///         rep.send(question).await?;
    ///     }
    ///     calloop_zmq::Result::Ok(())
    /// };
    /// let (reply, served) = futures::join!(req.request("and now?"), served);
    /// assert_eq!(reply?, "and now?".into());
    /// # served
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn request(&self, message: impl Into<Multipart>) -> impl Future<Output = Result<Multipart, SendError>> + Unpin {
        let mut message = message.into();
        let mut turn = None;
        let mut sending = Some(Wait::new(self.state(), Direction::Write));
        let mut receiving = Wait::new(self.state(), Direction::Read);
        poll_fn(move |cx| {
            if turn.is_none() {
                match self.begin_request() {
                    Ok(begun) => turn = Some(begun),
                    Err(error) => return Poll::Ready(Err(SendError { message: std::mem::take(&mut message), error })),
                }
            }
            if let Some(wait) = &mut sending {
                if let Err(error) = ready!(self.poll_send(&mut message, wait.place(), cx)) {
                    turn = None;
                    return Poll::Ready(Err(SendError { message: std::mem::take(&mut message), error }));
                }
                sending = None;
            }
            let reply = ready!(self.poll_recv(receiving.place(), cx));
            turn = None;
            Poll::Ready(reply.map_err(|error| SendError { message: Multipart::new(), error }))
        })
    }

    fn begin_request(&self) -> crate::Result<Turn<'_>> {
        self.state().check()?;
        if self.requesting().get() {
            return Err(Errno::EFSM.error("send a second request before the reply to the first"));
        }
        let socket = self.raw().get_ref();
        socket
            .set_req_relaxed(true)
            .and_then(|()| socket.set_req_correlate(true))
            .map_err(|error| Errno::from(error).error("prepare the request"))?;
        self.requesting().set(true);
        Ok(Turn(self.requesting()))
    }
}

/// The one request that a REQ is busy with.
struct Turn<'a>(&'a Cell<bool>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
