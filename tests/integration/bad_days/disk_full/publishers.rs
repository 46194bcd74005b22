//! Publishers that go on while the disk is full, has room and the server is killed, again and again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{DISK_BYTES, RECOVERY, server_on};
use crate::support::acknowledged::filler;
use crate::support::map::ids;
use crate::support::random::{Random, seed};
use crate::support::small_disk::SmallDisk;
use crate::support::{Answer, Map, within};

/// What became of one request with a key of its own, as its publisher knows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Taken(String),
    Refused,
    /// The connection broke off, or the server said that it does not know.
    Unknown,
}

/// Publishes with a new key each time, and now and then the same again after a refusal.
fn publisher(map: &Mutex<Map>, name: usize, going: &AtomicBool, mut random: Random) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for n in 0.. {
        if !going.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{name}-{n}");
        let text = filler(&mut random, 200 + 60_000 * usize::from(n % 7 == 0));
        let body = json!({"type": "map_kill", "payload": {"key": key, "filler": text}});
        let mut outcome = Known::Refused;
        for _ in 0..1 + random.below(4) {
            let here = map.lock().expect("nobody panics with it").clone();
            let asked = here.request("POST", "/events").header("Idempotency-Key", &key).json(&body);
            match asked.try_send() {
                Ok(answer) if answer.status == 201 => {
                    outcome = Known::Taken(ids(&answer.json()).remove(0));
                    break;
                }
                Ok(answer) => {
                    let body = answer.json();
                    assert_eq!(answer.status, 503, "{body}");
                    // once unknown, a later refusal says nothing about the first
                    if body["code"] == "OUTCOME_UNKNOWN" {
                        outcome = Known::Unknown;
                    }
                }
                Err(_) => outcome = Known::Unknown,
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        known.insert(key, outcome);
    }
    known
}

#[test]
fn over_full_disks_and_kills_what_was_taken_is_there_once_and_what_was_refused_is_not() {
    /// Of a run that says nothing else by `STENTOR_FULL_DISKS`.
    const ROUNDS: usize = 12;
    const PUBLISHERS: usize = 4;
    let rounds =
        std::env::var("STENTOR_FULL_DISKS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let mut random = Random(seed);
    let Some(disk) = SmallDisk::new(DISK_BYTES) else { return };
    let mut server = server_on(&disk, &[("storage.min_free_bytes", "0"), ("log.level", "off")]);
    let first = server.new_map("m");
    let (map, going) = (Mutex::new(first.clone()), AtomicBool::new(true));
    let known = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| {
                let (map, going, random) = (&map, &going, Random(random.next()));
                scope.spawn(move || publisher(map, name, going, random))
            })
            .collect();
        for round in 0..rounds {
            let pause = |random: &mut Random, most_ms| {
                let end = Instant::now() + Duration::from_millis(random.below(most_ms));
                while let Some(left) = end.checked_duration_since(Instant::now()) {
                    std::thread::park_timeout(left);
                }
            };
            pause(&mut random, 300);
            disk.fill(random.below(3) * (4 << 20));
            pause(&mut random, 600);
            disk.fill(0);
            pause(&mut random, 300);
            if round % 3 == 2 {
                server.kill();
                // a start without room may be refused; with room it may not
                if server.try_launch().is_err() {
                    disk.empty();
                    server.launch();
                }
                *map.lock().expect("the map") = first.at(&server);
            }
            if disk.path().join("filler").exists() {
                disk.empty();
            }
            let here = first.at(&server);
            let again = |answer: std::io::Result<Answer>| answer.is_ok_and(|answer| answer.status == 201);
            within(RECOVERY, "publishing works", || {
                again(here.request("POST", "/events").json(&json!({"type": "rally_point_added"})).try_send())
            });
        }
        going.store(false, Ordering::Relaxed);
        publishers.into_iter().flat_map(|publisher| publisher.join().expect("a publisher")).collect::<BTreeMap<_, _>>()
    });
    for _ in 0..2 {
        let mut stored: BTreeMap<String, String> = BTreeMap::new();
        for line in first.at(&server).export() {
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["type"] == "map_kill" {
                let key = event["payload"]["key"].as_str().expect("a key").to_owned();
                let id = event["id"].as_str().expect("an id").to_owned();
                assert_eq!(stored.insert(key.clone(), id), None, "{key} is stored twice");
            }
        }
        for (key, known) in &known {
            match (known, stored.get(key)) {
                (Known::Taken(id), Some(found)) => assert_eq!(id, found, "{key}"),
                (Known::Taken(id), None) => panic!("{key} was taken as {id} and is lost"),
                (Known::Refused, Some(found)) => panic!("{key} was refused and is there as {found}"),
                _ => {}
            }
        }
        server.restart();
    }
    let count = |is: fn(&Known) -> bool| known.values().filter(|known| is(known)).count();
    let (taken, refused) = (count(|known| matches!(known, Known::Taken(_))), count(|known| *known == Known::Refused));
    println!("{taken} taken, {refused} refused, {} unknown", known.len() - taken - refused);
    assert!(taken > 100 && refused > 10, "{taken} taken, {refused} refused");
}
