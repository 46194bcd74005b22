use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::*;

const POINT: Point = Point::WalSync;
const PATIENCE: Duration = Duration::from_secs(10);

/// The outcome of each of several passes: the errno, or none.
fn passes(faults: &Faults, count: usize) -> Vec<Option<i32>> {
    (0..count).map(|_| faults.check(POINT).err().and_then(|e| e.raw_os_error())).collect()
}

#[test]
fn every_point_has_a_name_of_its_own_and_is_found_by_it() {
    let names: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(names.len(), Point::ALL.len());
    for point in Point::ALL {
        assert_eq!(Point::from_name(point.name()), Some(*point));
        assert!(point.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", point.name());
    }
    assert_eq!(Point::from_name("nothing"), None);
}

#[test]
fn a_point_fails_as_often_and_as_late_as_was_asked_for() {
    const EIO: Option<i32> = Some(libc::EIO);
    let faults = Faults::default();
    assert_eq!(passes(&faults, 2), [None; 2]);
    faults.fail(POINT, libc::EIO);
    assert_eq!(passes(&faults, 3), [EIO; 3]);
    faults.clear(POINT);
    assert_eq!(passes(&faults, 2), [None; 2]);
    faults.set(POINT, Fault::errno(libc::EIO).times(2));
    assert_eq!(passes(&faults, 4), [EIO, EIO, None, None]);
    faults.set(POINT, Fault::errno(libc::EIO).after(2));
    assert_eq!(passes(&faults, 4), [None, None, EIO, EIO]);
    faults.set(POINT, Fault::errno(libc::EIO).after(1).times(1));
    assert_eq!(passes(&faults, 3), [None, EIO, None]);
    assert!(faults.check(Point::WalWrite).is_ok(), "another point is not concerned");
    assert_eq!(faults.passed(POINT), 18);
    faults.clear_all();
    assert_eq!(faults.passed(Point::WalOpen), 0);
}

#[test]
fn a_point_panics_when_asked_to_and_works_afterwards() {
    let faults = Faults::default();
    faults.set(POINT, Fault::panic().times(1));
    assert!(catch_unwind(AssertUnwindSafe(|| faults.check(POINT))).is_err());
    assert!(faults.check(POINT).is_ok());
}

#[test]
fn a_thread_is_held_at_a_point_until_it_is_released() {
    let faults = Faults::default();
    let blocked = faults.block(POINT);
    assert!(!blocked.wait_until_reached(Duration::ZERO));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| faults.check(POINT));
        assert!(blocked.wait_until_reached(PATIENCE));
        assert!(!thread.is_finished());
        blocked.release();
        assert!(thread.join().expect("no panic").is_ok());
    });
    assert!(faults.check(POINT).is_ok(), "nobody is held any more");
}

#[test]
fn what_is_read_is_damaged_in_one_bit() {
    let faults = Faults::default();
    faults.set(POINT, Fault::damage().times(1));
    let mut bytes = [0; 9];
    assert!(faults.check(POINT).is_ok(), "the operation itself goes well");
    faults.damage(POINT, &mut []);
    faults.damage(POINT, &mut bytes);
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    faults.damage(POINT, &mut bytes);
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1, "only once");
}

#[test]
fn the_control_file_says_what_fails_and_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("faults");
    let faults = Faults::controlled_by(path.clone());
    let until = |errno: Option<i32>| {
        let deadline = Instant::now() + PATIENCE;
        while passes(&faults, 1) != [errno] {
            assert!(Instant::now() < deadline, "the file is not read");
            std::thread::yield_now();
        }
    };
    assert_eq!(passes(&faults, 2), [None; 2]);
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    write("# comment\n\nwal-sync=ENOSPC\nwal-open=EMFILE after=1 times=1\nno-such-point=EIO\nwal-read=nonsense\n");
    until(Some(libc::ENOSPC));
    let open = || faults.check(Point::WalOpen).map_err(|e| e.raw_os_error());
    assert_eq!([open(), open(), open()], [Ok(()), Err(Some(libc::EMFILE)), Ok(())]);
    assert!(faults.check(Point::WalRead).is_ok());
    write("wal-sync=EIO\n");
    until(Some(libc::EIO));
    std::fs::remove_file(&path).expect("removed");
    until(None);
}

#[test]
fn a_thread_that_the_control_file_holds_goes_on_when_its_line_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("faults");
    std::fs::write(&path, "wal-sync=block\n").expect("written");
    let faults = Faults::controlled_by(path.clone());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| faults.check(POINT));
        let deadline = Instant::now() + PATIENCE;
        while faults.passed(POINT) == 0 {
            assert!(Instant::now() < deadline, "the thread has not come");
            std::thread::yield_now();
        }
        assert!(!thread.is_finished());
        std::fs::write(&path, "").expect("written");
        assert!(thread.join().expect("no panic").is_ok());
    });
}

#[test]
fn lines_of_the_control_file_are_understood_or_refused() {
    for (text, fault) in [
        ("ENOSPC", Some(Fault::errno(libc::ENOSPC))),
        ("EIO times=3", Some(Fault::errno(libc::EIO).times(3))),
        ("panic after=2 times=1", Some(Fault::panic().after(2).times(1))),
        ("damage", Some(Fault::damage())),
        ("EIO times=x", None),
        ("EIO often", None),
        ("EIO sometimes=1", None),
        ("ENOTHING", None),
        ("", None),
    ] {
        assert_eq!(Fault::parse(text), fault, "{text}");
    }
}
