//! A disk that becomes full while the server runs, and has room again later: writes are refused by name, readers are served,
//! revocations count at once, and everything works again within seconds without a restart.

mod publishers;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::SETTINGS;
use crate::support::acknowledged::{Acknowledged, SOURCE_KEY, filler, new_token};
use crate::support::map::ids;
use crate::support::random::{Random, seed};
use crate::support::small_disk::SmallDisk;
use crate::support::{Answer, Map, Organization, Receiver, Sse, TestServer, eventually, throughout, within};

const DISK_BYTES: u64 = 256 << 20;
/// By when everything works again.
const RECOVERY: Duration = Duration::from_secs(5);
/// More than the disk holds, so that writing so much must have been refused.
const MOST_BYTES: usize = DISK_BYTES as usize;

fn server_on(disk: &SmallDisk, settings: &[(&str, &str)]) -> TestServer {
    let mut server = TestServer::at(&disk.data(), &[&SETTINGS[..], settings].concat());
    server.launch();
    server
}

/// Whether the answer is the one of a full disk, in either body. Anything else but success is wrong.
#[track_caller]
fn is_refused(answer: &Answer) -> bool {
    if (200..300).contains(&answer.status) {
        return false;
    }
    let body = answer.json();
    let (upper, lower) = (&body["code"], &body["error"]["code"]);
    assert!(
        answer.status == 503 && (*upper == "STORAGE_FULL" || *lower == "storage_full"),
        "{} {}",
        answer.status,
        answer.text()
    );
    let wait = answer.header("retry-after").and_then(|wait| wait.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| wait > 0), "{:?}", answer.headers);
    true
}

/// Whether the journal has too much to do and the same may be sent again: nothing of it was stored.
fn is_busy(answer: &Answer) -> bool {
    if answer.status != 503 {
        return false;
    }
    let body = answer.json();
    body["code"] == "JOURNAL_FULL" || body["error"]["code"] == "journal_full"
}

/// Whether it was taken, while the server recovers.
#[track_caller]
fn is_taken(answer: &Answer) -> bool {
    !is_busy(answer) && !is_refused(answer)
}

fn event(n: usize, bytes: usize, random: &mut Random) -> Value {
    json!({"type": "map_kill", "payload": {"n": n, "filler": filler(random, bytes)}})
}

/// Publishes until it is refused because of the disk. What was taken goes to the end of `taken`. A journal that is busy is asked
/// again, as clients do, and for a while only: a disk that is full has to be called so.
#[track_caller]
fn publish_until_refused(map: &Map, bytes: usize, random: &mut Random, taken: &mut Vec<String>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut taken_at = Instant::now();
    for _ in 0..MOST_BYTES / bytes {
        let mut answer = map.post(&event(taken.len(), bytes, random));
        while is_busy(&answer) {
            assert!(
                taken_at.elapsed() < RECOVERY,
                "neither taken nor refused by the name of the disk: {}",
                answer.text()
            );
            std::thread::park_timeout(Duration::from_millis(50));
            answer = map.post(&event(taken.len(), bytes, random));
        }
        if is_refused(&answer) {
            return;
        }
        taken.extend(ids(&answer.json()));
        taken_at = Instant::now();
        assert!(taken_at < deadline, "a full disk is refused in time");
    }
    panic!("more was taken than the disk holds");
}

/// A server with something of everything on a small disk.
struct Scene {
    disk: SmallDisk,
    server: TestServer,
    map: Map,
    organization: Organization,
    /// Of the map, with a key of its own.
    source: String,
    receiver: Receiver,
    random: Random,
    taken: Vec<String>,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Option<Scene> {
        let seed = seed();
        println!("STENTOR_TEST_SEED={seed}");
        let disk = SmallDisk::new(DISK_BYTES)?;
        let server = server_on(&disk, settings);
        let (map, organization, receiver) = (server.new_map("m"), server.new_organization("o"), Receiver::start(&[]));
        map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
        let webhook = json!({"url": receiver.url(), "events": ["rally_point_added"]});
        map.request("POST", "/webhooks").json(&webhook).send().expect(201);
        let source = json!({"name": "s", "authentication": "api_key", "apiKey": SOURCE_KEY});
        let made = server.request("POST", "/api/webhooks").bearer(&map.token).json(&source).send().expect(201);
        let source = made["endpoint"]["id"].as_str().expect("an id").to_owned();
        let mut random = Random(seed);
        let taken = (0..20).flat_map(|n| map.publish(&event(n, 2_000, &mut random))).collect();
        Some(Scene { disk, server, map, organization, source, receiver, random, taken })
    }

