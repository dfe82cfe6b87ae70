//! Networks that part and come together again: hosts, a router between them, and lines that are cut under load.
//!
//! Each test lays a network of its own, of the kernel's network namespaces; these need root and Debian's iproute2. Where
//! that is not to be had, the tests say so and skip. Where users may be root in a namespace of their own, this will do:
//!
//! ```text
//! unshare --map-root-user --net cargo test --test partitions
//! ```
//!
//! They are the only tests that leave the loopback interface, and none leaves the machine.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "common/mod.rs"]
mod common;
#[path = "network/mod.rs"]
mod network;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use calloop_zmq::kind::{Dealer, Kind, Pub, Pull, Push, Rep, Req, Router, Sub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, MonitorEvent, Multipart};
use futures::StreamExt;

use common::{Rig, Rng, number, numbered};
use network::{Cut, Network, address, tell};

#[test]
fn a_flow_goes_on_after_its_line_was_cut() {
    flow_goes_on(Cut::Both);
}

#[test]
fn a_flow_goes_on_after_its_sender_was_not_heard() {
    flow_goes_on(Cut::Outbound);
}

#[test]
fn a_flow_goes_on_after_its_sender_heard_nothing() {
    flow_goes_on(Cut::Inbound);
}

/// PUSH to PULL as fast as they can. Both sides are told of the cut, park and sleep, and go on by themselves.
fn flow_goes_on(cut: Cut) {
    let Some(network) = Network::lay(2) else { return };
    let mut rig = Rig::new();
    let pull = socket::<Pull>(&network.context(SERVER, &rig.handle()), |_| Ok(()));
    let push = socket::<Push>(&network.context(CLIENT, &rig.handle()), |raw| raw.set_sndhwm(100));
    let (at_pull, at_push) = (News::of(&rig, &pull), News::of(&rig, &push));
    push.connect(&bind(&network, &pull)).unwrap();
    let flow = Flow::start(&mut rig, &pull, &push);
    for round in 1..=rounds() {
        flow.run(&mut rig, 1_000);
        rig.idle(HEARTBEATS);
        let (pull_lost, push_lost) = (at_pull.disconnected.get(), at_push.disconnected.get());
        network.cut(CLIENT, cut);
        // Heartbeats find it out. TCP would take a quarter of an hour.
        rig.run_until(|| at_pull.disconnected.get() > pull_lost && at_push.disconnected.get() > push_lost);
        let connected = (at_pull.connected.get(), at_push.connected.get());
        // What was under way is worked off.
        rig.idle(Duration::from_millis(50));
        let (sent, received) = (flow.sender.done(), flow.receiver.done());
        let news = at_pull.events.get() + at_push.events.get();
        let turns = rig.idle(Duration::from_millis(300));
        assert_eq!((flow.sender.done(), flow.receiver.done()), (sent, received), "nothing gets through");
        assert!(flow.sender.waits() && flow.receiver.waits());
        // The sender's side goes on trying to connect, and the monitor tells so.
        let news = at_pull.events.get() + at_push.events.get() - news;
        assert!(turns <= 8 + 4 * news, "{turns} turns and {news} news while the line was cut");
        network.heal(CLIENT, cut);
        rig.run_until(|| at_pull.connected.get() > connected.0 && at_push.connected.get() > connected.1);
        flow.run(&mut rig, 1_000);
        println!("round {round}: {turns} turns and {news} news, {} lost so far", flow.lost());
        // What went onto the old connection may be lost with it. What was in libzmq's queue is not.
        assert!(!flow.gaps.borrow().iter().any(|gap| gap.contains(&(sent - 1))), "{:?}", flow.gaps);
    }
    assert!(flow.sender.parked() > 0 && flow.receiver.parked() > 0);
}

