//! What is told of a data folder.

use std::path::{Path, PathBuf};

use super::rig::*;
use crate::backup::MARK;
use crate::backup::survey::{Finding, SurveyOptions, Verdict, survey};
use crate::disk::{DataFormat, DataLock, Disk, Point};
use crate::documents::Table;

const DATA: &str = "/data";

fn look(disk: &Disk) -> Vec<Finding> {
    look_with(disk, &SurveyOptions::default())
}

fn look_with(disk: &Disk, options: &SurveyOptions) -> Vec<Finding> {
    survey(disk, Path::new(DATA), options).expect("it can be read")
}

fn path(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

/// A folder of a server that was stopped, with three segments, and some events that are not sealed.
fn stopped() -> Disk {
    let disk = Disk::simulated(1);
    // after the second start the write-ahead log has given up what is in segments and documents
    busy(&disk, Path::new(DATA)).restart().stop();
    DataFormat::write(&disk, Path::new(DATA)).expect("a write");
    drop(DataLock::take(&disk, Path::new(DATA)).expect("it is free"));
    disk
}

/// The worst finding on a subject.
#[track_caller]
fn worst<'a>(findings: &'a [Finding], subject: &str) -> &'a Finding {
    let of_subject = findings.iter().filter(|finding| finding.subject == subject);
    let rank = |finding: &&Finding| match finding.verdict {
        Verdict::Fine => 0,
        Verdict::Doubtful => 1,
        Verdict::Bad => 2,
    };
    of_subject.max_by_key(rank).unwrap_or_else(|| panic!("nothing about {subject}: {findings:#?}"))
}

#[track_caller]
fn expect(findings: &[Finding], subject: &str, verdict: Verdict, said: &[&str]) {
    let finding = worst(findings, subject);
    let text = format!("{} {}", finding.text, finding.details.join(" "));
    assert!(finding.verdict == verdict && said.iter().all(|word| text.contains(word)), "{finding:#?}");
}

/// Whether a server starts, which is what the verdicts are about.
fn starts(disk: &Disk) -> bool {
    try_start_on(disk, Path::new(DATA)).is_ok()
}

fn damage(disk: &Disk, name: &str, at: u64) {
    disk.simulation().expect("it is simulated").damage(&path(name), at, 0x10).expect("a flip");
}

/// Every file below the folder with its bytes.
fn contents(disk: &Disk, dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in disk.list(dir).expect("a folder") {
        let path = dir.join(entry.name);
        match entry.is_dir {
            true => contents(disk, &path, found),
            false => found.push((path.clone(), disk.read(Point::BackupRead, &path).expect("a file"))),
        }
    }
}

#[test]
fn a_sound_folder_is_fine_in_every_respect_and_looking_changes_nothing() {
    let disk = stopped();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    contents(&disk, Path::new(DATA), &mut before);
    let findings = look(&disk);
    contents(&disk, Path::new(DATA), &mut after);
    assert!(before == after);
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Fine), "{findings:#?}");
    expect(&findings, "lock", Verdict::Fine, &["no server is running"]);
    expect(&findings, "log", Verdict::Fine, &["3 segments", "258 events", "and 4 more", "0000000002", "of 3 channels"]);
    expect(&findings, "documents", Verdict::Fine, &["1004 documents", "3 channels"]);
    expect(&findings, "wal", Verdict::Fine, &["4 events in no segment yet", "map:slug-3: 3 events"]);
    expect(&findings, "notes", Verdict::Fine, &["delivery log"]);
    assert!(starts(&disk));
}

#[test]
fn a_folder_of_a_running_server_is_looked_at_from_aside() {
    let disk = stopped();
    let held = DataLock::take(&disk, Path::new(DATA)).expect("it is free");
    let findings = look(&disk);
    expect(&findings, "lock", Verdict::Fine, &["a running server holds the folder"]);
    expect(&findings, "log", Verdict::Fine, &["3 segments"]);
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Fine), "{findings:#?}");
    assert!(findings.iter().all(|finding| finding.subject != "wal"));
    drop(held);
    expect(&look(&disk), "lock", Verdict::Fine, &["no server"]);
}

#[test]
fn a_folder_without_data_and_half_of_a_restore_are_told() {
    let disk = Disk::simulated(1);
    disk.create_dir_all(Path::new(DATA)).expect("a folder");
    let findings = look(&disk);
    expect(&findings, "lock", Verdict::Doubtful, &["no server has ever run"]);
    expect(&findings, "format", Verdict::Doubtful, &["no data"]);
    disk.replace(Point::BackupWrite, &path(MARK), b"").expect("a write");
    expect(&look(&disk), "restore", Verdict::Bad, &["empty the folder"]);
}

