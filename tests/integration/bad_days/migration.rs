//! Data folders of earlier versions, made by `tests/fixtures/make`: a server of today takes them over with everything in them, or
//! leaves them as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use super::{judge_refusal, quiet};
use crate::support::acknowledged::{Acknowledged, events_at};
use crate::support::clock::Clock;
use crate::support::map::ids;
use crate::support::program::{Program, command};
use crate::support::random::{Random, seed};
use crate::support::small_disk::SmallDisk;
use crate::support::{Received, Receiver, TestServer, eventually, folder};

/// Those of the server that made the folders, save for retention: the folders grow old.
const SETTINGS: [(&str, &str); 8] = [
    ("storage.segment_max_bytes", "1048576"),
    ("retention.max_age_s", "0"),
    ("retention.max_events", "0"),
    ("webhooks.allow_http", "true"),
    ("webhooks.allow_networks", "127.0.0.1"),
    ("webhooks.disable_after_s", "315360000"),
    ("limits.api_requests_per_minute", "0"),
    ("log.level", "warn"),
];
/// One that was stopped by SIGTERM, and one that was killed.
const NAMES: [&str; 2] = ["stopped", "killed"];

struct Fixture {
    folder: TempDir,
    data: PathBuf,
    acknowledged: Acknowledged,
    /// Everything that is in the file beside the archive.
    about: Value,
}

impl Fixture {
    fn unpack(name: &str) -> Fixture {
        Fixture::of_format(1, name)
    }

    fn of_format(format: u32, name: &str) -> Fixture {
        let at = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"));
        let folder = tempfile::tempdir().expect("a folder can be made");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("it can be made");
        let archive = at.join(format!("{name}.tar.gz"));
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--gzip", "--no-same-owner", "--file"]).arg(&archive).arg("--directory").arg(&data);
        assert!(tar.status().expect("tar runs").success(), "{}", archive.display());
        let text = fs::read_to_string(at.join(format!("{name}.json"))).expect("the file is there");
        let about: Value = serde_json::from_str(&text).expect("JSON");
        let acknowledged = serde_json::from_value(about.clone()).expect("what a server acknowledged");
        Fixture { folder, data, acknowledged, about }
    }

    /// A server that has the key from where the old one had it.
    fn server(&self, settings: &[(&str, &str)]) -> TestServer {
        self.server_on(&self.data, settings)
    }

    fn server_on(&self, data: &Path, settings: &[(&str, &str)]) -> TestServer {
        TestServer::at(data, &[&SETTINGS[..], settings].concat()).prepared(self.keys())
    }

    fn keys(&self) -> impl Fn(Command) -> Command + Send + Sync + 'static + use<> {
        let key = self.about["secret_key"].as_str().map(str::to_owned);
        move |mut command| {
            command.envs(key.iter().map(|key| ("STENTOR_SECRET_KEY", key)));
            command
        }
    }

    /// The token that came with a channel.
    fn token(&self, channel: &str) -> String {
        self.acknowledged.channels().into_iter().find(|(name, _)| name == channel).expect("it is known").1
    }

    /// The address of a webhook and the ids of events that are told of it.
    fn told(&self, field: &str) -> Vec<(String, Vec<String>)> {
        let told = self.about[field].as_object().unwrap_or_else(|| panic!("no {field}"));
        let texts =
            |ids: &Value| ids.as_array().expect("ids").iter().map(|id| id.as_str().expect("text").to_owned()).collect();
        told.iter().map(|(at, ids)| (at.clone(), texts(ids))).collect()
    }

    fn webhook(&self, at: &str) -> &crate::support::acknowledged::Webhook {
        self.acknowledged.webhooks.iter().find(|webhook| webhook.at == at).expect("it is known")
    }

    /// Sends a webhook's deliveries to a receiver, which may have those of several.
    #[track_caller]
    fn redirect(&self, server: &TestServer, at: &str, to: &Receiver) {
        let own = at.rsplit('/').next().expect("an id");
        server.admin("PATCH", at).json(&json!({ "url": format!("{}/{own}", to.url()) })).send().expect(200);
    }
}