/// TCP sends again, libzmq notices nothing.
#[test]
fn a_cut_shorter_than_the_heartbeats_loses_nothing() {
    let Some(network) = Network::lay(2) else { return };
    let (mut rig, mut rng) = (Rig::new(), Rng::new());
    let pull = socket::<Pull>(&network.context(SERVER, &rig.handle()), patient);
    let push = socket::<Push>(&network.context(CLIENT, &rig.handle()), |raw| raw.set_sndhwm(10));
    let (at_pull, at_push) = (News::of(&rig, &pull), News::of(&rig, &push));
    push.connect(&bind(&network, &pull)).unwrap();
    let flow = Flow::start(&mut rig, &pull, &push);
    for cut in [Cut::Both, Cut::Outbound, Cut::Inbound, Cut::Both] {
        flow.run(&mut rig, 500 + rng.below(500));
        network.cut(CLIENT, cut);
        rig.idle(Duration::from_millis(1 + rng.below(150)));
        network.heal(CLIENT, cut);
    }
    flow.run(&mut rig, 1_000);
    assert_eq!(flow.lost(), 0);
    assert_eq!((at_pull.disconnected.get(), at_push.disconnected.get()), (0, 0));
}

/// Packets stand in line, and heartbeats among them.
#[test]
fn a_slow_line_is_not_taken_for_a_dead_one() {
    let Some(network) = Network::lay(2) else { return };
    let Some(means) = [SERVER, CLIENT].map(|host| network.slow_down(host))[0] else {
        return tell("SKIPPED, this kernel has no means to delay packets");
    };
    println!("{means}");
    let mut rig = Rig::new();
    let pull = socket::<Pull>(&network.context(SERVER, &rig.handle()), patient);
    let push = socket::<Push>(&network.context(CLIENT, &rig.handle()), |raw| {
        raw.set_sndhwm(10)?;
        raw.set_sndbuf(16 << 10)
    });
    let (at_pull, at_push) = (News::of(&rig, &pull), News::of(&rig, &push));
    push.connect(&bind(&network, &pull)).unwrap();
    let flow = Flow::start(&mut rig, &pull, &push);
    flow.run(&mut rig, 500);
    assert_eq!(flow.lost(), 0);
    assert_eq!((at_pull.disconnected.get(), at_push.disconnected.get()), (0, 0));
    assert!(flow.sender.parked() > 0 && flow.receiver.parked() > 0);
}

/// The lazy pirate of the guide: who gets no reply in time asks again.
#[test]
fn requests_with_a_timeout_go_on_after_a_cut() {
    let Some(network) = Network::lay(2) else { return };
    let mut rig = Rig::new();
    let (server, client) = (network.context(SERVER, &rig.handle()), network.context(CLIENT, &rig.handle()));
    let (rep, req) = (socket::<Rep>(&server, |_| Ok(())), socket::<Req>(&client, |_| Ok(())));
    req.connect(&bind(&network, &rep)).unwrap();
    let serving = rig.probe("REP");
    let probe = Rc::clone(&serving);
    rig.spawn_aside(async move {
        loop {
            let question = probe.wait(rep.recv()).await.unwrap();
            rep.send(question).await.unwrap();
        }
    });
    let (asking, retries) = (rig.probe("REQ"), Rc::new(Cell::new(0)));
    let (probe, in_vain) = (Rc::clone(&asking), Rc::clone(&retries));
    rig.spawn_aside(async move {
        for question in 0.. {
            let reply = loop {
                match client.timeout(Duration::from_millis(150), probe.wait(req.request(numbered(question)))).await {
                    Ok(reply) => break reply.unwrap(),
                    Err(_) => in_vain.set(in_vain.get() + 1),
                }
            };
            assert_eq!(reply, numbered(question), "the reply to this question, and to no earlier one");
        }
    });
    for cut in [Cut::Both, Cut::Outbound, Cut::Inbound] {
        let answered = asking.done();
        rig.run_until(|| asking.done() > answered + 200);
        let before = retries.get();
        network.cut(CLIENT, cut);
        rig.run_until(|| retries.get() > before + 3);
        network.heal(CLIENT, cut);
    }
    let answered = asking.done();
    rig.run_until(|| asking.done() > answered + 200);
    println!("{} answers, {} served, {} times asked again", asking.done(), serving.done(), retries.get());
    assert!(serving.done() <= asking.done() + retries.get() + 1, "no question came twice unless it was asked twice");
}

