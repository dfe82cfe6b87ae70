//! Tasks that wait in both directions when their context ends, again and again.

use std::cell::RefCell;
use std::ffi::c_void;
use std::rc::Rc;
use std::thread;

use futures::future::LocalBoxFuture;
use futures::{SinkExt, StreamExt};

use crate::kind::Dealer;
use crate::stress::rig::{How, Moment, Rig, Shared, spawn};
use crate::{AsyncZmqContext, AsyncZmqSocket, Error};

/// Waits for a DEALER that has no peer: neither direction is ever ready.
const WAITS: u64 = 8;

pub(super) fn shutdown(rig: &mut Rig) {
    let (handle, executor, shared, dice) =
        (rig.handle(), rig.executor.clone(), Rc::clone(&rig.shared), rig.dice.clone());
    let (rounds, mut round, ended) = (rig.messages / WAITS, 0, Rc::clone(&rig.shared));
    rig.until(move || ended.progress() >= rounds * WAITS && ended.live() == 0);
    let last = RefCell::new(None::<Scene>);
    rig.peer(move |moment| {
        if moment != Moment::Turn {
            return;
        }
        if shared.live() == 0 && round < rounds {
            round += 1;
            let context = AsyncZmqContext::new(&handle).unwrap();
            let raw = Raw::new();
            let dealer = Rc::new(context.adopt::<Dealer>(raw.dealer()).unwrap());
            all_wait(&dealer, &shared, |task| spawn(&executor, &shared, task));
            last.replace(Some(Scene { context, raw, turns: 0 }));
        } else if let Some(scene) = &mut *last.borrow_mut() {
            scene.turns += 1;
            // By then they wait.
            if scene.turns == 3 {
                if dice.one_in(2) { scene.context.shutdown() } else { scene.raw.shut_down() }
            }
        }
    });
}

type LocalTask = LocalBoxFuture<'static, ()>;

fn all_wait(dealer: &Rc<AsyncZmqSocket<Dealer>>, shared: &Rc<Shared>, mut spawn: impl FnMut(LocalTask)) {
    let mut waits = |wait: LocalBoxFuture<'static, Result<(), Error>>| {
        let shared = Rc::clone(shared);
        spawn(Box::pin(async move {
            let ended = wait.await;
            if !matches!(ended, Err(Error::Terminated)) {
                shared.fault(How::WrongEnd, &format!("{ended:?}"));
            }
        }));
    };
    let socket = || Rc::clone(dealer);
    for _ in 0..2 {
        let (reader, writer) = (socket(), socket());
        waits(Box::pin(async move { reader.recv().await.map(drop) }));
        waits(Box::pin(async move { writer.send("x").await.map_err(|unsent| unsent.error) }));
    }
    let (stream, sink, reader, writer) = (socket(), socket(), socket(), socket());
    waits(Box::pin(async move { (&*stream).next().await.map_or(Err(Error::Terminated), |item| item.map(drop)) }));
    waits(Box::pin(async move { SinkExt::send(&mut &*sink, "x".into()).await }));
    waits(Box::pin(async move { reader.readable().await }));
    waits(Box::pin(async move { writer.writable().await }));
}

/// What one round needs.
struct Scene {
    context: AsyncZmqContext,
    raw: Raw,
    turns: u32,
}

/// A context that can be shut down, as the zmq crate's cannot.
struct Raw(*mut c_void);

#[allow(unsafe_code, reason = "there is no safe call for it")]
impl Raw {
    fn new() -> Self {
        // SAFETY: takes nothing, gives a context or null.
        Self(unsafe { zmq_sys::zmq_ctx_new() })
    }

    fn dealer(&self) -> zmq::Socket {
        // SAFETY: a live context, and a socket that nobody else has.
        let socket = unsafe { zmq::Socket::from_raw(zmq_sys::zmq_socket(self.0, zmq_sys::ZMQ_DEALER.cast_signed())) };
        socket.set_linger(0).unwrap();
        socket
    }

    fn shut_down(&self) {
        // SAFETY: a live context.
        assert_eq!(unsafe { zmq_sys::zmq_ctx_shutdown(self.0) }, 0);
    }
}

#[allow(unsafe_code, reason = "as above")]
impl Drop for Raw {
    fn drop(&mut self) {
        let address = self.0.expose_provenance();
        // It waits until the sockets are closed, and a bug may keep some of them.
        thread::spawn(move || {
            // SAFETY: its one owner is gone; who still has a socket of it keeps this waiting.
            unsafe { zmq_sys::zmq_ctx_term(std::ptr::with_exposed_provenance_mut(address)) }
        });
    }
}