#[test]
fn a_format_that_is_newer_damaged_missing_or_old_is_told() {
    let disk = stopped();
    for (text, said) in [("3\n", "format 3"), ("?", "damaged")] {
        disk.replace(Point::FormatWrite, &path("format"), text.as_bytes()).expect("a write");
        expect(&look(&disk), "format", Verdict::Bad, &[said]);
    }
    disk.remove_file(&path("format")).expect("a removal");
    expect(&look(&disk), "format", Verdict::Bad, &["is missing"]);
    disk.replace(Point::FormatWrite, &path("state/db"), b"x").expect("a write");
    expect(&look(&disk), "format", Verdict::Doubtful, &["older version"]);
}

#[test]
fn lost_documents_are_told_with_the_channels_and_events_that_are_concerned() {
    let disk = stopped();
    disk.remove_dir_all(&path("state")).expect("a removal");
    let findings = look(&disk);
    expect(
        &findings,
        "documents",
        Verdict::Bad,
        &["lost", "262 events of 3 channels", "channel number 2: ", "stentor restore"],
    );
    assert!(!starts(&disk));
}

#[test]
fn documents_that_are_damaged_in_one_of_their_files_are_no_loss() {
    for name in ["copy", "manifest"] {
        let disk = stopped();
        damage(&disk, &format!("state/0000000001/{name}"), 10);
        expect(&look(&disk), "documents", Verdict::Doubtful, &["nothing is lost", "1004 documents"]);
        assert!(starts(&disk));
    }
    let disk = stopped();
    disk.remove_file(&path("state/0000000001/copy")).expect("a removal");
    // found in the raw file of the database
    expect(&look(&disk), "documents", Verdict::Doubtful, &["nothing is lost", "1004 documents"]);
}

#[test]
fn documents_that_are_older_than_the_log_are_told() {
    let disk = Disk::simulated(1);
    let mut server = Server::new(&disk, Path::new(DATA));
    server.publish(7, 10, 5);
    server.stop();
    DataFormat::write(&disk, Path::new(DATA)).expect("a write");
    expect(&look(&disk), "documents", Verdict::Bad, &["channel number 7: 5 events"]);
    assert!(!starts(&disk));
}

#[test]
fn missing_segments_are_told_with_the_time_of_their_events() {
    for (name, said) in
        [("log/0000000002", "between 2027"), ("log/0000000001", "before 2027"), ("log/0000000003", "from 2027")]
    {
        let disk = stopped();
        disk.remove_dir_all(&path(name)).expect("a removal");
        expect(&look(&disk), "log", Verdict::Bad, &[name, "is missing", said]);
        assert!(!starts(&disk), "{name}");
    }
    let disk = stopped();
    disk.remove_dir_all(&path("log")).expect("a removal");
    expect(&look(&disk), "wal", Verdict::Bad, &["are needed", "put all files"]);
    assert!(!starts(&disk));
}

#[test]
fn a_damaged_segment_is_told_with_what_becomes_of_it() {
    let disk = stopped();
    let file =
        disk.open(Point::DatabaseWrite, &path("log/0000000002/db"), crate::disk::Open::ReadWrite).expect("a file");
    file.set_len(Point::DatabaseWrite, 5_000).expect("it is cut");
    drop(file);
    expect(&look(&disk), "log", Verdict::Doubtful, &["0000000002 is damaged", "86 events", "map:slug-1: 28 events"]);
    assert!(starts(&disk));

    let disk = stopped();
    damage(&disk, "log/0000000002/manifest", 30);
    expect(&look(&disk), "log", Verdict::Doubtful, &["manifest", "makes it again"]);
    assert!(starts(&disk));

    let disk = stopped();
    disk.remove_file(&path("log/0000000002/manifest")).expect("a removal");
    expect(&look(&disk), "log", Verdict::Bad, &["manifest", "is missing"]);
    assert!(!starts(&disk));

    let disk = stopped();
    disk.remove_file(&path("log/0000000002/db")).expect("a removal");
    expect(&look(&disk), "log", Verdict::Bad, &["db is missing", "86 events"]);
    assert!(!starts(&disk));
}

