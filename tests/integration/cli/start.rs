//! What `stentor serve` takes from its environment, what it refuses, and what it prints for whom.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::program::Program;
use crate::support::server::{run, stentor};
use crate::support::{Request, TestServer, eventually};

const ADMIN: &str = "an-admin-token-from-a-file";

fn serve(data: &std::path::Path, settings: &[(&str, &str)]) -> Command {
    let mut command = stentor(settings);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command
}

#[test]
fn keys_that_are_too_short_end_the_start_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut short_admin = serve(&data, &[]);
    short_admin.env("STENTOR_ADMIN_TOKEN", "nineteen-characters");
    let (code, out, err) = run(short_admin);
    assert_eq!((code, &*out), (Some(1), ""), "{err}");
    assert!(err.contains("19 characters") && err.contains("at least 20") && err.contains("openssl rand"), "{err}");
    assert!(!err.contains("nineteen-characters") && !data.exists(), "{err}");

    fs::create_dir(&data).expect("ours");
    fs::write(data.join("admin-token"), "short\n").expect("ours");
    let (code, _, err) = run(serve(&data, &[]));
    assert!(code == Some(1) && err.contains("5 characters") && err.contains("admin-token"), "{err}");

    let key = "thirty-one-bytes-are-not-enough";
    let file = folder.path().join("key");
    fs::write(&file, format!("{key}\n")).expect("ours");
    let keys = folder.path().join("keys.json");
    fs::write(&keys, json!({"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}).to_string()).expect("ours");
    for (setting, value) in [
        ("auth.jwt.key", key),
        ("auth.jwt.key_file", file.to_str().expect("text")),
        ("auth.jwt.jwks_file", keys.to_str().expect("text")),
    ] {
        let (code, _, err) = run(serve(&folder.path().join("other"), &[(setting, value)]));
        assert!(code == Some(1) && err.contains(setting) && !err.contains(key), "{setting}: {err}");
        assert!(err.contains("32"), "{setting}: {err}");
    }
}

#[test]
fn secrets_may_come_from_files_that_variables_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (token, key) = (folder.path().join("token"), folder.path().join("key"));
    fs::write(&token, format!("{ADMIN}\n")).expect("ours");
    fs::write(&key, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").expect("ours");
    let data = folder.path().join("data");
    let files = (token.clone(), key.clone());
    let mut server = TestServer::at(&data, &[]).prepared(move |mut command| {
        command.env_remove("STENTOR_ADMIN_TOKEN");
        command.env("STENTOR_ADMIN_TOKEN_FILE", &files.0).env("STENTOR_SECRET_KEY_FILE", &files.1);
        command
    });
    server.launch();
    server.request("GET", "/api/v1/tokens").bearer(ADMIN).send().expect(200);
    assert!(!data.join("admin-token").exists() && !data.join("secret-key").exists());
    server.stop();

    let refused = |name: &str, change: &dyn Fn(&mut Command)| {
        let mut command = serve(&data, &[]);
        command.env("STENTOR_ADMIN_TOKEN_FILE", &token).env("STENTOR_SECRET_KEY_FILE", &key);
        change(&mut command);
        let (code, _, err) = run(command);
        assert!(code == Some(1) && err.contains(name) && !err.contains(ADMIN), "{code:?} {err}");
    };
    refused("STENTOR_ADMIN_TOKEN and STENTOR_ADMIN_TOKEN_FILE are both set", &|command| {
        command.env("STENTOR_ADMIN_TOKEN", ADMIN);
    });
    refused("STENTOR_ADMIN_TOKEN_FILE", &|command| {
        command.env("STENTOR_ADMIN_TOKEN_FILE", folder.path().join("missing"));
    });
    let empty = folder.path().join("empty");
    fs::write(&empty, "\n").expect("ours");
    refused("is empty", &|command| {
        command.env("STENTOR_SECRET_KEY_FILE", &empty);
    });
}

/// Starts a server whose standard output is a terminal: what it prints up to its address.
fn on_a_terminal(mut command: Command) -> (Child, Vec<String>) {
    let (mut ours, mut its) = (0, 0);
    // SAFETY: both places are ours to write, and the two descriptors are nobody else's afterwards
    let (ours, its) = unsafe {
        assert_eq!(
            libc::openpty(&mut ours, &mut its, std::ptr::null_mut(), std::ptr::null(), std::ptr::null()),
            0,
            "there is a terminal"
        );
        (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(its))
    };
    command.stdin(Stdio::null()).stdout(its).stderr(Stdio::null());
    let child = command.spawn().expect("the program starts");
    // the command holds the terminal's other end
    drop(command);
    let lines = BufReader::new(File::from(ours)).lines().map_while(Result::ok);
    let mut said = Vec::new();
    for line in lines {
        let is_last = line.starts_with("listening on ");
        said.push(line.trim_end().to_string());
        if is_last {
            break;
        }
    }
    (child, said)
}

#[test]
fn on_a_terminal_the_start_prints_the_token_it_made_and_a_link_that_logs_in_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, said) = on_a_terminal(serve(folder.path(), &[]));
    let token = fs::read_to_string(folder.path().join("admin-token")).expect("the file");
    assert!(said[0].ends_with(token.trim()), "{said:?}");
    let addr = said[2].strip_prefix("listening on http://").expect("the address").parse().expect("an address");
    let link = said[1].rsplit(' ').next().expect("a link");
    let secret = link.strip_prefix(&format!("http://{addr}/#login=")).expect("the secret is in the fragment");
    let exchange = |secret: &str| Request::new(addr, "POST", "/api/v1/login").json(&json!({ "secret": secret })).send();
    exchange("stl_wrong").expect_problem(401, "unauthorized");
    let answer = exchange(secret);
    assert_eq!(answer.expect(200), json!({ "data": { "token": token.trim() } }));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    exchange(secret).expect_problem(401, "unauthorized");
    assert!(child.kill().and_then(|()| child.wait()).is_ok());

    let (mut child, said) =
        on_a_terminal(serve(folder.path(), &[("server.public_url", "https://events.example.org/x")]));
    assert!(said.len() == 2 && said[0].contains(" https://events.example.org/x/#login=stl_"), "{said:?}");
    assert!(child.kill().and_then(|()| child.wait()).is_ok());
}

