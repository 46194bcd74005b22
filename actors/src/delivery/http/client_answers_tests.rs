//! Answers with more or less in them than a head and a length, on real sockets: which of them belongs to which request, and
//! which connections are used again.

use std::fmt::Write as _;
use std::sync::mpsc;

use super::*;

/// What a receiver serves a connection over.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A receiver with TLS or without, and a client that trusts it.
fn receiver(tls: bool, serve: impl Fn(&mut dyn Wire) + Send + Sync + 'static) -> (Receiver, DeliveryClient, String) {
    if tls {
        let (receiver, certificate) = tls_receiver_serving(move |stream| serve(stream));
        let url = receiver.url("good.test").replace("http:", "https:");
        (receiver, client_of(open_loopback(), answers(&[&["127.0.0.1"]]), &[certificate]), url)
    } else {
        let receiver = Receiver::start(move |mut stream, _| serve(&mut stream));
        let url = receiver.url("good.test");
        (receiver, client(), url)
    }
}

async fn post_numbered(client: &DeliveryClient, url: &str, number: usize) -> Outcome {
    let attempt = Attempt {
        method: "POST",
        url: &target(url),
        headers: vec![],
        body: Bytes::from(number.to_string()),
        deadline: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(5),
    };
    client.send(attempt).await
}

const INTERIM_ANSWERS: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";

/// Even requests are taken and odd ones are not, so that an answer which is read for another request shows.
fn status(number: usize) -> u16 {
    if number.is_multiple_of(2) { 200 } else { 503 }
}

fn answer(number: usize, connection: &str) -> String {
    let status = status(number);
    format!("{INTERIM_ANSWERS}HTTP/1.1 {status} Said\r\n{connection}content-length: 2\r\n\r\n{:02}", number % 100)
}

#[actix::test]
async fn each_request_gets_its_own_answer_behind_interim_ones_cut_anywhere() {
    for (tls, connection) in
        [(false, ""), (false, "connection: close\r\n"), (true, ""), (true, "connection: close\r\n")]
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let (receiver, client, url) = receiver(tls, move |stream| {
            while let Some((_, body)) = read_request(stream) {
                let number: usize = str::from_utf8(&body).unwrap().parse().unwrap();
                log.lock().unwrap().push(number);
                let answer = answer(number, connection);
                // two requests for each place at which an answer is cut
                let (first, second) = answer.split_at((number / 2).min(answer.len()));
                for part in [first, second] {
                    let _ = stream.write_all(part.as_bytes());
                    let _ = stream.flush();
                    std::thread::yield_now();
                }
                if !connection.is_empty() {
                    return;
                }
            }
        });
        // each new connection of TLS costs a handshake
        let step = if tls && !connection.is_empty() { 7 } else { 1 };
        let numbers: Vec<usize> = (0..=answer(0, connection).len() * 2 + 1).step_by(step).collect();
        for number in &numbers {
            let outcome = post_numbered(&client, &url, *number).await;
            let what = (outcome.status, str::from_utf8(&outcome.body_kept).unwrap());
            assert_eq!(what, (Some(status(*number)), &*format!("{:02}", number % 100)), "{number}: {outcome:?}");
            assert_eq!(outcome.succeeded(), status(*number) == 200);
        }
        assert_eq!(*seen.lock().unwrap(), numbers, "each came once, in its turn");
        assert_eq!(receiver.accepted(), if connection.is_empty() { 1 } else { numbers.len() }, "{tls} {connection:?}");
    }
}

#[actix::test]
async fn more_than_twenty_interim_answers_are_no_answer() {
    let flood = Receiver::answering("HTTP/1.1 102 Processing\r\n\r\n".repeat(21));
    let client = client();
    let outcome = post(&client, &flood.url("r.test")).await;
    assert_eq!((outcome.status, outcome.error), (None, Some(FailureCode::HttpStatus)), "{}", outcome.detail);
    assert!(outcome.detail.contains("more than 20 interim answers"), "{}", outcome.detail);
    assert_eq!(client.connector.connections(), 0);
}

#[actix::test]
async fn a_connection_that_ends_after_an_interim_answer_is_not_tried_again() {
    let receiver = Receiver::start(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(OK.as_bytes());
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    });
    let client = client();
    assert!(post(&client, &receiver.url("r.test")).await.succeeded());
    let outcome = post(&client, &receiver.url("r.test")).await;
    assert_eq!((outcome.status, outcome.error), (None, Some(FailureCode::ConnectionReset)), "{outcome:?}");
    assert_eq!(receiver.accepted(), 1);
}

