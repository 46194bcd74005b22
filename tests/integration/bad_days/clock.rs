//! A wall clock that jumps ahead: what is not old by the time that has passed is not dropped, and the jump is told.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::SETTINGS;
use crate::support::acknowledged::filler;
use crate::support::clock::Clock;
use crate::support::program::{Program, command};
use crate::support::random::{Random, seed};
use crate::support::server::ADMIN;
use crate::support::{Map, Sse, TestServer, eventually, throughout};

const HOUR_S: i64 = 3_600;
const YEAR_S: i64 = 365 * 24 * HOUR_S;
/// Retention looks once a second.
const ROUNDS: Duration = Duration::from_secs(5);

struct Scene {
    _folder: TempDir,
    clock: Clock,
    server: TestServer,
    map: Map,
    random: Random,
}

impl Scene {
    fn new(max_age_s: &str) -> Scene {
        let seed = seed();
        println!("STENTOR_TEST_SEED={seed}");
        let folder = tempfile::tempdir().expect("a folder can be made");
        let clock = Clock::new(folder.path());
        let settings = [&SETTINGS[..], &[("retention.max_age_s", max_age_s), ("log.level", "info")]].concat();
        let shared = clock.clone();
        let mut server =
            TestServer::at(&folder.path().join("data"), &settings).prepared(move |command| shared.on(command));
        server.launch();
        let map = server.new_map("m");
        Scene { _folder: folder, clock, server, map, random: Random(seed) }
    }

    /// Fills some segments.
    fn publish(&mut self) -> Vec<String> {
        let event = |n: usize, random: &mut Random| json!({"type": "map_kill", "payload": {"n": n, "filler": filler(random, 20_000)}});
        (0..4)
            .flat_map(|_| {
                let batch: Vec<_> = (0..50).map(|n| event(n, &mut self.random)).collect();
                self.map.publish(&json!(batch))
            })
            .collect()
    }

    fn kept(&self) -> usize {
        self.map.export().len()
    }

    /// The events `clock.jumped` of the server's own organization.
    fn jumps(&self) -> Vec<Value> {
        let at = "/api/v1/organizations/system/events?events=clock.jumped";
        self.server.admin("GET", at).send().expect(200)["data"].as_array().expect("events").clone()
    }
}

#[test]
fn a_clock_that_jumps_ahead_a_year_or_an_hour_drops_nothing_also_not_after_a_restart() {
    for (jump_s, max_age_s) in [(YEAR_S, "2592000"), (HOUR_S, "60")] {
        let mut scene = Scene::new(max_age_s);
        let ids = scene.publish();
        scene.clock.jump_s(jump_s);
        throughout(ROUNDS, "nothing is dropped", || scene.kept() == ids.len());
        // what comes after is no reason either to drop what was before
        let later = scene.publish();
        scene.server.restart();
        scene.map = scene.map.at(&scene.server);
        throughout(ROUNDS, "nothing is dropped after a restart", || scene.kept() == ids.len() + later.len());
        let mut stream = Sse::open(scene.map.request("GET", "/events/stream").header("Last-Event-ID", &ids[0]));
        assert_eq!(stream.next().id.as_ref(), Some(&ids[1]), "no gap");
        assert!(later[0] > ids[ids.len() - 1]);
        // and when the clock is put right, ids go on
        scene.clock.jump_s(0);
        let right = scene.publish();
        assert!(right[0] > later[later.len() - 1]);
        throughout(Duration::from_secs(2), "nothing is dropped", || scene.kept() == 3 * ids.len());
    }
}

#[test]
fn a_clock_that_jumps_is_told_in_the_organization_system_and_by_doctor() {
    let scene = Scene::new("2592000");
    throughout(Duration::from_secs(2), "no jump is told of a clock that goes well", || scene.jumps().is_empty());
    scene.clock.jump_s(YEAR_S);
    eventually("it is told", || !scene.jumps().is_empty());
    throughout(ROUNDS, "it is told once", || scene.jumps().len() == 1);
    let url = format!("http://{}", scene.server.addr());
    let mut doctor = command(&["doctor", "--server", &url]);
    // its own clock shows the same, so that only the jump is to be told
    doctor = scene.clock.on(doctor);
    doctor.env("STENTOR_TOKEN", ADMIN);
    let said = Program::start(doctor).wait();
    let tells = |line: &str| line.contains("clock") && line.contains("jump");
    assert!(said.out.lines().any(tells), "{said:?}");
}

#[test]
fn what_is_old_by_the_time_that_has_passed_goes_whatever_the_clock_does() {
    let mut scene = Scene::new("3");
    let old = scene.publish();
    scene.clock.jump_s(YEAR_S);
    scene.publish();
    // the segments grow old, and new ones begin
    eventually("the old ones are dropped", || {
        scene.map.publish(&json!({"type": "rally_point_added"}));
        let kept = scene.map.export();
        kept.iter().all(|line| old.iter().all(|id| !line.contains(&**id)))
    });
}
