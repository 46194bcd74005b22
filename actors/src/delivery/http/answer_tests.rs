//! Answers as receivers send them, whole and cut anywhere. Each test is named after the rule of RFC 9110 or 9112 it shows.

use proptest::prelude::*;

use super::*;

/// What became of the bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    status: Option<u16>,
    body: Vec<u8>,
    /// The answer ended; the connection can be used again.
    ended: Option<bool>,
    /// Bytes behind the answer.
    left: usize,
    error: Option<BadAnswer>,
    at_end: AtEnd,
}

/// Reads pieces as they come from a connection, until the answer has ended or is bad.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut reader = AnswerReader::new();
    let mut read = Read { status: None, body: vec![], ended: None, left: 0, error: None, at_end: AtEnd::NoAnswer };
    for mut piece in pieces {
        while read.ended.is_none() && read.error.is_none() {
            match reader.next(&mut piece) {
                Ok(Some(Part::Head(head))) => read.status = Some(head.status),
                Ok(Some(Part::Body(bytes))) => read.body.extend_from_slice(bytes),
                Ok(Some(Part::End)) => read.ended = Some(reader.persists()),
                Ok(None) => {
                    assert!(piece.is_empty(), "what is not taken belongs to nobody");
                    break;
                }
                Err(error) => read.error = Some(error),
            }
        }
        read.left += piece.len();
    }
    if read.error.is_some() {
        // how much of what came behind it was taken says nothing
        read.left = 0;
    }
    read.at_end = reader.at_end();
    read
}

fn whole(answer: &str) -> Read {
    read([answer.as_bytes()])
}

fn ended(answer: &str, status: u16, body: &str, persists: bool) {
    let read = whole(answer);
    let seen = (read.status, str::from_utf8(&read.body).unwrap(), read.ended, read.left, read.error);
    assert_eq!(seen, (Some(status), body, Some(persists), 0, None), "{answer:?}");
}

const INTERIM_ANSWERS: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\ncontent-length: 0\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: <b>\r\n\r\n";

/// Answers with everything in them that can be cut.
fn varied() -> Vec<String> {
    let final_answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n5;a=\"b\"\r\nhello\r\nA \r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nto the end",
        "HTTP/1.0 404 Not Found\nconnection: keep-alive\ncontent-length: 2\n\nno",
        "\r\n\r\nHTTP/1.1 200\r\nx-folded: a\r\n  b\r\ncontent-length: 0\r\n\r\n",
    ];
    let with_interim = final_answers.iter().map(|answer| format!("{INTERIM_ANSWERS}{answer}"));
    final_answers.iter().map(ToString::to_string).chain(with_interim).collect()
}

#[test]
fn an_answer_is_the_same_wherever_it_is_cut() {
    for answer in varied() {
        let expected = whole(&answer);
        assert!(expected.status.is_some() && expected.error.is_none(), "{answer:?}: {expected:?}");
        let bytes = answer.as_bytes();
        for first in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(first);
            assert_eq!(read([head, tail]), expected, "{answer:?} cut at {first}");
            for second in (0..=tail.len()).step_by(7) {
                let (middle, last) = tail.split_at(second);
                assert_eq!(read([head, middle, last]), expected, "{answer:?} cut at {first} and {second} behind it");
            }
        }
        assert_eq!(read(bytes.chunks(1)), expected, "{answer:?} byte by byte");
    }
}

