//! kill -9 at random moments while publishers publish and readers resume. What was acknowledged is in the log, in order
//! and once; what a reader saw is what the log holds. The seed of a run is printed and can be given as
//! `STENTOR_TEST_SEED`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::map::ids;
use super::support::random::{Random, seed};
use super::support::{Map, Sse, TestServer};

const KILLS: usize = 20;
const SINGLE_PUBLISHERS: usize = 2;
const BATCH_PUBLISHERS: usize = 2;
const READERS: usize = 3;
/// Longest time between the server's start and its death.
const LIFE_MS: u64 = 700;
/// By when all readers must have caught up with the server that is not killed.
const CATCH_UP: Duration = Duration::from_secs(30);

/// What the clients share with whoever kills their server.
pub struct World {
    /// As it is reached now; it moves to another port with every start.
    pub map: Mutex<Map>,
    pub publishing: AtomicBool,
    /// The last id that readers wait for; empty until the publishers are done.
    last: Mutex<Option<String>>,
    give_up: AtomicBool,
}

impl World {
    pub fn new(map: Map) -> World {
        let (publishing, give_up) = (AtomicBool::new(true), AtomicBool::new(false));
        World { map: Mutex::new(map), publishing, last: Mutex::new(None), give_up }
    }

    /// After the server was started again.
    pub fn moved_to(&self, server: &TestServer) {
        let map = self.map().at(server);
        *self.map.lock().expect("the map") = map;
    }

    pub fn map(&self) -> Map {
        self.map.lock().expect("no client panics while it holds the map").clone()
    }

    /// Waits until the readers have read the whole log of a server that is not killed any more, or `patience` has passed.
    /// Returns the log as lines, and what each reader saw.
    pub fn finish(
        &self,
        readers: Vec<thread::JoinHandle<Vec<String>>>,
        patience: Duration,
    ) -> (Vec<String>, Vec<Vec<String>>) {
        let log = self.map().export();
        let end: Value = serde_json::from_str(log.last().expect("an event")).expect("JSON");
        *self.last.lock().expect("the last id") = Some(text(&end, "id").into());
        let deadline = Instant::now() + patience;
        while readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(20));
        }
        self.give_up.store(true, Ordering::Relaxed);
        (log, readers.into_iter().map(|reader| reader.join().expect("a reader")).collect())
    }

    fn last(&self) -> Option<String> {
        self.last.lock().expect("nobody panics with it").clone()
    }
}

/// Publishes until told to stop. Returns what was acknowledged: ids with (publisher, number).
pub fn publisher(world: &World, name: usize, most: u64, mut random: Random) -> Vec<(String, u64)> {
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    while world.publishing.load(Ordering::Relaxed) {
        let count = 1 + random.below(most);
        let event = |n: u64| json!({"type": "add_system", "payload": {"publisher": name, "n": n}});
        let events: Vec<_> = (number..number + count).map(event).collect();
        let body = if most == 1 { events[0].clone() } else { json!({ "events": events }) };
        match world.map().request("POST", "/events").json(&body).try_send() {
            Ok(answer) if answer.status == 201 => {
                let ids = ids(&answer.json());
                assert_eq!(ids.len() as u64, count);
                acknowledged.extend(ids.into_iter().zip(number..));
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
            // the server is dead; whether the events were stored is not known
            Err(_) => thread::park_timeout(Duration::from_millis(5)),
        }
        number += count;
    }
    acknowledged
}

/// Reads and resumes until it has seen the last event. Returns every envelope in the order of its coming.
pub fn reader(world: &World) -> Vec<String> {
    let (mut seen, mut cursor): (Vec<String>, Option<String>) = (Vec::new(), None);
    // from the beginning of time, so that a reader who comes late misses nothing
    let start = "00000000000000000000000000";
    while !world.give_up.load(Ordering::Relaxed) && (cursor.is_none() || cursor != world.last()) {
        let request = world.map().request("GET", "/events/stream");
        let request = request.header("Last-Event-ID", cursor.as_deref().unwrap_or(start));
        let Ok(mut stream) = Sse::try_open(request) else {
            thread::park_timeout(Duration::from_millis(5));
            continue;
        };
        stream.patience(Duration::from_millis(500));
        while let Ok(Some(frame)) = stream.frame() {
            assert_eq!(frame.event, None, "no gap and no second opening: {}", frame.raw);
            if frame.comment.is_none() {
                cursor = frame.id.clone();
                seen.push(frame.data);
            }
            if cursor == world.last() {
                break;
            }
        }
    }
    seen
}

/// Compares what publishers were told, by publisher, and what readers saw with what is in the log.
#[track_caller]
pub fn judge(log: &[String], acknowledged: &[Vec<(String, u64)>], seen: &[Vec<String>]) {
    let events: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(events.windows(2).all(|pair| text(&pair[0], "id") < text(&pair[1], "id")), "the log is in order");
    let places: HashMap<&str, usize> = events.iter().enumerate().map(|(n, e)| (text(e, "id"), n)).collect();
    let mut stored = HashMap::new();
    for event in &events {
        let (publisher, n) = (event["payload"]["publisher"].as_u64(), event["payload"]["n"].as_u64());
        assert!(stored.insert((publisher, n), ()).is_none(), "stored twice: {event}");
    }
    for (publisher, acknowledged) in acknowledged.iter().enumerate() {
        assert!(!acknowledged.is_empty(), "publisher {publisher} was never answered");
        let mut before = None;
        for (id, n) in acknowledged {
            let place = *places.get(id.as_str()).unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
            assert_eq!(events[place]["payload"], json!({"publisher": publisher, "n": n}));
            assert!(
                before < Some(place),
                "{id} is before an event of the same publisher that was acknowledged earlier"
            );
            before = Some(place);
        }
    }
    for (reader, seen) in seen.iter().enumerate() {
        for (place, (logged, seen)) in log.iter().zip(seen).enumerate() {
            assert_eq!(seen, logged, "reader {reader} saw another event than the log holds at {place}");
        }
        assert_eq!(seen.len(), log.len(), "reader {reader} saw as many events as the log holds");
    }
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().expect("a text")
}

#[test]
fn what_was_acknowledged_outlives_twenty_kills_and_every_reader_sees_it_once_in_order() {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let mut random = Random(seed);
    // small segments, so that some deaths fall into a change of segments
    let mut server = TestServer::start(&[
        ("storage.segment_max_bytes", "1048576"),
        ("retention.max_events", "0"),
        ("log.level", "warn"),
    ]);
    let world = Arc::new(World::new(server.new_map("crash")));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || reader(&world))
        })
        .collect();
    let publishers: Vec<_> = (0..SINGLE_PUBLISHERS + BATCH_PUBLISHERS)
        .map(|name| {
            let (world, random) = (world.clone(), Random(random.next()));
            let most = if name < SINGLE_PUBLISHERS { 1 } else { 40 };
            thread::spawn(move || publisher(&world, name, most, random))
        })
        .collect();

    for _ in 0..KILLS {
        let death = Instant::now() + Duration::from_millis(20 + random.below(LIFE_MS));
        while let Some(left) = death.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        server.restart();
        world.moved_to(&server);
    }
    world.publishing.store(false, Ordering::Relaxed);
    let acknowledged: Vec<_> = publishers.into_iter().map(|p| p.join().expect("a publisher")).collect();

    let (log, seen) = world.finish(readers, CATCH_UP);

    judge(&log, &acknowledged, &seen);
    let total: usize = acknowledged.iter().map(Vec::len).sum();
    println!("{total} acknowledged, {} in the log, {KILLS} kills, {READERS} readers", log.len());
    server.stop();
}
