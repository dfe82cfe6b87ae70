//! Who is let in and who is not, by real handshakes over tcp; and what becomes of requests that nobody should send.
//!
//! CURVE is tested where libzmq has it. With `CALLOOP_ZMQ_CURVE` in the environment, it has to.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;
mod zmtp;

use std::cell::{Cell, RefCell};
use std::env;
use std::future::{Future, pending};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::num::NonZeroUsize;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use calloop::EventLoop;
use calloop::futures::Scheduler;
use calloop_zmq::kind::{Dealer, Kind, Pair, Pub, Pull, Push, Rep, Req, Router};
use calloop_zmq::zap::{Authenticator, Credentials, Decision, Policy, Request, Rules};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart, SetupError, features};
use futures::channel::oneshot;
use futures::future::{AbortHandle, Abortable};

use support::run;

/// A loop with an executor.
struct Rig {
    event_loop: EventLoop<'static, ()>,
    context: AsyncZmqContext,
    office: Office,
}

/// Where authenticators run.
#[derive(Clone)]
struct Office {
    context: AsyncZmqContext,
    scheduler: Scheduler<()>,
    /// What their futures resolved to.
    ended: Rc<RefCell<Vec<calloop_zmq::Result<()>>>>,
}

impl Rig {
    fn new() -> Self {
        let event_loop = EventLoop::try_new().unwrap();
        let (executor, scheduler) = calloop::futures::executor().unwrap();
        event_loop.handle().insert_source(executor, |(), (), ()| {}).unwrap();
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        let office = Office { context: context.clone(), scheduler, ended: Rc::default() };
        Self { event_loop, context, office }
    }

    /// Runs a test that is a future of the context.
    fn run<T, F: Future<Output = T>>(&mut self, test: impl FnOnce(AsyncZmqContext, Office) -> F) -> T {
        let test = test(self.context.clone(), self.office.clone());
        run(&mut self.event_loop, test)
    }
}

impl Office {
    /// Runs an authenticator with that policy until it ends, or is aborted.
    fn open(&self, policy: impl Policy + 'static) -> AbortHandle {
        self.start(Authenticator::new(&self.context, policy).unwrap())
    }

    fn start(&self, authenticator: Authenticator<impl Policy + 'static>) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        let (task, ended) = (Abortable::new(authenticator.run(), registration), Rc::clone(&self.ended));
        self.scheduler
            .schedule(async move {
                if let Ok(result) = task.await {
                    ended.borrow_mut().push(result);
                }
            })
            .unwrap();
        abort
    }
}

/// What became of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The peer came in, and its message has that user id.
    In(String),
    /// A handler refused it with that status.
    Refused(u32),
    /// libzmq ended it by itself: there is no handler, or it took too long.
    Failed,
}

fn welcome(user_id: &str) -> Verdict {
    Verdict::In(user_id.to_owned())
}

/// A socket whose handshakes are watched.
struct Server {
    /// `None` in its drop only.
    socket: Option<AsyncZmqSocket<Pull>>,
    monitor: AsyncZmqSocket<Pair>,
    endpoint: String,
}

impl Server {
    fn new(context: &AsyncZmqContext, setup: impl FnOnce(&AsyncZmqSocket<Pull>)) -> Self {
        Self::at(context, TCP, setup).unwrap()
    }

    fn at(
        context: &AsyncZmqContext,
        endpoint: &str,
        setup: impl FnOnce(&AsyncZmqSocket<Pull>),
    ) -> calloop_zmq::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("inproc://monitor-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let socket = context.socket::<Pull>().unwrap();
        setup(&socket);
        // Connected before there is anything to read, and without a limit: libzmq's threads would wait for it.
        let monitor = context.socket::<Pair>().unwrap();
        monitor.get_ref().set_rcvhwm(0).unwrap();
        monitor.connect(&name).unwrap();
        socket.get_ref().monitor(&name, FAILED | SUCCEEDED | MALFORMED | REFUSED).unwrap();
        let mut server = Self { socket: Some(socket), monitor, endpoint: String::new() };
        server.endpoint = server.socket().bind(endpoint)?;
        Ok(server)
    }

    /// With a domain that needs a handler's consent, and PLAIN.
    fn plain(context: &AsyncZmqContext, domain: &str) -> Self {
        Self::new(context, |socket| {
            socket.require_zap(domain).unwrap();
            socket.get_ref().set_plain_server(true).unwrap();
        })
    }

    /// The same, with a short handshake timeout: that is when clients try again.
    fn impatient(context: &AsyncZmqContext) -> Self {
        Self::new(context, |socket| {
            socket.require_zap("shop").unwrap();
            socket.get_ref().set_plain_server(true).unwrap();
            socket.get_ref().set_handshake_ivl(50).unwrap();
        })
    }

    /// How the first handshake ends that neither takes too long nor is to be tried again.
    async fn settled(&self) -> Verdict {
        loop {
            match self.verdict().await {
                Verdict::Failed | Verdict::Refused(300) => {}
                verdict => return verdict,
            }
        }
    }

    /// With a domain that needs a handler's consent.
    fn null(context: &AsyncZmqContext, domain: &str) -> Self {
        Self::new(context, |socket| socket.require_zap(domain).unwrap())
    }

    fn socket(&self) -> &AsyncZmqSocket<Pull> {
        self.socket.as_ref().unwrap()
    }

    async fn recv(&self) -> Multipart {
        self.socket().recv().await.unwrap()
    }