fn publish(server: &TestServer, fixture: &Fixture, channel: &str, body: &Value) -> Vec<String> {
    let asked = server.request("POST", &events_at(channel)).bearer(&fixture.token(channel)).json(body);
    ids(&asked.send().expect(201))
}

/// What the document of the maps says the signature is.
fn signature_of_map(secret: &str, got: &Received) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
    mac.update(got.header("x-wanderer-timestamp").as_bytes());
    mac.update(b".");
    mac.update(&got.body);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digest}")
}

#[test]
fn everything_is_there_after_the_first_start_after_a_kill_and_after_a_stop() {
    for name in NAMES {
        let fixture = Fixture::unpack(name);
        let newest = fixture.acknowledged.events.values().flatten().map(|row| row.0.clone()).max().expect("an event");
        let mut server = fixture.server(&[]);
        server.launch();
        fixture.acknowledged.expect_whole(&server);
        let (channel, _) = fixture.acknowledged.channels()[0].clone();
        let [id] = &publish(&server, &fixture, &channel, &json!({"type": "marker", "payload": {}}))[..] else {
            panic!("one id")
        };
        assert!(**id > *newest, "ids go on from those that were given out");
        let stranger = server.new_map("a new tenant");
        assert_eq!(stranger.export(), Vec::<String>::new(), "no number of a channel is given out twice");
        server.admin("DELETE", &format!("/api/maps/{}", stranger.id)).send().expect(204);
        server.restart();
        fixture.acknowledged.expect_whole(&server);
        server.stop();
        assert_eq!(folder::open_to_others(&fixture.data), Vec::<String>::new());
        let format = fs::read_to_string(fixture.data.join("format")).expect("the folder says its version");
        assert!(format.contains('2'), "{format}");
        server.launch();
        fixture.acknowledged.expect_whole(&server);
    }
}

#[test]
fn folders_of_this_format_are_read_as_the_first_version_that_wrote_it_has_left_them() {
    for name in NAMES {
        let fixture = Fixture::of_format(2, name);
        let mut server = fixture.server(&[]);
        server.launch();
        fixture.acknowledged.expect_whole(&server);
        server.restart();
        fixture.acknowledged.expect_whole(&server);
    }
}

#[test]
fn a_backup_of_an_older_version_is_restored_with_everything_in_it() {
    for format in [1, 2] {
        let fixture = Fixture::of_format(format, "stopped");
        let archive = fixture.folder.path().join("backup.tar");
        let packed =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}/backup.tar.gz"));
        let mut gzip = Command::new("gzip");
        gzip.args(["--decompress", "--stdout"]).arg(packed).stdout(fs::File::create(&archive).expect("it can be made"));
        assert!(gzip.status().expect("gzip runs").success());
        let data = fixture.folder.path().join("restored");
        let mut restore = command(&["restore"]);
        restore.arg(&archive).arg("--data").arg(&data);
        Program::start(restore).wait().expect(0);
        assert_eq!(folder::open_to_others(&data), Vec::<String>::new());
        let mut server = fixture.server_on(&data, &[]);
        server.launch();
        fixture.acknowledged.expect_whole(&server);
        server.restart();
        fixture.acknowledged.expect_whole(&server);
    }
}

#[test]
fn what_retention_had_dropped_before_is_still_announced_as_expired() {
    let fixture = Fixture::unpack("stopped");
    let mut server = fixture.server(&[]);
    server.launch();
    for (channel, _) in fixture.acknowledged.channels() {
        let request = server.admin("GET", &format!("{}/stream", events_at(&channel)));
        let mut stream = crate::support::Sse::open(request.header("Last-Event-ID", "00000000000000000000000001"));
        let gap = stream.next();
        assert!(gap.is("gap") && gap.json()["reason"] == "expired", "{channel}: {}", gap.raw);
        let first = stream.next();
        let oldest = &fixture.acknowledged.events[&channel][0].0;
        assert_eq!(first.id.as_deref().map(|id| id.trim_start_matches("evt_")), Some(&**oldest));
    }
}

