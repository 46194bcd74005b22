//! What chance does to the disk of a simulation: something on it fails, it is full, it is well again.

use super::failure::Fault;
use super::{Disk, Point};

/// Whatever of the store touches the disk.
const POINTS: [Point; 11] = [
    Point::WalWrite,
    Point::WalSync,
    Point::WalOpen,
    Point::WalFill,
    Point::ManifestWrite,
    Point::DatabaseWrite,
    Point::DatabaseSync,
    Point::DatabaseOpen,
    Point::Rename,
    Point::Remove,
    Point::SyncFolder,
];

/// Lets one point fail some times, now or soon, and now and then the disk be full. `draw` gives a number below its argument.
/// Answers what was done.
pub fn fail_somewhere(disk: &Disk, mut draw: impl FnMut(u64) -> u64) -> String {
    let point = POINTS[draw(POINTS.len() as u64) as usize];
    let errno = if draw(2) == 0 { libc::ENOSPC } else { libc::EIO };
    let times = 1 + draw(3);
    disk.faults().set(point, Fault::errno(errno).after(draw(4)).times(times));
    let mut done = format!("{} fails {times} times", point.name());
    if draw(6) == 0
        && let Some(disk) = disk.simulation()
    {
        disk.set_capacity(Some(disk.used_bytes()));
        done.push_str(", the disk is full");
    }
    done
}

/// Everything works again, and the disk has so much room.
pub fn heal(disk: &Disk, capacity_bytes: u64) {
    disk.faults().clear_all();
    if let Some(disk) = disk.simulation() {
        disk.set_capacity(Some(capacity_bytes));
    }
}
