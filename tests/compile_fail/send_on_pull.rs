use calloop_zmq::{AsyncZmqSocket, kind::Pull};

async fn send(pull: AsyncZmqSocket<Pull>) {
    pull.send("a").await.unwrap();
    pull.try_send("a").unwrap();
}

fn main() {}