#[test]
fn deliveries_that_waited_or_were_in_flight_are_made_and_those_that_went_well_are_not_repeated() {
    for name in NAMES {
        let fixture = Fixture::unpack(name);
        let mut server = fixture.server(&[]);
        server.launch();
        let (good, waiting) = (Receiver::start(&[]), Receiver::start(&[]));
        for (at, _) in fixture.told("delivered") {
            fixture.redirect(&server, &at, &good);
        }
        let mut wanted = Vec::new();
        for (at, ids) in fixture.told("undelivered") {
            fixture.redirect(&server, &at, &waiting);
            wanted.extend(ids.into_iter().map(|id| (at.clone(), id)));
        }
        let has_come = |id: &String| waiting.received().iter().any(|got| got.json()["id"] == **id);
        // an attempt at the old address may be under way, and the next one is made after a while or when it is asked for
        let retry_all = || {
            for (at, _) in wanted.iter().filter(|(_, id)| !has_come(id)) {
                let listed = server.admin("GET", &format!("{at}/deliveries?limit=1000")).send().expect(200);
                for delivery in listed["data"].as_array().expect("a list") {
                    if ["retrying", "pending"].contains(&delivery["status"].as_str().unwrap_or_default()) {
                        let retry = format!("{at}/deliveries/{}/retry", delivery["id"].as_str().expect("an id"));
                        // it may have been sent meanwhile
                        let answer = server.admin("POST", &retry).send();
                        assert!([202, 404, 409].contains(&answer.status), "{}", answer.text());
                    }
                }
            }
        };
        eventually("what was not delivered before is delivered now", || {
            retry_all();
            wanted.iter().all(|(_, id)| has_come(id))
        });
        for got in waiting.received() {
            let id = got.json()["id"].as_str().expect("an id").to_owned();
            let (at, _) = wanted.iter().find(|(_, wanted)| *wanted == id).expect("nothing else comes");
            let secret = fixture.webhook(at).secret.as_deref().expect("a secret");
            assert_eq!(got.header("x-wanderer-signature"), signature_of_map(secret, &got));
        }
        let dead = fixture.told("dead");
        for (at, ids) in &dead {
            let listed =
                server.admin("GET", &format!("{at}/deliveries?status=dead")).send().expect(200)["data"].clone();
            assert!(ids.iter().all(|id| listed.to_string().contains(&**id)), "{listed}");
        }
        // what went well is behind the cursor; one more event, and after a clean stop it is the only one. A kill may have cost
        // the older server the newest cursor, and then it repeats them as well.
        let (at, _) = &fixture.told("delivered")[0];
        let channel = &fixture.webhook(at).channel;
        let [id] = &publish(&server, &fixture, channel, &json!({"type": "map_kill", "payload": {"n": 1}}))[..] else {
            panic!("one id")
        };
        let newest = || good.received().into_iter().find(|got| got.json()["id"] == **id);
        eventually("the new event is delivered", || newest().is_some());
        let repeated = good.received().len() - 1;
        assert!(repeated == 0 || name == "killed", "{repeated} deliveries that went well are repeated");
        let (got, secret) = (newest().expect("it came"), fixture.webhook(at).secret.as_deref().expect("a secret"));
        assert_eq!(got.header("x-wanderer-signature"), signature_of_map(secret, &got));
    }
}

