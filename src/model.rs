//! Every interleaving of what can happen to a socket, on a model of libzmq: the proof that no wake-up is lost.
//!
//! The crate's own code runs, all of it between the future that a task polls and the call to libzmq. Below it stands a
//! [model](socket) of one socket of libzmq, put in place of the C functions ([`libzmq`]); above it a loop that does what
//! calloop's dispatch does ([`world`]). A [scene](scenes) says who is there and what may happen; [`explore`] then lets it
//! happen in every order, up to a depth, or until there is nothing new: then it is proven for interleavings of any
//! length. Larger scenes, and more waiters, are played by [random walks](walk).
//!
//! After each step, and whenever the world is left alone from there:
//!
//! * When the loop sleeps, nobody waits who could go on. The model knows, whatever the crate believes.
//! * It comes to rest: two turns in a row in which nothing gets done are the most, and in the end another turn does
//!   nothing at all.
//! * Each message is received once and whole, and in order; what `send` or the Sink accepted is with libzmq or in the
//!   Sink, once.
//! * First come, first served; who leaves the line calls the next; of an operation that was dropped no waker is kept.
//! * After the end of the context, of the loop or of us nobody waits.
//!
//! `cargo test --lib model:: -- --nocapture` says how many states and interleavings there were. The scenes that are too
//! large for each day: `MODEL_DEPTH=100 cargo test --release --lib model:: -- --ignored --nocapture`.

mod explore;
pub(crate) mod libzmq;
mod scenes;
mod setup;
pub(crate) mod socket;
mod walk;
mod world;

use std::time::Instant;

use crate::clock;

/// A point in time as seen from now, in tenths of milliseconds: what is long past and what is far off are each all the
/// same.
pub(crate) fn past(at: Instant) -> [u8; 2] {
    let now = clock::now();
    let passed = now.saturating_duration_since(at).as_micros() / 100;
    let left = at.saturating_duration_since(now).as_micros() / 100;
    let ticks = if at > now { 30_000 + left.min(20_000) } else { 30_000 - passed.min(20_000) };
    u16::try_from(ticks).expect("it is clamped").to_be_bytes()
}

mod tests {
    use super::explore::explore;
    use super::scenes::{self, CROWDS, LARGE, SCENES};
    use super::setup::{Setup, TO_THE_END};
    use super::walk::walk;
    use crate::seeded::Bug;

    fn play(scene: &'static Setup, depth: usize) {
        let report = explore(scene, depth, None).unwrap_or_else(|failure| panic!("{}: {failure:?}", scene.name));
        println!("{}: {report}", scene.name);
        assert_eq!(report.never_taken, [], "{}: this never happened", scene.name);
        assert!(report.calls > 5 && report.interleavings > 1e4, "{}: there is more to see", scene.name);
        if depth == TO_THE_END {
            assert!(report.closed_at.is_some(), "{}: there is no end to it", scene.name);
        }
    }

    macro_rules! all_interleavings_of {
        ($($test:ident: $scene:ident,)*) => {
            $(#[test]
            fn $test() {
                play(&scenes::$scene, scenes::$scene.depth);
            })*

            #[test]
            fn every_scene_is_played() {
                let played = [$(scenes::$scene.name),*];
                assert!(SCENES.iter().all(|scene| played.contains(&scene.name)));
            }
        };
    }

    all_interleavings_of! {
        one_each: ONE_EACH,
        late: LATE,
        meanwhile: MEANWHILE,
        readers: READERS,
        readers_and_a_writer: READERS_AND_A_WRITER,
        writers: WRITERS,
        writers_and_a_reader: WRITERS_AND_A_READER,
        stream: STREAM,
        sink: SINK,
        two_streams: TWO_STREAMS,
        moved: MOVED,
        budget: BUDGET,
        budget_of_stream: BUDGET_OF_STREAM,
        budget_of_sink: BUDGET_OF_SINK,
        lent: LENT,
        endpoints: ENDPOINTS,
        inline: INLINE,
        meanwhile_inline: MEANWHILE_INLINE,
        killers: KILLERS,
        endings: ENDINGS,
        endings_of_slots: ENDINGS_OF_SLOTS,
        after_the_hub: AFTER_THE_HUB,
        meddle_after_the_hub: MEDDLE_AFTER_THE_HUB,
        readable: READABLE,
        writable: WRITABLE,
        without_waiting: WITHOUT_WAITING,
        peers: PEERS,
        peers_and_a_reader: PEERS_AND_A_READER,
        joined: JOINED,
        joined_without_waiting: JOINED_WITHOUT_WAITING,
        peers_that_go: PEERS_THAT_GO,
        peers_and_a_meddler: PEERS_AND_A_MEDDLER,
    }

