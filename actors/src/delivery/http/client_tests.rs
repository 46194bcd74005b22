//! Receivers that misbehave, on real sockets. Each test is named after the behaviour or the attack that it pins.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::*;
use crate::delivery::http::resolver::Resolver;
use crate::delivery::http::tls::Trust;
use crate::delivery::outcome::{BODY_KEPT_BYTES, HEADERS_KEPT_BYTES};
use crate::model::target::Policy;

#[path = "client_addresses_tests.rs"]
mod addresses;
#[path = "client_answers_tests.rs"]
mod answers;

/// A listener whose connections are each given to `serve`, with their number, on a thread of their own.
struct Receiver {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Receiver {
    fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&accepted), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = count.fetch_add(1, SeqCst);
                stream.set_nodelay(true).unwrap();
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream, number));
            }
        });
        Receiver { address, accepted }
    }

    /// Answers every request with the same bytes.
    fn answering(answer: impl Into<String>) -> Receiver {
        let answer = answer.into();
        Receiver::start(move |mut stream, _| {
            while read_request(&mut stream).is_some() {
                let _ = stream.write_all(answer.as_bytes());
            }
        })
    }

    fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/hook", self.address.port())
    }
}

/// The head and the body of the next request; none when the client is gone.
fn read_request(stream: &mut (impl Read + ?Sized)) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::with_capacity(1, stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        let line = head[before..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Sends a piece whenever the client has been silent for some milliseconds, until it hangs up.
fn trickle(stream: &mut TcpStream, piece: &[u8]) {
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    while stream.write_all(piece).is_ok() {
        match stream.read(&mut [0; 64]) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            _ => return,
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn open_loopback() -> Policy {
    Policy { dev: true, ..Policy::default() }
}

/// A resolver that gives one answer after the other, and the last one for ever.
fn answers(lists: &[&[&str]]) -> Resolver {
    let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
    let lists: Mutex<VecDeque<Vec<IpAddr>>> = Mutex::new(lists.iter().map(parse).collect());
    Resolver::new(move |_| {
        let mut lists = lists.lock().unwrap();
        let list = if lists.len() > 1 { lists.pop_front() } else { lists.front().cloned() };
        async move { list.ok_or_else(|| io::ErrorKind::NotFound.into()) }
    })
}

fn client_of(policy: Policy, resolver: Resolver, roots: &[CertificateDer<'static>]) -> DeliveryClient {
    let trust = roots.iter().cloned().try_fold(Trust::nobody(), Trust::and).unwrap();
    DeliveryClient::new(Arc::new(TargetCheck::new(policy, resolver)), trust.client_config().unwrap())
}

fn client() -> DeliveryClient {
    client_of(open_loopback(), answers(&[&["127.0.0.1"]]), &[])
}

fn target(url: &str) -> Target {
    Policy { allow_http: true, dev: true, allow_networks: vec![] }.judge_url(url).unwrap()
}

async fn post_within(client: &DeliveryClient, url: &str, deadline_ms: u64) -> Outcome {
    let attempt = Attempt {
        method: "POST",
        url: &target(url),
        headers: vec![("x-test".into(), "yes".to_owned()), ("Host".into(), "evil".to_owned())],
        body: Bytes::from_static(b"{\"a\":1}"),
        deadline: Duration::from_millis(deadline_ms),
        connect_timeout: Duration::from_secs(5),
    };
    client.send(attempt).await
}

async fn post(client: &DeliveryClient, url: &str) -> Outcome {
    post_within(client, url, 10_000).await
}

#[actix::test]
async fn a_delivery_arrives_as_it_was_given_and_its_connection_is_reused() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let receiver = Receiver::start(move |mut stream, _| {
        while let Some(request) = read_request(&mut stream) {
            log.lock().unwrap().push(request);
            let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\nRetry-After: 7\r\ncontent-length: 5\r\n\r\nhello");
        }
    });
    let client = client();
    let url = receiver.url("receiver.test");
    let first = post(&client, &url).await;
    assert_eq!((first.status, first.error, first.detail.as_str()), (Some(202), None, ""));
    assert_eq!((&first.body_kept[..], first.retry_after), (&b"hello"[..], Some(Duration::from_secs(7))));
    assert!(first.succeeded() && !first.reused);
    assert_eq!(first.address, Some(receiver.address));
    assert!(first.timings.dns_us.is_some() && first.timings.connect_us.is_some() && first.timings.tls_us.is_none());
    assert!(first.timings.first_byte_us.is_some_and(|us| us <= first.timings.total_us));
    let second = post(&client, &url).await;
    assert!(second.succeeded() && second.reused);
    assert_eq!((second.timings.dns_us, second.timings.connect_us, second.timings.tls_us), (None, None, None));
    assert_eq!((second.address, receiver.accepted()), (Some(receiver.address), 1));

    let (head, body) = seen.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, b"{\"a\":1}");
    let mut names: Vec<_> = head.lines().skip(1).filter_map(|line| line.split_once(':')).collect();
    names.sort_unstable();
    let port = format!(" receiver.test:{}", receiver.address.port());
    let [("Content-Length", " 7"), ("Date", _), ("Host", host), ("x-test", " yes")] = names[..] else {
        panic!("{names:?}")
    };
    assert_eq!(host, port, "a custom header cannot set the host");
}

#[actix::test]
async fn a_length_of_nothing_is_said_only_where_content_is_expected() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let receiver = Receiver::start(move |mut stream, _| {
        while let Some((head, _)) = read_request(&mut stream) {
            log.lock().unwrap().push(head.to_ascii_lowercase().contains("content-length: 0\r\n"));
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let client = client();
    for method in ["GET", "HEAD", "DELETE", "PURGE", "POST", "PUT", "PATCH"] {
        let (deadline, connect_timeout) = (Duration::from_secs(10), Duration::from_secs(5));
        let url = &target(&receiver.url("receiver.test"));
        let attempt = Attempt { method, url, headers: vec![], body: Bytes::new(), deadline, connect_timeout };
        assert!(client.send(attempt).await.succeeded(), "{method}");
    }
    assert_eq!(*seen.lock().unwrap(), [false, false, false, false, true, true, true]);
}

#[actix::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Receiver::answering(OK);
    let location = elsewhere.url("127.0.0.1");
    for status in [301, 302, 303, 307, 308] {
        let head = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let outcome = post(&client(), &Receiver::answering(head).url("r.test")).await;
        assert_eq!((outcome.status, outcome.error), (Some(status), Some(FailureCode::HttpStatus)));
        assert!(outcome.response_headers.iter().any(|pair| pair == ("location", &location)));
    }
    assert_eq!(elsewhere.accepted(), 0);
}

#[actix::test]
async fn a_trickling_head_cannot_outlast_the_deadline() {
    let receiver = Receiver::start(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        trickle(&mut stream, b"x");
    });
    let outcome = post_within(&client(), &receiver.url("r.test"), 150).await;
    assert_eq!((outcome.status, outcome.error), (None, Some(FailureCode::Timeout)), "{}", outcome.detail);
    assert!((150_000..5_000_000).contains(&outcome.timings.total_us));
}

#[actix::test]
async fn a_trickling_body_cannot_outlast_the_deadline() {
    let receiver = Receiver::start(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n");
        trickle(&mut stream, b"x");
    });
    let outcome = post_within(&client(), &receiver.url("r.test"), 500).await;
    assert_eq!((outcome.status, outcome.error), (Some(200), Some(FailureCode::Timeout)), "{}", outcome.detail);
    assert!(!outcome.succeeded() && !outcome.body_kept.is_empty());
}

#[actix::test]
async fn an_endless_body_is_read_to_its_bound_and_its_connection_is_closed() {
    let receiver = Receiver::start(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("1000\r\n{}\r\n", "y".repeat(4096));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
    });
    let client = client();
    let outcome = post(&client, &receiver.url("r.test")).await;
    assert_eq!((outcome.status, outcome.error), (Some(200), Some(FailureCode::ResponseTooLarge)));
    assert_eq!((outcome.body_kept.len(), client.connector.connections()), (BODY_KEPT_BYTES, 0));
}

#[actix::test]
async fn an_endless_head_is_read_to_its_bound() {
    let receiver = Receiver::start(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
        while stream.write_all(&[b'z'; 4096]).is_ok() {}
    });
    let outcome = post(&client(), &receiver.url("r.test")).await;
    assert_eq!((outcome.status, outcome.error), (None, Some(FailureCode::ResponseTooLarge)), "{}", outcome.detail);
}

