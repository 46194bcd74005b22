//! kill -9 at random moments while deliveries go well, fail and wait for their retries. Whatever a publisher was told is
//! durable reaches every webhook, what was in flight is sent again, and what comes twice carries the same id.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::map::ids;
use crate::support::random::{Random, seed};
use crate::support::webhooks::{deliveries, delivering, webhook};
use crate::support::{Map, Received, Receiver, Reply, eventually};

const KILLS: usize = 8;
/// Longest time between the server's start and its death.
const LIFE_MS: u64 = 1_500;
/// By when everything must have been delivered by the server that is not killed.
const CATCH_UP: Duration = Duration::from_secs(60);

/// The events of a request, one or a batch.
fn carried(got: &Received) -> Vec<String> {
    let body = got.json();
    let id = |event: &Value| event["id"].as_str().expect("an id").to_owned();
    body["events"].as_array().map_or_else(|| vec![id(&body)], |events| events.iter().map(id).collect())
}

/// Fails the first attempts of one in `of` deliveries, in several ways, and takes its time over as many others.
fn moody(of: u64, seed: u64) -> Receiver {
    let tries: Mutex<HashMap<String, u64>> = Mutex::default();
    let random = Mutex::new(Random(seed));
    Receiver::deciding(move |got| {
        let mut tries = tries.lock().expect("nobody panics with it");
        let tries = tries.entry(got.header("webhook-id").to_owned()).or_default();
        *tries += 1;
        let mut random = random.lock().expect("nobody panics with it");
        match random.below(of) {
            0 if *tries <= 2 => Reply::Status(503),
            1 if *tries <= 2 => Reply::Close,
            // long enough to be in flight when the server dies
            2 | 3 => Reply::Late(Duration::from_millis(random.below(3_000 / of)), 200),
            _ => Reply::Status(204),
        }
    })
}

fn publisher(map: &Mutex<Map>, publishing: &AtomicBool, mut random: Random) -> Vec<String> {
    let mut acknowledged = Vec::new();
    while publishing.load(Ordering::Relaxed) {
        let event = json!({"type": "map_kill", "payload": {"n": acknowledged.len()}});
        let events = vec![event; 1 + random.below(8) as usize];
        let here = map.lock().expect("nobody panics with it").clone();
        match here.request("POST", "/events").json(&json!({ "events": events })).try_send() {
            Ok(answer) if answer.status == 201 => acknowledged.extend(ids(&answer.json())),
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
            Err(_) => {}
        }
        thread::park_timeout(Duration::from_millis(5 + random.below(20)));
    }
    acknowledged
}

#[test]
fn every_acknowledged_event_is_delivered_over_kills_and_what_comes_twice_has_the_same_id() {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let mut random = Random(seed);
    let (mut server, map) = delivering(&[("log.level", "error"), ("limits.api_requests_per_minute", "0")]);
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 50});
    let kinds = [json!({}), json!({"ordered": true}), json!({"batch": {"max_events": 5, "max_wait_ms": 50}})];
    // each failure holds an ordered webhook up for a second
    let receivers: Vec<_> = [10, 200, 10].into_iter().map(|of| moody(of, random.next())).collect();
    let made: Vec<_> = kinds
        .into_iter()
        .zip(&receivers)
        .map(|(mut body, receiver)| {
            body["url"] = receiver.url().into();
            body["retry_policy"] = policy.clone();
            webhook(&map, body).0
        })
        .collect();
    let (shared, publishing) = (Arc::new(Mutex::new(map.clone())), Arc::new(AtomicBool::new(true)));
    let publisher = {
        let (map, publishing, random) = (shared.clone(), publishing.clone(), Random(random.next()));
        thread::spawn(move || publisher(&map, &publishing, random))
    };
    for _ in 0..KILLS {
        let death = Instant::now() + Duration::from_millis(100 + random.below(LIFE_MS));
        while let Some(left) = death.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        server.restart();
        *shared.lock().expect("the map") = map.at(&server);
    }
    publishing.store(false, Ordering::Relaxed);
    let acknowledged: BTreeSet<String> = publisher.join().expect("the publisher").into_iter().collect();
    assert!(acknowledged.len() > KILLS, "something was published");

    let taken = |receiver: &Receiver| -> BTreeSet<String> {
        receiver.received().iter().filter(|got| got.reply.is_success()).flat_map(carried).collect()
    };
    let deadline = Instant::now() + CATCH_UP;
    for (kind, receiver) in receivers.iter().enumerate() {
        while !acknowledged.is_subset(&taken(receiver)) && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(20));
        }
        let taken = taken(receiver);
        let lost: Vec<_> = acknowledged.difference(&taken).collect();
        assert!(lost.is_empty(), "webhook {kind} did not get {} of {} events", lost.len(), acknowledged.len());
    }
    let map = map.at(&server);
    for at in &made {
        eventually("nothing is retried any more", || deliveries(&map, at, "status=retrying").is_empty());
        assert_eq!(map.request("GET", at).send().expect(200)["data"]["health"], "healthy");
    }

    let mut repeated = 0;
    for (kind, receiver) in receivers.iter().enumerate() {
        let mut by_events: HashMap<Vec<String>, String> = HashMap::new();
        let mut by_id: HashMap<String, Vec<String>> = HashMap::new();
        for got in receiver.received() {
            let (events, id) = (carried(&got), got.header("webhook-id").to_owned());
            assert_eq!(id, got.header("X-Wanderer-Delivery"));
            // the same events always have the same id, and an id stands for the same events
            assert_eq!(by_events.entry(events.clone()).or_insert_with(|| id.clone()), &id);
            let known = by_id.entry(id).or_insert_with(|| events.clone());
            assert_eq!(*known, events);
            repeated += u64::from(got.reply.is_success());
        }
        repeated -= by_id.len() as u64;
        if kind == 1 {
            let mut seen = BTreeSet::new();
            let firsts: Vec<_> = receiver
                .received()
                .iter()
                .filter(|got| got.reply.is_success())
                .flat_map(carried)
                .filter(|id| seen.insert(id.clone()))
                .collect();
            assert!(firsts.is_sorted(), "an ordered webhook gets each event first in log order");
        }
    }
    println!("{} events, {KILLS} kills, {repeated} deliveries repeated", acknowledged.len());
    server.stop();
}
