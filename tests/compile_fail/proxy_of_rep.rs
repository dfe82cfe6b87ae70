use calloop_zmq::kind::{Dealer, Rep};
use calloop_zmq::{AsyncZmqContext, proxy};

fn main() {
    let event_loop = calloop::EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (one, other) = (context.socket::<Rep>().unwrap(), context.socket::<Dealer>().unwrap());
    drop(proxy(&one, &other));
}