/// A peer that is cut off fills up and then is gone; its sender waits, ends, and finds it again. The other one is served all
/// the while.
#[test]
fn a_router_serves_the_others_while_one_is_cut_off() {
    let Some(network) = Network::lay(3) else { return };
    let mut rig = Rig::new();
    let server = network.context(SERVER, &rig.handle());
    let router = socket::<Router>(&server, |raw| {
        raw.set_router_mandatory(true)?;
        raw.set_sndhwm(10)?;
        raw.set_sndbuf(8 << 10)
    });
    let endpoint = bind(&network, &router);
    let mut dealer = |host: usize, name: &str| {
        let dealer = socket::<Dealer>(&network.context(host, &rig.handle()), |raw| {
            raw.set_heartbeat_timeout(1_000)?;
            raw.set_heartbeat_ttl(1_000)?;
            raw.set_identity(name.as_bytes())
        });
        dealer.connect(&endpoint).unwrap();
        let (sender, receiver) = (Rc::clone(&dealer), Rc::clone(&router));
        let hello = rig.complete(async move {
            sender.send("hello").await.unwrap();
            receiver.recv().await.unwrap()
        });
        assert_eq!(hello, [name, "hello"].into());
        dealer
    };
    let (near, far) = (dealer(NEAR, "near"), dealer(CLIENT, "far"));

    // Somebody waits in the other direction as well.
    let receiver = Rc::clone(&router);
    rig.spawn_aside(async move { while receiver.recv().await.is_ok() {} });
    let heard = rig.probe("far");
    let far_heard = Rc::clone(&heard);
    rig.spawn_aside(async move {
        let mut next = 0;
        loop {
            let message = far_heard.wait(far.recv()).await.unwrap();
            assert!(number(&message[0]) >= next, "{} after {next}", number(&message[0]));
            next = number(&message[0]) + 1;
        }
    });
    let exchanging = rig.probe("near");
    let exchange = |rig: &mut Rig| {
        let (router, near) = (Rc::clone(&router), Rc::clone(&near));
        let (exchanges, probe) = (exchanging.done(), Rc::clone(&exchanging));
        rig.spawn_aside(async move {
            for exchange in 0..20 {
                router.send([&b"near"[..], &u64::to_le_bytes(exchange)]).await.unwrap();
                assert_eq!(probe.wait(near.recv()).await.unwrap(), numbered(exchange));
            }
        });
        rig.run_until(|| exchanging.done() == exchanges + 20);
    };

    let sent = Rc::new(Cell::new(0));
    for cut in [Cut::Both, Cut::Inbound] {
        let sending = rig.probe("to far");
        let (probe, sender, numbers) = (Rc::clone(&sending), Rc::clone(&router), Rc::clone(&sent));
        rig.spawn(async move {
            loop {
                let message = Multipart::from([&b"far"[..], &u64::to_le_bytes(numbers.get()), BODY]);
                let Err(refused) = probe.wait(sender.send(message)).await else {
                    numbers.set(numbers.get() + 1);
                    continue;
                };
                assert!(matches!(refused.error, Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. }), "{refused:?}");
                assert_eq!(number(&refused.into_message()[1]), numbers.get(), "the message comes back");
                break;
            }
        });
        let before = heard.done();
        rig.run_until(|| heard.done() > before + 300);
        rig.idle(HEARTBEATS);
        network.cut(CLIENT, cut);
        // Right now it has not been noticed.
        exchange(&mut rig);
        assert!(sending.waits() && rig.is_live());
        let turns = rig.run();
        println!("{cut:?}: {turns} turns until the peer was given up, {} sent, {} heard", sent.get(), heard.done());
        assert!(turns <= 40, "{turns} turns while a sender was parked");
        exchange(&mut rig);
        network.heal(CLIENT, cut);
        // It connects again by itself, under its old name.
        let (sender, context, numbers) = (Rc::clone(&router), server.clone(), Rc::clone(&sent));
        rig.complete(async move {
            while sender.send([&b"far"[..], &u64::to_le_bytes(numbers.get())]).await.is_err() {
                context.sleep(Duration::from_millis(10)).await;
            }
            numbers.set(numbers.get() + 1);
        });
        let before = heard.done();
        rig.run_until(|| heard.done() > before);
        exchange(&mut rig);
    }
}

