//! What must not compile, and the words that say why.

#[test]
fn what_a_kind_cannot_do_does_not_compile() {
    let cases = trybuild::TestCases::new();
    // With a case that passes, trybuild builds instead of checking. `socket::<Any>()` and `proxy` fail only then: the
    // message comes from a constant of the function that is being made for them.
    cases.pass("tests/compile_fail/what_compiles.rs");
    for case in [
        "receive_on_push",
        "send_on_pull",
        "stream_of_pub",
        "sink_of_sub",
        "create_any",
        "subscribe_on_pull",
        "proxy_without_direction",
        "proxy_of_rep",
    ] {
        cases.compile_fail(format!("tests/compile_fail/{case}.rs"));
    }
}

/// What trybuild compares with is written by itself; this is what must be in there.
#[test]
fn the_words_say_which_kinds_can() {
    for (case, words) in [
        ("receive_on_push", "sockets that receive: Pair, Sub, Req, "),
        ("send_on_pull", "sockets that send: Pair, Pub, Req, "),
        ("stream_of_pub", "sockets that receive: Pair, Sub, Req, "),
        ("sink_of_sub", "sockets that send: Pair, Pub, Req, "),
        ("create_any", "a socket of kind `Any` is adopted"),
        ("proxy_without_direction", "a proxy needs a socket that receives and one that sends"),
        ("proxy_of_rep", "neither may be a `Req` or a `Rep`"),
    ] {
        let said = std::fs::read_to_string(format!("tests/compile_fail/{case}.stderr")).unwrap();
        assert!(said.contains(words), "{case}:\n{said}");
    }
}
