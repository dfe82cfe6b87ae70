//! The example `jupyter`, on real Python kernels, each in a process of its own: output comes while its cell runs, a cell
//! that never ends is interrupted beside a timer that keeps its beat, and a kernel's end is noticed, asked for or not.
//!
//! Without ipykernel the tests say that they skip, and pass; where `CI` is set they fail.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "../examples/jupyter/client.rs"]
mod client;
#[path = "../examples/jupyter/kernel.rs"]
mod kernel;
#[path = "../examples/jupyter/wire.rs"]
mod wire;

use std::cell::Cell;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::time::Duration;
use std::{env, mem};

use calloop::EventLoop;
use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::AsyncZmqContext;
use calloop_zmq::kind::{Router, XPub};
use serde_json::json;

use client::{Client, Event};
use kernel::{Channel, Connection, Kernel, Spec};
use wire::{Message, Refused, Session};

/// How long a test may take, the start of its kernel included.
const DEADLINE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(10);

struct Rig {
    context: AsyncZmqContext,
    kernel: Kernel,
    client: Client,
    ticks: Rc<Cell<u32>>,
}

/// Runs the test with a kernel that is ready.
fn with_kernel(test: impl AsyncFnOnce(Rig)) {
    let spec = match Spec::find() {
        Ok(spec) => spec,
        Err(missing) => {
            assert!(env::var_os("CI").is_none(), "{missing}");
            // Not by eprintln, which the test harness keeps to itself when a test passes.
            let _ = writeln!(io::stderr(), "jupyter: SKIPPED, {missing}");
            return;
        }
    };
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let ticks = Rc::new(Cell::new(0));
    let counted = Rc::clone(&ticks);
    let tick = move || {
        counted.set(counted.get() + 1);
        TimeoutAction::ToDuration(TICK)
    };
    event_loop.handle().insert_source(Timer::from_duration(TICK), move |_, (), ()| tick()).unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let session = async {
        let kernel = Kernel::start(&spec).unwrap();
        let client = Client::new(&context, kernel.connection()).unwrap();
        let about = client.ready().await.unwrap();
        assert_eq!(about["implementation"], "ipython");
        test(Rig { context: context.clone(), kernel, client, ticks }).await;
    };
    run(&mut event_loop, &context, session);
}

fn run(event_loop: &mut EventLoop<'_, ()>, context: &AsyncZmqContext, session: impl Future<Output = ()>) {
    let in_time = event_loop.block_on(context.timeout(DEADLINE, session), &mut (), |()| {}).unwrap().unwrap();
    assert!(in_time.is_ok(), "still running after {DEADLINE:?}");
}

impl Rig {
    async fn shut_down(mut self) {
        self.client.shut_down().await.unwrap();
        let status = self.kernel.exited(&self.context).await.unwrap();
        assert!(status.success(), "{status}");
    }

    /// All events of a cell that asks nothing.
    async fn run(&self, code: &str) -> Vec<Event> {
        let (mut cell, mut events) = (self.client.execute(code).await.unwrap(), Vec::new());
        while let Some(event) = cell.next().await.unwrap() {
            events.push(event);
        }
        events
    }
}

/// The events' texts as one: where the kernel cuts its output is its own business.
fn text(events: &[Event]) -> String {
    let texts = events.iter().filter_map(|event| if let Event::Text(text) = event { Some(&**text) } else { None });
    texts.collect()
}

#[test]
fn output_comes_in_order_and_while_its_cell_runs() {
    with_kernel(async |rig| {
        let code = "for i in range(3): print(i)\nname = input('who? ')\nfor i in range(3, 1000): print(i)\nname * 2";
        let (mut cell, mut events) = (rig.client.execute(code).await.unwrap(), Vec::new());
        // The question and the output come on two sockets. The cell goes on when it is answered, and not before.
        let question = Event::Input { prompt: "who? ".to_owned() };
        while !(events.contains(&question) && text(&events) == "0\n1\n2\n") {
            events.push(cell.next().await.unwrap().unwrap());
        }
        cell.answer("bo").await.unwrap();
        while let Some(event) = cell.next().await.unwrap() {
            events.push(event);
        }
        let numbers = (0..1000).map(|number| number.to_string());
        assert!(text(&events).lines().eq(numbers), "{events:?}");
        assert_eq!(events.last(), Some(&Event::Value("'bobo'".to_owned())));
        rig.shut_down().await;
    });
}

