//! What is private and has to stand anything: entered by the fuzz targets, and by a replay of what they found.

use zmq::Message;

use crate::monitor_event::MonitorEvent;

/// Reads bytes as the frames of a monitor's message, each behind a byte that counts its bytes, and those as an event.
///
/// # Panics
///
/// If the event does not say what the frames say.
#[allow(unreachable_pub, reason = "public where the fuzz targets are built")]
pub fn monitor_event(data: &[u8]) {
    let (mut frames, mut rest) = (Vec::new(), data);
    while let Some((count, bytes)) = rest.split_first() {
        let (frame, after) = bytes.split_at(bytes.len().min((*count).into()));
        frames.push(frame);
        rest = after;
    }
    let messages: Vec<Message> = frames.iter().map(|frame| Message::from(*frame)).collect();
    let event = MonitorEvent::decode(&messages);
    let text = format!("{event:?}");
    let endpoint = String::from_utf8_lossy(frames.last().copied().unwrap_or_default());
    if matches!(event, MonitorEvent::Stopped) {
        assert_eq!(event.endpoint(), "");
    } else {
        assert_eq!(event.endpoint(), endpoint);
    }
    let numbers = frames.first().filter(|frame| frames.len() == 2 && frame.len() == 6);
    match event {
        MonitorEvent::Unknown { event, value, .. } => {
            let expected = numbers.map_or([0; 6], |numbers| (*numbers).try_into().expect("six bytes"));
            assert_eq!([&event.to_ne_bytes()[..], &value.to_ne_bytes()].concat(), expected, "{text}");
        }
        _ => assert!(numbers.is_some(), "{text} out of {frames:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn what_the_fuzzer_made_of_a_monitors_frames_is_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/monitor_event");
        // The published crate comes without.
        let Ok(files) = fs::read_dir(corpus) else { return };
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            super::monitor_event(&fs::read(path).unwrap());
        }
    }
}
