//! Connections without a credential that do the worst they may, over both versions of HTTP, plain and by TLS: together they
//! cost little, and all are gone after the deadlines. `scripts/strangers` runs it with 2,000 of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::TestServer;
use crate::support::secure::{Pair, connect, run};

/// How many, unless `STENTOR_STRANGERS` says otherwise.
const STRANGERS: usize = 200;
/// What 2,000 of them may cost.
const ALL_BYTES: u64 = 150 << 20;
/// Of a debug build and of few strangers: what does not grow with their number.
const BASE_BYTES: u64 = 60 << 20;
/// Short deadlines, so that the test ends soon.
const DEADLINES: [(&str, &str); 5] = [
    ("server.request_timeout_s", "5"),
    ("server.body_timeout_s", "5"),
    ("server.keep_alive_s", "5"),
    ("streams.stall_timeout_s", "5"),
    // as for many that connect at once
    ("server.backlog", "4096"),
];
/// By when all are gone: the longest way is a reader that the kernel gives up, after twice the time of a stall.
const GONE: Duration = Duration::from_secs(40);
/// The largest file that anybody may ask for.
const FILE: &str = "/vendor/swagger-ui-bundle.js";

/// What a stranger does.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The beginning of a small head.
    SlowHead,
    /// Nearly all that a head may have.
    LargeHead,
    /// A second head, behind an answered request.
    SecondHead,
    /// The beginning of a body, for which no credential is asked.
    SlowBody,
    /// The beginning of a body for an address that asks for one.
    RefusedBody,
    /// Asks for a large file many times, and reads nothing.
    UnreadFile,
    /// Nothing, not even the handshake of TLS.
    Silence,
    /// Over HTTP/2: as many files at once as it may, and takes nothing.
    UnreadStreams,
    /// Over HTTP/2: as many bodies as it may.
    SlowStreams,
    /// Over HTTP/2: as many large header lists as it may.
    LargeHeads,
}

const PLAIN: [Way; 7] =
    [Way::SlowHead, Way::LargeHead, Way::SecondHead, Way::SlowBody, Way::RefusedBody, Way::UnreadFile, Way::Silence];
const HTTP2: [Way; 3] = [Way::UnreadStreams, Way::SlowStreams, Way::LargeHeads];

/// Opens when all have come.
#[derive(Default)]
struct Gate {
    come: AtomicUsize,
    open: Notify,
}

impl Gate {
    async fn wait(&self) {
        let opened = self.open.notified();
        self.come.fetch_add(1, Ordering::Relaxed);
        opened.await;
    }
}

fn resident_bytes(server: &TestServer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is resident");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn open_sockets(server: &TestServer) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs");
    let is_socket = |entry: std::io::Result<std::fs::DirEntry>| {
        let target = entry.ok().and_then(|entry| std::fs::read_link(entry.path()).ok());
        target.is_some_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    folder.filter_map(|entry| is_socket(entry).then_some(())).count()
}

/// Waits until the server ends the connection.
async fn until_ended(stream: &mut (impl AsyncRead + Unpin)) {
    let mut space = [0; 512];
    while stream.read(&mut space).await.is_ok_and(|read| read > 0) {}
}

/// Does it, waits at the gate with the others, and then for the end.
async fn speak(mut stream: impl AsyncRead + AsyncWrite + Unpin, way: Way, source: &str, gate: &Gate) {
    let get = format!("GET {FILE} HTTP/1.1\r\nHost: x\r\n\r\n");
    let filler = |bytes: usize| format!("X-Filler: {}\r\n", "x".repeat(bytes));
    let text = match way {
        Way::SlowHead => "GET / HTTP/1.1\r\nHost: x\r\n".to_string(),
        Way::LargeHead => format!("GET / HTTP/1.1\r\nHost: x\r\n{}", filler(3000).repeat(20)),
        Way::SecondHead => format!("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n{}", filler(6000)),
        Way::SlowBody => {
            format!(
                "POST /webhooks/{source} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n{}",
                " ".repeat(60_000)
            )
        }
        Way::RefusedBody => {
            format!("POST /events/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{}", " ".repeat(30_000))
        }
        _ => get.repeat(2000),
    };
    // the server may refuse it before all is sent
    let writing = tokio::time::timeout(Duration::from_secs(2), stream.write_all(text.as_bytes())).await;
    drop(writing);
    gate.wait().await;
    if matches!(way, Way::UnreadFile) {
        // reading would be taking: the other end is seen by the server's sockets
        return std::future::pending().await;
    }
    until_ended(&mut stream).await;
}

