//! kill -9 again and again at random moments, with everything under way at once: publishers, readers that resume, webhooks that
//! deliver, tokens that are made and revoked. `STENTOR_KILLS` says how often, `STENTOR_TEST_SEED` makes a run that can be had again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crash::{World, judge, publisher, reader};
use crate::support::acknowledged::events_at;
use crate::support::map::ids;
use crate::support::random::{Random, seed};
use crate::support::server::ADMIN;
use crate::support::{Map, Receiver, Reply, Request, TestServer, within};

/// Of a run that says nothing else.
const KILLS: usize = 25;
const PUBLISHERS: usize = 3;
const READERS: usize = 3;
/// Longest time between the server's start and its death.
const LIFE_MS: u64 = 200;
/// By when readers and receivers must have caught up with the server that is not killed.
const CATCH_UP: Duration = Duration::from_secs(60);
/// The latest tokens, of which some are revoked.
const RECENT: usize = 20;
/// Of those so many are looked at after each start.
const LOOKED_AT: usize = 6;

/// A token as far as its owner knows.
#[derive(Clone, Debug)]
struct Known {
    id: String,
    token: String,
    /// None while a revocation was asked for and not answered.
    revoked: Option<bool>,
}

/// Makes tokens of the map and revokes two of three.
fn change_tokens(world: &World, known: &Mutex<Vec<Known>>, mut random: Random) {
    let admin = |method: &str, target: &str| Request::new(world.map().addr, method, target).bearer(ADMIN);
    while world.publishing.load(Ordering::Relaxed) {
        let body =
            json!({"channel": format!("map:{}", world.map().id), "scopes": ["subscribe"], "name": "one of many"});
        match admin("POST", "/api/v1/tokens").json(&body).try_send() {
            Ok(answer) if answer.status == 201 => {
                let made = answer.json()["data"].clone();
                let text = |field: &str| made[field].as_str().expect("a text").to_owned();
                let token = Known { id: text("id"), token: text("token"), revoked: Some(false) };
                known.lock().expect("the tokens").push(token);
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
            Err(_) => thread::park_timeout(Duration::from_millis(5)),
        }
        let chosen = {
            let mut known = known.lock().expect("the tokens");
            let recent = known.len().saturating_sub(RECENT);
            let living: Vec<_> = known[recent..].iter_mut().filter(|token| token.revoked == Some(false)).collect();
            if living.is_empty() || random.below(3) == 0 {
                continue;
            }
            let chosen = random.below(living.len() as u64) as usize;
            let chosen = living.into_iter().nth(chosen).expect("it is one of them");
            chosen.revoked = None;
            chosen.id.clone()
        };
        if admin("DELETE", &format!("/api/v1/tokens/{chosen}")).try_send().is_ok_and(|answer| answer.status == 204) {
            let mut known = known.lock().expect("the tokens");
            known.iter_mut().find(|token| token.id == chosen).expect("it was there").revoked = Some(true);
        }
    }
}

/// Holds tokens against what is known of them.
fn judge_tokens(server: &TestServer, map: &Map, known: &Mutex<Vec<Known>>, most: usize) {
    let snapshot: Vec<_> = known.lock().expect("the tokens").iter().rev().take(most).cloned().collect();
    for token in snapshot {
        let at = format!("{}?limit=1", events_at(&format!("map:{}", map.id)));
        let status = server.request("GET", &at).bearer(&token.token).send().status;
        let counts = match status {
            200 => true,
            401 => false,
            other => panic!("{other} for {token:?}"),
        };
        // it may have been revoked since the snapshot was made
        let now = known.lock().expect("the tokens").iter().find(|one| one.id == token.id).expect("it stays").revoked;
        assert!(!(counts && token.revoked == Some(true)), "a revoked token counts again: {token:?}");
        assert!(counts || now != Some(false), "a token is lost: {token:?}");
    }
}

/// Publishes single events at leisure, which webhooks are told of. Returns those that were acknowledged.
fn tell(map: &Mutex<Map>, publishing: &AtomicBool, mut random: Random) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    while publishing.load(Ordering::Relaxed) {
        let here = map.lock().expect("nobody panics with it").clone();
        match here
            .request("POST", "/events")
            .json(&json!({"type": "map_kill", "payload": {"n": told.len()}}))
            .try_send()
        {
            Ok(answer) if answer.status == 201 => told.extend(ids(&answer.json())),
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
            Err(_) => {}
        }
        thread::park_timeout(Duration::from_millis(2 + random.below(10)));
    }
    told
}