#[actix::test]
async fn what_comes_unasked_is_not_the_answer_to_the_next_request() {
    for together in [true, false] {
        let (taken, when_taken) = mpsc::channel();
        let (sent, when_sent) = mpsc::channel();
        let (when_taken, sent) = (Mutex::new(when_taken), Mutex::new(sent));
        let receiver = Receiver::start(move |mut stream, number| {
            while read_request(&mut stream).is_some() {
                let unasked = if number == 0 { "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n" } else { "" };
                let (now, later) = if together { (unasked, "") } else { ("", unasked) };
                let _ = stream.write_all(format!("{OK}{now}").as_bytes());
                if number == 0 {
                    when_taken.lock().unwrap().recv_timeout(Duration::from_secs(10)).unwrap();
                    let _ = stream.write_all(later.as_bytes());
                    sent.lock().unwrap().send(()).unwrap();
                }
            }
        });
        let client = client();
        assert!(post(&client, &receiver.url("r.test")).await.succeeded());
        taken.send(()).unwrap();
        when_sent.recv_timeout(Duration::from_secs(10)).unwrap();
        let outcome = post(&client, &receiver.url("r.test")).await;
        assert!(outcome.succeeded() && !outcome.reused, "{together}: {outcome:?}");
        assert_eq!(receiver.accepted(), 2, "{together}");
    }
}

#[actix::test]
async fn an_answer_without_a_length_is_read_to_the_end_of_its_connection() {
    for (tls, version) in [(false, "1.1"), (false, "1.0"), (true, "1.1")] {
        // over TLS the receiver hangs up without saying so, as many do
        let (receiver, client, url) = receiver(tls, move |stream| {
            read_request(stream);
            for part in [format!("HTTP/{version} 200 OK\r\n\r\nall "), "of ".to_owned(), "this".to_owned()] {
                let _ = stream.write_all(part.as_bytes());
                let _ = stream.flush();
            }
        });
        for times in 1..=3 {
            let outcome = post(&client, &url).await;
            assert!(outcome.succeeded() && outcome.detail.is_empty(), "{tls} {version}: {outcome:?}");
            assert_eq!((&outcome.body_kept[..], outcome.reused), (&b"all of this"[..], false));
            assert_eq!((receiver.accepted(), client.connector.connections()), (times, 0));
        }
    }
}

#[actix::test]
async fn an_answer_without_a_length_that_never_ends_is_over_at_the_deadline() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\n\r\n");
    let outcome = post_within(&client(), &receiver.url("r.test"), 200).await;
    assert_eq!((outcome.status, outcome.error), (Some(200), Some(FailureCode::Timeout)), "{}", outcome.detail);
}

#[actix::test]
async fn a_connection_whose_answer_was_not_read_whole_is_not_used_again() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_owned();
    let cut_chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc".to_owned();
    let bad_chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n".to_owned();
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let not_modified_body = format!("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nno{OK}");
    let behind = format!("{OK}HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n");
    for (answer, closes, broken) in [
        (cut, true, true),
        (cut_chunk, true, true),
        (bad_chunk, false, true),
        (long, false, false),
        (not_modified_body, false, false),
        (behind, false, false),
    ] {
        let text: String = answer.chars().take(80).collect();
        let receiver = Receiver::start(move |mut stream, _| {
            while read_request(&mut stream).is_some() {
                let _ = stream.write_all(answer.as_bytes());
                if closes {
                    return;
                }
            }
        });
        let client = client();
        for times in 1..=2 {
            let outcome = post(&client, &receiver.url("r.test")).await;
            assert!(outcome.succeeded() && !outcome.reused, "{text:?}: {outcome:?}");
            assert_eq!(outcome.detail.contains("broke off"), broken, "{text:?}: {}", outcome.detail);
            assert_eq!((receiver.accepted(), client.connector.connections()), (times, 0), "{text:?}");
        }
    }
}

#[actix::test]
async fn heads_of_many_lines_and_bytes_are_answers_up_to_their_bound() {
    let lines = |count: usize, value: usize| {
        (0..count).fold(String::new(), |mut lines, n| {
            write!(lines, "x-{n:03}: {}\r\n", "v".repeat(value)).unwrap();
            lines
        })
    };
    for (count, value, fits) in [(255, 10, true), (30, 2000, true), (256, 10, false), (40, 2000, false)] {
        let lines = lines(count, value);
        let receiver = Receiver::answering(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n"));
        let client = client();
        let outcome = post(&client, &receiver.url("r.test")).await;
        assert_eq!(outcome.succeeded(), fits, "{count} lines of {value}: {outcome:?}");
        assert_eq!(outcome.error, (!fits).then_some(FailureCode::ResponseTooLarge));
        assert_eq!(client.connector.connections(), usize::from(fits));
    }
}

#[actix::test]
async fn an_answer_that_comes_before_the_request_is_read_counts() {
    let receiver = Receiver::start(|mut stream, _| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n");
        // nothing more is read until the client has hung up
        let mut byte = [0; 1];
        while stream.peek(&mut byte).is_ok_and(|n| n > 0) && stream.take_error().is_ok_and(|e| e.is_none()) {
            std::thread::yield_now();
        }
    });
    let client = client();
    let attempt = Attempt {
        method: "POST",
        url: &target(&receiver.url("r.test")),
        headers: vec![],
        // more than the buffers of two sockets hold
        body: Bytes::from(vec![b'x'; 32 << 20]),
        deadline: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(5),
    };
    let outcome = client.send(attempt).await;
    assert_eq!((outcome.status, outcome.error), (Some(413), Some(FailureCode::HttpStatus)), "{outcome:?}");
    assert_eq!(client.connector.connections(), 0);
}
