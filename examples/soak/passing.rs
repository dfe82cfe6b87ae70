//! The loads whose sockets come and go. Who says goodbye loses nothing; who goes in the middle loses what was on its way.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use calloop::LoopHandle;
use calloop_zmq::kind::{Dealer, Pull, Push, Rep, Req, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart, zmq};
use futures::future::{Either, select};

use crate::ledger::Terms;
use crate::place::Place;
use crate::side::{Receiver, Sender, Style, count};

type Outcome<T = ()> = calloop_zmq::Result<T>;

/// A mandatory ROUTER that answers each message with itself, whoever sent it and wherever that one is by now.
///
/// Each answer has a task of its own. One that received and answered by turns could wait for ever: a peer that has gone
/// stays, and stays full, until what it sent is received.
pub(crate) fn bind_visitors(place: &Place) -> Outcome<String> {
    let router = place.open::<Router>(Some(10))?;
    router.get_ref().set_router_mandatory(true)?;
    place.watch(&router)?;
    let endpoint = router.bind(&place.endpoint)?;
    for _ in 0..2 {
        let (place, router) = (place.clone(), Rc::clone(&router));
        place.clone().spawn(async move {
            let mut receiver = Receiver::new(&place.side, &router, Style::Futures);
            loop {
                let message = receiver.next().await?;
                place.side.shared.ledger.received(&place.load, 0, message.get(1..).unwrap_or_default());
                let reply = message.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>();
                place.spawn(answer(place.clone(), Rc::clone(&router), reply.into()));
            }
        });
    }
    Ok(endpoint)
}

/// A full peer is waited for, and one that has gone is an error: both must end the wait.
async fn answer(place: Place, router: Rc<AsyncZmqSocket<Router>>, reply: Multipart) -> Outcome {
    match place.side.context.timeout(PATIENCE, router.send(reply)).await.map(|sent| sent.map_err(Error::from)) {
        Ok(Ok(()) | Err(Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. })) => {}
        Ok(Err(error)) => return Err(error),
        Err(_elapsed) => place.side.shared.ledger.fault(format!("{}: a send never ended", place.load)),
    }
    Ok(())
}

/// Visitors, one after the other. Some wait until all they sent has come back, some leave in the middle of it.
#[allow(clippy::unnecessary_wraps, reason = "as the others")]
pub(crate) fn connect_visitors(place: &Place) -> Outcome {
    let place = place.clone();
    place.clone().spawn(async move {
        let (_busy, mut random) = (place.side.shared.begin(&place.load), place.side.shared.random());
        while place.side.is_running() {
            let polite = random.below(2) == 0;
            visit(&place, 1 + random.below(100), polite, [0, 1000][usize::from(random.below(2) == 0)]).await?;
            count(&place.side.shared.counts.visits);
            place.side.context.sleep(Duration::from_millis(random.below(40))).await;
        }
        Ok(())
    });
    Ok(())
}

async fn visit(place: &Place, messages: u64, polite: bool, linger: i32) -> Outcome {
    let (load, ledger) = (&place.load, &place.side.shared.ledger);
    let lane = ledger.open(load, if polite { Terms::Once } else { Terms::AtMostOnce });
    let visitor = place.open::<Dealer>(Some(10))?;
    visitor.get_ref().set_linger(linger)?;
    visitor.connect(&place.endpoint)?;
    let sending = async {
        let mut sender = Sender::new(&place.side, load, lane, &visitor, Style::StreamAndSink, None);
        for _ in 0..messages {
            sender.send_next().await?;
        }
        sender.flush().await
    };
    let receiving = async {
        // In any order: the ROUTER has two tasks that answer.
        let (mut receiver, mut back) = (Receiver::new(&place.side, &visitor, Style::Futures), BTreeSet::new());
        while (back.len() as u64) < messages {
            let label = crate::parcel::open(receiver.next().await?);
            if label.is_none_or(|label| label.lane != lane || !back.insert(label.number)) {
                ledger.fault(format!("{load}: {label:?} came back to lane {lane}"));
            }
        }
        Ok(())
    };
    let both = Box::pin(futures::future::try_join(sending, receiving));
    if polite {
        match place.side.context.timeout(PATIENCE, both).await {
            Ok(outcome) => drop(outcome?),
            Err(_elapsed) => ledger.fault(format!("{load}: not all of lane {lane} came back in {PATIENCE:?}")),
        }
    } else {
        let enough = place.side.context.sleep(Duration::from_millis(messages % 16));
        if let Either::Left((outcome, _)) = select(both, enough).await {
            outcome?;
        }
    }
    ledger.retire(lane);
    Ok(())
}

/// A PULL that is closed in the middle, and bound again at the same place.
pub(crate) fn bind_rebinding(place: &Place) -> Outcome<String> {
    let first = place.open::<Pull>(Some(1))?;
    let endpoint = first.bind(&place.endpoint)?;
    let place = Place { endpoint: endpoint.clone(), ..place.clone() };
    place.clone().spawn(async move {
        let (context, mut random, mut pull) = (&place.side.context, place.side.shared.random(), first);
        loop {
            let receiving = async {
                let mut receiver = Receiver::new(&place.side, &pull, Style::StreamAndSink);
                loop {
                    let message = receiver.next().await?;
                    place.side.shared.ledger.received(&place.load, 0, message);
                }
            };
            if let Ok(ended) = context.timeout(Duration::from_millis(random.below(200)), receiving).await {
                return ended;
            }
            drop(pull);
            pull = place.open::<Pull>(Some(1))?;
            // The last one's descriptor is closed by libzmq's own thread.
            let begin = Instant::now();
            while let Err(error) = pull.bind(&place.endpoint) {
                if begin.elapsed() > PATIENCE {
                    return Err(error);
                }
                context.sleep(Duration::from_millis(1)).await;
            }
            count(&place.side.shared.counts.rebinds);
        }
    });
    Ok(endpoint)
}

pub(crate) fn connect_rebinding(place: &Place) -> Outcome {
    let push = place.open::<Push>(Some(1))?;
    place.watch(&push)?;
    push.connect(&place.endpoint)?;
    place.talk(&push, Style::StreamAndSink, None, Terms::AtMostOnce);
    place.talk(&push, Style::Futures, None, Terms::AtMostOnce);
    Ok(())
}

/// A whole context that is made, used, and ended, again and again.
pub(crate) async fn contexts(place: Place, handle: LoopHandle<'static, ()>) -> Outcome {
    let _busy = place.side.shared.begin(&place.load);
    while place.side.is_running() {
        let context = AsyncZmqContext::new(&handle)?;
        let (req, rep) = (context.socket::<Req>()?, context.socket::<Rep>()?);
        req.connect(&rep.bind("tcp://127.0.0.1:*")?)?;
        let serving = place.side.tasks.spawn(async move {
            loop {
                rep.send(rep.recv().await?).await?;
            }
            #[allow(unreachable_code, reason = "it tells the type")]
            calloop_zmq::Result::Ok(())
        });
        for _ in 0..10 {
            req.request("are you there?").await?;
            place.side.shared.ledger.progress(&place.load);
        }
        drop(req);
        context.terminate().await?;
        match serving.await {
            Ok(Err(Error::Terminated)) => {}
            other => place.side.shared.ledger.fault(format!("{}: a server ended with {other:?}", place.load)),
        }
        count(&place.side.shared.counts.contexts);
        place.side.context.sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// What takes longer has stalled.
const PATIENCE: Duration = Duration::from_secs(20);