async fn speak_http2(tls: tokio_rustls::client::TlsStream<TcpStream>, way: Way, source: &str, gate: &Gate) {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (mut requests, connection) = builder.handshake::<_, Bytes>(tls).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let mut kept = Vec::new();
    for n in 0..128 {
        let request = match way {
            Way::UnreadStreams => http::Request::get(format!("https://x{FILE}")),
            Way::SlowStreams => http::Request::post(format!("https://x/webhooks/{source}")),
            _ => {
                http::Request::get(format!("https://x{FILE}")).header("x-filler", format!("{n}{}", "x".repeat(15_000)))
            }
        };
        let Ok(ready) = tokio::time::timeout(Duration::from_secs(2), requests.clone().ready()).await else { break };
        let Ok(mut ready) = ready else { break };
        let request = request.body(()).expect("a request");
        let Ok((answer, mut body)) = ready.send_request(request, !matches!(way, Way::SlowStreams)) else { break };
        if matches!(way, Way::SlowStreams) && body.send_data(Bytes::from_static(&[b' '; 1000]), false).is_err() {
            break;
        }
        kept.push((answer, body));
        requests = ready;
    }
    // so that what was asked for has gone out
    tokio::time::sleep(Duration::from_millis(200)).await;
    gate.wait().await;
    drop(connection.await);
}

