use calloop_zmq::{AsyncZmqSocket, kind::Push};

async fn receive(push: AsyncZmqSocket<Push>) {
    push.recv().await.unwrap();
    push.try_recv().unwrap();
}

fn main() {}
