//! Something is done to a socket from the side, while a task waits to receive from it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures::StreamExt;

use crate::faults::finding::Finding;
use crate::faults::library::Library;
use crate::faults::scene::{INPROC, Scene};
use crate::faults::watch::progress;

const TICK: Duration = Duration::from_millis(1);

/// A task that receives, and counts.
struct Reader<L: Library> {
    pull: Rc<RefCell<L::Pull>>,
    received: Rc<Cell<u64>>,
}

impl<L: Library> Reader<L> {
    fn start(library: &L, raw: zmq::Socket) -> Self {
        let pull = Rc::new(RefCell::new(library.pull(raw)));
        let received = Rc::new(Cell::new(0));
        let reader = Self { pull: Rc::clone(&pull), received: Rc::clone(&received) };
        library.spawn(async move {
            // Borrowed for each poll only: the other task wants the raw socket.
            while let Some(Ok(_)) = poll_fn(|cx| pull.borrow_mut().poll_next_unpin(cx)).await {
                received.set(received.get() + 1);
                progress();
            }
            Finding::wrong("its stream ends or fails").tell()
        });
        reader
    }

    /// Until it has so many and waits for the next.
    async fn has(&self, library: &L, messages: u64) {
        while self.received.get() < messages {
            library.sleep(TICK).await;
        }
        library.sleep(TICK).await;
    }
}

/// `asks`: for `ZMQ_EVENTS`, from the other task.
pub fn events<L: Library>(scene: Scene, asks: bool) -> Finding {
    let messages = scene.scale(500);
    let (raw, endpoint) = scene.bound(zmq::PULL, 0, INPROC);
    let peer = scene.connected(zmq::PUSH, 0, &endpoint);
    L::run(&scene.context, |library| async move {
        let reader = Reader::start(&library, raw);
        for n in 0..messages {
            reader.has(&library, n).await;
            peer.send("a message", zmq::DONTWAIT).expect("sent");
            if asks {
                L::raw(&reader.pull.borrow()).get_events().expect("an open socket");
            }
        }
        reader.has(&library, messages).await;
        Finding::right()
    })
}

pub fn connect<L: Library>(scene: Scene, endpoint: &str) -> Finding {
    let endpoints = scene.scale(50);
    // No endpoint is there to begin with.
    let raw = scene.socket(zmq::PULL, 0);
    let context = scene.context.clone();
    let endpoint = endpoint.to_owned();
    L::run(&scene.context, |library| async move {
        let reader = Reader::start(&library, raw);
        let (tell, told) = mpsc::channel();
        for n in 0..endpoints {
            reader.has(&library, n).await;
            let push = context.socket(zmq::PUSH).expect("a socket");
            let name = if endpoint.starts_with("inproc") { format!("{endpoint}-{n}") } else { endpoint.clone() };
            push.bind(&name).expect("an endpoint");
            let name = push.get_last_endpoint().expect("bound").expect("text");
            let tell = tell.clone();
            thread::spawn(move || {
                // As soon as somebody is connected.
                push.send("a message", 0).expect("sent");
                let _ = tell.send(push);
            });
            L::connect(&reader.pull.borrow(), &name);
        }
        reader.has(&library, endpoints).await;
        drop(told);
        Finding::right()
    })
}
