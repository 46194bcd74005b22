//! Takeovers under load. `STENTOR_TEST_TAKEOVERS`, `_STREAMS`, `_PUBLISHERS`, `_MAPS` and `_PAUSE_MS` change its size, over how many maps
//! streams and publishers are spread, and the longest pause of a publisher that is allowed. With `_ON_TIME=1` the next takeover waits
//! until as many events are published as should be by then, so that the pauses of the publishers do not lower the rate.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Map, Sse, TestServer, Ws, throughout, within};

/// Of all publishers together, in milliseconds.
const PUBLISH_EVERY_MS: u64 = 2;
/// What a reader waits before it comes back when the server did not say.
const COME_BACK: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
const CATCH_UP: Duration = Duration::from_secs(60);

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[derive(Default)]
struct World {
    publishing: AtomicBool,
    published: AtomicUsize,
    /// Connections that were refused.
    refused: AtomicUsize,
    /// Requests that a closed connection cut off, so that they were repeated.
    repeated: AtomicUsize,
    /// The last event of each map by the map's id, once there is one.
    last: Mutex<HashMap<String, String>>,
    caught_up: AtomicUsize,
}

impl World {
    fn connect(&self, addr: SocketAddr) -> Option<TcpStream> {
        let connected = TcpStream::connect(addr).inspect_err(|e| {
            if e.kind() == ErrorKind::ConnectionRefused {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        });
        let stream = connected.ok()?;
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Some(stream)
    }
}

/// Publishes on one connection as long as that lasts, and says the same again with the same key where it was cut. Returns the ids
/// that were acknowledged, and the longest time from the first try to the answer.
fn publisher(world: &World, map: &Map, name: usize, every: Duration) -> (Vec<String>, Duration) {
    let (mut ids, mut longest, mut connection, mut n) = (Vec::new(), Duration::ZERO, None, 0);
    let mut next = Instant::now();
    while world.publishing.load(Ordering::Relaxed) {
        let body = json!({"type": "add_system", "payload": {"publisher": name, "n": n}}).to_string();
        let request = format!(
            "POST /api/maps/{}/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nIdempotency-Key: {name}-{n}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            map.id,
            map.addr,
            map.token,
            body.len()
        );
        let began = Instant::now();
        loop {
            let Some(stream) = connection.take().or_else(|| world.connect(map.addr)) else { continue };
            match exchange(stream, &request) {
                Ok((201, body, kept)) => {
                    ids.push(body["data"]["ids"][0].as_str().expect("an id").to_owned());
                    world.published.fetch_add(1, Ordering::Relaxed);
                    connection = kept;
                    break;
                }
                Ok((503, ..)) => {}
                Ok((status, body, _)) => panic!("{status}: {body}"),
                Err(_) => drop(world.repeated.fetch_add(1, Ordering::Relaxed)),
            }
        }
        longest = longest.max(began.elapsed());
        n += 1;
        next += every;
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    (ids, longest)
}

/// One request and its answer, and the connection if it may be used again.
fn exchange(mut stream: TcpStream, request: &str) -> io::Result<(u16, Value, Option<TcpStream>)> {
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut length, mut closes) = (0, 0, false);
    for n in 0.. {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        match (n, line.split_once(": ")) {
            (0, _) => status = line.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status"),
            (_, Some(("content-length", value))) => length = value.parse().expect("a length"),
            (_, Some(("connection", "close"))) => closes = true,
            (_, None) => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((status, serde_json::from_slice(&body)?, (!closes).then(|| reader.into_inner())))
}

/// Reads and resumes until it has seen the last event, and comes back when it was asked to. Returns the ids in the order of their
/// coming.
fn sse_reader(world: &World, map: &Map) -> Vec<String> {
    let (mut seen, mut resumed): (Vec<String>, _) = (Vec::new(), true);
    let mut wait;
    loop {
        wait = COME_BACK;
        let request = map.request("GET", "/events/stream");
        let request = match seen.last() {
            Some(last) => request.header("Last-Event-ID", last),
            None => request,
        };
        match Sse::try_open(request) {
            Ok(mut stream) => {
                stream.patience(PATIENCE);
                resumed &= seen.is_empty() || stream.connected.json()["resumed"] == true;
                while let Ok(Some(frame)) = stream.frame() {
                    if let Some(asked) = frame.retry {
                        wait = Duration::from_millis(asked.parse().expect("milliseconds"));
                    }
                    if let Some(id) = frame.id {
                        seen.push(id);
                    }
                    if has_last(world, map, &seen) {
                        assert!(resumed, "a stream that came back was resumed");
                        return seen;
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                world.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        thread::park_timeout(wait);
    }
}

fn websocket_reader(world: &World, map: &Map) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    loop {
        let since = seen.last().map_or(String::new(), |last| format!("?since={last}"));
        let at = format!("/api/maps/{}/events/ws{since}", map.id);
        if let Ok(mut socket) = Ws::try_at(map.addr, &at, Some(&map.token)) {
            while let Some(event) = socket.next_or_end() {
                if let Some(id) = event["id"].as_str() {
                    seen.push(id.to_owned());
                }
                if has_last(world, map, &seen) {
                    return seen;
                }
            }
        }
        thread::park_timeout(COME_BACK);
    }
}

fn has_last(world: &World, map: &Map, seen: &[String]) -> bool {
    let last = world.last.lock().expect("nobody panics with it");
    let has = last.get(&map.id).is_some_and(|last| seen.last() == Some(last));
    if has {
        world.caught_up.fetch_add(1, Ordering::Relaxed);
    }
    has
}

#[test]
fn takeovers_under_load_refuse_nobody_lose_nothing_and_repeat_nothing() {
    let takeovers = number("STENTOR_TEST_TAKEOVERS", 2);
    let streams = number("STENTOR_TEST_STREAMS", 30);
    let publishers = number("STENTOR_TEST_PUBLISHERS", 4);
    let maps = number("STENTOR_TEST_MAPS", 2);
    let waits_for_publishers = number("STENTOR_TEST_ON_TIME", 0) == 1;
    let longest_pause = Duration::from_millis(number("STENTOR_TEST_PAUSE_MS", 10_000) as u64);
    let unlimited = [
        ("limits.streams_per_token", "0"),
        ("limits.streams_per_channel", "0"),
        ("limits.api_requests_per_minute", "0"),
    ];
    let mut server = TestServer::start(&unlimited);
    let maps: Vec<_> = (0..maps).map(|n| server.new_map(&format!("m{n}"))).collect();
    let of = |n: usize| maps[n % maps.len()].clone();
    let world = Arc::new(World::default());
    world.publishing.store(true, Ordering::Relaxed);
    let readers: Vec<_> = (0..streams)
        .map(|n| {
            let (world, map) = (world.clone(), of(n));
            let read = if n % 10 == 9 { websocket_reader } else { sse_reader };
            let thread = thread::Builder::new().stack_size(256 * 1024);
            (map.id.clone(), thread.spawn(move || read(&world, &map)).expect("a thread"))
        })
        .collect();
    within(PATIENCE, "all streams are open", || server.metric("stentor_streams") as usize == streams);
    let every = Duration::from_millis(PUBLISH_EVERY_MS * publishers as u64);
    let publishers: Vec<_> = (0..publishers)
        .map(|name| {
            let (world, map) = (world.clone(), of(name));
            thread::spawn(move || publisher(&world, &map, name, every))
        })
        .collect();
    let began_publishing = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..takeovers {
        let began = Instant::now();
        server.take_over();
        slowest = slowest.max(began.elapsed());
        within(PATIENCE, "all streams are back", || server.metric("stentor_streams") as usize == streams);
        if waits_for_publishers {
            let due = || (began_publishing.elapsed().as_millis() as u64 / PUBLISH_EVERY_MS) as usize;
            // each may have one under way
            let published = || world.published.load(Ordering::Relaxed) + publishers.len();
            within(PATIENCE, "the publishers are on time", || published() >= due());
        }
    }
    world.publishing.store(false, Ordering::Relaxed);
    let took = began_publishing.elapsed();
    let published: Vec<_> = publishers.into_iter().map(|thread| thread.join().expect("a publisher")).collect();
    let pause = published.iter().map(|(_, longest)| *longest).max().expect("there are publishers");
    let acknowledged: HashSet<String> = published.into_iter().flat_map(|(ids, _)| ids).collect();
    // the readers wait for the last event of their map
    {
        // held, so that nobody sees that event without knowing that it is the last
        let mut last = world.last.lock().expect("nobody panics with it");
        for map in &maps {
            last.insert(map.id.clone(), map.publish(&json!({"type": "add_system", "payload": {}})).remove(0));
        }
    }
    within(CATCH_UP, "all readers have the last event", || world.caught_up.load(Ordering::Relaxed) == streams);
    let id_of =
        |line: &String| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned();
    let stored: HashMap<&str, Vec<String>> =
        maps.iter().map(|map| (&*map.id, map.export().iter().map(id_of).collect())).collect();
    let count = stored.values().map(Vec::len).sum::<usize>();
    println!(
        "{takeovers} takeovers, {count} events, {:.0} a second, {streams} streams: longest pause of a publisher {} ms, slowest takeover \
         {} ms, {} requests were repeated",
        count as f64 / took.as_secs_f64(),
        pause.as_millis(),
        slowest.as_millis(),
        world.repeated.load(Ordering::Relaxed)
    );
    assert_eq!(world.refused.load(Ordering::Relaxed), 0, "connections were refused");
    assert_eq!(count, acknowledged.len() + maps.len(), "every event is there once");
    let all: HashSet<&String> = stored.values().flatten().collect();
    assert!(acknowledged.iter().all(|id| all.contains(id)), "what was acknowledged is there");
    for (map, reader) in readers {
        let (stored, seen) = (&stored[&*map], reader.join().expect("a reader"));
        let from = stored.iter().position(|id| Some(id) == seen.first()).expect("it saw something");
        assert_eq!(seen, stored[from..], "a stream has neither a hole nor a repetition");
    }
    assert!(pause < longest_pause, "a publisher waited {pause:?}");
}

#[test]
fn clients_learn_with_an_answer_that_they_have_to_connect_anew_and_are_told_when_to_come_back() {
    let mut server = TestServer::plain(&[]);
    let map = server.new_map("m");
    let mut stream = map.stream("");
    let usual = stream.connected.retry.clone().expect("the frame has it");
    server.take_over();
    let last = stream.frame().expect("it ends cleanly").expect("a last frame");
    let asked: u64 = last.retry.as_deref().expect("when to come back").parse().expect("milliseconds");
    assert!(last.comment.is_some() && last.data.is_empty() && asked < 1_000, "{last:?}");
    assert_eq!(stream.frame().expect("it ends cleanly"), None);
    let again = map.stream("");
    assert_eq!(again.connected.retry, Some(usual), "the next stream says the usual time");
}

#[test]
fn what_is_configured_and_what_waits_goes_on_in_the_new_process() {
    let (mut server, map) = crate::support::webhooks::delivering(&[]);
    let receiver = crate::support::Receiver::start(&[200]);
    crate::support::webhooks::webhook(&map, json!({ "url": receiver.url() }));
    map.publish_many(3);
    receiver.expect(3);
    let before = server.pid();
    server.take_over();
    assert_ne!(server.pid(), before);
    map.publish_many(3);
    receiver.expect(6);
    throughout(Duration::from_millis(300), "nothing is delivered twice", || receiver.received().len() == 6);
}

#[test]
fn both_listeners_and_tls_go_over_to_the_new_process_and_its_settings_count() {
    let (mut server, _) = TestServer::secure(&[("server.admin_listen", "127.0.0.1:0")]);
    let (public, admin) = (server.secure_addr(), server.admin_addr());
    server.set(&[("limits.batch_events", "7")]);
    server.take_over();
    assert_eq!((server.secure_addr(), server.admin_addr()), (public, admin));
    assert_eq!(server.request("GET", "/health/live").send().status, 200);
    // another address is bound by the new process, and the one before is given up
    server.set(&[("server.admin_listen", "127.0.0.2:0")]);
    server.take_over();
    assert_ne!(server.admin_addr(), admin);
    assert_eq!(TcpStream::connect(admin).expect_err("nobody is there").kind(), ErrorKind::ConnectionRefused);
    assert_eq!(server.request("GET", "/health/live").send().status, 200);
}