/// A subscriber that is cut off misses what is published then, and nothing else; the others miss nothing.
#[test]
fn a_subscriber_is_back_after_a_cut() {
    let Some(network) = Network::lay(3) else { return };
    let mut rig = Rig::new();
    let source = socket::<Pub>(&network.context(SERVER, &rig.handle()), |_| Ok(()));
    let endpoint = bind(&network, &source);
    let subscriber = |host| {
        let sub = socket::<Sub>(&network.context(host, &rig.handle()), |raw| raw.set_subscribe(b"n"));
        sub.connect(&endpoint).unwrap();
        sub
    };
    let (near, far) = (subscriber(NEAR), subscriber(CLIENT));
    let at_far = News::of(&rig, &far);
    let (far_heard, heard, near_heard) = (Rc::new(Cell::new(None)), rig.probe("far"), rig.probe("near"));
    let (newest, probe) = (Rc::clone(&far_heard), Rc::clone(&heard));
    rig.spawn_aside(async move {
        loop {
            let message = probe.wait(far.recv()).await.unwrap();
            let number = Some(number(&message[1]));
            // The first is repeated until the near one has it.
            assert!(number > newest.get() || number == Some(0), "{number:?} after {:?}", newest.get());
            newest.set(number);
        }
    });
    // The next is published when the near one has the last, so that it has no excuse to miss any.
    let published = Rc::new(Cell::new(0));
    let (numbers, context) = (Rc::clone(&published), network.context(SERVER, &rig.handle()));
    rig.spawn_aside(async move {
        let patience = |number| Duration::from_millis(if number == 0 { 10 } else { 10_000 });
        loop {
            let number: u64 = numbers.get();
            source.send([&b"n"[..], &number.to_le_bytes()]).await.unwrap();
            let heard = context.timeout(patience(number), near_heard.wait(near.recv())).await;
            if let Ok(message) = heard {
                assert_eq!(common::number(&message.unwrap()[1]), number);
                numbers.set(number + 1);
            } else {
                // Until its subscription has arrived.
                assert_eq!(number, 0, "the near one missed this");
            }
        }
    });
    for cut in [Cut::Both, Cut::Outbound, Cut::Inbound] {
        let before = heard.done();
        rig.run_until(|| heard.done() > before + 200);
        let (lost, before) = (at_far.disconnected.get(), published.get());
        network.cut(CLIENT, cut);
        rig.run_until(|| at_far.disconnected.get() > lost && published.get() > before + 200);
        network.heal(CLIENT, cut);
        let before = published.get();
        rig.run_until(|| far_heard.get() > Some(before));
    }
    println!("{} published, {} heard by the far one", published.get(), heard.done());
    assert!(heard.done() < published.get());
}

/// Numbered messages from one socket to the other, without a pause.
struct Flow {
    sender: Rc<common::Probe>,
    receiver: Rc<common::Probe>,
    /// The number that is to come if nothing is lost.
    next: Rc<Cell<u64>>,
    gaps: Rc<RefCell<Vec<Range<u64>>>>,
}

impl Flow {
    fn start(rig: &mut Rig, pull: &Rc<AsyncZmqSocket<Pull>>, push: &Rc<AsyncZmqSocket<Push>>) -> Self {
        let flow =
            Self { sender: rig.probe("PUSH"), receiver: rig.probe("PULL"), next: Rc::default(), gaps: Rc::default() };
        let (probe, push) = (Rc::clone(&flow.sender), Rc::clone(push));
        rig.spawn_aside(async move {
            for number in 0_u64.. {
                probe.wait(push.send([&number.to_le_bytes()[..], BODY])).await.unwrap();
            }
        });
        let (probe, pull) = (Rc::clone(&flow.receiver), Rc::clone(pull));
        let (next, gaps) = (Rc::clone(&flow.next), Rc::clone(&flow.gaps));
        rig.spawn_aside(async move {
            loop {
                let [first, body] = probe.wait(pull.recv()).await.unwrap().try_into().expect("whole");
                assert_eq!(&body[..], BODY);
                let (number, expected) = (number(&first), next.get());
                assert!(number >= expected, "{number} comes twice, or out of order");
                if number > expected {
                    gaps.borrow_mut().push(expected..number);
                }
                next.set(number + 1);
            }
        });
        flow
    }