#[test]
fn the_document_of_webhooks_and_the_source_go_on_with_their_keys() {
    let fixture = Fixture::unpack("killed");
    let mut server = fixture.server(&[]);
    server.launch();
    let token = fixture.about["webhook_document"]["token"].as_str().expect("a token");
    let document = server.request("GET", "/engine/.config/webhooks.json").bearer(token).send().expect(200);
    let wanted = fixture.about["webhook_document"]["webhooks"][0].as_object().expect("an entry");
    for (key, value) in wanted {
        assert_eq!(&document["webhooks"][0][key], value);
    }
    // without `secret` in it, the stored one is kept
    let receiver = Receiver::start(&[]);
    let changed = json!({"webhooks": [{"id": "one", "url": receiver.url(), "events": ["entries_created"]}]});
    server.request("PUT", "/engine/.config/webhooks.json").bearer(token).json(&changed).send().expect(200);
    let event = json!({"type": "entries_created", "payload": {"entries": []}});
    server.request("POST", "/events").bearer(token).json(&event).send().expect(201);
    let got = &receiver.expect(1)[0];
    let mut mac = Hmac::<Sha256>::new_from_slice(b"of the document").expect("any key");
    mac.update(&got.body);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(got.header("x-aeordb-signature"), format!("sha256={digest}"));

    let source = &fixture.acknowledged.sources[0];
    let at =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis().to_string();
    let body = r#"{"event_type":"player_left","properties":{}}"#;
    let algorithm = actors::model::source::HmacAlgorithm::Sha256;
    let signature = actors::model::source::sign_hmac(algorithm, &source.key, &at, body.as_bytes());
    let sent = server.request("POST", &format!("/webhooks/{}", source.id)).header("Content-Type", "application/json");
    sent.header("X-Webhook-Timestamp", &at).header("X-Webhook-Signature", &signature).body(body).send().expect(200);
}

/// On the day on which the folder was made.
#[test]
fn a_request_that_is_repeated_after_the_migration_gets_its_first_answer() {
    for name in NAMES {
        let fixture = Fixture::unpack(name);
        let clock = Clock::new(fixture.folder.path());
        clock.start_at(fixture.about["made_at_ms"].as_i64().expect("a time") + 60_000);
        let keys = fixture.keys();
        let mut server = TestServer::at(&fixture.data, &SETTINGS).prepared(move |command| clock.on(keys(command)));
        server.launch();
        for _ in 0..2 {
            for one in fixture.about["idempotency"].as_array().expect("a list") {
                let channel = one["channel"].as_str().expect("a channel");
                let filler = "x".repeat(fixture.about["filler"].as_u64().expect("a number") as usize);
                let event =
                    |event: &Value| json!({"type": event["type"], "payload": {"n": event["n"], "filler": filler}});
                let events: Vec<_> = one["events"].as_array().expect("a list").iter().map(event).collect();
                let asked = server.request("POST", &events_at(channel)).bearer(&fixture.token(channel));
                let asked = asked.header("Idempotency-Key", one["key"].as_str().expect("a key"));
                let answer = asked.json(&json!({ "events": events })).send().expect(201);
                assert_eq!(json!(ids(&answer)), one["ids"], "{name}");
            }
            fixture.acknowledged.expect_whole(&server);
            server.restart();
        }
    }
}

#[test]
fn a_migration_that_is_killed_at_any_moment_is_taken_up_again() {
    const KILLS: u64 = 8;
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let mut random = Random(seed);
    for name in NAMES {
        let fixture = Fixture::unpack(name);
        // as long as a start takes here
        let (whole, started) = (folder::copy(&fixture.data, fixture.folder.path()), Instant::now());
        fixture.server_on(&whole, &[]).launch();
        let most_us = started.elapsed().as_micros() as u64;
        for n in 0..KILLS {
            let data = folder::copy(&fixture.data, fixture.folder.path());
            for _ in 0..3 {
                kill_after(&fixture, &data, Duration::from_micros(random.below(most_us)));
            }
            let mut server = fixture.server_on(&data, &[]);
            if let Err(ended) = server.try_launch() {
                panic!("{name}, kill {n}: {ended:?}");
            }
            fixture.acknowledged.expect_whole(&server);
            drop(server);
            folder::remove(&data);
        }
    }
}

/// By the server of format 1, or by a migration.
#[test]
fn an_opening_of_the_old_databases_that_was_killed_does_not_hinder_the_migration() {
    for name in NAMES {
        let fixture = Fixture::unpack(name);
        assert!(folder::interrupt_openings(&fixture.data) > 2);
        let mut server = fixture.server(&[]);
        server.launch();
        fixture.acknowledged.expect_whole(&server);
    }
}

/// Starts a server and kills it after so long, whatever it does then.
fn kill_after(fixture: &Fixture, data: &Path, life: Duration) {
    let mut command = crate::support::server::stentor(&SETTINGS);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command.env("STENTOR_ADMIN_TOKEN", crate::support::server::ADMIN);
    let mut child = (fixture.keys())(command)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    let death = Instant::now() + life;
    while let Some(left) = death.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
}

