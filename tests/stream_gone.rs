//! Reproducer: a send to a STREAM's peer that has gone, while its last message (the notification of that) is unread.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::AsyncZmqContext;
use calloop_zmq::kind::Stream;

/// What every echo server does. libzmq 4.3.4 answers EAGAIN and not EHOSTUNREACH (`stream_t::xsend` does not ask, as
/// `router_t::xsend` does, whether the pipe is full or ending), and the pipe ends only when its delimiter is received.
#[test]
fn a_send_to_a_peer_that_has_gone_ends() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let stream = context.socket::<Stream>().unwrap();
    let address = stream.bind("tcp://127.0.0.1:*").unwrap().replace("tcp://", "");
    let test = async {
        TcpStream::connect(address).unwrap().write_all(b"question").unwrap();
        let _came = stream.recv().await.unwrap();
        let question = stream.recv().await.unwrap();
        // The end of the connection reaches libzmq.
        context.sleep(Duration::from_millis(100)).await;
        let answered = context.timeout(Duration::from_secs(2), stream.send(question)).await;
        // Sent or refused, but not for ever in between.
        println!("{:?}", answered.expect("the send waits for ever"));
    };
    event_loop.block_on(test, &mut (), |()| ()).unwrap().unwrap();
}
