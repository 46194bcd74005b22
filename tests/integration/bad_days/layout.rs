//! The data folder itself: who may read it, and which version of it a server takes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{SETTINGS, Stopped, as_it_is, expect_refusal, expect_whole_after_start};
use crate::support::random::{Random, seed};
use crate::support::{TestServer, folder};

#[test]
fn nobody_but_the_owner_may_read_anything_whatever_the_mask_for_new_files_is() {
    let open = |mut command: Command| {
        // SAFETY: only a system call is made between fork and exec
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                libc::umask(0);
                Ok(())
            });
        }
        command
    };
    let at = tempfile::tempdir().expect("a folder can be made");
    let data = at.path().join("data");
    let mut server = TestServer::at(&data, &SETTINGS).prepared(open);
    server.launch();
    let map = server.new_map("m");
    map.publish_many(5_000);
    assert_eq!(folder::open_to_others(&data), Vec::<String>::new(), "while it runs");
    server.stop();
    assert_eq!(folder::open_to_others(&data), Vec::<String>::new(), "after it was stopped");
    assert_eq!(fs::metadata(&data).expect("the folder").permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_folder_of_a_newer_version_is_refused_by_its_number_and_not_touched() {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let stopped = Stopped::new(&mut Random(seed));
    let file = stopped.data.join("format");
    let ours = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let digits: String = ours.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    assert_eq!(digits, "2", "the number of the version in {ours:?}");
    fs::write(&file, ours.replacen(&digits, "97", 1)).expect("it can be written");
    expect_refusal(&stopped.data, as_it_is, &[&["format"], &["97"], &["newer"]]);
    fs::write(&file, ours).expect("it can be written");
    expect_whole_after_start(&stopped.data, &stopped.acknowledged);
}
