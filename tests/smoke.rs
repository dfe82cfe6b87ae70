//! A message of each shape crosses.

use calloop::EventLoop;
use calloop_zmq::{
    AsyncZmqContext,
    kind::{Pull, Push, Rep, Req},
};
use futures::{SinkExt, StreamExt};

#[test]
fn messages_cross() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (mut push, mut pull) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
    push.connect(&pull.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
    let done = event_loop
        .block_on(
            async {
                push.send("one").await.unwrap();
                push.feed(["a", "b"].into()).await.unwrap();
                push.flush().await.unwrap();
                assert_eq!(pull.recv().await.unwrap(), "one".into());
                assert_eq!(pull.next().await.unwrap().unwrap(), ["a", "b"].into());
                let (req, rep) = (context.socket::<Req>().unwrap(), context.socket::<Rep>().unwrap());
                rep.bind("inproc://r").unwrap();
                req.connect("inproc://r").unwrap();
                req.send("q").await.unwrap();
                assert_eq!(rep.recv().await.unwrap(), "q".into());
                rep.send(["x", "y", "z"]).await.unwrap();
                assert_eq!(req.recv().await.unwrap(), ["x", "y", "z"].into());
                assert!(context.timeout(std::time::Duration::from_millis(20), pull.recv()).await.is_err());
            },
            &mut (),
            |()| {},
        )
        .unwrap();
    assert!(done.is_some());
}
