//! Typed messages: a weather station sends measurements as JSON, and its listener gets them back as values.
//!
//! The crate knows nothing of serialisation and need not: a socket is a Sink and a Stream, so `with` puts an encoder in
//! front of one, and `map_ok` a decoder behind the other. What does not decode is an error of that message alone.

use std::error::Error;
use std::future::ready;
use std::io;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{CanRecv, CanSend, Pull, Push};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use futures::{Sink, SinkExt, Stream, TryStreamExt, future, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Measurement {
    city: String,
    celsius: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (station, listener) = (context.socket::<Push>()?, context.socket::<Pull>()?);
    station.connect(&listener.bind("tcp://127.0.0.1:*")?)?;
    let measured = [("oslo", 12.5), ("rome", 21.0), ("cairo", 33.5)]
        .map(|(city, celsius)| Measurement { city: city.to_owned(), celsius });

    let send = async {
        // Not what the listener expects.
        station.send(r#"{"city": "atlantis"}"#).await.map_err(calloop_zmq::Error::from)?;
        encoding(&station).send_all(&mut stream::iter(measured.clone().map(Ok))).await
    };
    let receive = async {
        let (mut measurements, mut received) = (decoding::<Measurement, _>(&listener), Vec::new());
        while received.len() < measured.len() {
            match measurements.try_next().await? {
                Some(Ok(measurement)) => {
                    println!("{}: {:.1} degrees", measurement.city, measurement.celsius);
                    received.push(measurement);
                }
                Some(Err(error)) => println!("not a measurement: {error}"),
                None => break,
            }
        }
        Ok(received)
    };
    let both = async { context.timeout(DEADLINE, future::try_join(send, receive)).await.map_err(io::Error::other)? };
    let received = event_loop.block_on(both, &mut (), |()| {})?.transpose()?.map(|((), received)| received);
    assert_eq!(received.as_deref(), Some(&measured[..]));
    Ok(())
}

/// A Sink of values: each becomes a message of one frame.
fn encoding<T: Serialize, K: CanSend>(socket: &AsyncZmqSocket<K>) -> impl Sink<T, Error = io::Error> + Unpin {
    socket.with(|value| ready(serde_json::to_vec(&value).map(Multipart::from).map_err(io::Error::from)))
}

/// A Stream of values, or of why a message was none.
fn decoding<T: DeserializeOwned, K: CanRecv>(
    socket: &AsyncZmqSocket<K>,
) -> impl Stream<Item = calloop_zmq::Result<serde_json::Result<T>>> + Unpin {
    socket.map_ok(|message| serde_json::from_slice(message.first().map_or(&[][..], |frame| frame)))
}
