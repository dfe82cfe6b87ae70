//! tokio's loop in the current thread. tmq is made for tokio; async_zmq says that it runs anywhere, and its examples are
//! on tokio.

use tokio::task::LocalSet;

pub fn run<T>(main: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, main)
}