    /// Requests that change something, each with its answer.
    fn changes(&self) -> Vec<(&'static str, Answer)> {
        let (map, server) = (&self.map, &self.server);
        let hook = json!({"url": "http://127.0.0.1:9/other", "events": ["map_kill"]});
        let token = json!({"channel": format!("organization:{}", self.organization.id), "scopes": ["publish"]});
        let source = json!({"name": "new", "authentication": "none"});
        let send = |source: &Value| {
            let sent = server.request("POST", &format!("/webhooks/{}", self.source)).header("X-API-Key", SOURCE_KEY);
            sent.json(source).send()
        };
        vec![
            ("a new map", server.admin("POST", "/api/maps").json(&json!({"name": "new"})).send()),
            ("a change of a map", map.request("PATCH", "").json(&json!({"name": "renamed"})).send()),
            ("a new token", server.admin("POST", "/api/v1/tokens").json(&token).send()),
            ("a new webhook", map.request("POST", "/webhooks").json(&hook).send()),
            ("a new source", server.request("POST", "/api/webhooks").bearer(&map.token).json(&source).send()),
            ("what a source sends", send(&json!({"event_type": "sent", "properties": {}}))),
        ]
    }

    fn restart(&mut self) {
        self.server.restart();
        self.map = self.map.at(&self.server);
        self.organization = self.organization.at(&self.server);
    }

    /// History holds what was taken, and of what has the type `map_kill` nothing else.
    #[track_caller]
    fn expect_what_was_taken(&self) {
        let found: Vec<String> = self
            .map
            .export()
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .filter(|event| event["type"] == "map_kill")
            .map(|event| event["id"].as_str().expect("an id").to_owned())
            .collect();
        let (taken, found): (BTreeSet<_>, BTreeSet<_>) = (self.taken.iter().collect(), found.iter().collect());
        let (lost, more) = (taken.difference(&found).count(), found.difference(&taken).count());
        assert_eq!((lost, more), (0, 0), "lost and too much, of {}", taken.len());
    }
}

