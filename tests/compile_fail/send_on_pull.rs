use calloop_zmq::{AsyncZmqSocket, kind::Pull};

fn send(pull: AsyncZmqSocket<Pull>) {
    let _ = pull.send("a");
}

fn main() {}