    /// With the depth from `MODEL_DEPTH`, if that is set.
    #[test]
    #[ignore = "minutes in a release build, hours in a debug build"]
    fn all_scenes_deeper() {
        let depth = std::env::var("MODEL_DEPTH").map_or(12, |depth| depth.parse().unwrap());
        for scene in SCENES.iter().chain(&LARGE) {
            play(scene, depth);
        }
    }

    /// With the first seed from `SEED`, if that is set.
    #[test]
    fn no_random_walk_finds_a_lost_wake_up() {
        let first: u64 = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
        let mut done = 0;
        for scene in SCENES.iter().chain(&LARGE).chain(&CROWDS) {
            for seed in first..first + WALKS {
                done += walk(scene, seed, STEPS, None)
                    .unwrap_or_else(|failure| panic!("{}, SEED={seed}: {failure:?}", scene.name));
            }
        }
        println!("SEED={first}: {done} operations");
        assert!(done > 10_000, "they got nowhere");
    }

    #[test]
    fn each_bug_is_caught() {
        for (bug, scene) in BUGS {
            let Err(failure) = explore(scene, 10, Some(bug)) else { panic!("{bug:?} is not caught in {}", scene.name) };
            println!("{bug:?}, in {}: after {} steps, {}", scene.name, failure.path.len(), failure.what);
        }
        let known = |bug: &Bug| BUGS.iter().any(|(known, _)| known == bug) || ELSEWHERE.contains(bug);
        assert!(Bug::ALL.iter().all(known), "a bug that nobody looks for");
    }

    /// It needs more steps than all interleavings can be followed for.
    #[test]
    fn the_bug_that_takes_longest_is_caught_by_a_random_walk() {
        let bug = Some(Bug::EndlessWindow);
        let failure = (0..100).find_map(|seed| walk(&scenes::PEERS, seed, STEPS, bug).err());
        let failure = failure.expect("a walk that fails");
        println!("{:?}: after {} steps, {}", Bug::EndlessWindow, failure.path.len(), failure.what);
    }

    /// The bugs, and a scene that shows each.
    static BUGS: [(Bug, &Setup); 34] = [
        (Bug::NoCrossLook, &scenes::ENDPOINTS),
        (Bug::SuccessOwesNothing, &scenes::ONE_EACH),
        (Bug::NoLookBeforeSleep, &scenes::ENDPOINTS),
        (Bug::OneWakerForBoth, &scenes::ONE_EACH),
        (Bug::NoLookAfterFailedSend, &scenes::ONE_EACH),
        (Bug::NoSecondTry, &scenes::ONE_EACH),
        (Bug::OneLookTooMany, &scenes::MEANWHILE),
        (Bug::OneReceivePerEvent, &scenes::ONE_EACH),
        (Bug::WakerKeptAfterCancel, &scenes::ONE_EACH),
        (Bug::BatonLostOnCancel, &scenes::READERS),
        (Bug::BatonLostOnSuccess, &scenes::READERS),
        (Bug::OldWakerKept, &scenes::TWO_STREAMS),
        (Bug::ReplacedWakerNotWoken, &scenes::TWO_STREAMS),
        (Bug::SlotInsteadOfLine, &scenes::STREAM),
        (Bug::NewcomerOvertakes, &scenes::READERS),
        (Bug::WakeUnderBorrow, &scenes::ONE_EACH),
        (Bug::WakeBeforePark, &scenes::MEANWHILE_INLINE),
        (Bug::TouchedClearedTooEarly, &scenes::MEDDLE_AFTER_THE_HUB),
        (Bug::DebtClearedBeforeSleep, &scenes::AFTER_THE_HUB),
        (Bug::YieldForgotten, &scenes::BUDGET),
        (Bug::NoNudge, &scenes::AFTER_THE_HUB),
        (Bug::EndpointCallOwesNothing, &scenes::ENDPOINTS),
        (Bug::LoanForgotten, &scenes::LENT),
        (Bug::EventUnread, &scenes::ONE_EACH),
        (Bug::EventForReadersOnly, &scenes::ENDPOINTS),
        (Bug::EndForReadersOnly, &scenes::ENDINGS),
        (Bug::OnlyFirstWriterCalled, &scenes::PEERS),
        (Bug::PolloutBelieved, &scenes::PEERS_THAT_GO),
        (Bug::PolloutCertain, &scenes::PEERS_AND_A_MEDDLER),
        (Bug::HeadOfLineBlocks, &scenes::PEERS),
        (Bug::FailedReceiveAlwaysCalls, &scenes::JOINED_WITHOUT_WAITING),
        (Bug::NeverSettles, &scenes::PEERS_AND_A_MEDDLER),
        (Bug::OutboxNotPutBack, &scenes::SINK),
        (Bug::OutboxOvertaken, &scenes::SINK),
    ];

    /// For a random walk.
    const ELSEWHERE: [Bug; 1] = [Bug::EndlessWindow];

    const WALKS: u64 = 5;
    const STEPS: usize = 1000;
}