#[test]
fn events_that_were_lost_by_damage_and_segments_that_were_put_aside_stay_told() {
    let disk = stopped();
    let file =
        disk.open(Point::DatabaseWrite, &path("log/0000000002/db"), crate::disk::Open::ReadWrite).expect("a file");
    file.set_len(Point::DatabaseWrite, 5_000).expect("it is cut");
    drop(file);
    let server = start_on(&disk, Path::new(DATA));
    let held = DataLock::take(&disk, Path::new(DATA)).expect("it is free");
    let findings = look(&disk);
    expect(&findings, "losses", Verdict::Doubtful, &["damage"]);
    expect(&findings, "quarantine", Verdict::Doubtful, &["1 segment was put aside", "0000000002-"]);
    drop(held);
    let mut server = server;
    server.tick(1_000);
    server.stop();
    expect(&look(&disk), "losses", Verdict::Doubtful, &["map:slug-2: events from 2027"]);
}

#[test]
fn damage_in_the_write_ahead_log_is_told_as_a_loss_or_as_the_end_of_all_starts() {
    let find = |disk: &Disk, text: &[u8]| {
        let bytes = disk.read(Point::BackupRead, &path("wal/00000001")).expect("a piece");
        bytes.windows(text.len()).position(|bytes| bytes == text).map(|at| at as u64)
    };
    // of events alone, after a kill
    let disk = Disk::simulated(1);
    let mut server = Server::new(&disk, Path::new(DATA));
    server.publish(1, 40, 1);
    server.publish(2, 40, 1);
    drop(server);
    DataFormat::write(&disk, Path::new(DATA)).expect("a write");
    let at = find(&disk, b"\"n\":0").expect("an event");
    damage(&disk, "wal/00000001", at);
    let findings = look(&disk);
    expect(&findings, "wal", Verdict::Doubtful, &["1 commit damaged", "wal/00000001", "1 event in no segment"]);
    assert!(findings.iter().all(|finding| finding.verdict != Verdict::Bad), "{findings:#?}");
    assert!(starts(&disk));
    // of documents
    let disk = Disk::simulated(1);
    drop(Server::new(&disk, Path::new(DATA)));
    DataFormat::write(&disk, Path::new(DATA)).expect("a write");
    let at = find(&disk, b"slug-2").expect("a document");
    damage(&disk, "wal/00000001", at);
    expect(&look(&disk), "documents", Verdict::Bad, &["lost in", "wal/00000001"]);
    assert!(!starts(&disk));
    // a piece that is missing
    let disk = stopped();
    disk.remove_file(&path("wal/00000001")).expect("a removal");
    expect(&look(&disk), "wal", Verdict::Bad, &["wal/00000001 is missing", "put all files"]);
    assert!(!starts(&disk));
}

#[test]
fn a_secret_key_that_is_missing_or_another_one_is_told() {
    use crate::model::seal::{KEY_BYTES, NONCE_BYTES, SealKey};
    let disk = Disk::simulated(1);
    let mut server = busy(&disk, Path::new(DATA));
    let text = SealKey::text_of([5; KEY_BYTES]);
    let key = SealKey::from_text(&text).expect("a key");
    let check = key.seal("the right key", "secret-check", [1; NONCE_BYTES]);
    server.change(vec![crate::documents::Change::put(Table::Numbers, "secret-check", &check).expect("a change")]);
    server.stop();
    DataFormat::write(&disk, Path::new(DATA)).expect("a write");
    expect(&look(&disk), "secrets", Verdict::Bad, &["is not the key"]);
    let own = SurveyOptions { secret_key: Some(text.to_string()), ..SurveyOptions::default() };
    assert!(look_with(&disk, &own).iter().all(|finding| finding.subject != "secrets"));
    disk.remove_file(&path("secret-key")).expect("a removal");
    expect(&look(&disk), "secrets", Verdict::Bad, &["secret-key is missing"]);
}

#[test]
fn a_log_far_beyond_its_retention_and_notes_that_are_missing_are_doubtful() {
    let disk = stopped();
    disk.remove_dir_all(&path("notes")).expect("a removal");
    let findings = look_with(&disk, &SurveyOptions { max_bytes: 10, ..SurveyOptions::default() });
    expect(&findings, "log", Verdict::Doubtful, &["retention.max_bytes"]);
    expect(&findings, "notes", Verdict::Doubtful, &["begins them anew"]);
}