    /// Turns the loop until so many more have arrived.
    fn run(&self, rig: &mut Rig, count: u64) {
        let before = self.receiver.done();
        rig.run_until(|| self.receiver.done() >= before + count);
    }

    fn lost(&self) -> u64 {
        self.next.get() - self.receiver.done()
    }
}

/// What a socket's monitor tells.
#[derive(Default)]
struct News {
    events: Cell<u64>,
    connected: Cell<u64>,
    disconnected: Cell<u64>,
}

impl News {
    fn of<K: Kind>(rig: &Rig, socket: &AsyncZmqSocket<K>) -> Rc<Self> {
        let (news, mut monitor) = (Rc::new(Self::default()), socket.monitor().unwrap());
        let told = Rc::clone(&news);
        rig.spawn_aside(async move {
            while let Some(Ok(event)) = monitor.next().await {
                told.events.set(told.events.get() + 1);
                match event {
                    MonitorEvent::HandshakeSucceeded { .. } => told.connected.set(told.connected.get() + 1),
                    MonitorEvent::Disconnected { .. } => told.disconnected.set(told.disconnected.get() + 1),
                    _ => {}
                }
            }
        });
        news
    }
}

/// How often a flow is cut. `ROUNDS` in the environment sets it.
fn rounds() -> u64 {
    std::env::var("ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

/// A socket that finds out soon that its peer cannot be reached, and soon that it can.
///
/// Of two peers, the one that mostly receives sends the heartbeats. libzmq 4.3.4 waits for the answer to one only from the
/// moment on that it could write it, so a sender whose buffers are full when the line is cut would wait for ever. It has
/// to be the other way round: the receiver says in each heartbeat how soon the next thing of it will be heard. That holds
/// until the next thing, so an answer to a heartbeat of the sender's own would end it.
fn socket<K: Kind>(
    context: &AsyncZmqContext,
    setup: impl FnOnce(&zmq::Socket) -> zmq::Result<()>,
) -> Rc<AsyncZmqSocket<K>> {
    let kind = K::SOCKET_TYPE.unwrap();
    let raw = context.zmq_context().socket(kind).unwrap();
    raw.set_linger(0).unwrap();
    if matches!(kind, zmq::PULL | zmq::SUB | zmq::DEALER | zmq::REQ) {
        raw.set_heartbeat_ivl(50).unwrap();
        raw.set_heartbeat_timeout(400).unwrap();
        raw.set_heartbeat_ttl(400).unwrap();
    }
    raw.set_connect_timeout(200).unwrap();
    raw.set_handshake_ivl(1_000).unwrap();
    raw.set_reconnect_ivl(20).unwrap();
    setup(&raw).unwrap();
    Rc::new(context.adopt(raw).unwrap())
}

/// Takes a line for dead only after a time that no test takes.
fn patient(raw: &zmq::Socket) -> zmq::Result<()> {
    raw.set_heartbeat_timeout(20_000)?;
    raw.set_heartbeat_ttl(20_000)
}

fn bind<K: Kind>(network: &Network, socket: &AsyncZmqSocket<K>) -> String {
    network.on(SERVER, || socket.bind(&format!("tcp://{}:*", address(SERVER)))).unwrap()
}

/// So long after two are connected they have got heartbeats of each other.
const HEARTBEATS: Duration = Duration::from_millis(300);
const SERVER: usize = 0;
const CLIENT: usize = 1;
/// The client whose line is never cut.
const NEAR: usize = 2;
const BODY: &[u8] = &[7; 500];
