//! Starts of folders that a backup or retention left without events.

use std::path::Path;

use super::rig::*;
use crate::disk::Disk;
use crate::documents::{Change, Table};
use crate::log::{LogOptions, Retention};

#[test]
fn a_log_of_which_retention_took_everything_is_a_log() {
    let disk = Disk::simulated(1);
    let retention = Retention { max_age_ms: 10_000, ..Retention::default() };
    let mut server = Server::with(&disk, Path::new("/data"), LogOptions { retention, ..log_options() });
    server.publish(1, 100, 70);
    server.tick(20_000);
    server.tick(20_000);
    server.tick(20_000);
    assert_eq!(server.events().len(), 0);
    let server = server.restart();
    server.restart();
}

#[test]
fn many_changes_of_documents_without_events_are_no_gap() {
    let disk = Disk::simulated(1);
    let mut server = Server::new(&disk, Path::new("/data"));
    server.publish(1, 100, 70);
    server.tick(4_000_000);
    let long = "x".repeat(100_000);
    for n in 0..20 {
        server.change(vec![Change::put(Table::Tokens, "t", &(n, &long)).unwrap()]);
        server.tick(4_000_000);
    }
    let server = server.restart();
    server.restart();
}
