//! A send to a STREAM's peer that has gone, while its last message, the one that tells of its going, is unread.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::Stream;
use calloop_zmq::{AsyncZmqContext, Error};

/// libzmq 4.3.4 answers EAGAIN and not EHOSTUNREACH before the peer's last message is received (`stream_t::xsend` does not
/// ask, as `router_t::xsend` does, whether the pipe is full or ending). So this waits for that, and no longer.
#[test]
fn a_send_to_a_peer_that_has_gone_ends_when_its_end_is_received() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let stream = context.socket::<Stream>().unwrap();
    let address = stream.bind("tcp://127.0.0.1:*").unwrap().replace("tcp://", "");
    let test = async {
        TcpStream::connect(address).unwrap().write_all(b"question").unwrap();
        let _came = stream.recv().await.unwrap();
        let question = stream.recv().await.unwrap();
        // Its end is announced, or has been.
        let mut send = stream.send(question);
        let waits = context.timeout(Duration::from_millis(100), &mut send).await;
        if waits.is_err() {
            let end = stream.recv().await.unwrap();
            assert!(end[1].is_empty(), "the peer is gone");
            let refused = context.timeout(Duration::from_secs(10), send).await.expect("the send ends").unwrap_err();
            assert!(matches!(refused.error, Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. }), "{refused:?}");
            assert_eq!(refused.into_message().len(), 2);
        }
    };
    event_loop.block_on(test, &mut (), |()| ()).unwrap().unwrap();
}
