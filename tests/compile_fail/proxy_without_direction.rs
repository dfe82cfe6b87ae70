use calloop_zmq::kind::{Pub, Push};
use calloop_zmq::{AsyncZmqContext, proxy};

fn main() {
    let event_loop = calloop::EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (one, other) = (context.socket::<Push>().unwrap(), context.socket::<Pub>().unwrap());
    drop(proxy(&one, &other));
}