fn attack(server: &TestServer, pair: Option<&Pair>, ways: &[Way], count: usize) {
    let map = server.new_map("strangers");
    let made =
        server.request("POST", "/api/webhooks").bearer(&map.token).json(&json!({"authentication": "none"})).send();
    let source = made.expect(201)["endpoint"]["id"].as_str().expect("an id").to_string();
    // one of each before, so that what is made once is there
    for path in [FILE, "/health/live", "/"] {
        assert_eq!(server.request("GET", path).send().status, 200);
    }
    let (before, sockets) = (resident_bytes(server), open_sockets(server));
    let addr = server.secure_addr();
    run(async {
        let gate = Arc::new(Gate::default());
        let waiting: Arc<[AtomicUsize; 10]> = Arc::default();
        let mut strangers = tokio::task::JoinSet::new();
        for way in ways.iter().copied().cycle().take(count) {
            let (gate, source) = (gate.clone(), source.clone());
            let config = pair.map(|pair| {
                let is_http2 = HTTP2.iter().any(|other| *other as u8 == way as u8);
                pair.client(&[if is_http2 { "h2" } else { "http/1.1" }], None)
            });
            let waiting = waiting.clone();
            strangers.spawn(async move {
                waiting[way as usize].fetch_add(1, Ordering::Relaxed);
                let plain = TcpStream::connect(addr).await.expect("the server listens");
                match (config, way) {
                    (_, Way::Silence) => {
                        gate.wait().await;
                        until_ended(&mut { plain }).await;
                    }
                    (None, way) => speak(plain, way, &source, &gate).await,
                    (Some(config), way) => {
                        drop(plain);
                        let mut tries = 0;
                        // many handshakes at once take their time
                        let tls = loop {
                            match connect(addr, config.clone()).await {
                                Ok(tls) => break tls,
                                Err(e) if tries == 20 => panic!("no TLS: {e}"),
                                Err(_) => tries += 1,
                            }
                        };
                        match way {
                            Way::UnreadStreams | Way::SlowStreams | Way::LargeHeads => {
                                speak_http2(tls, way, &source, &gate).await
                            }
                            _ => speak(tls, way, &source, &gate).await,
                        }
                    }
                }
                waiting[way as usize].fetch_sub(1, Ordering::Relaxed);
            });
            tokio::task::yield_now().await;
        }
        let watch = async {
            let mut most = 0;
            loop {
                most = resident_bytes(server).max(most);
                if gate.come.load(Ordering::Relaxed) == count {
                    gate.open.notify_waiters();
                    break most;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let began = Instant::now();
        let mut most = tokio::time::timeout(Duration::from_secs(120), watch).await.expect("all have come");
        let came = began.elapsed();
        let gone = loop {
            most = resident_bytes(server).max(most);
            if open_sockets(server) <= sockets {
                break began.elapsed();
            }
            if began.elapsed() > came + GONE {
                let left =
                    ways.iter().map(|way| format!("{way:?}: {}", waiting[*way as usize].load(Ordering::Relaxed)));
                let left: Vec<_> = left.collect();
                panic!("{} connections are still there: {left:?}", open_sockets(server) - sockets);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let grew = most.saturating_sub(before);
        eprintln!(
            "{count} strangers {}: {} MiB more than {} MiB, all there after {came:?}, gone after {gone:?}",
            if pair.is_some() { "by TLS" } else { "in plain" },
            grew >> 20,
            before >> 20
        );
        let allowed = ALL_BYTES.min(BASE_BYTES + ALL_BYTES * count as u64 / 2000);
        assert!(grew < allowed, "{} MiB, {} were allowed", grew >> 20, allowed >> 20);
        strangers.abort_all();
    });
    assert_eq!(server.request("GET", "/health/live").send().status, 200);
}

fn count() -> usize {
    std::env::var("STENTOR_STRANGERS").map_or(STRANGERS, |count| count.parse().expect("a number"))
}

#[test]
fn strangers_in_plain_cost_little_and_are_gone_after_the_deadlines() {
    attack(&TestServer::plain(&DEADLINES), None, &PLAIN, count());
}

#[test]
fn strangers_by_tls_and_over_http2_cost_little_and_are_gone_after_the_deadlines() {
    let (server, pair) = TestServer::secure(&DEADLINES);
    let ways: Vec<_> = PLAIN.into_iter().chain(HTTP2).collect();
    attack(&server, Some(&pair), &ways, count());
}

/// What the server says to these bytes until it ends the connection, and when it did.
fn said(server: &TestServer, parts: &[String]) -> (String, Duration) {
    use std::io::{Read, Write};

    let began = Instant::now();
    let mut stream = std::net::TcpStream::connect(server.secure_addr()).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    let mut answer = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            // only when there is an answer to the part before
            let mut space = [0; 4096];
            let read = stream.read(&mut space).expect("an answer");
            answer.extend_from_slice(&space[..read]);
        }
        if stream.write_all(part.as_bytes()).is_err() {
            break;
        }
    }
    // the server may end it before it has read all that was sent
    let _ = stream.read_to_end(&mut answer);
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

#[test]
fn every_head_has_its_time_and_its_size_also_behind_an_answered_request() {
    let server = TestServer::plain(&[("server.request_timeout_s", "1"), ("server.keep_alive_s", "4")]);
    let live = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n".to_string();
    let begun = "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Be".to_string();
    for (parts, answers) in
        [(vec![begun.clone()], 0), (vec![live.clone(), begun.clone()], 1), (vec![format!("{live}{begun}")], 1)]
    {
        let (text, time) = said(&server, &parts);
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), answers, "{text}");
        assert!(text.contains("HTTP/1.1 408 "), "{text}");
        assert!(time < Duration::from_secs(8), "{time:?}");
    }
    let filler = |kib: usize| format!("X-Filler: {}\r\n", "x".repeat(1000)).repeat(kib);
    let end = "Connection: close\r\n\r\n";
    let (text, _) = said(&server, &[format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{}{end}", filler(50))]);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let (text, time) = said(&server, &[format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{}{end}", filler(90))]);
    assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
    assert!(time < Duration::from_secs(8), "{time:?}");
    // what is behind a head is its body, or the next requests, and does not count as a head
    let body = format!("POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n{end}{}", " ".repeat(300_000));
    assert!(said(&server, &[body]).0.starts_with("HTTP/1.1 401 "));
    let many = live.repeat(3000) + &live.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let reading = std::thread::scope(|scope| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(server.secure_addr()).expect("the server listens");
        let mut writer = stream.try_clone().expect("a second handle");
        scope.spawn(move || writer.write_all(many.as_bytes()).expect("the server takes them all"));
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the answers");
        text.matches("HTTP/1.1 200 OK").count()
    });
    assert_eq!(reading, 3001);
}
