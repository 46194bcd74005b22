//! `stentor login`: what is asked, tried and kept, and where the token goes.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::program::{Ended, Program, command};
use crate::support::server::ADMIN;
use crate::support::{TestServer, eventually};

/// A command whose user has this home folder, and nothing in the environment.
fn at_home(home: &Path, words: &[&str]) -> Command {
    let mut command = command(words);
    command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME").env("HOME", home);
    command
}

fn run(home: &Path, words: &[&str], input: &str) -> Ended {
    let mut program = Program::start(at_home(home, words));
    program.type_in(input);
    program.wait()
}

fn url(server: &TestServer) -> String {
    format!("http://{}", server.addr())
}

/// A terminal: our side of it, and the one that a program gets.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    let nothing = std::ptr::null_mut();
    // SAFETY: both numbers are ours to be written, and what may be left out is left out
    assert_eq!(unsafe { libc::openpty(&mut ours, &mut theirs, nothing, nothing.cast(), nothing.cast()) }, 0);
    // SAFETY: both were opened just now and belong to nobody else
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

#[test]
fn a_token_that_works_is_kept_for_its_owner_and_used_by_the_commands_that_come_after() {
    let server = TestServer::start(&[]);
    let home = tempfile::tempdir().expect("a folder");
    let map = server.new_map("home");
    let said = run(home.path(), &["login", "--server", &url(&server)], &format!("{}\n", map.token));
    assert!(said.expect(0).contains("subscribe, publish, manage"), "{said:?}");
    let file = home.path().join(".config/stentor/login.toml");
    let mode = std::fs::metadata(&file).expect("the login is kept").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(run(home.path(), &["map", "list"], "").expect(0).contains("home"));
    assert!(run(home.path(), &["trigger", "map:home", "map_kill"], "").expect(0).starts_with("01"));
    // a flag and the environment win
    let admin = run(home.path(), &["--token", ADMIN, "map", "create", "--name", "Other"], "");
    assert!(admin.expect(0).contains("other"), "{admin:?}");
    let mut refused = at_home(home.path(), &["map", "list"]);
    refused.env("STENTOR_TOKEN", "st_wrong");
    assert!(Program::start(refused).wait().err.contains("401"));
    // another server is not told the token
    let other = TestServer::start(&[]);
    let unknown = run(home.path(), &["map", "list", "--server", &url(&other)], "");
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("no token is given"), "{unknown:?}");
    run(home.path(), &["logout"], "").expect(0);
    assert!(!std::fs::read_to_string(&file).expect("the file stays").contains(&map.token));
    assert_eq!(run(home.path(), &["logout"], "").code, Some(1));
}

#[test]
fn a_token_that_is_refused_or_cannot_be_tried_is_not_kept() {
    let server = TestServer::start(&[]);
    let home = tempfile::tempdir().expect("a folder");
    let refused = run(home.path(), &["login", "--server", &url(&server)], "st_wrong\n");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("nothing is kept") && !refused.err.contains("st_wrong"), "{refused:?}");
    let nobody = run(home.path(), &["login", "--server", "http://127.0.0.1:1"], &format!("{ADMIN}\n"));
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert_eq!(run(home.path(), &["login", "--server", &url(&server)], "\n").code, Some(2));
    assert!(!home.path().join(".config").exists());
    // a login that was kept survives a refused one
    run(home.path(), &["login", "--server", &url(&server)], &format!("{ADMIN}\n")).expect(0);
    assert_eq!(run(home.path(), &["login", "--server", &url(&server)], "st_wrong\n").code, Some(1));
    run(home.path(), &["map", "list"], "").expect(0);
}

#[test]
fn a_terminal_does_not_show_the_token() {
    let server = TestServer::start(&[]);
    let home = tempfile::tempdir().expect("a folder");
    let (mut ours, theirs) = terminal();
    let mut command = at_home(home.path(), &["login", "--server", &url(&server)]);
    let stderr = theirs.try_clone().expect("it can be shared");
    command.stdin(theirs).stderr(stderr).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // the command keeps the other side open as long as it lives
    drop(command);
    let shown = Arc::new(Mutex::new(String::new()));
    let (reading, seen) = (ours.try_clone().expect("it can be shared"), shown.clone());
    std::thread::spawn(move || {
        for byte in std::io::BufReader::new(reading).bytes().map_while(Result::ok) {
            seen.lock().expect("the text").push(char::from(byte));
        }
    });
    let shown = || shown.lock().expect("the text").clone();
    eventually("the token is asked for", || shown().contains("token for http"));
    // the first letter is taken back
    ours.write_all(format!("x\u{7f}{ADMIN}\n").as_bytes()).expect("it can be typed into");
    let mut ended = None;
    eventually("it ends", || {
        ended = child.try_wait().expect("it is a child of ours");
        ended.is_some()
    });
    assert!(ended.expect("it ended").success(), "{}", shown());
    assert!(!shown().contains(ADMIN), "{}", shown());
    let mut said = String::new();
    child.stdout.take().expect("ours").read_to_string(&mut said).expect("text");
    assert!(said.contains("the admin token") && !said.contains(ADMIN), "{said}");
}

#[test]
fn a_token_may_stand_in_a_file_that_a_flag_or_the_environment_names() {
    let server = TestServer::start(&[]);
    let home = tempfile::tempdir().expect("a folder");
    let map = server.new_map("home");
    let file = home.path().join("token");
    std::fs::write(&file, format!("{}\n", map.token)).expect("written");
    let file = file.to_str().expect("UTF-8");
    let server_url = url(&server);
    run(home.path(), &["--server", &server_url, "--token-file", file, "map", "show", "home"], "").expect(0);
    run(home.path(), &["map", "show", "home", "--token-file", file, "--server", &server_url], "").expect(0);
    let mut command = at_home(home.path(), &["map", "show", "home"]);
    command.env("STENTOR_SERVER", &server_url).env("STENTOR_TOKEN_FILE", file);
    Program::start(command).wait().expect(0);
    let both = run(home.path(), &["map", "list", "--token", "x", "--token-file", file], "");
    assert_eq!(both.code, Some(2), "{both:?}");
    let nowhere = run(home.path(), &["map", "list", "--token-file", "/nowhere/at/all"], "");
    assert!(nowhere.code == Some(1) && nowhere.err.contains("/nowhere/at/all"), "{nowhere:?}");
}

#[test]
fn a_damaged_login_is_named_with_its_cure_and_not_overwritten() {
    let server = TestServer::start(&[]);
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join(".config/stentor");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("login.toml");
    std::fs::write(&file, "tokens = 7").expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("ours");
    for words in [&["map", "list"][..], &["login", "--server", &url(&server)]] {
        let ended = run(home.path(), words, &format!("{ADMIN}\n"));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("login.toml") && ended.err.contains("correct or remove it"), "{ended:?}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "tokens = 7");
}
