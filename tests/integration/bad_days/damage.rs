//! Data folders that were spoilt after a clean stop. The server starts with everything, or says what is lost in every place where
//! it has to, or ends with 1 and names the way out. It never has less in silence, and never shows one tenant's events to another.

use std::fs;
use std::path::{Path, PathBuf};

use super::{SETTINGS, Stopped, as_it_is, expect_refusal, expect_whole_after_start, judge_refusal, quiet};
use crate::support::acknowledged::{Acknowledged, Owner, Verdict, events_at, new_token};
use crate::support::folder::{self, Bit, places};
use crate::support::program::{Ended, Program, command};
use crate::support::random::{Random, seed};
use crate::support::{TestServer, eventually};

/// Of a run that says nothing else by `STENTOR_FLIPS`.
const PLACES: usize = 40;
/// What a refusal has to name when what is configured cannot be had.
const WAYS_OUT: [&str; 2] = ["stentor restore", "stentor doctor"];

/// A way to spoil a data folder, and its name.
type Way = (String, Box<dyn Fn(&Path)>);

/// Files that are taken from another folder: what they are, where they go, where they come from, and their names.
type Exchange<'a> = (&'static str, &'a PathBuf, &'a PathBuf, &'static [&'static str]);

/// What became of a start on a spoilt folder.
#[derive(Debug)]
enum Outcome {
    Refused(Ended),
    Judged(Verdict),
}

fn count() -> usize {
    std::env::var("STENTOR_FLIPS").map_or(PLACES, |count| count.parse().expect("a number of places"))
}

fn random() -> Random {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    Random(seed)
}

/// Starts on a folder and judges what is there. A server that starts must also keep a new tenant apart from the others, and
/// say the same after it was killed and started again.
fn outcome(data: &Path, acknowledged: &Acknowledged) -> Result<Outcome, Vec<String>> {
    let mut server = TestServer::at(data, &SETTINGS);
    if let Err(ended) = server.try_launch() {
        return if ended.code == Some(1) && ended.err.contains(&data.display().to_string()) {
            Ok(Outcome::Refused(ended))
        } else {
            Err(vec![format!("a refusal has exit code 1 and names a file: {ended:?}")])
        };
    }
    let verdict = acknowledged.judge(&server)?;
    if verdict != Verdict::Whole {
        server.restart();
        let again = acknowledged.judge(&server)?;
        if again != verdict {
            return Err(vec![format!("{verdict:?} became {again:?} by a restart")]);
        }
    }
    let stranger = server.new_map("a new tenant");
    let seen = stranger.export();
    if !seen.is_empty() {
        return Err(vec![format!("a new tenant reads {} events of others", seen.len())]);
    }
    Ok(Outcome::Judged(verdict))
}

