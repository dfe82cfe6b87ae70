use calloop_zmq::{AsyncZmqSocket, kind::Pub};

fn takes_stream(_: impl futures::Stream) {}

fn give(publisher: AsyncZmqSocket<Pub>) {
    takes_stream(publisher);
}

fn main() {}
