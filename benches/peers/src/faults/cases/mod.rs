//! The cases, each written once for all libraries.

mod cancel;
pub mod end;
mod flow;
mod idle;
mod misuse;
mod router;
mod side;

use std::time::Duration;

use super::finding::Finding;
use super::library::Library;
use super::scene::{INPROC, Scene, TCP};
use flow::Shape;
use idle::Waits;

pub struct Case {
    pub name: &'static str,
    pub question: &'static str,
    pub run: fn(Scene) -> Finding,
}

pub fn all<L: Library>() -> Vec<Case> {
    let case = |name, question, run| Case { name, question, run };
    vec![
        case("one-way", "a PUSH sends 20,000 messages, high-water marks of 1", flow::one_way::<L>),
        case(
            "both-ways/two-tasks/inproc",
            "a DEALER sends in one task and receives the echo in another, high-water marks of 2",
            |scene| flow::both_ways::<L>(scene, INPROC, 2, Shape::TwoTasks),
        ),
        case("both-ways/two-tasks/tcp", "the same over tcp", |scene| {
            flow::both_ways::<L>(scene, TCP, 2, Shape::TwoTasks)
        }),
        case(
            "both-ways/joined/inproc",
            "a DEALER sends and receives in one task, with `join!`, high-water marks of 2",
            |scene| flow::both_ways::<L>(scene, INPROC, 2, Shape::Joined),
        ),
        case("both-ways/joined/tcp", "the same over tcp", |scene| flow::both_ways::<L>(scene, TCP, 2, Shape::Joined)),
        case("both-ways/joined/default", "the same over inproc, with libzmq's default high-water marks", |scene| {
            flow::both_ways::<L>(scene, INPROC, 0, Shape::Joined)
        }),
        case("side/nothing", "a task waits to receive, and another sends it one message after the other", |scene| {
            side::events::<L>(scene, false)
        }),
        case(
            "side/events",
            "a task waits to receive; another sends it a message, and asks the raw socket for `ZMQ_EVENTS` before the loop goes on",
            |scene| side::events::<L>(scene, true),
        ),
        case(
            "side/connect/inproc",
            "while a task waits to receive, another connects the socket to one more endpoint, 50 times",
            |scene| side::connect::<L>(scene, INPROC),
        ),
        case("side/connect/tcp", "the same over tcp", |scene| side::connect::<L>(scene, TCP)),
        case(
            "cancel/receive",
            "20,000 messages of three frames, `next()` dropped at random and called again",
            cancel::receive::<L>,
        ),
        case(
            "cancel/send",
            "5,000 messages of three frames, `send()` dropped at random; those whose `send` was `Ok` have to arrive, once",
            cancel::send::<L>,
        ),
        case(
            "peers-leave",
            "messages of 100 frames to a PULL that goes away after a few and is replaced, 200 times",
            flow::peers_leave::<L>,
        ),
        case(
            "router/full",
            "a mandatory ROUTER sends 1,000 messages to a slow peer beside one that has room, high-water marks of 1",
            router::full::<L>,
        ),
        case(
            "router/unknown",
            "a mandatory ROUTER sends a message to a peer that is not there, then one to a peer that is; two, three, four, five frames",
            router::unknown::<L>,
        ),
        case("timer", "a timer of 1 ms in the thread of a PULL that receives a flood for a second", flow::timer::<L>),
        case("idle/reader", "a DEALER that could send waits to receive, 300 ms", |scene| {
            idle::polls::<L>(scene, Waits::ToReceive)
        }),
        case("idle/writer", "a DEALER with a full peer and unread messages waits to send, 300 ms", |scene| {
            idle::polls::<L>(scene, Waits::ToSend)
        }),
        case(
            "idle/router",
            "a mandatory ROUTER waits to send to a full peer beside one that has room, 300 ms",
            idle::router::<L>,
        ),
        case(
            "context-ends",
            "the context is terminated while a task waits to receive; then the socket is dropped",
            end::context::<L>,
        ),
        case(
            "end/as-documented",
            "500 messages of 100 kB over tcp to a peer that takes 1 ms for each, then the program ends as the documentation says",
            |scene| end::exit::<L>(scene, true, Duration::from_millis(1)),
        ),
        case(
            "end/slower",
            "500 messages of 100 kB to a peer that takes 10 ms for each, then the program ends as the documentation says",
            |scene| end::exit::<L>(scene, true, Duration::from_millis(10)),
        ),
        case(
            "end/just-returns",
            "500 messages of 100 kB to a peer that takes 1 ms for each, then all is dropped and `main` returns",
            |scene| end::exit::<L>(scene, false, Duration::from_millis(1)),
        ),
        case(
            "end/nobody-there",
            "a message to a peer that is not there, all is dropped and `main` returns",
            end::nobody::<L>,
        ),
        case("request", "a REQ's reply is given up, and the next request made", |scene| {
            misuse::request::<L>(scene, false)
        }),
        case("request/relaxed", "the same, with `ZMQ_REQ_RELAXED` and `ZMQ_REQ_CORRELATE` set beforehand", |scene| {
            misuse::request::<L>(scene, true)
        }),
        case("empty", "a message without any frame is sent", misuse::empty::<L>),
    ]
}