#[test]
fn interim_answers_are_skipped_up_to_twenty() {
    let interim = |count| "HTTP/1.1 102 Processing\r\n\r\n".repeat(count);
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    ended(&format!("{}{last}", interim(20)), 200, "", true);
    assert_eq!(whole(&format!("{}{last}", interim(21))).error, Some(BadAnswer::ManyInterims));
    for status in [100, 102, 103, 104, 110, 199] {
        ended(&format!("HTTP/1.1 {status} Wait\r\n\r\n{last}"), 200, "", true);
    }
    let unfinished = whole(&interim(3));
    assert_eq!((unfinished.status, unfinished.error, unfinished.at_end), (None, None, AtEnd::NoAnswer));
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_final_and_ends_the_connection() {
    ended("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", 101, "", false);
}

#[test]
fn an_answer_without_a_length_goes_to_the_end_of_the_connection() {
    for head in ["HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n"] {
        let read = whole(&format!("{head}\r\nall of this\r\n\r\n"));
        assert_eq!((read.status, read.ended, read.at_end), (Some(200), None, AtEnd::Whole), "{head:?}");
        assert_eq!(read.body, b"all of this\r\n\r\n");
    }
    // chunked is not the last coding, or is not to be believed (RFC 9112, 6.1 and 6.3)
    for head in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ncontent-length: 3\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n",
    ] {
        assert_eq!(whole(&format!("{head}\r\n0\r\n\r\nx")).body, b"0\r\n\r\nx", "{head:?}");
    }
}

