use calloop_zmq::{AsyncZmqSocket, kind::Push};

fn receive(push: AsyncZmqSocket<Push>) {
    let _ = push.recv();
}

fn main() {}
