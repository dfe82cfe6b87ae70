//! The operations of a `Multipart`, each against the same one on a plain list of byte strings.

use std::collections::VecDeque;

use calloop_zmq::Multipart;

use crate::source::Source;

type Model = VecDeque<Vec<u8>>;

pub(crate) fn run(data: &[u8]) {
    let mut source = Source(data);
    let (mut message, mut model) = (Multipart::new(), Model::new());
    // A second one, for what has an operand.
    let (mut other, mut other_model) = (Multipart::new(), Model::new());
    while !source.is_empty() {
        match source.below(14) {
            0 => {
                let frame = source.frame();
                message.push_front(&frame);
                model.push_front(frame);
            }
            1 => {
                let frame = source.frame();
                message.push_back(frame.clone());
                model.push_back(frame);
            }
            2 => assert_eq!(message.pop_front().map(|frame| frame.to_vec()), model.pop_front()),
            3 => assert_eq!(message.pop_back().map(|frame| frame.to_vec()), model.pop_back()),
            4 => {
                other = message.take_envelope();
                let end = model.iter().position(Vec::is_empty).map_or(0, |delimiter| delimiter + 1);
                other_model = model.drain(..end).collect();
            }
            5 => {
                message.put_envelope(std::mem::take(&mut other));
                other_model.append(&mut model);
                model = std::mem::take(&mut other_model);
            }
            6 => {
                message.clear();
                model.clear();
            }
            7 => {
                let at = source.below(4);
                let bytes = source.frame();
                if let (Some(frame), Some(expected)) = (message.get_mut(at), model.get_mut(at)) {
                    *frame = zmq::Message::from(&bytes);
                    *expected = bytes;
                }
            }
            8 => {
                // To an array and back, and refused with everything still there.
                message = match <[zmq::Message; 2]>::try_from(message) {
                    Ok(frames) => {
                        assert_eq!(model.len(), 2);
                        frames.into()
                    }
                    Err(refused) => {
                        assert_ne!(model.len(), 2);
                        refused.message
                    }
                };
            }
            9 => {
                // Frames taken off both ends.
                let mut frames = message.into_iter();
                for _ in 0..source.below(4) {
                    let (frame, expected) = if source.below(2) == 0 {
                        (frames.next(), model.pop_front())
                    } else {
                        (frames.next_back(), model.pop_back())
                    };
                    assert_eq!(frame.map(|frame| frame.to_vec()), expected);
                    assert_eq!(frames.len(), model.len());
                }
                message = frames.collect();
            }
            10 => {
                let frames = [source.frame(), source.frame()];
                message.extend(frames.clone());
                model.extend(frames);
            }
            11 => {
                std::mem::swap(&mut message, &mut other);
                std::mem::swap(&mut model, &mut other_model);
            }
            12 => {
                let frame = source.frame();
                (message, model) = (Multipart::from(frame.clone()), Model::from([frame]));
            }
            _ => {
                message.reverse();
                model.make_contiguous().reverse();
            }
        }
        check(&message, &model);
        assert_eq!(message == other, model == other_model);
    }
    check(&other, &other_model);
}

fn check(message: &Multipart, model: &Model) {
    assert!(message.iter().map(|frame| &frame[..]).eq(model.iter().map(|frame| &frame[..])));
    assert_eq!((message.len(), message.is_empty()), (model.len(), model.is_empty()));
    let lengths: Vec<usize> = model.iter().map(Vec::len).collect();
    assert_eq!(format!("{message:?}"), format!("Multipart{lengths:?}"), "no bytes are printed");
}
