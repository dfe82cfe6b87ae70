//! The context, or the program, comes to its end.

use std::env;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use futures::{SinkExt, StreamExt};

use crate::child;
use crate::faults::finding::Finding;
use crate::faults::library::Library;
use crate::faults::scene::{INPROC, Scene, TCP};
use crate::faults::watch::progress;

pub fn context<L: Library>(scene: Scene) -> Finding {
    let (raw, _endpoint) = scene.bound(zmq::PULL, 0, INPROC);
    let mut context = scene.context.clone();
    L::run(&scene.context, |library| async move {
        let mut pull = library.pull(raw);
        assert!(futures::poll!(pull.next()).is_pending(), "there is nothing to receive");
        let end = thread::spawn(move || {
            context.destroy().expect("an end");
            // Another clone would end it once more: it is gone.
            std::mem::forget(context);
        });
        let words = match pull.next().await {
            Some(Ok(_)) => return Finding::wrong("a message comes from nowhere"),
            Some(Err(_)) => "right: an error",
            None => "right: the stream ends",
        };
        drop(pull);
        while !end.is_finished() {
            library.sleep(Duration::from_millis(1)).await;
        }
        // Nothing may touch the context any more.
        Finding::right_with(words, 0).tell()
    })
}

/// Where the program that comes to its end finds the endpoint of the one that watches it.
pub const ENDPOINT: &str = "FAULTS_ENDPOINT";

pub fn exit<L: Library>(scene: Scene, as_documented: bool, pause: Duration) -> Finding {
    let messages = scene.scale(500);
    if let Ok(endpoint) = env::var(ENDPOINT) {
        send_and_end::<L>(scene, &endpoint, messages, as_documented)
    }
    // It reads ahead as little as can be.
    let (pull, endpoint) = scene.bound(zmq::PULL, 1, TCP);
    pull.set_rcvtimeo(1_000).expect("a number");
    let mut program = again(&scene, &endpoint);
    let ending = thread::spawn(move || drop(program.status()));
    let mut received = 0;
    while received < messages {
        match pull.recv_msg(0) {
            Ok(_) => received += 1,
            Err(_) if ending.is_finished() => break,
            Err(_) => {}
        }
        progress();
        thread::sleep(pause);
    }
    match messages - received {
        0 => Finding::right(),
        lost => Finding::wrong_with(&format!("{{}} of {messages} messages do not arrive"), lost),
    }
}

pub fn nobody<L: Library>(scene: Scene) -> Finding {
    if let Ok(endpoint) = env::var(ENDPOINT) {
        send_and_end::<L>(scene, &endpoint, 1, false)
    }
    // Nobody listens there any more.
    let (pull, endpoint) = scene.bound(zmq::PULL, 0, TCP);
    drop(pull);
    match child::output(&mut again(&scene, &endpoint), Duration::from_secs(3)) {
        child::Ended::Done(..) => Finding::right(),
        child::Ended::Stalled => Finding::wrong("does not end, with libzmq's default of `ZMQ_LINGER`"),
    }
}

/// This case once more, in a process that comes to its end.
fn again(scene: &Scene, endpoint: &str) -> Command {
    let mut program = Command::new(env::current_exe().expect("this program"));
    program.args(scene.one.arguments()).env(ENDPOINT, endpoint).stdout(Stdio::null());
    program
}

fn send_and_end<L: Library>(scene: Scene, endpoint: &str, messages: u64, as_documented: bool) -> ! {
    let raw = scene.connected(zmq::PUSH, 0, endpoint);
    L::run(&scene.context, |library| async move {
        let mut push = library.push(raw);
        for _ in 0..messages {
            push.send(L::message(vec![vec![0; 100_000]])).await.map_err(|error| error.to_string()).expect("sent");
        }
        drop(push);
        if as_documented {
            library.goodbye().await;
        }
    });
    // The last of the context, if the library has let go of it.
    drop(scene);
    process::exit(0)
}