fn delivered(receiver: &Receiver) -> BTreeSet<String> {
    let good = receiver.received().into_iter().filter(|got| got.reply.is_success());
    let id = |event: &Value| event["id"].as_str().expect("an id").to_owned();
    good.flat_map(|got| {
        let body = got.json();
        body["events"].as_array().map_or_else(|| vec![id(&body)], |events| events.iter().map(id).collect())
    })
    .collect()
}

#[test]
fn nothing_acknowledged_is_lost_or_comes_back_over_many_kills_with_everything_under_way() {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let kills = std::env::var("STENTOR_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let mut random = Random(seed);
    let mut server = TestServer::start(&[
        ("storage.segment_max_bytes", "1048576"),
        ("retention.max_events", "0"),
        ("webhooks.allow_http", "true"),
        ("webhooks.allow_networks", "127.0.0.1"),
        ("limits.api_requests_per_minute", "0"),
        // revoked tokens are tried over and over
        ("limits.failed_logins_per_minute", "0"),
        ("limits.tokens_per_channel", "100000"),
        ("log.level", "warn"),
    ]);
    let world = Arc::new(World::new(server.new_map("crash")));
    let told_map = server.new_map("told");
    told_map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    // one that fails now and then, and one that takes many at once
    let chance = Mutex::new(Random(random.next()));
    let moody = Receiver::deciding(move |_| match chance.lock().expect("the chance").below(20) {
        0 => Reply::Status(500),
        1 => Reply::Close,
        _ => Reply::Status(204),
    });
    let batches = Receiver::start(&[]);
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 90});
    for (receiver, batch) in [(&moody, Value::Null), (&batches, json!({"max_events": 50, "max_wait_ms": 20}))] {
        let body = json!({"url": receiver.url(), "events": ["map_kill"], "retry_policy": policy, "batch": batch});
        told_map.request("POST", "/webhooks").json(&body).send().expect(201);
    }
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || reader(&world))
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|name| {
            let (world, random) = (world.clone(), Random(random.next()));
            thread::spawn(move || publisher(&world, name, if name == 0 { 1 } else { 20 }, random))
        })
        .collect();
    let known = Arc::new(Mutex::new(Vec::new()));
    let changer = {
        let (world, known, random) = (world.clone(), known.clone(), Random(random.next()));
        thread::spawn(move || change_tokens(&world, &known, random))
    };
    let (telling, here) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(told_map.clone())));
    let teller = {
        let (telling, here, random) = (telling.clone(), here.clone(), Random(random.next()));
        thread::spawn(move || tell(&here, &telling, random))
    };

    for _ in 0..kills {
        let death = Instant::now() + Duration::from_millis(5 + random.below(LIFE_MS));
        while let Some(left) = death.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        server.restart();
        world.moved_to(&server);
        *here.lock().expect("the map") = told_map.at(&server);
        judge_tokens(&server, &world.map(), &known, LOOKED_AT);
    }
    world.publishing.store(false, Ordering::Relaxed);
    telling.store(false, Ordering::Relaxed);
    changer.join().expect("whoever changes tokens");
    let told = teller.join().expect("whoever tells webhooks");
    let acknowledged: Vec<_> = publishers.into_iter().map(|p| p.join().expect("a publisher")).collect();

    judge_tokens(&server, &world.map(), &known, usize::MAX);
    let (log, seen) = world.finish(readers, CATCH_UP);
    judge(&log, &acknowledged, &seen);
    for (name, receiver) in [("moody", &moody), ("batches", &batches)] {
        within(CATCH_UP, &format!("everything is delivered to {name}"), || told.is_subset(&delivered(receiver)));
    }
    let known = known.lock().expect("the tokens");
    let revoked = known.iter().filter(|token| token.revoked == Some(true)).count();
    println!(
        "{kills} kills: {} events acknowledged, {} in the log, {} told to webhooks, {} tokens made, {revoked} revoked",
        acknowledged.iter().map(Vec::len).sum::<usize>(),
        log.len(),
        told.len(),
        known.len(),
    );
    assert!(revoked > 0 && !told.is_empty());
    server.stop();
}
