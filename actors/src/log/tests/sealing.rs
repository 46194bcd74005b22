//! Sealing that does not come to its end.

use super::parts::{events, simulated};
use super::*;
use crate::disk::Point;
use crate::disk::failure::Fault;
use crate::log::{Dedupe, LogOptions, Retention};
use crate::model::event::ChannelNo;

#[test]
fn sealing_that_fails_is_tried_again_and_loses_nothing() {
    for point in [
        Point::DatabaseWrite,
        Point::DatabaseSync,
        Point::DatabaseOpen,
        Point::ManifestWrite,
        Point::CopyWrite,
        Point::WalRead,
    ] {
        let mut rig = simulated(options());
        let dedupe = Dedupe { channel: ChannelNo(1), key: key("a"), first: id(1), count: 1 };
        rig.append_with(&events(0, 50, 2), &[dedupe]);
        assert!(rig.log.roll());
        rig.disk.faults().fail(point, libc::ENOSPC);
        let failed = rig.seal_step().unwrap_err();
        assert!(failed.is_full(), "{point:?}: {failed}");
        assert_eq!(rig.log.needed_from(), Some(1));
        rig.disk.faults().clear_all();
        assert_eq!(rig.read(0).len(), 50, "{point:?}");
        let mut rig = rig.restart();
        assert_eq!(rig.read(0).len(), 50, "{point:?}");
        rig.seal();
        let rig = rig.restart();
        assert_eq!((rig.read(0).len(), rig.log.sealed_through()), (50, 1), "{point:?}");
    }
}

/// Found by the simulation of the journal: the manifest was there when its folder could not be synced, and the next attempt removed
/// the database before it. A power cut in between left a segment without a database, and nothing started any more. And when it could
/// not be noted durably that the segment is there, the next attempt removed it, though the note may have been kept.
#[test]
fn what_a_failed_attempt_to_seal_has_left_is_no_segment_after_a_power_cut() {
    let mut failed = 0;
    for (syncs, seed) in (0..6).flat_map(|syncs| (0..15).map(move |seed| (syncs, seed))) {
        let mut rig = simulated(options());
        let dedupe = Dedupe { channel: ChannelNo(1), key: key("a"), first: id(1), count: 1 };
        rig.append_with(&events(0, 50, 2), &[dedupe]);
        assert!(rig.log.roll());
        rig.disk.faults().set(Point::SyncFolder, Fault::errno(libc::EIO).after(syncs).times(1));
        failed += u32::from(rig.seal_step().is_err());
        // the next attempt comes as far as to remove what is there
        rig.disk.faults().fail(Point::DatabaseWrite, libc::EIO);
        let _ = rig.seal_step();
        let rig = rig.after_crash(seed).unwrap_or_else(|e| panic!("after {syncs} syncs, seed {seed}: {e}"));
        assert_eq!(rig.read(0).len(), 50, "after {syncs} syncs, seed {seed}");
    }
    assert!(failed > 30, "{failed} attempts failed");
}

/// Found by the simulation of the journal (seed 4978): the manifest was there when its folder could not be synced, and could not be
/// removed either. After a restart the segment counted as sealed, others came behind it, and then a power cut took its manifest.
#[test]
fn what_a_start_takes_for_a_segment_is_there_after_a_power_cut() {
    let mut failed = 0;
    for (syncs, seed) in (0..6).flat_map(|syncs| (0..15).map(move |seed| (syncs, seed))) {
        let mut rig = simulated(options());
        rig.append(&events(0, 50, 2));
        assert!(rig.log.roll());
        rig.disk.faults().set(Point::SyncFolder, Fault::errno(libc::EIO).after(syncs).times(1));
        rig.disk.faults().set(Point::Remove, Fault::errno(libc::EIO).after(1));
        failed += u32::from(rig.seal_step().is_err());
        rig.disk.faults().clear_all();
        let mut rig = rig.restart();
        rig.append(&events(50, 50, 2));
        rig.seal();
        let rig = rig.after_crash(seed).unwrap_or_else(|e| panic!("after {syncs} syncs, seed {seed}: {e}"));
        assert_eq!(rig.read(0).len(), 100, "after {syncs} syncs, seed {seed}");
    }
    assert!(failed > 30, "{failed} attempts failed");
}

/// Found by the simulation of the journal (seed 6578): the manifest of an emptied segment could not be synced. After a restart the
/// files that it says have gone were removed, and a power cut brought the manifest back that needs them.
#[test]
fn an_emptied_segment_loses_its_files_only_when_its_manifest_is_durable() {
    let retention = Retention { max_age_ms: 1000, ..Default::default() };
    let mut failed = 0;
    for (syncs, seed) in (0..4).flat_map(|syncs| (0..15).map(move |seed| (syncs, seed))) {
        let mut rig = simulated(LogOptions { retention, ..options() });
        rig.append(&events(0, 50, 2));
        rig.seal();
        rig.tick(5000);
        rig.disk.faults().set(Point::SyncFolder, Fault::errno(libc::EIO).after(syncs).times(1));
        let expiry = rig.log.retention_step(rig.now).expect("all of it is too old");
        store(&mut rig.stored, &expiry.changes);
        failed += u32::from(rig.log.drop_segments(&expiry).is_err());
        rig.disk.faults().clear_all();
        let rig = rig.restart();
        rig.log.remove_leftovers().unwrap();
        let rig = rig.after_crash(seed).unwrap_or_else(|e| panic!("after {syncs} syncs, seed {seed}: {e}"));
        assert_eq!(rig.log.sealed_through(), 1, "after {syncs} syncs, seed {seed}");
    }
    assert!(failed > 20, "{failed} attempts failed");
}