/// Spoils a copy in each of these ways and collects what is wrong. `may_lose`: whether an announced loss of events is right.
fn spoil_each(stopped: &Stopped, ways: Vec<Way>, ways_out: &[&str], may_lose: bool) {
    let mut failures = Vec::new();
    for (name, spoil) in ways {
        let data = stopped.copy();
        spoil(&data);
        match outcome(&data, &stopped.acknowledged) {
            Err(wrong) => failures.push(format!("{name}: {wrong:#?}")),
            Ok(Outcome::Judged(Verdict::Announced { lost })) if !lost.is_empty() && !may_lose => {
                failures.push(format!("{name}: {} events are lost, though announced", lost.len()));
            }
            Ok(Outcome::Refused(ended)) => {
                println!("{name}: {}", ended.err.trim_end());
                if !ways_out.iter().all(|way| ended.err.contains(way)) {
                    failures.push(format!("{name}: the refusal names none of {ways_out:?}: {}", ended.err));
                }
                // whoever has the right bytes puts them back
                folder::copy_into(&stopped.data, &data);
                let mut server = TestServer::at(&data, &SETTINGS);
                match server.try_launch().map(|()| stopped.acknowledged.judge(&server)) {
                    Ok(Ok(Verdict::Whole)) => {}
                    other => failures.push(format!("{name}: with the right bytes again: {other:?}")),
                }
            }
            Ok(Outcome::Judged(verdict)) => println!("{name}: {verdict:?}"),
        }
        folder::remove(&data);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Starts a server that must have everything, or refuse as [`expect_refusal`] says. Returns the line of the refusal.
#[track_caller]
fn expect_whole_or_refusal(data: &Path, acknowledged: &Acknowledged, words: &[&[&str]]) -> Option<String> {
    let before = folder::listing(data);
    let mut server = quiet(data, as_it_is);
    if let Err(ended) = server.try_launch() {
        return Some(judge_refusal(data, &before, &ended, words));
    }
    acknowledged.expect_whole(&server);
    server.stop();
    None
}

/// What doctor says of a folder.
fn doctor(data: &Path) -> Ended {
    let mut doctor = command(&["doctor", "--data"]);
    doctor.arg(data);
    Program::start(doctor).wait()
}

fn way(name: impl Into<String>, spoil: impl Fn(&Path) + 'static) -> Way {
    (name.into(), Box::new(spoil))
}

/// Removing, cutting and emptying a file, as one does by accident.
fn ways_for(data: &Path, file: &Path) -> Vec<Way> {
    let below: PathBuf = file.strip_prefix(data).expect("it is below").into();
    let name = below.display().to_string();
    let at = move |data: &Path| data.join(&below);
    let (removed, cut, short, zero) = (at.clone(), at.clone(), at.clone(), at);
    vec![
        way(format!("{name} removed"), move |data| folder::remove(&removed(data))),
        way(format!("{name} cut to half"), move |data| {
            let path = cut(data);
            folder::truncate(&path, fs::metadata(&path).expect("the file").len() / 2);
        }),
        way(format!("{name} cut to 100 bytes"), move |data| folder::truncate(&short(data), 100)),
        way(format!("{name} zeroed"), move |data| folder::zero(&zero(data))),
    ]
}

/// One flipped bit in each of the places: never silent, at most one commit lost, and with the bit turned back all is there.
fn flip_each(stopped: &Stopped, places: Vec<Bit>) {
    let (mut failures, mut refused, mut announced) = (Vec::new(), 0, 0);
    let count = places.len();
    for place in places {
        let data = stopped.copy();
        place.flip(&data);
        match outcome(&data, &stopped.acknowledged) {
            Err(wrong) => failures.push(format!("{place:?}: {wrong:#?}")),
            Ok(Outcome::Judged(Verdict::Announced { lost })) => {
                announced += 1;
                let commits = &stopped.acknowledged.commits;
                let in_one = commits.iter().any(|commit| lost.iter().all(|id| commit.contains(id)));
                if !in_one {
                    failures.push(format!("{place:?}: more than one commit is lost: {lost:?}"));
                }
            }
            Ok(Outcome::Judged(Verdict::Whole)) => {}
            Ok(Outcome::Refused(ended)) => {
                refused += 1;
                place.flip(&data);
                let mut server = TestServer::at(&data, &SETTINGS);
                match server.try_launch().map(|()| stopped.acknowledged.judge(&server)) {
                    Ok(Ok(Verdict::Whole)) => {}
                    other => failures.push(format!("{place:?}: {}, and turned back: {other:?}", ended.err)),
                }
            }
        }
        folder::remove(&data);
    }
    println!("{count} bits: {refused} refused, {announced} announced, the rest whole");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn what_was_acknowledged_is_there_after_a_stop_and_after_a_kill() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let mut server = TestServer::at(&stopped.data, &SETTINGS);
    server.launch();
    stopped.acknowledged.expect_whole(&server);
    server.restart();
    stopped.acknowledged.expect_whole(&server);
}

#[test]
fn a_flipped_bit_in_the_log_is_never_silent() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let places = places(&stopped.data, "log", count(), &mut random);
    flip_each(&stopped, places);
}

#[test]
fn a_flipped_bit_in_the_write_ahead_log_is_never_silent() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let places = places(&stopped.data, "wal", count(), &mut random);
    flip_each(&stopped, places);
}

#[test]
fn a_flipped_bit_in_what_is_configured_is_never_silent() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let places = places(&stopped.data, "state", count(), &mut random);
    flip_each(&stopped, places);
}

