//! Power cuts at every step of a restore.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::rig::*;
use crate::backup::{MARK, refuse_half_restored};
use crate::disk::failure::Fault;
use crate::disk::{Disk, Point};

const COPY: &str = "/above/copy";
/// Outcomes of each cut that are looked at.
const OUTCOMES: u64 = 16;

/// What a restore has left is the whole backup, or nothing, or a folder that no server starts on.
fn expect_all_or_nothing(disk: &Disk, is_done: bool, events: &[crate::model::event::Event], at: &str) -> bool {
    let dir = Path::new(COPY);
    let names =
        disk.list(dir).map_or(Vec::new(), |entries| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>());
    let is_empty = names.iter().all(|name| name == "lock" || *name == format!("{MARK}.new"));
    if is_empty || refuse_half_restored(disk, dir).is_err() {
        assert!(!is_done, "{at}: {names:?}");
        return false;
    }
    let server = try_start_on(disk, dir).unwrap_or_else(|e| panic!("{at}: {e}; {}: {names:?}", e.cure()));
    assert!(server.events() == events, "{at}");
    assert_eq!(disk.read(Point::SecretKeyRead, &dir.join("secret-key")).expect("a key"), b"a key");
    assert_eq!((documents(&server).len(), notes(&server).len()), (5, 1), "{at}");
    true
}

#[test]
fn a_power_cut_at_any_step_leaves_the_whole_backup_or_nothing_that_a_server_starts_on() {
    let origin = Disk::simulated(1);
    let mut server = Server::new(&origin, Path::new("/origin"));
    server.publish(1, 200, 3);
    server.publish_with(2, 200, 3, Some(crate::log::DedupeKey::of_request("key")));
    server.write_note("a", "note");
    server.change(vec![crate::documents::Change::put(crate::documents::Table::Tokens, "t", &1).expect("a change")]);
    server.seal();
    server.publish(3, 200, 3);
    let (archive, events) = (server.back_up(), server.events());
    let (mut cuts, mut whole) = (0, 0);
    for point in Point::ALL {
        for after in 0.. {
            let disk = Disk::simulated(after);
            disk.faults().set(*point, Fault::panic().after(after).times(1));
            let restored = catch_unwind(AssertUnwindSafe(|| restore_to(&disk, &archive, Path::new(COPY))));
            let is_done = restored.is_ok();
            for seed in 0..OUTCOMES {
                let cut = disk.after_crash(seed).expect("a simulated disk");
                let at = format!("{point:?}, pass {after}, outcome {seed}");
                whole += u64::from(expect_all_or_nothing(&cut, is_done, &events, &at));
                cuts += 1;
            }
            if is_done {
                break;
            }
        }
    }
    assert!(cuts > 300 && whole > 10 && whole < cuts, "{whole} of {cuts}");
}