#[test]
fn a_migration_without_room_ends_and_leaves_the_old_folder_as_it_was() {
    const DISK_BYTES: u64 = 256 << 20;
    let Some(disk) = SmallDisk::new(DISK_BYTES) else { return };
    let fixture = Fixture::unpack("stopped");
    let data = disk.data();
    fs::create_dir(&data).expect("there is room");
    folder::copy_into(&fixture.data, &data);
    for leave_bytes in [0, 1 << 20, 3 << 20, 6 << 20, 12 << 20, 24 << 20, 48 << 20] {
        disk.fill(leave_bytes);
        let before = folder::listing(&data);
        let mut server = quiet(&data, fixture.keys());
        match server.try_launch() {
            Err(ended) => {
                let words: [&[&str]; 3] =
                    [&[&data.display().to_string()], &["no space left", "are free"], &["free", "room"]];
                judge_refusal(&data, &before, &ended, &words);
            }
            // so much is enough
            Ok(()) => break,
        }
        drop(server);
        disk.empty();
    }
    disk.empty();
    let mut server = fixture.server_on(&data, &[("storage.min_free_bytes", "0")]);
    server.launch();
    fixture.acknowledged.expect_whole(&server);
}

#[test]
fn an_old_folder_that_somebody_holds_or_that_is_damaged_is_not_touched() {
    let fixture = Fixture::unpack("stopped");
    let first = folder::numbered(&fixture.data.join("log"))[0].clone();
    for database in [first, fixture.data.join("state")] {
        let before = folder::listing(&fixture.data);
        let held = folder::hold_lock(&database.join("db"));
        let ended = quiet(&fixture.data, fixture.keys()).try_launch().expect_err("it must not start");
        drop(held);
        let words: [&[&str]; 2] = [&[&database.display().to_string()], &["lock", "in use", "held"]];
        judge_refusal(&fixture.data, &before, &ended, &words);
    }
    type Spoil = fn(&Path);
    let ways: [(&str, Spoil); 5] = [
        ("cut", |data| folder::truncate(&data.join("state/db"), 100)),
        ("zeroed", |data| folder::zero(&data.join("state/db"))),
        ("removed", |data| folder::remove(&data.join("state/db"))),
        ("removed with its folder", |data| folder::remove(&data.join("state"))),
        ("without its conf", |data| folder::remove(&data.join("state/conf"))),
    ];
    for (how, spoil) in ways {
        let data = folder::copy(&fixture.data, fixture.folder.path());
        spoil(&data);
        let before = folder::listing(&data);
        let mut server = quiet(&data, fixture.keys());
        match server.try_launch() {
            // sled may open a database whose `conf` is gone, and have it all
            Ok(()) => fixture.acknowledged.expect_whole(&server),
            Err(ended) => {
                judge_refusal(&data, &before, &ended, &[&[&data.join("state").display().to_string()]]);
                folder::copy_into(&fixture.data, &data);
                let mut server = fixture.server_on(&data, &[]);
                server.launch();
                fixture.acknowledged.expect_whole(&server);
            }
        }
        println!("{how}");
    }
    let mut server = fixture.server(&[]);
    server.launch();
    fixture.acknowledged.expect_whole(&server);
}

#[test]
fn the_admin_token_in_the_folder_stays_the_same() {
    let fixture = Fixture::unpack("stopped");
    let token = fixture.about["admin_token"].as_str().expect("a token").to_owned();
    let without = |mut command: Command| {
        command.env_remove("STENTOR_ADMIN_TOKEN");
        command
    };
    let mut server = TestServer::at(&fixture.data, &SETTINGS).prepared(without);
    server.launch();
    server.request("GET", "/api/maps").bearer(&token).send().expect(200);
    server.stop();
    assert_eq!(fs::read_to_string(fixture.data.join("admin-token")).expect("the file").trim(), token);
    server.launch();
    server.request("GET", "/api/maps").bearer(&token).send().expect(200);
}
