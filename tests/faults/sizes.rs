//! Messages of all sizes arrive with equal bytes, and whole.

use calloop_zmq::kind::{Pull, Push};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use futures::future::try_join;

use crate::support::run;
use crate::{TCP, alone, fixture};

/// Around libzmq's own limits: 33 bytes in the message itself, one byte for the length, 8 KiB for a batch.
const SIZES: [usize; 19] = [
    0,
    1,
    29,
    30,
    31,
    32,
    33,
    34,
    255,
    256,
    8_191,
    8_192,
    8_193,
    (64 << 10) - 1,
    64 << 10,
    (64 << 10) + 1,
    1 << 20,
    (1 << 20) + 1,
    64 << 20,
];
const COUNTS: [usize; 6] = [1, 2, 3, 100, 1_000, 10_000];

#[test]
fn every_size_arrives_as_it_was_sent_inproc() {
    every_size("inproc://sizes");
}

#[test]
fn every_size_arrives_as_it_was_sent_ipc() {
    let directory = tempfile::tempdir().unwrap();
    every_size(&format!("ipc://{}/sizes", directory.path().display()));
}

#[test]
fn every_size_arrives_as_it_was_sent_tcp() {
    every_size(TCP);
}

fn every_size(endpoint: &str) {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let (push, pull) = connected(&context, endpoint);
    run(&mut event_loop, async {
        for size in SIZES {
            let body = bytes(size);
            pass(&push, &pull, &[&body]).await;
            if size <= 1 << 20 {
                pass(&push, &pull, &[&body, b"", &body]).await;
                pass(&push, &pull, &[b"", &body, b"x"]).await;
            }
        }
        // Frames of all the small sizes, one after the other.
        let body = bytes(300);
        for count in COUNTS {
            let frames: Vec<_> = (0..count).map(|index| &body[..index * 7 % 300]).collect();
            pass(&push, &pull, &frames).await;
        }
        // All at once.
        let messages = || SIZES.into_iter().take_while(|&size| size < 1 << 20).cycle().take(1_000);
        let send = async {
            for size in messages() {
                push.send(&bytes(size)).await?;
            }
            calloop_zmq::Result::Ok(())
        };
        let receive = async {
            for size in messages() {
                let [frame] = pull.recv().await?.try_into()?;
                assert!(frame[..] == bytes(size)[..], "{size} bytes are not as they were sent");
            }
            Ok(())
        };
        try_join(send, receive).await.unwrap();
        assert!(pull.try_recv().unwrap().is_none(), "more than was sent");
    });
}

fn connected(context: &AsyncZmqContext, endpoint: &str) -> (AsyncZmqSocket<Push>, AsyncZmqSocket<Pull>) {
    let (push, pull) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
    push.connect(&pull.bind(endpoint).unwrap()).unwrap();
    (push, pull)
}

async fn pass(push: &AsyncZmqSocket<Push>, pull: &AsyncZmqSocket<Pull>, frames: &[&[u8]]) {
    let message: Multipart = frames.iter().copied().collect();
    let (sent, received) = futures::join!(push.send(message), pull.recv());
    sent.unwrap();
    let received = received.unwrap();
    assert_eq!(received.len(), frames.len(), "torn");
    for (index, (received, sent)) in received.iter().zip(frames).enumerate() {
        assert!(received[..] == sent[..], "frame {index} of {} is not as it was sent", sent.len());
    }
}

/// No byte like its neighbours.
fn bytes(size: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<_>>().repeat(size / 251 + 1);
    bytes.truncate(size);
    bytes
}