#[actix::test]
async fn the_headers_that_are_kept_are_bounded() {
    let many: String = (0..60).map(|n| format!("x-{n}: {}\r\n", "v".repeat(1000))).collect();
    let receiver = Receiver::answering(format!("HTTP/1.1 500 Oh\r\n{many}content-length: 0\r\n\r\n"));
    let outcome = post(&client(), &receiver.url("r.test")).await;
    assert_eq!((outcome.status, outcome.error), (Some(500), Some(FailureCode::HttpStatus)));
    let bytes: usize = outcome.response_headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!((1..=HEADERS_KEPT_BYTES).contains(&bytes));
}

/// Answers one request on its first connection; `end` ends that connection when the second request is there.
fn dying(end: fn(TcpStream)) -> Receiver {
    Receiver::start(move |mut stream, number| {
        while read_request(&mut stream).is_some() {
            let _ = stream.write_all(OK.as_bytes());
            if number == 0 {
                // The first byte of the next request: the pool has taken the connection for alive.
                let _ = stream.read(&mut [0; 1]);
                return end(stream);
            }
        }
    })
}

fn reset(stream: TcpStream) {
    use std::os::fd::AsRawFd;
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap();
    // SAFETY: the descriptor is open, and the option is read from a live value of the size given.
    let done = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const now).cast(), size)
    };
    assert_eq!(done, 0);
}

