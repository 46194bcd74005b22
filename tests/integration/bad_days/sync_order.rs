//! No answer before the disk has it, as the kernel sees it: the server runs under strace, and each answer of success must come
//! after a sync of the very file into which the change was written, begun after that write and ended before the answer.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::SETTINGS;
use crate::support::server::ADMIN;
use crate::support::{SOON, TestServer, eventually};

const CLIENTS: usize = 4;
const REQUESTS: usize = 25;
/// Every way in which bytes may leave, and become durable.
const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync,sync_file_range,msync";
/// The folder of the write-ahead log in a path.
const LOG: &str = "/wal/";

/// The command under strace. The program stays the child of the test, so that it can be killed and stopped as ever.
fn traced(command: &Command, into: &Path) -> Command {
    let mut strace = Command::new("strace");
    // -D: strace is a grandchild; -yy: names of files and addresses of sockets beside their numbers
    strace.args(["-D", "-f", "-yy", "-s", "16384", "-e", CALLS, "-o"]).arg(into);
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}

/// A system call: where in the trace it began and ended, its name, what it worked on, and everything that is shown of it.
#[derive(Debug)]
struct Call {
    began: usize,
    ended: usize,
    name: String,
    on: String,
    text: String,
    succeeded: bool,
}

/// Puts the two halves of calls together that others came between.
fn calls(trace: &str) -> Vec<Call> {
    let (mut open, mut calls) = (HashMap::<&str, (usize, String)>::new(), Vec::new());
    for (n, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let (began, text) = if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            open.insert(thread, (n, start.to_owned()));
            continue;
        } else if rest.starts_with("<... ") {
            let Some((began, start)) = open.remove(thread) else { continue };
            let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
            (began, start + end)
        } else {
            (n, rest.to_owned())
        };
        // signals and ends of threads are no calls
        let Some((name, arguments)) = text.split_once('(') else { continue };
        let on = arguments.split_once('<').and_then(|(_, on)| on.split_once('>')).map_or("", |(on, _)| on);
        let on = if on.contains("->") || on.contains(":[") { arguments } else { on };
        // short lines are filled up with spaces before the result
        let result =
            text.rsplit_once(" = ").filter(|(call, _)| call.trim_end().ends_with(')')).map_or("", |(_, result)| result);
        let succeeded = !result.is_empty() && !result.starts_with('-');
        let (name, on) = (name.to_owned(), on.to_owned());
        calls.push(Call { began, ended: n, name, on, text, succeeded });
    }
    calls
}

/// An address of this machine that no other request comes from. A port would not do: the kernel gives it out again a second
/// after its connection has ended, and then an earlier answer would be taken for the one that is looked for.
fn own_address() -> Ipv4Addr {
    static GIVEN: AtomicU16 = AtomicU16::new(1);
    let [high, low] = GIVEN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// One request on a connection of its own. Returns its answer's status and the client's address, by which the trace names it.
fn ask(server: &TestServer, method: &str, target: &str, token: &str, body: &str) -> (u16, Ipv4Addr) {
    let from = own_address();
    let mut stream = connect(from, server.addr()).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).expect("it is sent");
    let (mut line, mut rest) = (String::new(), Vec::new());
    let mut stream = BufReader::new(stream);
    stream.read_line(&mut line).and_then(|_| stream.read_to_end(&mut rest)).expect("an answer");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{line:?}")), from)
}

/// Whether a write has a token's id elsewhere than in the events that tell of its making and revocation.
fn writes_token(write: &str, id: &str) -> bool {
    write.match_indices(id).any(|(at, _)| !write[..at].ends_with(r#"token_id\":\""#))
}

/// A change that was acknowledged: what the write of it shows, and the address of whoever was told.
struct Change {
    marker: String,
    to: Ipv4Addr,
}

#[test]
fn every_answer_of_success_is_sent_after_a_sync_of_what_was_written() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let trace = folder.path().join("trace");
    let into = trace.clone();
    let mut server =
        TestServer::at(&folder.path().join("data"), &SETTINGS).prepared(move |command| traced(&command, &into));
    server.launch();
    let map = server.new_map("m");
    let target = format!("/api/maps/{}/events", map.id);
    let mut changes: Vec<Change> = std::thread::scope(|scope| {
        let publish = |client: usize| {
            let (server, map, target) = (&server, &map, &target);
            move || {
                let one = |n: usize| {
                    let marker = format!("marker-{client}-{n}-of-an-event");
                    let body = format!(r#"{{"type":"add_system","payload":{{"marker":"{marker}"}}}}"#);
                    let (status, to) = ask(server, "POST", target, &map.token, &body);
                    assert_eq!(status, 201);
                    Change { marker, to }
                };
                (0..REQUESTS).map(one).collect::<Vec<_>>()
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(publish(client))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    for n in 0..REQUESTS {
        let marker = format!("marker-{n}-of-a-token");
        let body = format!(r#"{{"channel":"map:{}","scopes":["subscribe"],"name":"{marker}"}}"#, map.id);
        let (status, to) = ask(&server, "POST", "/api/v1/tokens", ADMIN, &body);
        assert_eq!(status, 201);
        changes.push(Change { marker, to });
    }
    // a revocation is written by the token's id
    for _ in 0..REQUESTS {
        let (id, _) = map.new_token(serde_json::json!({"scopes": ["subscribe"], "name": "to be revoked"}));
        let (status, to) = ask(&server, "DELETE", &format!("/api/v1/tokens/{id}"), ADMIN, "");
        assert_eq!(status, 204);
        changes.push(Change { marker: id, to });
    }
    server.stop();
    // strace ends after the program
    let ended = || std::fs::read_to_string(&trace).is_ok_and(|text| text.trim_end().ends_with("+++ exited with 0 +++"));
    eventually(&format!("the trace is complete within {SOON:?}"), ended);

    let calls = calls(&std::fs::read_to_string(&trace).expect("the trace"));
    let writes: Vec<_> = calls.iter().filter(|call| call.on.contains(LOG) && call.name.contains("write")).collect();
    let syncs: Vec<_> =
        calls.iter().filter(|call| matches!(&*call.name, "fsync" | "fdatasync") && call.succeeded).collect();
    let mut wrong = Vec::new();
    for Change { marker, to } in &changes {
        let address = format!("->{to}:");
        let said = |call: &&Call| call.text.contains("HTTP/1.1 20") && call.on.contains(&address);
        let Some(answer) = calls.iter().find(said) else { panic!("no answer to {to} in the trace") };
        let mut before = writes.iter().filter(|call| call.began < answer.began);
        let write = match marker.starts_with("tok_") {
            // the last one: that of a token's making is not the one of its revocation
            true => before.rfind(|call| writes_token(&call.text, marker)),
            // the first one: the event that tells of a token's making has its name too, and nobody waits for that
            false => before.find(|call| call.text.contains(&**marker)),
        };
        let Some(write) = write else {
            wrong.push(format!("{marker} was answered before it was written to {LOG}"));
            continue;
        };
        let synced = |sync: &&&Call| sync.on == write.on && sync.began > write.ended && sync.ended < answer.began;
        if !syncs.iter().any(|sync| synced(&sync)) {
            wrong.push(format!(
                "{marker} was answered without a sync of {} between line {} and {}",
                write.on, write.ended, answer.began
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), changes.len(), wrong.join("\n"));
    println!("{} answers, {} writes, {} syncs", changes.len(), writes.len(), syncs.len());
}
