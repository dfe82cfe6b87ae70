use calloop_zmq::{AsyncZmqContext, kind::Any};

fn main() {
    let event_loop = calloop::EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let _socket = context.socket::<Any>().unwrap();
}
