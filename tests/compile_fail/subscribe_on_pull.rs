use calloop_zmq::{AsyncZmqSocket, kind::Pull};

fn subscribe(pull: AsyncZmqSocket<Pull>) {
    pull.subscribe("topic").unwrap();
}

fn main() {}
