//! REQ and REP out of turn, and `request`: send and receive as one operation that may be given up.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Rep, Req};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error};
use futures::FutureExt;
use futures::future::{Either, select};

fn run<F: Future<Output = ()>>(test: impl FnOnce(AsyncZmqContext) -> F) {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let test = context.timeout(Duration::from_secs(30), test(context.clone()));
    let done = event_loop.block_on(test, &mut (), |()| ()).unwrap();
    done.expect("nobody stops the loop").expect("it takes less than 30 seconds");
}

fn pair(context: &AsyncZmqContext) -> (AsyncZmqSocket<Req>, AsyncZmqSocket<Rep>) {
    let (req, rep) = (context.socket::<Req>().unwrap(), context.socket::<Rep>().unwrap());
    req.connect(&rep.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
    (req, rep)
}

fn is_out_of_turn(error: &Error) -> bool {
    matches!(error, Error::Zmq { source: zmq::Error::EFSM, .. })
}

#[test]
fn out_of_turn_is_an_error_at_once() {
    run(|context| async move {
        let (req, rep) = pair(&context);
        assert!(is_out_of_turn(&req.recv().now_or_never().expect("at once").unwrap_err()));
        let refused = rep.send(["too", "soon"]).now_or_never().expect("at once").unwrap_err();
        assert!(is_out_of_turn(&refused.error));
        assert_eq!(refused.into_message(), ["too", "soon"].into());

        req.send("question").await.unwrap();
        let refused = req.send("second question").now_or_never().expect("at once").unwrap_err();
        assert!(is_out_of_turn(&refused.error));
        assert_eq!(refused.into_message(), "second question".into());
        rep.recv().await.unwrap();
        assert!(is_out_of_turn(&rep.recv().now_or_never().expect("at once").unwrap_err()));
        rep.send("answer").await.unwrap();
        assert_eq!(req.recv().await.unwrap(), "answer".into());
    });
}

#[test]
fn a_request_that_is_given_up_leaves_the_next_one_its_own_reply() {
    run(|context| async move {
        let (req, rep) = pair(&context);
        let given_up = Cell::new(0);
        let server = async {
            for number in 0.. {
                let question = rep.recv().await.unwrap();
                // Some answers come too late, at ever other times around the deadline.
                context.sleep(Duration::from_micros(number * 137 % 2000)).await;
                rep.send(question).await.unwrap();
            }
        };
        let client = async {
            for number in 0..300 {
                let question = format!("question {number}");
                // Now with little time, now with enough.
                let patience = if number % 3 == 0 { Duration::from_secs(20) } else { Duration::from_millis(1) };
                match context.timeout(patience, req.request(&question)).await {
                    Ok(reply) => assert_eq!(reply.unwrap(), question.into()),
                    Err(_) => given_up.set(given_up.get() + 1),
                }
            }
            // And with time enough, it works.
            assert_eq!(req.request("last").await.unwrap(), "last".into());
        };
        let Either::Left(_) = select(Box::pin(client), Box::pin(server)).await else { panic!("the server goes on") };
        assert!((1..=200).contains(&given_up.get()), "{} of 300 were given up", given_up.get());
    });
}

#[test]
fn a_request_without_a_server_waits_and_can_be_given_up() {
    run(|context| async move {
        let req = context.socket::<Req>().unwrap();
        let timeout = context.timeout(Duration::from_millis(5), req.request("anybody?"));
        assert!(timeout.await.is_err());

        let rep = context.socket::<Rep>().unwrap();
        req.connect(&rep.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
        let server = async {
            let question = rep.recv().await.unwrap();
            assert_eq!(question, ["now?", "please"].into(), "the one given up was never sent");
            rep.send(question).await.unwrap();
        };
        let (reply, ()) = futures::join!(req.request(["now?", "please"]), server);
        assert_eq!(reply.unwrap(), ["now?", "please"].into());
    });
}

#[test]
fn there_is_one_request_at_a_time() {
    run(|context| async move {
        let (req, rep) = pair(&context);
        let mut first = req.request("first");
        assert!((&mut first).now_or_never().is_none());
        let refused = req.request("second").now_or_never().expect("at once").unwrap_err();
        assert!(is_out_of_turn(&refused.error));
        assert_eq!(refused.into_message(), "second".into());
        let server = async {
            let question = rep.recv().await.unwrap();
            rep.send(question).await.unwrap();
        };
        let (reply, ()) = futures::join!(first, server);
        assert_eq!(reply.unwrap(), "first".into());
    });
}

#[test]
fn an_empty_request_comes_back() {
    run(|context| async move {
        let (req, _rep) = pair(&context);
        let refused = req.request(calloop_zmq::Multipart::new()).await.unwrap_err();
        assert!(matches!(refused.error, Error::EmptyMessage));
    });
}