#[test]
fn a_cell_that_fails_has_a_traceback() {
    with_kernel(async |rig| {
        let events = rig.run("def half():\n    return 1 / 0\nhalf()").await;
        let [Event::Error { name, traceback }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(name, "ZeroDivisionError");
        assert!(traceback.lines().count() > 3 && traceback.contains("half"), "{traceback}");
        rig.shut_down().await;
    });
}

#[test]
fn a_runaway_cell_is_interrupted_while_the_timer_ticks() {
    with_kernel(async |rig| {
        let mut cell = rig.client.execute("n = 42\nprint('off', flush=True)\nwhile True: pass").await.unwrap();
        let off = cell.next().await.unwrap().unwrap();
        assert!(matches!(&off, Event::Text(text) if text.starts_with("off")), "{off:?}");

        let until = rig.ticks.get() + 30;
        while rig.ticks.get() < until {
            if let Ok(event) = rig.context.timeout(TICK, cell.next()).await {
                assert_eq!(event.unwrap(), Some(Event::Text("\n".to_owned())), "it is to run on");
            }
        }

        rig.client.interrupt().await.unwrap();
        let event = cell.next().await.unwrap();
        assert!(matches!(&event, Some(Event::Error { name, .. }) if name == "KeyboardInterrupt"), "{event:?}");
        assert_eq!(cell.next().await.unwrap(), None);
        assert_eq!(rig.run("n").await, [Event::Value("42".to_owned())]);
        rig.shut_down().await;
    });
}

#[test]
fn a_kernel_that_dies_is_noticed() {
    with_kernel(async |mut rig| {
        let beats = Cell::new(0);
        let execute = rig.client.execute("import os, time\ntime.sleep(0.5)\nos._exit(3)");
        let (heart, status, cell) = futures::join!(
            rig.client.watch_heart(|| beats.set(beats.get() + 1)),
            rig.kernel.exited(&rig.context),
            execute
        );
        heart.unwrap();
        assert!(cell.is_ok() && beats.get() > 0, "{} beats", beats.get());
        assert_eq!(status.unwrap().code(), Some(3));
    });
}

/// What no real kernel does at will: one message after the other, on the sockets of its choice.
#[test]
fn a_cell_ends_with_its_reply_and_with_its_output_and_not_by_a_stranger() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let session = async {
        for reply_first in [true, false] {
            let connection = Connection { key: "key".to_owned(), base: format!("inproc://{reply_first}") };
            let (shell, iopub) = (context.socket::<Router>().unwrap(), context.socket::<XPub>().unwrap());
            shell.bind(&connection.endpoint(Channel::Shell)).unwrap();
            iopub.bind(&connection.endpoint(Channel::Iopub)).unwrap();
            let client = Client::new(&context, &connection).unwrap();
            iopub.wait_for_subscribers("", 1).await.unwrap();

            let mut cell = client.execute("").await.unwrap();
            let frames = shell.recv().await.unwrap();
            let (kernel, stranger) = (Session::new("key").unwrap(), Session::new("another").unwrap());
            let request = kernel.decode(&frames).unwrap();
            let message = |from: &Session, kind, content| {
                from.encode(&Message { parent: request.header.clone(), ..from.request(kind, content) })
            };
            let mut reply = message(&kernel, "execute_reply", json!({}));
            reply.push_front(&frames[0][..]);
            let mut idle = message(&kernel, "status", json!({"execution_state": "idle"}));

            iopub.send(message(&kernel, "status", json!({"execution_state": "busy"}))).await.unwrap();
            iopub.send(message(&stranger, "stream", json!({"text": "boo"}))).await.unwrap();
            let error = cell.next().await.unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(Refused::Signature)), "{error}");

            for reply_now in [reply_first, !reply_first] {
                assert!(context.timeout(TICK, cell.next()).await.is_err(), "there is more to come");
                if reply_now {
                    shell.send(mem::take(&mut reply)).await.unwrap();
                } else {
                    iopub.send(mem::take(&mut idle)).await.unwrap();
                }
            }
            assert_eq!(cell.next().await.unwrap(), None);
        }
    };
    run(&mut event_loop, &context, session);
}
