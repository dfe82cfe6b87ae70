//! A thousand signals a second on the loop's thread: no interrupted system call is anybody's error.

use std::mem::{MaybeUninit, zeroed};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use calloop_zmq::kind::{Dealer, Pub, Pull, Push, Rep, Req, Router, Sub};
use calloop_zmq::{AsyncZmqContext, Multipart};
use futures::future::{Either, join, select};
use futures::{SinkExt, StreamExt};

use crate::support::run;
use crate::{TCP, alone, fixture};

#[test]
fn no_interrupted_call_surfaces() {
    let _alone = alone();
    let _storm = Storm::begin(Duration::from_millis(1));
    let (mut event_loop, context) = fixture();
    // The storm is one: libzmq does say EINTR.
    let raw = context.zmq_context().socket(zmq::PULL).unwrap();
    raw.set_rcvtimeo(1_000).unwrap();
    assert_eq!(raw.recv_msg(0).unwrap_err(), zmq::Error::EINTR);

    let directory = tempfile::tempdir().unwrap();
    let ipc = format!("ipc://{}/storm", directory.path().display());
    let (begin, mut rounds) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(2) {
        for endpoint in ["inproc://storm", &ipc, TCP] {
            run(&mut event_loop, workload(&context, endpoint));
        }
        rounds += 1;
    }
    let done = event_loop.block_on(context.terminate(), &mut (), |()| ()).unwrap();
    done.expect("nobody stops the loop").unwrap();
    println!("{rounds} rounds, {} signals", Storm::signals());
    assert!(Storm::signals() > 100);
}

/// A bit of everything: each call that can be interrupted, often.
async fn workload(context: &AsyncZmqContext, endpoint: &str) {
    // Two tasks that wait for each other with full queues, single frames and many.
    let (push, pull) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
    push.get_ref().set_sndhwm(1).unwrap();
    pull.get_ref().set_rcvhwm(1).unwrap();
    let bound = pull.bind(endpoint).unwrap();
    push.connect(&bound).unwrap();
    let message = |number: usize| (0..=number % 7).map(|frame| vec![0_u8; frame * 40]).collect::<Multipart>();
    let filling = async {
        for number in 0..500 {
            push.send(message(number)).await.unwrap();
        }
    };
    let draining = async {
        for number in 0..500 {
            // Most of these time-outs pass.
            let received = loop {
                if let Ok(received) = context.timeout(Duration::from_micros(50), pull.recv()).await {
                    break received.unwrap();
                }
            };
            assert_eq!(received, message(number));
        }
    };
    join(filling, draining).await;
    push.disconnect(&bound).unwrap();
    pull.unbind(&bound).unwrap();
    let large = vec![vec![7_u8; 4 << 20]; 2];
    push.connect(&pull.bind(&renamed(endpoint, 1)).unwrap()).unwrap();
    let (sent, received) = join(push.send(large.clone()), pull.recv()).await;
    sent.unwrap();
    assert_eq!(received.unwrap(), large.into());

    // Request and reply; an envelope; a subscription; Stream and Sink.
    let (req, rep) = (context.socket::<Req>().unwrap(), context.socket::<Rep>().unwrap());
    req.connect(&rep.bind(&renamed(endpoint, 2)).unwrap()).unwrap();
    let serve = async {
        loop {
            rep.send(rep.recv().await.unwrap()).await.unwrap();
        }
    };
    let ask = async {
        for number in 0..50 {
            assert_eq!(req.request(message(number)).await.unwrap(), message(number));
        }
    };
    let Either::Left(_) = select(Box::pin(ask), Box::pin(serve)).await;

    let (mut router, mut dealer) = (context.socket::<Router>().unwrap(), context.socket::<Dealer>().unwrap());
    router.get_ref().set_router_mandatory(true).unwrap();
    dealer.connect(&router.bind(&renamed(endpoint, 3)).unwrap()).unwrap();
    for number in 0..50 {
        SinkExt::send(&mut dealer, message(number)).await.unwrap();
        let with_id = router.next().await.unwrap().unwrap();
        SinkExt::send(&mut router, with_id).await.unwrap();
        assert_eq!(dealer.next().await.unwrap().unwrap(), message(number));
    }

    let (publisher, sub) = (context.socket::<Pub>().unwrap(), context.socket::<Sub>().unwrap());
    sub.subscribe("").unwrap();
    sub.connect(&publisher.bind(&renamed(endpoint, 4)).unwrap()).unwrap();
    let publish = async {
        loop {
            publisher.send("news").await.unwrap();
            context.sleep(Duration::from_micros(100)).await;
        }
    };
    let Either::Left(_) = select(Box::pin(sub.recv()), Box::pin(publish)).await;
    push.close().await.unwrap();
}

fn renamed(endpoint: &str, number: u32) -> String {
    if endpoint == TCP { TCP.to_owned() } else { format!("{endpoint}{number}") }
}

/// Signals at this thread, one in each interval. The handler is installed without `SA_RESTART`.
struct Storm {
    timer: libc::timer_t,
}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

impl Storm {
    fn begin(interval: Duration) -> Self {
        let handler: extern "C" fn(libc::c_int) = count;
        // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: the handler only touches an atomic. Nobody else here uses SIGALRM.
        assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, null_mut()) }, 0);
        // A plain `setitimer` would interrupt the main thread, where the test harness sleeps.
        // SAFETY: all zeros is a valid `sigevent`.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        // SAFETY: touches no memory.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = MaybeUninit::uninit();
        // SAFETY: both outlive the call, which initialises the timer on success.
        let timer = unsafe {
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, timer.as_mut_ptr()), 0);
            timer.assume_init()
        };
        let interval = libc::timespec { tv_sec: 0, tv_nsec: interval.subsec_nanos().into() };
        let beat = libc::itimerspec { it_interval: interval, it_value: interval };
        // SAFETY: a timer that exists, and times that outlive the call.
        assert_eq!(unsafe { libc::timer_settime(timer, 0, &raw const beat, null_mut()) }, 0);
        Self { timer }
    }

    fn signals() -> u64 {
        SIGNALS.load(Ordering::Relaxed)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // SAFETY: it exists until here.
        unsafe { libc::timer_delete(self.timer) };
    }
}