#[test]
fn a_flipped_bit_in_a_file_beside_the_databases_is_never_silent() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let small = ["format", "secret-key"].into_iter().flat_map(|name| {
        let bytes = fs::metadata(stopped.data.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")).len();
        let bit = |n| Bit { file: name.into(), byte: n % bytes, bit: (n / bytes % 8) as u8 };
        (0..count().div_ceil(4) as u64).map(bit).collect::<Vec<_>>()
    });
    flip_each(&stopped, small.collect());
}

/// The last record may be lost with its only witness, so it is one that nobody waits for.
#[test]
fn a_flipped_bit_in_the_write_ahead_log_after_a_kill_is_never_silent_but_in_the_last_record() {
    let mut random = random();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().join("data");
    let mut server = TestServer::at(&data, &SETTINGS);
    server.launch();
    let acknowledged = Acknowledged::make(&server, super::EVENTS, super::EVENT_BYTES, &mut random);
    let (channel, token) = acknowledged.channels()[0].clone();
    let last = serde_json::json!({"type": "marker", "payload": {}});
    server.request("POST", &events_at(&channel)).bearer(&token).json(&last).send().expect(201);
    server.kill();
    let killed = Stopped { folder, data, acknowledged };
    let places = places(&killed.data, "wal", count(), &mut random);
    flip_each(&killed, places);
}

#[test]
fn spoilt_files_of_what_is_configured_are_healed_or_end_the_start() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let generation = folder::newest(&stopped.data.join("state"));
    let files = ["db", "manifest", "copy"].map(|name| generation.join(name));
    let mut ways: Vec<Way> = files.iter().flat_map(|file| ways_for(&stopped.data, file)).collect();
    let all = |spoil: fn(&Path)| {
        move |data: &Path| {
            let generation = folder::newest(&data.join("state"));
            ["db", "manifest", "copy"].iter().for_each(|name| spoil(&generation.join(name)));
        }
    };
    ways.extend([
        way("every file of the generation zeroed", all(folder::zero)),
        way("every file of the generation cut", all(|path| folder::truncate(path, 10))),
        way("every file of the generation removed", all(folder::remove)),
        way("the newest generation removed", |data| folder::remove(&folder::newest(&data.join("state")))),
        way("state removed", |data| folder::remove(&data.join("state"))),
        way("state emptied", |data| {
            folder::remove(&data.join("state"));
            fs::create_dir(data.join("state")).expect("it can be made");
        }),
        way("state and the write-ahead log removed", |data| {
            folder::remove(&data.join("state"));
            folder::remove(&data.join("wal"));
        }),
        way("format removed", |data| folder::remove(&data.join("format"))),
    ]);
    spoil_each(&stopped, ways, &[], false);
}

/// As long as the write-ahead log has all of it, a start makes it whole. Doctor says beforehand which of the two it will be.
#[test]
fn a_start_without_what_is_configured_is_whole_or_names_the_ways_out() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    for parts in [&["state"][..], &["state", "wal"]] {
        let data = stopped.copy();
        parts.iter().for_each(|part| folder::remove(&data.join(part)));
        let said = doctor(&data);
        let missing: Vec<_> = parts.iter().map(|part| data.join(part).display().to_string()).collect();
        let missing: Vec<_> = missing.iter().map(String::as_str).collect();
        let refused = expect_whole_or_refusal(&data, &stopped.acknowledged, &[&missing, &WAYS_OUT]);
        assert!(refused.is_some() || !parts.contains(&"wal"), "nothing has what was configured");
        match refused {
            None => assert_eq!(said.code, Some(0), "{said:?}"),
            Some(line) => {
                assert!(!line.contains("panicked"), "{line}");
                let events: usize = stopped.acknowledged.events.values().map(Vec::len).sum();
                assert_eq!(said.code, Some(1), "{said:?}");
                assert!(said.out.contains("channel") && said.out.contains("events"), "of {events} events: {said:?}");
            }
        }
        folder::remove(&data);
    }
    let data = stopped.copy();
    folder::remove(&data.join("state"));
    let mut server = TestServer::at(&data, &SETTINGS);
    server.set(&[("log.level", "info")]);
    server.launch();
    eventually("its log says where what is configured came from", || {
        server.log_lines().iter().any(|line| line.contains("there is no generation of the documents"))
    });
}