#[test]
fn elsewhere_the_start_prints_where_the_token_is_and_never_the_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = serve(folder.path(), &[("log.level", "trace")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut out = BufReader::new(child.stdout.take().expect("ours"));
    let mut said = String::new();
    eventually("it listens", || {
        out.read_line(&mut said).expect("text");
        said.contains("listening on ")
    });
    let token = fs::read_to_string(folder.path().join("admin-token")).expect("the file");
    assert!(child.kill().and_then(|()| child.wait()).is_ok());
    let mut log = String::new();
    child.stderr.take().expect("ours").read_to_string(&mut log).expect("text");
    assert!(said.lines().next().expect("a line").ends_with("/admin-token"), "{said}");
    for text in [&said, &log] {
        assert!(!text.contains(token.trim()) && !text.contains("login="), "{text}");
    }
}

#[test]
fn a_server_that_cannot_print_serves_all_the_same_and_its_log_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = serve(&folder.path().join("data"), &[]);
    let mut into_full = Command::new("sh");
    into_full.args(["-c", "exec \"$0\" \"$@\" >/dev/full"]).arg(serve.get_program()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => into_full.env(name, value),
            None => into_full.env_remove(name),
        };
    }
    let program = Program::start(into_full);
    program.expect_notice("standard output takes no line, and the server goes on");
    program.interrupt();
    let ended = program.wait();
    assert_eq!((ended.code, &*ended.out), (Some(0), ""), "{}", ended.err);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
}
