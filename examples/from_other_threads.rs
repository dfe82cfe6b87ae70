//! Sending from other threads. A ZeroMQ socket belongs to one thread; a bounded channel brings it the messages of all.
//!
//! Back pressure goes the whole way: when the peer falls behind the socket does not take the next message, so the
//! channel fills up, so the threads wait.

use std::collections::BTreeMap;
use std::error::Error;
use std::thread;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Pull, Push};
use calloop_zmq::{AsyncZmqContext, Multipart};
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt, TryStreamExt, future};

const THREADS: usize = 3;
const MESSAGES: usize = 10_000;
const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (push, pull) = (context.socket::<Push>()?, context.socket::<Pull>()?);
    push.connect(&pull.bind("tcp://127.0.0.1:*")?)?;

    let (sender, receiver) = mpsc::channel(16);
    let threads: Vec<_> = (1..=THREADS)
        .map(|number| {
            let sender = sender.clone();
            thread::spawn(move || produce(number, sender))
        })
        .collect();
    // The channel ends with its last sender, and that shall be a thread's.
    drop(sender);

    let send = receiver.map(Ok).forward(&push);
    let receive = (&pull).take(THREADS * MESSAGES).try_fold(BTreeMap::new(), |mut counts, message| async {
        let [thread, _text] = message.try_into()?;
        *counts.entry(thread.to_vec()).or_insert(0) += 1;
        Ok(counts)
    });
    let both = async { context.timeout(DEADLINE, future::try_join(send, receive)).await? };
    if let Some(((), counts)) = event_loop.block_on(both, &mut (), |()| {})?.transpose()? {
        for (thread, count) in counts {
            println!("{}: {count} messages", String::from_utf8_lossy(&thread));
        }
    }

    for thread in threads {
        thread.join().expect("a producer does not panic")?;
    }
    Ok(())
}

/// The error says that the channel's other end is gone.
fn produce(number: usize, mut sender: mpsc::Sender<Multipart>) -> Result<(), mpsc::SendError> {
    for message in 1..=MESSAGES {
        // This blocks while the channel is full: the thread is not the loop's, it may.
        futures::executor::block_on(sender.send([format!("thread {number}"), format!("message {message}")].into()))?;
    }
    Ok(())
}