/// An older copy knows neither of a revocation nor of a tenant whose channel number it would give out again.
#[test]
fn what_is_configured_replaced_by_an_older_copy_is_made_whole_or_ends_the_start() {
    let mut random = random();
    let older = tempfile::tempdir().expect("a folder can be made");
    let stopped = Stopped::with(&mut random, |server, acknowledged, random| {
        server.stop();
        folder::copy_into(server.folder(), older.path());
        server.launch();
        let channel = acknowledged.channels()[0].0.clone();
        let leaked = acknowledged.tokens.iter().find(|token| token.channel == channel).cloned().expect("a token");
        acknowledged.revoke(server, leaked);
        let token = new_token(server, &channel, &["publish"], "made later");
        acknowledged.tokens.push(token);
        let later = server.new_map("Later");
        let owner = Owner { id: later.id, slug: None, name: "Later".into(), token: later.token };
        acknowledged.maps.push(owner);
        acknowledged.publish(server, 300, super::EVENT_BYTES, random);
    });
    let older = older.path().to_path_buf();
    let replaced = |parts: &'static [&'static str]| {
        let older = older.clone();
        way(format!("an older copy of {parts:?}"), move |data: &Path| {
            for part in parts {
                folder::remove(&data.join(part));
                fs::create_dir(data.join(part)).expect("it can be made");
                folder::copy_into(&older.join(part), &data.join(part));
            }
        })
    };
    let ways = [&["state"][..], &["wal"], &["log"], &["state", "wal"], &["state", "log"], &["log", "wal"]];
    spoil_each(&stopped, ways.into_iter().map(replaced).collect(), &[], false);
}

#[test]
fn pieces_of_the_write_ahead_log_that_are_spoilt_are_never_silent() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let mut ways = ways_for(&stopped.data, &stopped.data.join("wal/manifest"));
    for piece in folder::numbered(&stopped.data.join("wal")) {
        ways.extend(ways_for(&stopped.data, &piece));
    }
    ways.push(way("the write-ahead log removed", |data| folder::remove(&data.join("wal"))));
    spoil_each(&stopped, ways, &[], true);
}

#[test]
fn segments_of_the_log_that_are_spoilt_are_never_silent() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let mut ways = Vec::new();
    for segment in folder::numbered(&stopped.data.join("log")) {
        for name in ["db", "manifest"] {
            ways.extend(ways_for(&stopped.data, &segment.join(name)));
        }
    }
    let first = folder::numbered(&stopped.data.join("log"))[0].join("conf");
    let conf = first.strip_prefix(&stopped.data).expect("it is below").to_path_buf();
    ways.push(way("conf removed", move |data| folder::remove(&data.join(&conf))));
    spoil_each(&stopped, ways, &[], true);
}

/// Channel numbers and the numbers of segments are the same in both.
#[test]
fn what_is_another_data_folders_is_never_shown_and_never_silent() {
    let mut random = random();
    let (stopped, other) = (Stopped::new(&mut random), Stopped::new(&mut random));
    let [own_state, other_state] = [&stopped, &other].map(|one| folder::newest(&one.data.join("state")));
    let [own_first, other_first] = [&stopped, &other].map(|one| folder::numbered(&one.data.join("log"))[0].clone());
    let files: [Exchange<'_>; 4] = [
        ("a segment", &own_first, &other_first, &["db", "manifest"]),
        ("the database of a segment", &own_first, &other_first, &["db"]),
        ("the database of a generation", &own_state, &other_state, &["db"]),
        ("the copy of a generation", &own_state, &other_state, &["copy"]),
    ];
    let exchange = |(what, own, other, names): Exchange<'_>| {
        let own = own.strip_prefix(&stopped.data).expect("it is below").to_path_buf();
        let other = other.clone();
        way(format!("{what} of another folder"), move |data| {
            for name in names {
                fs::copy(other.join(name), data.join(&own).join(name)).expect("it can be copied");
            }
        })
    };
    let mut ways: Vec<Way> = files.into_iter().map(exchange).collect();
    let notes = other.data.join("notes");
    ways.push(way("the notes of another folder", move |data| {
        folder::remove(&data.join("notes"));
        fs::create_dir(data.join("notes")).expect("it can be made");
        folder::copy_into(&notes, &data.join("notes"));
    }));
    spoil_each(&stopped, ways, &[], true);
}