/// What a full disk and a disk below its floor have in common. `fill` makes it so; `all_refused`: whether no change has room either.
fn judge(mut scene: Scene, fill: impl FnOnce(&mut Scene), all_refused: bool) {
    let (leaked_id, leaked) = scene.map.new_token(json!({"scopes": ["subscribe", "publish"], "name": "leaked"}));
    let doomed = scene.server.new_map("doomed");
    let hook = json!({"url": "http://127.0.0.1:9/doomed", "events": ["map_kill"]});
    let hook = scene.organization.request("POST", "/api/v1/webhooks").json(&hook).send().expect(201)["data"].clone();
    let mut open = scene.map.stream("events=rally_point_added");
    let mut leaking = scene.map.with_token(&leaked).stream("events=rally_point_added");
    fill(&mut scene);

    // refused by name, in each family's body
    let sent = scene.map.post(&event(0, 100, &mut scene.random));
    if all_refused {
        assert!(is_refused(&sent), "{}", sent.text());
        let message = json!({"event": "message", "payload": {}});
        scene.organization.below("POST", "/events").json(&message).send().expect_problem(503, "storage_full");
    } else if !is_refused(&sent) {
        scene.taken.extend(ids(&sent.json()));
    }
    for (what, answer) in scene.changes() {
        assert!(is_refused(&answer) || !all_refused, "{what}: {} {}", answer.status, answer.text());
    }
    // readers are served
    scene.expect_what_was_taken();
    let mut late = scene.map.stream(&format!("since={}", scene.taken[0]));
    assert_eq!(late.next().id.as_ref(), Some(&scene.taken[1]));
    scene.server.admin("GET", "/api/maps").send().expect(200);
    scene.organization.history("limit=5");
    scene.map.request("POST", "/events/ticket").send().expect(201);
    eventually("it is not ready", || scene.server.request("GET", "/health/ready").send().status == 503);
    let ready = scene.server.request("GET", "/health/ready").send().json();
    let says_why = ["disk", "storage", "room", "space"].iter().any(|word| {
        let said = |value: &Value| value.as_str().is_some_and(|text| text.contains(word));
        ready.as_object().is_some_and(|fields| {
            fields.values().any(|value| said(value) || value.as_array().is_some_and(|list| list.iter().any(said)))
        })
    });
    let below = ready["disk_free_bytes"].as_u64() < ready["disk_floor_bytes"].as_u64();
    assert!(ready["status"] == "not_ready" && (says_why || below), "{ready}");
    // what takes rights away counts
    scene.server.admin("DELETE", &format!("/api/v1/tokens/{leaked_id}")).send().expect(204);
    assert_eq!(scene.map.with_token(&leaked).post(&json!({"type": "map_kill"})).status, 401);
    leaking.ends_within(Duration::from_secs(2));
    scene.server.admin("DELETE", &format!("/api/maps/{}", doomed.id)).send().expect(204);
    let hook = format!("/api/v1/webhooks/{}", hook["id"].as_str().expect("an id"));
    scene.organization.request("DELETE", &hook).send().expect(204);

    // room again
    scene.disk.empty();
    let emptied = Instant::now();
    let left = || RECOVERY.saturating_sub(emptied.elapsed());
    let mut told = Vec::new();
    within(left(), "publishing works", || {
        let answer = scene.map.post(&json!({"type": "rally_point_added", "payload": {}}));
        let taken = is_taken(&answer);
        told.extend(taken.then(|| ids(&answer.json())).into_iter().flatten());
        taken
    });
    within(left(), "changes work", || {
        scene.changes().iter().all(|(_, answer)| answer.status == 409 || is_taken(answer))
    });
    within(left(), "it is ready", || scene.server.request("GET", "/health/ready").send().status == 200);
    let (another_id, another) = scene.map.new_token(json!({"scopes": ["publish"], "name": "another"}));
    scene.server.admin("DELETE", &format!("/api/v1/tokens/{another_id}")).send().expect(204);
    assert_eq!(scene.map.with_token(&another).post(&json!({"type": "map_kill"})).status, 401);
    within(left(), "the webhook delivers", || !scene.receiver.received().is_empty());
    assert_eq!(open.next().id.as_ref(), told.first(), "a stream from before goes on without a gap");

    // and all of it lasts: over a kill, and over a clean stop after which nothing is delivered again
    for killed in [true, false] {
        if !killed {
            eventually("everything is delivered", || {
                let come: Vec<_> = scene.receiver.received().iter().map(|got| got.json()["id"].clone()).collect();
                told.iter().all(|id| come.contains(&json!(id)))
            });
            scene.server.stop();
        }
        let before = scene.receiver.received().len();
        scene.restart();
        scene.expect_what_was_taken();
        for token in [&leaked, &another] {
            assert_eq!(scene.map.with_token(token).post(&json!({"type": "map_kill"})).status, 401);
        }
        assert_eq!(scene.server.admin("GET", &format!("/api/maps/{}", doomed.id)).send().status, 404);
        assert_eq!(scene.organization.request("GET", &hook).send().status, 404);
        let last = scene.map.publish(&json!({"type": "rally_point_added", "payload": {}}));
        let has_come = |id: &str| scene.receiver.received().iter().any(|got| got.json()["id"] == *id);
        eventually("the webhook goes on", || has_come(&last[0]));
        told.extend(last);
        if !killed {
            assert_eq!(scene.receiver.received().len(), before + 1, "nothing comes twice after a clean stop");
        }
    }
}

#[test]
fn below_the_floor_writes_are_refused_and_all_works_again_when_there_is_room() {
    let Some(scene) = Scene::new(&[("storage.min_free_bytes", "33554432")]) else { return };
    let fill = |scene: &mut Scene| {
        scene.disk.fill(16 << 20);
        let soon = Instant::now() + RECOVERY;
        publish_until_refused(&scene.map, 100, &mut scene.random, &mut scene.taken);
        assert!(Instant::now() < soon, "as soon as the disk is below its floor");
    };
    judge(scene, fill, true);
}

#[test]
fn without_a_free_byte_writes_are_refused_and_all_works_again_when_there_is_room() {
    let Some(scene) = Scene::new(&[("storage.min_free_bytes", "0")]) else { return };
    let fill = |scene: &mut Scene| {
        scene.disk.fill(0);
        for bytes in [200_000, 10_000, 200] {
            publish_until_refused(&scene.map, bytes, &mut scene.random, &mut scene.taken);
            // whatever the server gave back meanwhile
            scene.disk.fill(0);
        }
    };
    judge(scene, fill, false);
}