/// The length of the file is right, so nobody sees it who does not read it.
#[test]
fn what_only_reading_shows_is_told_by_a_deep_look_and_nothing_is_changed() {
    let deep = |disk: &Disk| look_with(disk, &SurveyOptions { is_deep: true, ..SurveyOptions::default() });
    let disk = stopped();
    assert!(deep(&disk).iter().all(|finding| finding.verdict == Verdict::Fine), "{:#?}", deep(&disk));

    damage(&disk, "log/0000000002/db", 3_000);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    contents(&disk, Path::new(DATA), &mut before);
    assert!(look(&disk).iter().all(|finding| finding.verdict == Verdict::Fine));
    expect(&deep(&disk), "log", Verdict::Doubtful, &["one bit", "0000000002", "nothing is lost"]);
    contents(&disk, Path::new(DATA), &mut after);
    assert!(before == after);
    assert!(starts(&disk));

    let disk = stopped();
    for at in 0..400 {
        damage(&disk, "log/0000000002/db", 1_000 + 7 * at);
    }
    expect(&deep(&disk), "log", Verdict::Doubtful, &["0000000002 is damaged", "cannot be found any more", "event"]);
    assert!(starts(&disk));

    let disk = stopped();
    damage(&disk, "log/0000000002/keys", 70);
    expect(&deep(&disk), "log", Verdict::Doubtful, &["keys", "nothing is lost"]);

    let disk = stopped();
    damage(&disk, "state/0000000001/db", 10_000);
    expect(&deep(&disk), "documents", Verdict::Doubtful, &["nothing is lost", "its database: chunk"]);
    assert!(starts(&disk));
}

#[test]
fn a_segment_that_is_another_one_is_told() {
    let disk = stopped();
    for name in ["db", "manifest"] {
        let bytes = disk.read(Point::BackupRead, &path("log/0000000001").join(name)).expect("a file");
        disk.replace(Point::BackupWrite, &path("log/0000000002").join(name), &bytes).expect("a write");
    }
    expect(
        &look(&disk),
        "log",
        Verdict::Bad,
        &["0000000002 is not the segment that was written there", "it is segment 1", "no server starts"],
    );
    assert!(!starts(&disk));
}

#[test]
fn what_a_server_may_not_open_is_told() {
    for name in ["log/0000000002/db", "state/0000000001/copy", "wal/00000001"] {
        let disk = stopped();
        disk.remove_file(&path(name)).expect("a removal");
        disk.create_dir_all(&path(name)).expect("a folder");
        let findings = look(&disk);
        assert!(
            findings.iter().any(|finding| finding.verdict == Verdict::Bad && finding.text.contains(name)),
            "{name}: {findings:#?}"
        );
        assert!(!starts(&disk), "{name}");
    }
    let disk = stopped();
    disk.remove_file(&path("lock")).expect("a removal");
    disk.create_dir_all(&path("lock")).expect("a folder");
    expect(&look(&disk), "lock", Verdict::Bad, &["no server starts"]);
}

#[test]
fn a_write_ahead_log_that_is_an_older_copy_is_told() {
    let disk = stopped();
    let mut older = Vec::new();
    contents(&disk, &path("wal"), &mut older);
    let mut server = start_on(&disk, Path::new(DATA));
    server.change(vec![crate::documents::Change::put(Table::Tokens, b"new", &"a token").expect("a change")]);
    server.restart().stop();
    disk.remove_dir_all(&path("wal")).expect("a removal");
    disk.create_dir_all(&path("wal")).expect("a folder");
    for (path, bytes) in older {
        disk.replace(Point::BackupWrite, &path, &bytes).expect("a write");
    }
    expect(&look(&disk), "wal", Verdict::Bad, &["ends at commit", "no server starts"]);
    assert!(!starts(&disk));
}

#[test]
fn a_rebuilt_segment_that_has_not_taken_its_place_yet_is_no_hole() {
    let disk = stopped();
    disk.rename(&path("log/0000000002"), &path("log/0000000002.new")).expect("a rename");
    expect(&look(&disk), "log", Verdict::Fine, &["3 segments", "258 events"]);
    assert!(starts(&disk));
    let disk = stopped();
    // and what sealing had only begun, whatever its number is
    for name in ["log/0000000002.new", "log/0000000099"] {
        disk.create_dir_all(&path(name)).expect("a folder");
    }
    expect(&look(&disk), "log", Verdict::Fine, &["258 events"]);
    assert!(starts(&disk));
}