#[actix::test]
async fn a_reused_connection_that_was_dead_is_replaced_once() {
    let close = |stream: TcpStream| drop(stream.shutdown(std::net::Shutdown::Write));
    for end in [close, reset, drop] {
        let receiver = dying(end);
        let client = client();
        assert!(post(&client, &receiver.url("r.test")).await.succeeded());
        let outcome = post(&client, &receiver.url("r.test")).await;
        assert!(outcome.succeeded() && !outcome.reused, "{outcome:?}");
        assert_eq!(receiver.accepted(), 2);
    }
}

#[actix::test]
async fn a_dead_connection_is_not_replaced_by_another_of_the_pool() {
    // All connections but the last two die on their second request; three of them rest in the pool.
    let receiver = Receiver::start(|mut stream, number| {
        while read_request(&mut stream).is_some() {
            let _ = stream.write_all(OK.as_bytes());
            if number < 3 {
                let _ = stream.read(&mut [0; 1]);
                return;
            }
        }
    });
    let client = client();
    let url = receiver.url("r.test");
    let (a, b, c) = tokio::join!(post(&client, &url), post(&client, &url), post(&client, &url));
    assert!(a.succeeded() && b.succeeded() && c.succeeded());
    assert_eq!(receiver.accepted(), 3);
    assert!(post(&client, &url).await.succeeded());
    assert_eq!(receiver.accepted(), 4);
}

#[actix::test]
async fn a_request_that_may_have_been_answered_is_not_sent_again() {
    for part in ["", "HTTP/1.1 20"] {
        let receiver = Receiver::start(move |mut stream, number| {
            read_request(&mut stream);
            if number == 0 && !part.is_empty() {
                let _ = stream.write_all(OK.as_bytes());
                read_request(&mut stream);
                let _ = stream.write_all(part.as_bytes());
            }
        });
        let client = client();
        let first = post(&client, &receiver.url("r.test")).await;
        let outcome = if part.is_empty() { first } else { post(&client, &receiver.url("r.test")).await };
        assert_eq!((outcome.status, outcome.error), (None, Some(FailureCode::ConnectionReset)), "{part:?}");
        assert_eq!(receiver.accepted(), 1, "{part:?}");
    }
}

#[actix::test]
async fn failures_of_the_network_have_their_names() {
    let resetting = Receiver::start(|stream, _| {
        let _ = (&stream).read(&mut [0; 1]);
        reset(stream);
    });
    let outcome = post(&client(), &resetting.url("r.test")).await;
    assert_eq!((outcome.error, outcome.status), (Some(FailureCode::ConnectionReset), None), "{}", outcome.detail);

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = post(&client(), &format!("http://{closed}/")).await;
    assert_eq!(outcome.error, Some(FailureCode::ConnectionRefused), "{}", outcome.detail);

    let nobody = client_of(open_loopback(), answers(&[]), &[]);
    assert_eq!(post(&nobody, "http://nobody.test/").await.error, Some(FailureCode::DnsError));
    let empty = client_of(open_loopback(), answers(&[&[]]), &[]);
    assert_eq!(post(&empty, "http://empty.test/").await.error, Some(FailureCode::DnsError));

    let noise = Receiver::answering("SSH-2.0-OpenSSH_9.9\r\n");
    assert_eq!(post(&client(), &noise.url("r.test")).await.error, Some(FailureCode::HttpStatus));
}