/// A database wants room to be opened, also for reading.
#[test]
fn history_in_segments_that_are_not_open_is_read_on_a_disk_without_a_free_byte() {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let mut random = Random(seed);
    let Some(disk) = SmallDisk::new(DISK_BYTES) else { return };
    let mut server = server_on(&disk, &[("storage.min_free_bytes", "0"), ("storage.open_segments", "1")]);
    let acknowledged = Acknowledged::make(&server, 1_200, 6_000, &mut random);
    server.stop();
    server.launch();
    disk.fill(0);
    for (channel, rows) in &acknowledged.events {
        let at = crate::support::acknowledged::events_at(channel);
        let mut after = String::new();
        let mut found = Vec::new();
        // forward in pages, as people read
        loop {
            let page = server.admin("GET", &format!("{at}?order=asc&limit=100{after}")).send().expect(200);
            let ids = page["data"].as_array().expect("events").iter().map(|event| event["id"].as_str().expect("an id"));
            found.extend(ids.map(|id| id.trim_start_matches("evt_").to_owned()));
            match page["next"].as_str().or(page["nextCursor"].as_str()) {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        let wanted: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
        assert_eq!(found.len(), wanted.len(), "{channel}");
        assert!(found == wanted, "{channel}");
    }
    disk.empty();
    let mut again = server;
    again.restart();
    acknowledged.expect_whole(&again);
}

#[test]
fn a_server_on_a_disk_below_its_floor_starts_serves_readers_and_refuses_writes() {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let mut random = Random(seed);
    let mut server = TestServer::start(&SETTINGS);
    let mut acknowledged = Acknowledged::make(&server, 200, 2_000, &mut random);
    server.stop();
    // more than any disk of a test has
    server.restart_with(&[("storage.min_free_bytes", "1099511627776")]);
    eventually("it says so", || server.log_lines().iter().any(|line| line.contains(" WARN ") && line.contains("disk")));
    let (channel, token) = acknowledged.channels()[0].clone();
    let map = Map { addr: server.addr(), id: channel.trim_start_matches("map:").into(), token };
    assert!(is_refused(&map.post(&json!({"type": "map_kill", "payload": {}}))));
    assert!(is_refused(&server.admin("POST", "/api/maps").json(&json!({"name": "new"})).send()));
    assert_eq!(map.export().len(), acknowledged.events[&channel].len());
    let mut stream = map.stream("since=00000000000000000000000000");
    assert_eq!(stream.next().id.as_ref(), Some(&acknowledged.events[&channel][0].0));
    let readiness = server.request("GET", "/health/ready").send();
    assert_eq!((readiness.status, readiness.header("retry-after")), (503, Some("1")));
    // revocations count there, too
    let leaked = acknowledged.tokens[0].clone();
    acknowledged.revoke(&server, leaked);
    server.stop();
    server.restart_with(&[("storage.min_free_bytes", "0")]);
    acknowledged.expect_whole(&server);
}

#[test]
fn retention_works_again_after_a_full_disk() {
    let Some(mut scene) = Scene::new(&[("storage.min_free_bytes", "0"), ("retention.max_events", "400")]) else {
        return;
    };
    scene.disk.fill(0);
    publish_until_refused(&scene.map, 200_000, &mut scene.random, &mut scene.taken);
    // however long it was so
    throughout(Duration::from_secs(2), "it goes on", || {
        scene.server.request("GET", "/health/live").send().status == 200
    });
    scene.disk.empty();
    within(RECOVERY, "publishing works", || is_taken(&scene.map.post(&event(0, 100, &mut scene.random))));
    let batch: Vec<_> = (0..100).map(|n| event(n, 6_000, &mut scene.random)).collect();
    for _ in 0..12 {
        eventually("the journal takes a batch", || {
            let answer = scene.map.post(&json!(batch));
            let busy = is_busy(&answer);
            assert!(busy || answer.status == 201, "{} {}", answer.status, answer.text());
            !busy
        });
    }
    // whole segments go, so somewhat more than the limit is kept
    eventually("the oldest are dropped", || scene.map.export().len() < 800);
    let token = new_token(&scene.server, &format!("map:{}", scene.map.id), &["subscribe"], "reader");
    let request =
        scene.server.request("GET", &format!("/api/maps/{}/events/stream", scene.map.id)).bearer(&token.token);
    let gap = Sse::open(request.header("Last-Event-ID", &scene.taken[0])).next();
    assert!(gap.is("gap") && gap.json()["reason"] == "expired", "{}", gap.raw);
}