#[test]
fn a_body_ends_by_its_status_then_its_chunks_then_its_length() {
    ended("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, "", true);
    ended("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", 204, "", true);
    // a body is announced where there is none: what follows is not to be read as the next answer
    ended("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204, "", false);
    ended("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", 204, "", false);
    ended("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", true);
    ended("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n", 200, "", true);
    // both are there: the chunks count, and the connection is given up (RFC 9112, 6.3)
    ended(
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        "ok",
        false,
    );
    ended("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ncontent-length: 2\r\n\r\nok", 200, "ok", true);
    ended("HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok", 200, "ok", true);
}

#[test]
fn several_lengths_have_to_be_the_same_number() {
    for same in ["2, 2", "2,2,2", "2\r\ncontent-length: 2", " 02"] {
        ended(&format!("HTTP/1.1 200 OK\r\ncontent-length: {same}\r\n\r\nok"), 200, "ok", true);
    }
    for wrong in ["2, 3", "2\r\nContent-Length: 3", "+2", "-1", "0x2", "2 3", "", "2,", "18446744073709551616", "two"] {
        let read = whole(&format!("HTTP/1.1 200 OK\r\ncontent-length: {wrong}\r\n\r\nok"));
        assert!(matches!(read.error, Some(BadAnswer::Length(_))), "{wrong:?}: {read:?}");
    }
}

#[test]
fn a_connection_persists_unless_one_side_says_otherwise() {
    let answer = |version: &str, connection: &str| {
        let answer = format!("HTTP/{version} 200 OK\r\n{connection}content-length: 0\r\n\r\n");
        whole(&answer).ended.unwrap()
    };
    for (version, connection, persists) in [
        ("1.1", "", true),
        ("1.1", "connection: keep-alive\r\n", true),
        ("1.1", "connection: close\r\n", false),
        ("1.1", "connection: x, CLOSE\r\n", false),
        ("1.1", "connection: keep-alive\r\nconnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "connection: Keep-Alive\r\n", true),
        ("1.0", "connection: keep-alive, close\r\n", false),
    ] {
        assert_eq!(answer(version, connection), persists, "{version} {connection:?}");
    }
}

#[test]
fn what_follows_an_answer_is_left_over() {
    let read = whole("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 Late\r\n\r\n");
    assert_eq!((read.status, read.body.as_slice(), read.left), (Some(200), &b"ok"[..], 21));
}

#[test]
fn a_head_has_up_to_64_kib_and_256_lines() {
    let lines = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let answer = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok");
    ended(&answer(&lines(255)), 200, "ok", true);
    assert_eq!(whole(&answer(&lines(256))).error, Some(BadAnswer::ManyLines));

    let rest = answer("x: \r\n").len() - 2;
    let filled = |bytes: usize| answer(&format!("x: {}\r\n", "y".repeat(bytes - rest)));
    for pieces in [usize::MAX, 16 * 1024, 4096 + 1] {
        let (most, beyond) = (filled(HEAD_BYTES), filled(HEAD_BYTES + 1));
        assert_eq!(read(most.as_bytes().chunks(pieces)).ended, Some(true), "{pieces}");
        assert_eq!(read(beyond.as_bytes().chunks(pieces)).error, Some(BadAnswer::LongHead), "{pieces}");
    }
    // each head has its own bound
    let interim = filled(HEAD_BYTES - 2).replace("200 OK", "103 Hint").replace("\r\n\r\nok", "\r\n\r\n");
    ended(&format!("{interim}{interim}{}", answer("")), 200, "ok", true);
    let blank = "\r\n".repeat(HEAD_BYTES);
    assert_eq!(whole(&format!("{blank}{}", answer(""))).error, Some(BadAnswer::LongHead));
}

#[test]
fn what_is_not_http_1_is_said_at_once() {
    for noise in
        ["SSH-2.0-OpenSSH_9.9\r\n", "\x15\x03\x03\0\x02\x02\x32", "HTTP/2 200 OK", "H\0", "<html>", "HTTP/1.1\r\n\r\n"]
    {
        let read = whole(noise);
        assert!(matches!(read.error, Some(BadAnswer::NotHttp(_))), "{noise:?}: {read:?}");
    }
    for head in ["HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 099 Low\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"] {
        assert!(matches!(whole(head).error, Some(BadAnswer::NotHttp(_))), "{head:?}");
    }
}

#[test]
fn a_body_that_is_cut_is_not_whole() {
    for cut in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ] {
        let read = whole(cut);
        assert_eq!((read.ended, read.at_end), (None, AtEnd::Cut), "{cut:?}");
    }
}

#[test]
fn chunks_that_are_not_framed_by_the_rules_are_not_guessed_at() {
    for chunks in [
        "\r\n",
        "x\r\n",
        "2x\r\nok\r\n",
        "2\nok\r\n0\r\n\r\n",
        "2;a\nok\r\n",
        "2\r\nokay\r\n0\r\n\r\n",
        "-2\r\nok\r\n",
        "0x2\r\nok\r\n",
        "1000000000000000\r\nok\r\n",
        "2\rok\r\n",
    ] {
        let read = whole(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"));
        let malformed = matches!(read.error, Some(BadAnswer::Chunk(BadChunk::Malformed(_))));
        assert!(malformed && read.status == Some(200), "{chunks:?}: {read:?}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;{}", "x".repeat(1 << 20));
    assert_eq!(whole(&endless).error, Some(BadAnswer::Chunk(BadChunk::Framing)));
    ended(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0000000000000000000002\r\nok\r\n00\r\n\r\n",
        200,
        "ok",
        true,
    );
}

#[test]
fn headers_are_kept_as_they_came_in_lower_case() {
    let mut input = &b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nX-A: \xe9\r\nX-B:  b  \r\nX-A: c\r\n d\r\n\r\n"[..];
    let Ok(Some(Part::Head(head))) = AnswerReader::new().next(&mut input) else { panic!("a head") };
    let kept: Vec<_> = head.headers.iter().collect();
    assert_eq!(kept, [("retry-after", "7"), ("x-a", "\u{fffd}"), ("x-b", "b"), ("x-a", "c   d")]);
    assert_eq!(head.retry_after.as_deref(), Some("7"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_depend_on_how_they_are_cut(
        bytes in prop::collection::vec(prop_oneof![
            Just(b"HTTP/1.1 ".to_vec()), Just(b"100 \r\n\r\n".to_vec()), Just(b"200 OK\r\n".to_vec()),
            Just(b"content-length: 3\r\n".to_vec()), Just(b"transfer-encoding: chunked\r\n".to_vec()),
            Just(b"\r\n".to_vec()), Just(b"2\r\nok\r\n".to_vec()), Just(b"0\r\n".to_vec()),
            prop::collection::vec(any::<u8>(), 0..6),
        ], 0..12).prop_map(|parts| parts.concat()),
        piece in 1_usize..9,
    ) {
        prop_assert_eq!(read(bytes.chunks(piece)), read([&bytes[..]]));
    }
}
