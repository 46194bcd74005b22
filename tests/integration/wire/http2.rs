//! HTTP/2: what a connection and its streams may cost, and that they end when the client ends them or takes nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use serde_json::json;

use crate::support::secure::{Http2, connect, run, whole};
use crate::support::{Map, TestServer, eventually};

const SOON: Duration = Duration::from_secs(1);

async fn stream(connection: &mut Http2, map: &Map) -> http::Response<RecvStream> {
    let target = format!("/api/maps/{}/events/stream", map.id);
    connection.get(&target, &[("authorization", &format!("Bearer {}", map.token))]).await.expect("an answer")
}

#[test]
fn a_stream_that_is_reset_or_whose_connection_ends_frees_its_slot_within_a_second() {
    let (server, pair) = TestServer::secure(&[("limits.streams_per_token", "1")]);
    let map = server.new_map("slots");
    run(async {
        let mut connection = Http2::open(server.secure_addr(), &pair).await;
        for round in 0..20 {
            // nothing is published meanwhile: the slot must not wait for a write that fails
            let deadline = Instant::now() + SOON;
            let answer = loop {
                let answer = stream(&mut connection, &map).await;
                if answer.status() == 200 || Instant::now() > deadline {
                    break answer;
                }
            };
            assert_eq!(answer.status(), 200, "round {round}");
            if round % 2 == 0 {
                // dropping what it reads resets the stream
                drop(answer);
            } else {
                connection.cut();
                connection = Http2::open(server.secure_addr(), &pair).await;
            }
        }
    });
}

#[test]
fn a_handler_that_works_for_nobody_any_more_ends() {
    let (server, pair) = TestServer::secure(&[]);
    let map = server.new_map("uploads");
    run(async {
        let mut connection = Http2::open(server.secure_addr(), &pair).await;
        let target = format!("/api/maps/{}/events", map.id);
        let bearer = format!("Bearer {}", map.token);
        let (answer, mut body) =
            connection.begin("POST", &target, &[("authorization", &bearer)]).await.expect("a stream");
        body.send_data(Bytes::from_static(&[b' '; 1024]), false).expect("it takes a part");
        let deadline = Instant::now() + SOON;
        while server.memory("bodies") == 0 {
            assert!(Instant::now() < deadline, "the part is counted");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop((answer, body));
    });
    eventually("nothing is held of the body", || server.memory("bodies") == 0);
}

#[test]
fn a_reader_that_takes_nothing_is_ended_in_time_beside_one_that_reads() {
    let (server, pair) = TestServer::secure(&[("streams.stall_timeout_s", "2")]);
    let map = server.new_map("stalled");
    let publishing = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while publishing.load(std::sync::atomic::Ordering::Relaxed) {
                map.publish(&json!({"type": "add_system", "payload": {"text": "x".repeat(20_000)}}));
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        run(async {
            let mut connection = Http2::open(server.secure_addr(), &pair).await;
            let mut stalled = stream(&mut connection, &map).await.into_body();
            let mut reading = stream(&mut connection, &map).await.into_body();
            let began = Instant::now();
            let mut read = 0;
            // the one that reads goes on all the time
            let ended = loop {
                let next = tokio::time::timeout(Duration::from_millis(200), reading.data()).await;
                if let Ok(piece) = next {
                    let piece = piece.expect("it goes on").expect("it is well");
                    read += piece.len();
                    reading.flow_control().release_capacity(piece.len()).expect("it was taken");
                }
                let over = server.metric("stentor_readers_stalled_total") == 1 && server.metric("stentor_streams") == 1;
                if over {
                    break Instant::now();
                }
                assert!(began.elapsed() < Duration::from_secs(20), "not in time");
            };
            assert!(ended.duration_since(began) > Duration::from_millis(1500), "not before its time");
            assert!(read > 500_000, "{read}");
            // what was sent before fills the window; behind it is the reset
            let end = loop {
                match stalled.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(e)) => break e,
                    None => panic!("it ended as if nothing were wrong"),
                }
            };
            assert_eq!(end.reason(), Some(Reason::CANCEL));
        });
        publishing.store(false, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_file_that_is_not_read_is_given_up_after_the_same_time() {
    let (server, pair) = TestServer::secure(&[("streams.stall_timeout_s", "1")]);
    run(async {
        let mut connection = Http2::open(server.secure_addr(), &pair).await;
        let mut body = connection.get("/vendor/swagger-ui-bundle.js", &[]).await.expect("an answer").into_body();
        let waiting = async {
            loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(e)) => break e.reason(),
                    None => panic!("it was sent whole"),
                }
            }
        };
        let end = tokio::time::timeout(Duration::from_secs(15), waiting).await.expect("in time");
        assert_eq!(end, Some(Reason::CANCEL));
        assert_eq!(server.metric("stentor_shed_total{what=\"answer\"}"), 1);
        // the connection is still good
        let again = connection.get("/vendor/swagger-ui-bundle.js", &[]).await.expect("an answer");
        assert!(whole(again.into_body()).await.expect("all of it").len() > 500_000);
    });
}

