//! A process that runs out of descriptors: what needs one fails with a clear error, what is there goes on.

use std::fs::File;
use std::thread;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Dealer, Pull, Push};
use calloop_zmq::{AsyncZmqContext, Error};

use crate::support::run;
use crate::{Child, STALL, STALL_MS, TCP, alone, descriptors, fixture, role};

#[test]
fn out_of_descriptors_is_an_error_and_existing_sockets_go_on() {
    let Some(endpoint) = role() else {
        let _alone = alone();
        // From outside, somebody connects while the other process has no descriptor to accept it with.
        let context = zmq::Context::new();
        let meeting = context.socket(zmq::PULL).unwrap();
        meeting.set_rcvtimeo(STALL_MS).unwrap();
        meeting.bind(TCP).unwrap();
        let endpoint = meeting.get_last_endpoint().unwrap().unwrap();
        let test = "descriptors::out_of_descriptors_is_an_error_and_existing_sockets_go_on";
        let child = Child::start(test, &endpoint);
        let visitor = context.socket(zmq::PUSH).unwrap();
        visitor.set_linger(0).unwrap();
        visitor.connect(meeting.recv_string(0).unwrap().unwrap().as_str()).unwrap();
        visitor.send("from outside", 0).unwrap();
        return child.join();
    };

    let (mut event_loop, context) = fixture();
    let (push, pull) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
    push.connect(&pull.bind(TCP).unwrap()).unwrap();
    let (near, far) = (context.socket::<Dealer>().unwrap(), context.socket::<Dealer>().unwrap());
    far.connect(&near.bind("inproc://near").unwrap()).unwrap();
    let (bound, unbound) = (context.socket::<Pull>().unwrap(), context.socket::<Pull>().unwrap());
    let open_to_visitors = bound.bind(TCP).unwrap();
    let meeting = context.socket::<Push>().unwrap();
    meeting.connect(&endpoint).unwrap();
    let late = context.socket::<Push>().unwrap();
    let go_on = async || {
        for number in 0..1_000 {
            let number = number.to_string();
            let message = || [number.as_str(), "and", "more"];
            push.send(message()).await.unwrap();
            assert_eq!(pull.recv().await.unwrap(), message().into());
            near.send(message()).await.unwrap();
            assert_eq!(far.recv().await.unwrap(), message().into());
        }
    };
    run(&mut event_loop, async { go_on().await });

    limit_descriptors(descriptors() + 41);
    let (mut crowd, error) = crowd(&context);
    println!("{} more sockets, then: {error}", crowd.len());
    assert!(crowd.len() > 10);
    assert!(matches!(error, Error::Zmq { source: zmq::Error::EMFILE, .. }), "{error:?}");
    let said = "cannot create the socket: no socket is left to the ZeroMQ context, or no descriptor to the process";
    assert_eq!(error.to_string(), said);
    assert_eq!(std::io::Error::from(error).to_string(), said);
    // To the very last.
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    assert!(matches!(context.socket::<Pull>(), Err(Error::Zmq { source: zmq::Error::EMFILE, .. })));
    let error = unbound.bind(TCP).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EMFILE), "{error:?}");
    let error = AsyncZmqContext::new(&event_loop.handle()).unwrap_err();
    assert!(matches!(error, Error::Register(_)), "{error:?}");
    assert!(EventLoop::<()>::try_new().is_err());

    run(&mut event_loop, async {
        go_on().await;
        // These two are not told: libzmq connects and accepts in the background, and tries again.
        late.connect(&open_to_visitors).unwrap();
        late.send("from inside").await.unwrap();
        meeting.send(open_to_visitors.as_str()).await.unwrap();
        assert!(context.timeout(Duration::from_millis(300), bound.recv()).await.is_err());
        go_on().await;
    });

    // Some go, and all works again.
    crowd.truncate(2);
    files.clear();
    run(&mut event_loop, async {
        let both = async { [bound.recv().await.unwrap(), bound.recv().await.unwrap()] };
        let mut both = context.timeout(STALL, both).await.expect("they get in now");
        both.sort_by_key(|message| message[0].to_vec());
        assert_eq!(both, ["from inside".into(), "from outside".into()]);
        go_on().await;
    });
    unbound.bind(TCP).unwrap();
    for _ in 0..100 {
        // libzmq closes descriptors on its own thread, the loop takes the source out at its next turn.
        event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
        while context.socket::<Pull>().is_err() {
            thread::yield_now();
        }
    }
}

/// As many sockets as there may be, and what the next one said.
fn crowd(context: &AsyncZmqContext) -> (Vec<calloop_zmq::AsyncZmqSocket<Pull>>, Error) {
    let mut crowd = Vec::new();
    loop {
        match context.socket() {
            Ok(socket) => crowd.push(socket),
            Err(error) => return (crowd, error),
        }
        assert!(crowd.len() < 1_000, "there is no limit");
    }
}

/// Lets the process have no descriptor above that number.
fn limit_descriptors(count: usize) {
    let count = libc::rlim_t::try_from(count).unwrap();
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: reads a struct that outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}