/// As long as the write-ahead log has all of its events, a start makes it again.
#[test]
fn a_segment_that_was_removed_is_made_again_or_ends_the_start_and_is_named() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    for segment in folder::numbered(&stopped.data.join("log")) {
        let data = stopped.copy();
        let gone = data.join(segment.strip_prefix(&stopped.data).expect("it is below"));
        folder::remove(&gone);
        let words: [&[&str]; 2] = [&[&gone.display().to_string()], &WAYS_OUT];
        if expect_whole_or_refusal(&data, &stopped.acknowledged, &words).is_some() {
            folder::copy_into(&stopped.data, &data);
            expect_whole_after_start(&data, &stopped.acknowledged);
        }
        folder::remove(&data);
    }
}

/// Delivery log, counters and dead letters: for people only, and no reason not to start.
#[test]
fn notes_that_are_spoilt_are_begun_anew_and_that_is_said() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let mut ways = ways_for(&stopped.data, &stopped.data.join("notes/db"));
    ways.push(way("notes removed", |data| folder::remove(&data.join("notes"))));
    for place in places(&stopped.data, "notes", 10, &mut random) {
        ways.push(way(format!("{place:?}"), move |data| place.flip(data)));
    }
    for (name, spoil) in ways {
        let data = stopped.copy();
        spoil(&data);
        match outcome(&data, &stopped.acknowledged) {
            Ok(Outcome::Judged(Verdict::Whole)) => {}
            Ok(Outcome::Judged(Verdict::Announced { lost })) if lost.is_empty() => {}
            other => panic!("{name}: {other:#?}"),
        }
        folder::remove(&data);
    }
}

#[test]
fn an_opening_that_was_killed_does_not_hinder_the_next() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    assert!(folder::interrupt_openings(&stopped.data) > 2);
    expect_whole_after_start(&stopped.data, &stopped.acknowledged);
}

#[test]
fn a_key_that_is_not_the_right_one_ends_the_start() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    const OTHER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let data = stopped.copy();
    fs::write(data.join("secret-key"), OTHER).expect("it can be written");
    expect_refusal(&data, as_it_is, &[&["secret-key"]]);
    folder::remove(&data.join("secret-key"));
    expect_refusal(&data, as_it_is, &[&["secret-key"]]);
    let data = stopped.copy();
    let by_environment = |mut command: std::process::Command| {
        command.env("STENTOR_SECRET_KEY", OTHER);
        command
    };
    expect_refusal(&data, by_environment, &[&["STENTOR_SECRET_KEY"]]);
    expect_whole_after_start(&data, &stopped.acknowledged);
}

/// Damage that is only met when it is read: the start does not look at every event.
#[test]
fn a_stretch_of_a_segment_that_is_lost_is_told_by_readers_readiness_and_doctor() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let first = folder::numbered(&stopped.data.join("log"))[0].join("db");
    // a stretch in the middle, which holds events and not the head or the end of the file
    let bytes = fs::metadata(&first).expect("the file").len();
    let file = fs::OpenOptions::new().write(true).open(&first).expect("it opens");
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0x5a; 64 * 1024], bytes / 8).expect("it can be written");
    drop(file);
    match outcome(&stopped.data, &stopped.acknowledged).expect("never silent") {
        Outcome::Judged(Verdict::Announced { lost }) => assert!(!lost.is_empty()),
        other => panic!("a part of a segment is lost, the rest is served: {other:?}"),
    }
    let mut server = TestServer::at(&stopped.data, &SETTINGS);
    server.launch();
    eventually("doctor tells it, too", || {
        let said = doctor(&stopped.data);
        said.out.contains("warn") && said.out.contains("damage")
    });
}