#[actix::test]
async fn a_resolver_that_hangs_is_bounded_by_the_connect_timeout() {
    let hanging = client_of(open_loopback(), Resolver::new(|_| std::future::pending()), &[]);
    let attempt = Attempt {
        method: "POST",
        url: &target("https://slow.test/"),
        headers: vec![],
        body: Bytes::from_static(b"{}"),
        deadline: Duration::from_secs(60),
        connect_timeout: Duration::from_millis(50),
    };
    let outcome = hanging.send(attempt).await;
    assert_eq!(outcome.error, Some(FailureCode::Timeout));
    assert!(outcome.timings.total_us < 30_000_000);
}

#[actix::test]
async fn a_handshake_that_hangs_is_bounded_by_the_connect_timeout() {
    let silent = Receiver::start(|mut stream, _| while stream.read(&mut [0; 512]).is_ok_and(|n| n > 0) {});
    let attempt = Attempt {
        method: "POST",
        url: &target(&format!("https://slow.test:{}/", silent.address.port())),
        headers: vec![],
        body: Bytes::from_static(b"{}"),
        deadline: Duration::from_secs(60),
        connect_timeout: Duration::from_millis(50),
    };
    let outcome = client().send(attempt).await;
    assert_eq!((outcome.error, outcome.address), (Some(FailureCode::Timeout), Some(silent.address)));
    assert!(outcome.detail.contains("TLS handshake"), "{}", outcome.detail);
}

/// A receiver with a certificate of its own making for `good.test`, and that certificate.
fn tls_receiver() -> (Receiver, CertificateDer<'static>) {
    tls_receiver_serving(|stream| {
        while read_request(stream).is_some() {
            let _ = stream.write_all(OK.as_bytes());
        }
    })
}

type TlsWire = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

fn tls_receiver_serving(serve: impl Fn(&mut TlsWire) + Send + Sync + 'static) -> (Receiver, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["good.test".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap());
    let receiver = Receiver::start(move |stream, _| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        serve(&mut rustls::StreamOwned::new(session, stream));
    });
    (receiver, certificate)
}

#[actix::test]
async fn tls_checks_the_name_and_the_authority_of_the_certificate() {
    let (receiver, certificate) = tls_receiver();
    let https = |host: &str| receiver.url(host).replace("http:", "https:");
    let trusting = client_of(open_loopback(), answers(&[&["127.0.0.1"]]), &[certificate]);
    let first = post(&trusting, &https("good.test")).await;
    assert!(first.succeeded() && first.timings.tls_us.is_some(), "{first:?}");
    assert!(post(&trusting, &https("good.test")).await.reused);
    let wrong_name = post(&trusting, &https("bad.test")).await;
    assert_eq!(wrong_name.error, Some(FailureCode::TlsError), "{}", wrong_name.detail);
    let unknown_authority = post(&client(), &https("good.test")).await;
    assert_eq!(unknown_authority.error, Some(FailureCode::TlsError), "{}", unknown_authority.detail);
    let plain = Receiver::start(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
    });
    let no_tls = post(&client(), &plain.url("r.test").replace("http:", "https:")).await;
    assert_eq!((no_tls.error, no_tls.status), (Some(FailureCode::TlsError), None), "{}", no_tls.detail);
}

#[actix::test]
async fn idle_connections_are_closed_and_not_used_again() {
    let (ended, ends) = std::sync::mpsc::channel();
    let receiver = Receiver::start(move |mut stream, _| {
        while read_request(&mut stream).is_some() {
            let _ = stream.write_all(OK.as_bytes());
        }
        let _ = ended.send(());
    });
    let client = client();
    assert!(post(&client, &receiver.url("r.test")).await.succeeded());
    client.close_idle(IDLE);
    assert!(post(&client, &receiver.url("r.test")).await.reused, "it did not rest long enough");
    client.close_idle(Duration::ZERO);
    ends.recv_timeout(Duration::from_secs(10)).expect("the receiver sees the end");
    let outcome = post(&client, &receiver.url("r.test")).await;
    assert!(outcome.succeeded() && !outcome.reused);
    assert_eq!((receiver.accepted(), client.connector.connections()), (2, 1));
}

#[actix::test]
async fn a_delivery_without_tricks_succeeds() {
    let receiver = Receiver::answering(OK);
    let outcome = post(&client(), &receiver.url("r.test")).await;
    assert_eq!(outcome.address, Some(receiver.address), "{}", outcome.detail);
    assert!(outcome.succeeded());
}

#[test]
fn proxies_in_the_environment_are_ignored() {
    let proxy = Receiver::answering(OK);
    let url = format!("http://{}", proxy.address);
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "delivery::http::client::tests::a_delivery_without_tricks_succeeds"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        again.env(name, &url);
    }
    let output = again.env("NO_PROXY", "").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(proxy.accepted(), 0);
}