    /// How the next handshake ends.
    async fn verdict(&self) -> Verdict {
        let [event, _endpoint] = self.monitor.recv().await.unwrap().try_into().unwrap();
        let code = i32::from(u16::from_ne_bytes(event[..2].try_into().unwrap()));
        let value = u32::from_ne_bytes(event[2..].try_into().unwrap());
        match code {
            SUCCEEDED => Verdict::In(self.recv().await.user_id().expect("asked for").to_owned()),
            REFUSED => Verdict::Refused(value),
            FAILED => Verdict::Failed,
            _ => panic!("a broken handshake: {code:#x} {value:#x}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // libzmq's threads would wait for whoever reads the monitor, so it ends before that does.
        let mut socket = self.socket.take().unwrap().into_inner();
        // SAFETY: a live socket; no endpoint means no monitor any more.
        unsafe { zmq_sys::zmq_socket_monitor(socket.as_mut_ptr(), ptr::null(), 0) };
    }
}

/// A client that says hello.
fn client(context: &AsyncZmqContext, endpoint: &str, setup: impl FnOnce(&zmq::Socket)) -> AsyncZmqSocket<Push> {
    let client = context.socket::<Push>().unwrap();
    client.get_ref().set_linger(0).unwrap();
    // So that those who are to try again do so at once.
    client.get_ref().set_reconnect_ivl(1).unwrap();
    setup(client.get_ref());
    client.connect(endpoint).unwrap();
    assert!(client.try_send("hello").is_ok());
    client
}

fn plain_client(context: &AsyncZmqContext, endpoint: &str, username: &str, password: &str) -> AsyncZmqSocket<Push> {
    client(context, endpoint, |client| {
        client.set_plain_username(Some(username)).unwrap();
        client.set_plain_password(Some(password)).unwrap();
    })
}

/// What becomes of this user at a server of its own.
async fn plain(context: &AsyncZmqContext, domain: &str, username: &str, password: &str) -> Verdict {
    let server = Server::plain(context, domain);
    let _client = plain_client(context, &server.endpoint, username, password);
    server.verdict().await
}

/// What becomes of somebody who shows nothing.
async fn null(context: &AsyncZmqContext, domain: &str) -> Verdict {
    let server = Server::null(context, domain);
    let _client = client(context, &server.endpoint, |_| {});
    server.verdict().await
}

/// A policy by user name.
fn by_name<D: Future<Output = Decision>>(decide: impl Fn(String) -> D) -> impl Policy {
    move |request: Request| {
        let Credentials::Plain { username, .. } = request.credentials else { panic!("not PLAIN: {request:?}") };
        decide(username)
    }
}

#[test]
fn null_is_let_in_by_domain_and_address() {
    Rig::new().run(async |context, office| {
        let rules = Rules::new();
        office.open(rules.clone());
        assert_eq!(null(&context, "status").await, Verdict::Refused(400), "nobody is known yet");
        rules.allow_anonymous("status");
        assert_eq!(null(&context, "status").await, welcome(""));
        assert_eq!(null(&context, "shop").await, Verdict::Refused(400), "another domain");
        rules.deny_address("status", Ipv4Addr::LOCALHOST);
        assert_eq!(null(&context, "status").await, Verdict::Refused(400));
        rules.forget_address("status", Ipv4Addr::LOCALHOST);
        rules.allow_address("status", Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(null(&context, "status").await, Verdict::Refused(400), "only the other one");
        rules.allow_address("status", Ipv4Addr::LOCALHOST);
        assert_eq!(null(&context, "status").await, welcome(""));
    });
}

#[test]
fn an_ipv4_peer_of_an_ipv6_socket_is_known_by_its_ipv4_address() {
    Rig::new().run(async |context, office| {
        let (seen, rules) = (Rc::new(RefCell::new(String::new())), Rules::new());
        rules.allow_anonymous("status");
        let (witness, list) = (Rc::clone(&seen), rules.clone());
        office.open(move |request: Request| {
            witness.borrow_mut().clone_from(&request.address);
            let decision = list.check(&request);
            async { decision }
        });
        for verdict in [welcome(""), Verdict::Refused(400)] {
            let server = Server::at(&context, "tcp://[::]:*", |socket| {
                socket.require_zap("status").unwrap();
                socket.get_ref().set_ipv6(true).unwrap();
            });
            let server = match server {
                Ok(server) => server,
                Err(error) => return println!("skipped: there is no IPv6 here: {error}"),
            };
            let _client = client(&context, &server.endpoint.replace("[::]", "127.0.0.1"), |_| {});
            assert_eq!(server.verdict().await, verdict);
            assert_eq!(*seen.borrow(), "::ffff:127.0.0.1");
            rules.deny_address("status", Ipv4Addr::LOCALHOST);
        }
    });
}

#[test]
fn plain_is_let_in_by_user_and_password() {
    Rig::new().run(async |context, office| {
        let rules = Rules::new();
        rules.add_user("shop", "alice", "secret");
        rules.add_user("bank", "bob", "gold");
        office.open(rules.clone());
        assert_eq!(plain(&context, "shop", "alice", "secret").await, welcome("alice"));
        assert_eq!(plain(&context, "bank", "bob", "gold").await, welcome("bob"));
        for (domain, username, password) in [
            ("shop", "alice", "wrong"),
            ("shop", "alice", "secre"),
            ("shop", "mallory", "secret"),
            ("shop", "bob", "gold"),
            ("nowhere", "alice", "secret"),
        ] {
            let verdict = plain(&context, domain, username, password).await;
            assert_eq!(verdict, Verdict::Refused(400), "{domain} {username} {password}");
        }
        rules.deny_address("shop", Ipv4Addr::LOCALHOST);
        assert_eq!(plain(&context, "shop", "alice", "secret").await, Verdict::Refused(400), "not from here");
        rules.remove_domain("shop");
        assert_eq!(plain(&context, "shop", "alice", "secret").await, Verdict::Refused(400));
        assert_eq!(plain(&context, "bank", "bob", "gold").await, welcome("bob"));
    });
}

#[test]
fn plain_without_a_domain_is_in_the_domain_without_a_name() {
    Rig::new().run(async |context, office| {
        let rules = Rules::new();
        rules.add_user("", "alice", "secret");
        office.open(rules);
        let server = Server::new(&context, |socket| socket.get_ref().set_plain_server(true).unwrap());
        let _client = plain_client(&context, &server.endpoint, "alice", "secret");
        assert_eq!(server.verdict().await, welcome("alice"));
    });
}

#[test]
fn a_client_without_the_mechanism_gets_nowhere() {
    let mut rig = Rig::new();
    let asked = rig.run(async |context, office| {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        office.open(by_name(move |_| {
            count.set(count.get() + 1);
            async { Decision::allow() }
        }));
        let server = Server::plain(&context, "shop");
        let _null = client(&context, &server.endpoint, |_| {});
        let _plain = plain_client(&context, &server.endpoint, "alice", "any");
        // The first one's handshake fails sooner or later, and that is told in words of its own.
        while server.monitor.recv().await.unwrap()[0][..2] != u16::try_from(SUCCEEDED).unwrap().to_ne_bytes() {}
        assert_eq!(server.recv().await, "hello".into());
        assert!(server.socket().try_recv().unwrap().is_none());
        asked.get()
    });
    assert_eq!(asked, 1);
}

/// A pair of keys, or `None` where libzmq has no CURVE.
fn curve_pairs() -> Option<[zmq::CurveKeyPair; 3]> {
    if !features().curve {
        assert!(env::var_os("CALLOOP_ZMQ_CURVE").is_none(), "CURVE is expected here: {}", features());
        println!("skipped: this libzmq has no CURVE");
        return None;
    }
    features().require_curve().unwrap();
    Some([(); 3].map(|()| zmq::CurveKeyPair::new().unwrap()))
}

fn curve_server(socket: &zmq::Socket, server: &zmq::CurveKeyPair) {
    socket.set_curve_server(true).unwrap();
    socket.set_curve_secretkey(&server.secret_key).unwrap();
}

async fn curve(
    context: &AsyncZmqContext,
    domain: &str,
    server_keys: &zmq::CurveKeyPair,
    client_keys: &zmq::CurveKeyPair,
) -> Verdict {
    let server = Server::new(context, |socket| {
        socket.require_zap(domain).unwrap();
        curve_server(socket.get_ref(), server_keys);
    });
    let _client = curve_client(context, &server.endpoint, server_keys, client_keys);
    server.verdict().await
}

fn curve_client(
    context: &AsyncZmqContext,
    endpoint: &str,
    server_keys: &zmq::CurveKeyPair,
    client_keys: &zmq::CurveKeyPair,
) -> AsyncZmqSocket<Push> {
    client(context, endpoint, |client| {
        client.set_curve_serverkey(&server_keys.public_key).unwrap();
        client.set_curve_publickey(&client_keys.public_key).unwrap();
        client.set_curve_secretkey(&client_keys.secret_key).unwrap();
    })
}

#[test]
fn curve_is_let_in_by_key() {
    let Some([server, alice, mallory]) = curve_pairs() else { return };
    Rig::new().run(async |context, office| {
        let rules = Rules::new();
        rules.add_key("shop", alice.public_key, "alice").unwrap();
        rules.allow_any_key("square").unwrap();
        office.open(rules.clone());
        assert_eq!(curve(&context, "shop", &server, &alice).await, welcome("alice"));
        assert_eq!(curve(&context, "shop", &server, &mallory).await, Verdict::Refused(400));
        assert_eq!(curve(&context, "bank", &server, &alice).await, Verdict::Refused(400));
        let key = zmq::z85_encode(&mallory.public_key).unwrap();
        assert_eq!(curve(&context, "square", &server, &mallory).await, welcome(&key));
        rules.deny_address("square", Ipv4Addr::LOCALHOST);
        assert_eq!(curve(&context, "square", &server, &mallory).await, Verdict::Refused(400));
        rules.remove_key("shop", alice.public_key);
        assert_eq!(curve(&context, "shop", &server, &alice).await, Verdict::Refused(400));
    });
}

#[test]
fn without_a_handler_libzmq_keeps_its_own_rules() {
    let pairs = curve_pairs();
    Rig::new().run(async |context, _office| {
        // As the table in the documentation of `zap` has it.
        let open = Server::new(&context, |socket| socket.get_ref().set_zap_domain("status").unwrap());
        let _anybody = client(&context, &open.endpoint, |_| {});
        assert_eq!(open.monitor.recv().await.unwrap()[0][..2], u16::try_from(SUCCEEDED).unwrap().to_ne_bytes());
        assert_eq!(open.recv().await.user_id(), None);
        assert_eq!(null(&context, "status").await, Verdict::Failed);
        assert_eq!(plain(&context, "shop", "alice", "secret").await, Verdict::Failed);
        let closed = Server::new(&context, |socket| socket.get_ref().set_plain_server(true).unwrap());
        let _client = plain_client(&context, &closed.endpoint, "alice", "secret");
        assert_eq!(closed.verdict().await, Verdict::Failed);

        let Some([server_keys, alice, _]) = pairs else { return };
        for domain in ["", "shop"] {
            let open = Server::new(&context, |socket| {
                if !domain.is_empty() {
                    socket.get_ref().set_zap_domain(domain).unwrap();
                }
                curve_server(socket.get_ref(), &server_keys);
            });
            let _anybody = curve_client(&context, &open.endpoint, &server_keys, &alice);
            assert_eq!(open.monitor.recv().await.unwrap()[0][..2], u16::try_from(SUCCEEDED).unwrap().to_ne_bytes());
            assert_eq!(open.recv().await.user_id(), None, "{domain:?}");
        }
        assert_eq!(curve(&context, "shop", &server_keys, &alice).await, Verdict::Failed);
    });
}

#[test]
fn peers_that_came_before_the_handler_come_in_after_it() {
    Rig::new().run(async |context, office| {
        let server = Server::impatient(&context);
        let _client = plain_client(&context, &server.endpoint, "alice", "secret");
        assert_eq!(server.verdict().await, Verdict::Failed);
        let rules = Rules::new();
        rules.add_user("shop", "alice", "secret");
        office.open(rules);
        assert_eq!(server.settled().await, welcome("alice"), "its libzmq tries again by itself");
    });
}

#[test]
fn requests_wait_for_an_authenticator_that_is_made_but_not_run_yet() {
    Rig::new().run(async |context, office| {
        let rules = Rules::new();
        rules.add_user("shop", "alice", "secret");
        let authenticator = Authenticator::new(&context, rules).unwrap();
        let text = format!("{authenticator:?}");
        assert_eq!(text, "Authenticator { time_limit: 30s, max_pending: 1000, .. }", "and nothing of the policy");
        let server = Server::plain(&context, "shop");
        let _client = plain_client(&context, &server.endpoint, "alice", "secret");
        let verdict = context.timeout(Duration::from_millis(100), server.verdict()).await;
        assert!(verdict.is_err(), "nobody has decided: {verdict:?}");
        office.start(authenticator);
        assert_eq!(server.verdict().await, welcome("alice"));
    });
}

#[test]
fn messages_tell_who_sent_them() {
    Rig::new().run(async |context, office| {
        office.open(by_name(async |name: String| {
            Decision::allow().with_user_id(name).with_property("Role", "clerk").with_property("X-Shift", "night")
        }));
        // A ROUTER, as it puts a frame of its own in front.
        let router = context.socket::<Router>().unwrap();
        router.get_ref().set_plain_server(true).unwrap();
        let endpoint = router.bind(TCP).unwrap();
        let dealer = context.socket::<Dealer>().unwrap();
        dealer.get_ref().set_identity(b"desk").unwrap();
        dealer.get_ref().set_plain_username(Some("alice")).unwrap();
        dealer.get_ref().set_plain_password(Some("any")).unwrap();
        dealer.connect(&endpoint).unwrap();
        dealer.send(["one", "two"]).await.unwrap();
        let mut message = router.recv().await.unwrap();
        assert_eq!(message, ["desk", "one", "two"].into());
        assert_eq!(message.user_id(), Some("alice"));
        assert_eq!((message.property("Role"), message.property("X-Shift")), (Some("clerk"), Some("night")));
        assert_eq!(message.property("Peer-Address"), Some("127.0.0.1"));
        assert_eq!(message.property("Socket-Type"), Some("DEALER"));
        assert_eq!((message.property("Nonsense"), message.property("a\0b"), message.property("")), (None, None, None));
        // The zmq crate's own way.
        assert_eq!(message[1].gets("User-Id"), Some("alice"));
        // Parts keep it, and copies of the bytes do not.
        let body = message.pop_back().unwrap();
        assert_eq!(Multipart::from(body).user_id(), Some("alice"));
        assert_eq!(Multipart::from(&message[1][..]).user_id(), None);
        // What goes back comes over a connection that nobody was asked about.
        router.send(["desk", "reply"]).await.unwrap();
        assert_eq!(dealer.recv().await.unwrap().user_id(), None);
    });
}

#[test]
fn what_a_peer_says_of_itself_is_hidden_by_what_the_handler_says() {
    Rig::new().run(async |context, office| {
        let connect = |endpoint: &str| {
            let forged = [("Socket-Type", "PUSH"), ("User-Id", "root"), ("Role", "admin"), ("X-Other", "forged")];
            let stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
            let mut peer = zmtp::Peer::handshake_with(stream, &forged).unwrap();
            peer.send(&[b"hello"]).unwrap();
            peer
        };
        // Nobody is asked: it is whatever it says. The documentation warns of that.
        let naive = context.socket::<Pull>().unwrap();
        let _peer = connect(&naive.bind(TCP).unwrap());
        assert_eq!(naive.recv().await.unwrap().user_id(), Some("root"));

        office.open(async |_: Request| Decision::allow().with_property("Role", "guest"));
        let server = Server::null(&context, "status");
        let endpoint = server.endpoint.clone();
        // Not from this thread, whose loop the handshake waits for.
        let peer = thread::spawn(move || connect(&endpoint));
        let message = server.recv().await;
        assert_eq!(message.user_id(), Some(""), "the handler gave it none");
        assert_eq!(message.property("Role"), Some("guest"));
        assert_eq!(message.property("X-Other"), Some("forged"), "and the documentation warns of that too");
        drop(peer.join().unwrap());
    });
}

#[test]
fn a_decision_that_cannot_be_sent_lets_nobody_in() {
    Rig::new().run(async |context, office| {
        office.open(by_name(async |name: String| Decision::allow().with_user_id(name + "\0")));
        assert_eq!(plain(&context, "shop", "alice", "any").await, Verdict::Refused(500));
    });
}

#[test]
fn a_policy_that_waits_holds_up_nobody_else() {
    Rig::new().run(async |context, office| {
        let (release, released) = oneshot::channel::<()>();
        let released = Rc::new(Cell::new(Some(released)));
        office.open(by_name(move |name| {
            let wait = (name == "slow").then(|| released.take().expect("asked about once"));
            async move {
                if let Some(wait) = wait {
                    wait.await.unwrap();
                }
                Decision::allow().with_user_id(name)
            }
        }));
        let server = Server::plain(&context, "shop");
        let _slow = plain_client(&context, &server.endpoint, "slow", "any");
        for name in ["ada", "bob", "cy"] {
            assert_eq!(plain(&context, "shop", name, "any").await, welcome(name));
        }
        release.send(()).unwrap();
        assert_eq!(server.verdict().await, welcome("slow"));
    });
}

#[test]
fn a_policy_that_panics_hurts_its_own_request_only() {
    Rig::new().run(async |context, office| {
        let (release, released) = oneshot::channel::<()>();
        let released = Rc::new(Cell::new(Some(released)));
        office.open(by_name(move |name| {
            assert!(name != "early", "a panic on purpose, in the call");
            let wait = (name == "slow").then(|| released.take().expect("asked about once"));
            async move {
                if let Some(wait) = wait {
                    wait.await.unwrap();
                }
                assert!(name != "late", "a panic on purpose, in the future");
                Decision::allow().with_user_id(name)
            }
        }));
        let server = Server::plain(&context, "shop");
        let _slow = plain_client(&context, &server.endpoint, "slow", "any");
        assert_eq!(plain(&context, "shop", "early", "any").await, Verdict::Refused(500));
        assert_eq!(plain(&context, "shop", "late", "any").await, Verdict::Refused(500));
        assert_eq!(plain(&context, "shop", "good", "any").await, welcome("good"));
        release.send(()).unwrap();
        assert_eq!(server.verdict().await, welcome("slow"));
        assert!(office.ended.borrow().is_empty(), "it runs on");
    });
}

/// Counts the futures that are there.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Never decides.
fn never(count: &Rc<Cell<usize>>) -> impl Policy + use<> {
    let count = Rc::clone(count);
    move |_: Request| {
        let counted = Counted::new(&count);
        async move {
            let _counted = counted;
            pending().await
        }
    }
}

#[test]
fn a_policy_that_never_decides_is_given_up() {
    Rig::new().run(async |context, office| {
        let count = Rc::default();
        let authenticator = Authenticator::new(&context, never(&count)).unwrap();
        authenticator.set_time_limit(Duration::from_millis(20));
        office.start(authenticator);
        assert_eq!(plain(&context, "shop", "alice", "any").await, Verdict::Refused(300));
        // Whoever is told so tries again, and the next one waits for nobody.
        assert_eq!(plain(&context, "shop", "bob", "any").await, Verdict::Refused(300));
        while count.get() > 0 {
            context.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn whoever_is_to_try_again_comes_in_later_and_whoever_is_denied_does_not_come_back() {
    Rig::new().run(async |context, office| {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        office.open(by_name(move |name| {
            count.set(count.get() + 1);
            let decision = match (&*name, count.get()) {
                ("alice", 1) => Decision::retry_later(),
                ("alice", _) => Decision::allow().with_user_id(name),
                _ => Decision::deny(),
            };
            async { decision }
        }));
        let server = Server::impatient(&context);
        let alice = plain_client(&context, &server.endpoint, "alice", "any");
        assert_eq!(server.settled().await, welcome("alice"));
        assert!(asked.get() > 1, "not at once");
        drop(alice);
        let mallory = plain_client(&context, &server.endpoint, "mallory", "any");
        assert_eq!(server.settled().await, Verdict::Refused(400));
        let before = asked.get();
        let again = context.timeout(Duration::from_millis(200), server.verdict()).await;
        assert!(again.is_err() && asked.get() == before, "{again:?}");
        drop(mallory);
    });
}

#[test]
fn more_requests_than_may_be_pending_wait() {
    Rig::new().run(async |context, office| {
        let (release, released) = oneshot::channel::<()>();
        let (released, most) = (Rc::new(Cell::new(Some(released))), Rc::new(Cell::new(0)));
        let (count, highest) = (Rc::default(), Rc::clone(&most));
        let policy = by_name(move |name| {
            let (wait, counted) = (released.take(), Counted::new(&count));
            highest.set(highest.get().max(count.get()));
            async move {
                if let Some(wait) = wait {
                    wait.await.unwrap();
                }
                drop(counted);
                Decision::allow().with_user_id(name)
            }
        });
        let authenticator = Authenticator::new(&context, policy).unwrap();
        authenticator.set_max_pending(NonZeroUsize::MIN);
        office.start(authenticator);
        let by_hand = dealer(&context);
        for _ in 0..10 {
            by_hand.send(request(&["PLAIN", "first", ""])).await.unwrap();
        }
        let server = Server::plain(&context, "shop");
        let _second = plain_client(&context, &server.endpoint, "second", "any");
        let early = context.timeout(Duration::from_millis(100), server.verdict()).await;
        assert!(early.is_err() && by_hand.try_recv().unwrap().is_none(), "{early:?}");
        release.send(()).unwrap();
        for _ in 0..10 {
            assert_eq!(status(&by_hand.recv().await.unwrap()), "200");
        }
        assert_eq!(server.verdict().await, welcome("second"));
        assert_eq!(most.get(), 1);
    });
}

/// A server of libzmq's kind, by hand.
fn dealer(context: &AsyncZmqContext) -> AsyncZmqSocket<Dealer> {
    let dealer = context.socket::<Dealer>().unwrap();
    dealer.connect(HANDLER).unwrap();
    dealer
}

/// A request as a DEALER sends it, up to the mechanism.
fn request(rest: &[&str]) -> Multipart {
    let head = ["", "1.0", "id", "shop", "192.0.2.7", "server"];
    head.iter().chain(rest).copied().collect()
}

fn status(reply: &Multipart) -> &str {
    assert_eq!(reply.len(), 7, "{reply:?}");
    assert_eq!((&reply[0][..], &reply[1][..]), (&b""[..], &b"1.0"[..]));
    reply[3].as_str().unwrap()
}

#[test]
fn malformed_requests_are_refused_or_dropped_and_never_asked_about() {
    Rig::new().run(async |context, office| {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        office.open(move |request: Request| {
            count.set(count.get() + 1);
            assert_eq!((&*request.domain, &*request.address), ("shop", "192.0.2.7"));
            assert_eq!((request.ip(), &*request.identity), ("192.0.2.7".parse::<IpAddr>().ok(), &b"server"[..]));
            async { Decision::allow().with_user_id("somebody").with_property("Role", "clerk") }
        });
        let dealer = dealer(&context);
        let long = "x".repeat(256);
        let refused = [
            request(&[]),
            request(&[""]),
            request(&["ROT13", "key"]),
            request(&["GSSAPI", "principal"]),
            request(&["NULL", "more"]),
            request(&["PLAIN"]),
            request(&["PLAIN", "alice"]),
            request(&["PLAIN", "alice", "secret", "more"]),
            request(&["PLAIN", &long, "secret"]),
            request(&["PLAIN", "alice", &long]),
            request(&["PLAIN", "alice\0", "secret"]),
            request(&["CURVE"]),
            request(&["CURVE", "short"]),
            request(&["CURVE", &long]),
            ["", "1.1", "id", "shop", "192.0.2.7", "server", "NULL"].into(),
            ["", "", "id", "shop", "192.0.2.7", "server", "NULL"].into(),
            ["", "1.0", "id", &long, "192.0.2.7", "server", "NULL"].into(),
            ["", "1.0", "id", "shop", &long, "server", "NULL"].into(),
            ["", "1.0", "id", "shop", "192.0.2.7", &long, "NULL"].into(),
            ["", "1.0", "id"].into(),
        ];
        for message in refused {
            let text = format!("{message:?}");
            dealer.send(message).await.unwrap();
            let reply = dealer.recv().await.unwrap();
            assert_eq!((status(&reply), &reply[2][..]), ("400", &b"id"[..]), "{text}");
            assert_eq!((reply[5].len(), reply[6].len()), (0, 0), "no user, no metadata");
            assert!(!reply[4].is_empty(), "it says why");
        }
        let dropped: [Multipart; 6] = [
            "".into(),
            ["", ""].into(),
            ["", "1.0"].into(),
            "1.0".into(),
            ["1.0", "id", "shop", "192.0.2.7", "server", "NULL"].into(),
            std::iter::repeat_n("x", 10_000).collect(),
        ];
        // Somebody who would get the replies to those whose envelope has no end.
        let bystander = context.socket::<Dealer>().unwrap();
        bystander.get_ref().set_identity(b"1.0").unwrap();
        bystander.connect(HANDLER).unwrap();
        for message in dropped {
            dealer.send(message).await.unwrap();
        }
        assert_eq!(asked.get(), 0);
        // The first to be answered after those is the first that can be.
        dealer.send(["", "1.0", "\u{1}next", "shop", "192.0.2.7", "server", "NULL"]).await.unwrap();
        let reply = dealer.recv().await.unwrap();
        assert_eq!((status(&reply), &reply[2][..], &reply[5][..]), ("200", &b"\x01next"[..], &b"somebody"[..]));
        assert_eq!(&reply[6][..], b"\x04Role\0\0\0\x05clerk");
        assert_eq!(asked.get(), 1);
        assert!(bystander.try_recv().unwrap().is_none());
        // A REQ has the delimiter from libzmq, and whoever is in between adds routing ids.
        let req = context.socket::<Req>().unwrap();
        req.connect(HANDLER).unwrap();
        req.send(["1.0", "id", "shop", "192.0.2.7", "server", "NULL"]).await.unwrap();
        assert_eq!(req.recv().await.unwrap()[2].as_str(), Some("200"));
        let mut hops = request(&["NULL"]);
        hops.push_front("near");
        hops.push_front("far");
        dealer.send(hops).await.unwrap();
        let mut reply = dealer.recv().await.unwrap();
        assert_eq!(
            (reply.pop_front().unwrap().as_str(), reply.pop_front().unwrap().as_str()),
            (Some("far"), Some("near"))
        );
        assert_eq!(status(&reply), "200");
    });
}

#[test]
fn random_requests_do_no_harm() {
    Rig::new().run(async |context, office| {
        office.open(async |_: Request| Decision::allow());
        let dealer = dealer(&context);
        let seed: u64 = std::process::id().into();
        println!("seed {seed}");
        let mut state = seed;
        let mut next = move |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % bound
        };
        let words: [&[u8]; 9] = [b"", b"1.0", b"NULL", b"PLAIN", b"CURVE", b"\xff\xfe", b"a\0", &[7; 32], &[b'x'; 300]];
        for _ in 0..2_000 {
            let message: Multipart = (0..=next(10)).map(|_| words[next(words.len())]).collect();
            dealer.send(message).await.unwrap();
            while dealer.try_recv().unwrap().is_some() {}
        }
        dealer.send(["", "1.0", "the last", "shop", "192.0.2.7", "server", "NULL"]).await.unwrap();
        loop {
            let reply = dealer.recv().await.unwrap();
            if &reply[2][..] == b"the last" {
                assert_eq!(status(&reply), "200");
                break;
            }
        }
        assert!(office.ended.borrow().is_empty());
    });
}

#[test]
fn a_handler_that_is_dropped_leaves_nobody_waiting_and_its_place_free() {
    Rig::new().run(async |context, office| {
        let count = Rc::new(Cell::new(0));
        let first = office.open(never(&count));
        let server = Server::plain(&context, "shop");
        let _client = plain_client(&context, &server.endpoint, "alice", "secret");
        while count.get() == 0 {
            context.sleep(Duration::from_millis(1)).await;
        }
        first.abort();
        assert_eq!(server.verdict().await, Verdict::Refused(300));
        assert_eq!(count.get(), 0, "and the policy's future is gone");
        let rules = Rules::new();
        rules.add_user("shop", "alice", "secret");
        office.open(rules);
        assert_eq!(plain(&context, "shop", "alice", "secret").await, welcome("alice"));
    });
}

#[test]
fn requests_that_nobody_has_read_are_answered_at_the_end_too() {
    Rig::new().run(async |context, _office| {
        let authenticator = Authenticator::new(&context, Rules::new()).unwrap();
        let dealer = dealer(&context);
        for _ in 0..3 {
            dealer.send(request(&["NULL"])).await.unwrap();
        }
        drop(authenticator);
        for _ in 0..3 {
            assert_eq!(status(&dealer.recv().await.unwrap()), "300");
        }
        // The place is free at once, not only when libzmq has closed the socket.
        for _ in 0..100 {
            drop(Authenticator::new(&context, Rules::new()).unwrap());
        }
    });
}

#[test]
fn a_context_has_one_handler() {
    Rig::new().run(async |context, _office| {
        let _first = Authenticator::new(&context, Rules::new()).unwrap();
        let error = Authenticator::new(&context, Rules::new()).unwrap_err();
        assert!(matches!(error, Error::Zmq { source: zmq::Error::EADDRINUSE, .. }), "{error:?}");
        assert_eq!(error.to_string(), "cannot be a context's second ZAP handler");
    });
}

#[test]
fn the_end_of_the_context_ends_the_service() {
    let mut rig = Rig::new();
    let (count, office) = (Rc::new(Cell::new(0)), rig.office.clone());
    rig.run(async |context, office| {
        office.open(never(&count));
        let dealer = dealer(&context);
        dealer.send(request(&["NULL"])).await.unwrap();
        while count.get() == 0 {
            context.sleep(Duration::from_millis(1)).await;
        }
        context.shutdown();
        drop(dealer);
    });
    support::turn_until(&mut rig.event_loop, &mut (), |()| !office.ended.borrow().is_empty());
    assert!(matches!(office.ended.borrow()[..], [Ok(())]), "{:?}", office.ended);
    assert_eq!(count.get(), 0, "what was pending is gone");
    drop(office);
    let Rig { mut event_loop, context, office } = rig;
    drop(office);
    run(&mut event_loop, context.terminate()).unwrap();
}

#[test]
fn a_loop_that_is_gone_ends_the_service() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let mut task = Box::pin(Authenticator::new(&context, Rules::new()).unwrap().run());
    assert!(support::poll_once(&mut task).is_pending());
    drop(event_loop);
    assert!(matches!(support::now(task), Err(Error::LoopGone)));
}

#[test]
fn a_handler_is_of_the_right_kind() {
    fn refused<K: Kind>(context: &AsyncZmqContext) {
        let socket = context.socket::<K>().unwrap();
        let error = socket.bind(HANDLER).unwrap_err();
        let actual = K::SOCKET_TYPE.unwrap();
        assert!(
            matches!(error, Error::Setup(SetupError::HandlerKind { actual: found }) if found == actual),
            "{error:?}"
        );
        assert!(error.to_string().starts_with("libzmq would abort: "), "{error}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
        assert_eq!(socket.last_endpoint().unwrap(), "", "it is not bound");
        socket.bind("inproc://another").unwrap();
        socket.unbind("inproc://another").unwrap();
    }
    Rig::new().run(async |context, _office| {
        refused::<Dealer>(&context);
        refused::<Pair>(&context);
        refused::<Pub>(&context);
        refused::<Pull>(&context);
        refused::<Req>(&context);
        // Those may be handlers, and everybody may be asked.
        let rep = context.socket::<Rep>().unwrap();
        rep.bind(HANDLER).unwrap();
        dealer(&context).send("a question").await.unwrap();
        rep.unbind(HANDLER).unwrap();
        context.socket::<Router>().unwrap().bind(HANDLER).unwrap();
    });
}

#[test]
fn plain_with_an_enforced_domain_has_a_domain() {
    Rig::new().run(async |context, _office| {
        let set_up = |plain: bool, domain: Option<&str>| {
            let mut socket = context.zmq_context().socket(zmq::PULL).unwrap();
            enforce_domain(&mut socket);
            socket.set_plain_server(plain).unwrap();
            if let Some(domain) = domain {
                socket.set_zap_domain(domain).unwrap();
            }
            context.adopt::<Pull>(socket).unwrap()
        };
        let socket = set_up(true, None);
        for error in [socket.bind(TCP).unwrap_err(), socket.connect("tcp://127.0.0.1:1").unwrap_err()] {
            assert!(matches!(error, Error::Setup(SetupError::PlainWithoutDomain)), "{error:?}");
            assert!(error.to_string().ends_with("a PLAIN server without a ZAP domain"), "{error}");
        }
        socket.bind("inproc://within").unwrap();
        socket.require_zap("shop").unwrap();
        socket.bind(TCP).unwrap();
        set_up(false, None).bind(TCP).unwrap();
        set_up(true, Some("shop")).bind(TCP).unwrap();
        // The longest one that there may be is a domain too.
        set_up(true, Some(&"x".repeat(255))).bind(TCP).unwrap();
        assert_eq!(socket.require_zap("").unwrap_err().errno(), Some(libc::EINVAL));
        assert_eq!(socket.require_zap(&"x".repeat(256)).unwrap_err().errno(), Some(libc::EINVAL));
    });
}

/// `ZMQ_ZAP_ENFORCE_DOMAIN`.
fn enforce_domain(socket: &mut zmq::Socket) {
    let on = 1_i32;
    // SAFETY: a live socket, and an int that outlives the call.
    let done = unsafe { zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), 93, (&raw const on).cast(), size_of::<i32>()) };
    assert_eq!(done, 0);
}

#[test]
fn a_socket_that_asks_has_room_for_the_user_id() {
    let pairs = curve_pairs();
    Rig::new().run(async |context, office| {
        let with_room_for_one = || {
            let socket = context.socket::<Pull>().unwrap();
            socket.get_ref().set_rcvhwm(1).unwrap();
            socket
        };
        let refused = |socket: &AsyncZmqSocket<Pull>| {
            for error in [socket.bind(TCP).unwrap_err(), socket.connect("tcp://127.0.0.1:1").unwrap_err()] {
                assert!(matches!(error, Error::Setup(SetupError::NoRoomForUserId)), "{error:?}");
                assert!(error.to_string().contains("a receive high-water mark of 1"), "{error}");
            }
            socket.bind("inproc://room").unwrap();
            socket.unbind("inproc://room").unwrap();
        };
        with_room_for_one().bind(TCP).unwrap();
        let null = with_room_for_one();
        null.get_ref().set_zap_domain("status").unwrap();
        refused(&null);
        let plain = with_room_for_one();
        plain.get_ref().set_plain_server(true).unwrap();
        refused(&plain);
        // A client is not the one who asks.
        let client = with_room_for_one();
        client.get_ref().set_plain_username(Some("alice")).unwrap();
        client.get_ref().set_zap_domain("shop").unwrap();
        client.connect("tcp://127.0.0.1:1").unwrap();
        if let Some([server, ..]) = pairs {
            let curve = with_room_for_one();
            curve_server(curve.get_ref(), &server);
            refused(&curve);
        }
        // With one more, messages pass.
        let rules = Rules::new();
        rules.add_user("shop", "alice", "secret");
        office.open(rules);
        let server = Server::new(&context, |socket| {
            socket.require_zap("shop").unwrap();
            socket.get_ref().set_plain_server(true).unwrap();
            socket.get_ref().set_rcvhwm(2).unwrap();
        });
        let client = plain_client(&context, &server.endpoint, "alice", "secret");
        assert_eq!(server.verdict().await, welcome("alice"));
        for number in 0..100 {
            client.send(number.to_string()).await.unwrap();
            assert_eq!(server.recv().await, number.to_string().into());
        }
    });
}

#[test]
fn without_that_room_nothing_is_received() {
    Rig::new().run(async |context, office| {
        office.open(by_name(
            async |name| {
                if name == "nobody" { Decision::allow() } else { Decision::allow().with_user_id(name) }
            },
        ));
        for (name, received) in [("nobody", true), ("alice", false)] {
            let socket = context.socket::<Pull>().unwrap();
            socket.require_zap("shop").unwrap();
            socket.get_ref().set_plain_server(true).unwrap();
            socket.get_ref().set_rcvhwm(1).unwrap();
            // Past the check.
            socket.get_ref().bind(TCP).unwrap();
            let endpoint = socket.last_endpoint().unwrap();
            let _client = plain_client(&context, &endpoint, name, "any");
            let message = context.timeout(Duration::from_millis(300), socket.recv()).await;
            assert_eq!(message.is_ok(), received, "{name}");
        }
    });
}

#[test]
fn a_socket_that_connects_and_asks_goes_on_after_reconnects_unless_its_peer_has_a_user_id() {
    Rig::new().run(async |context, office| {
        // As the documentation has it. Should the last one be received, it can be told shorter.
        for (user_id, hwm, received) in [("", 3, true), ("peer", 0, true), ("peer", 3, false)] {
            let authenticator = office.open(async move |_: Request| Decision::allow().with_user_id(user_id));
            let pull = context.socket::<Pull>().unwrap();
            pull.require_zap("status").unwrap();
            pull.get_ref().set_rcvhwm(hwm).unwrap();
            pull.get_ref().set_reconnect_ivl(1).unwrap();
            let mut endpoint = TCP.to_owned();
            let mut rounds = 0;
            while rounds < 10 {
                let push = context.socket::<Push>().unwrap();
                match push.bind(&endpoint) {
                    Ok(bound) if rounds == 0 => pull.connect(&bound).map(|()| endpoint = bound).unwrap(),
                    Ok(_) => {}
                    Err(_) => {
                        // libzmq has not closed the last one yet.
                        context.sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                }
                push.send("hello").await.unwrap();
                let patience = if received { support::DEADLINE } else { Duration::from_millis(300) };
                match context.timeout(patience, pull.recv()).await {
                    Ok(message) => assert_eq!(message.unwrap().user_id(), Some(user_id)),
                    Err(_) => break,
                }
                rounds += 1;
            }
            assert_eq!(rounds == 10, received, "{user_id:?} {hwm}: {rounds} rounds");
            authenticator.abort();
            while Authenticator::new(&context, Rules::new()).is_err() {
                context.sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

#[test]
fn ipc_peers_have_no_ip_address() {
    let directory = tempfile::tempdir().unwrap();
    Rig::new().run(async |context, office| {
        let seen = Rc::new(RefCell::new(None));
        let witness = Rc::clone(&seen);
        office.open(move |request: Request| {
            witness.replace(Some((request.ip(), request.address)));
            async { Decision::allow() }
        });
        let server = context.socket::<Pull>().unwrap();
        server.require_zap("status").unwrap();
        let endpoint = format!("ipc://{}", directory.path().join("socket").display());
        server.bind(&endpoint).unwrap();
        let client = context.socket::<Push>().unwrap();
        client.connect(&endpoint).unwrap();
        client.send("hello").await.unwrap();
        assert_eq!(server.recv().await.unwrap().user_id(), Some(""));
        println!("{seen:?}");
        assert!(matches!(seen.take(), Some((None, _))));
    });
}

const TCP: &str = "tcp://127.0.0.1:*";
const HANDLER: &str = "inproc://zeromq.zap.01";

/// The monitor's codes for a handshake: failed on this side, done, broken, refused by the handler.
const FAILED: i32 = 0x0800;
const SUCCEEDED: i32 = 0x1000;
const MALFORMED: i32 = 0x2000;
const REFUSED: i32 = 0x4000;