#[test]
fn a_connection_has_as_many_streams_as_the_setting_says_and_its_header_lists_end_at_64_kib() {
    let (server, pair) = TestServer::secure(&[("server.h2_streams", "7")]);
    let map = server.new_map("seven");
    run(async {
        let mut connection = Http2::open(server.secure_addr(), &pair).await;
        let mut open = Vec::new();
        for _ in 0..7 {
            open.push(stream(&mut connection, &map).await);
        }
        let eighth = tokio::time::timeout(Duration::from_millis(500), stream(&mut connection, &map)).await;
        assert!(eighth.is_err(), "the client knows that it has to wait");
        open.clear();
        let target = format!("/api/maps/{}/events/stream", map.id);
        let again = async {
            let bearer = format!("Bearer {}", map.token);
            // the client's own resets may leave it after the next request
            while connection.get(&target, &[("authorization", &bearer)]).await.is_err() {}
        };
        tokio::time::timeout(SOON, again).await.expect("there is room again");
        let large = |bytes: usize| "x".repeat(bytes);
        // 16 headers of 3 KiB stay below, 24 do not
        for (headers, status) in [(16, 200), (24, 431)] {
            let names: Vec<_> = (0..headers).map(|n| format!("x-filler-{n}")).collect();
            let value = large(3 * 1024);
            let all: Vec<_> = names.iter().map(|name| (&**name, &*value)).collect();
            let answer = connection.get("/health/live", &all).await.expect("an answer");
            assert_eq!(answer.status().as_u16(), status, "{headers} headers");
        }
    });
}

#[test]
fn a_body_has_its_deadline_and_the_caller_is_asked_first() {
    let (server, pair) = TestServer::secure(&[("server.body_timeout_s", "1")]);
    let map = server.new_map("slow");
    run(async {
        let mut connection = Http2::open(server.secure_addr(), &pair).await;
        let target = format!("/api/maps/{}/events", map.id);
        let bearer = format!("Bearer {}", map.token);
        for (credential, status) in [("Bearer st_wrong", 401), (&*bearer, 408)] {
            let begun = connection.begin("POST", &target, &[("authorization", credential)]).await;
            let (answer, mut body) = begun.expect("a stream");
            body.send_data(Bytes::from_static(b"{"), false).expect("it takes a part");
            let answer =
                tokio::time::timeout(Duration::from_secs(10), answer).await.expect("in time").expect("an answer");
            assert_eq!(answer.status().as_u16(), status);
        }
    });
}

#[test]
fn a_client_that_is_refused_while_it_sends_has_time_to_read_why() {
    let (server, pair) = TestServer::secure(&[]);
    let map = server.new_map("early");
    run(async {
        let mut connection = Http2::open(server.secure_addr(), &pair).await;
        let target = format!("/api/maps/{}/events", map.id);
        let (answer, mut body) = connection.begin("POST", &target, &[]).await.expect("a stream");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 401);
        whole(answer.into_body()).await.expect("a body");
        // clients that look at what they read when they have sent everything would lose the answer with the stream
        let answered = Instant::now();
        let reset = tokio::time::timeout(Duration::from_secs(10), std::future::poll_fn(|cx| body.poll_reset(cx)));
        let reason = reset.await.expect("in time").expect("a reset");
        assert_eq!(reason, Reason::NO_ERROR, "it is no error (RFC 9113, 8.1)");
        assert!(answered.elapsed() >= Duration::from_millis(500), "{:?}", answered.elapsed());
        // and who ends it in that time is not reset
        let (answer, mut body) = connection.begin("POST", &target, &[]).await.expect("a stream");
        assert_eq!(answer.await.expect("an answer").status().as_u16(), 401);
        body.send_data(Bytes::from_static(b"{}"), true).expect("it takes the rest");
    });
}

#[test]
fn without_http2_only_http1_is_offered() {
    let (server, pair) = TestServer::secure(&[("server.http2", "false")]);
    run(async {
        for (protocols, agreed) in [
            (&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])),
            (&["http/1.1"], Some(b"http/1.1")),
            (&["http/1.0"], Some(b"http/1.0")),
            (&[], None),
        ] {
            let tls = connect(server.secure_addr(), pair.client(protocols, None)).await.expect("it speaks TLS");
            assert_eq!(tls.get_ref().1.alpn_protocol(), agreed);
        }
        connect(server.secure_addr(), pair.client(&["h2"], None)).await.expect_err("there is no h2 to agree on");
    });
}

#[test]
fn a_connection_that_does_not_come_to_the_point_or_answers_no_ping_is_ended() {
    let (server, pair) = TestServer::secure(&[("server.request_timeout_s", "1"), ("server.keep_alive_s", "1")]);
    run(async {
        // a preface and no request
        let tls = connect(server.secure_addr(), pair.client(&["h2"], None)).await.expect("it speaks TLS");
        let (requests, connection) = h2::client::handshake(tls).await.expect("it speaks HTTP/2");
        let ended = tokio::time::timeout(Duration::from_secs(20), connection).await.expect("in time");
        drop((requests, ended));
        // not even a preface
        let mut tls = connect(server.secure_addr(), pair.client(&["h2"], None)).await.expect("it speaks TLS");
        let mut space = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut tls, &mut space);
        let ended = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("in time");
        drop(ended);
    });
}
