//! What a supervisor such as systemd sees of the server and gives to it: readiness, signs of life, sockets, and a new process on
//! its word.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::with_settings_file;
use crate::support::server::run;
use crate::support::{SOON, TestServer, eventually, program};

/// The socket of `NOTIFY_SOCKET`.
struct Notices(UnixDatagram);

impl Notices {
    fn at(path: &std::path::Path) -> Notices {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        Notices(socket)
    }

    /// Waits for a notice that begins like this.
    #[track_caller]
    fn expect(&self, beginning: &str) -> String {
        let mut buffer = [0; 512];
        loop {
            let length = self.0.recv(&mut buffer).unwrap_or_else(|e| panic!("no {beginning}: {e}"));
            let notice = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if notice.starts_with(beginning) {
                return notice;
            }
        }
    }
}

#[test]
fn a_supervisor_is_told_of_readiness_life_successors_and_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let notices = Notices::at(&path);
    let data = folder.path().join("data");
    let mut server = TestServer::at(&data, &[]).prepared(move |mut command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
        command
    });
    server.launch();
    notices.expect("READY=1");
    notices.expect("WATCHDOG=1");
    notices.expect("WATCHDOG=1");
    server.take_over();
    assert_eq!(notices.expect("MAINPID="), format!("MAINPID={}", server.pid()));
    notices.expect("WATCHDOG=1");
    server.stop();
    notices.expect("STOPPING=1");
}

/// The same command with listening sockets as systemd hands them over.
fn activated(command: Command, sockets: Vec<TcpListener>, names: &'static str) -> Command {
    let count = sockets.len();
    let mut shell = Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", names);
    // SAFETY: only system calls are made between fork and exec
    unsafe {
        shell.pre_exec(move || {
            // out of the way first, so that none is overwritten before it is in its place
            let away: Vec<_> = sockets.iter().map(|s| libc::fcntl(s.as_raw_fd(), libc::F_DUPFD, 100)).collect();
            for (to, from) in (3..).zip(away) {
                if libc::dup2(from, to) < 0 || libc::close(from) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    shell
}

#[test]
fn sockets_of_a_supervisor_are_used_and_connections_from_before_the_start_are_answered() {
    let (public, admin) =
        (TcpListener::bind("127.0.0.1:0").expect("a port"), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let (at, admin_at) = (public.local_addr().expect("an address"), admin.local_addr().expect("an address"));
    let early = std::thread::spawn(move || crate::support::Request::new(at, "GET", "/health/live").send().status);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("server.admin_listen", "127.0.0.1:1")];
    let mut server = TestServer::at(folder.path(), &settings).prepared(move |command| {
        let clones = [&admin, &public].map(|socket| socket.try_clone().expect("a clone"));
        activated(command, clones.into(), "admin:stentor.socket")
    });
    server.launch();
    assert_eq!((server.addr(), server.admin_addr()), (at, admin_at), "where the supervisor listens");
    assert_eq!(early.join().expect("an answer"), 200);
    server.take_over();
    assert_eq!(server.request("GET", "/health/live").send().status, 200);
}

#[test]
fn what_a_supervisor_hands_over_and_nobody_can_use_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let given = |sockets: usize, names| {
        let sockets = (0..sockets).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let mut server = TestServer::at(folder.path(), &[]);
        let sockets = std::sync::Mutex::new(Some(sockets));
        server = server.prepared(move |command| {
            activated(command, sockets.lock().expect("ours").take().expect("one start"), names)
        });
        server.try_launch().expect_err("it cannot start").err
    };
    let said = given(2, "one:two");
    assert!(said.contains("for the same purpose") && said.contains("FileDescriptorName=admin"), "{said}");
    let said = given(1, "admin");
    assert!(said.contains("set server.admin_listen"), "{said}");
}

/// A process that is no child of ours, ended with this.
struct Process(u32);

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: the number is that of a process which its own server named and which nobody has ended
        unsafe { libc::kill(self.0 as libc::pid_t, libc::SIGKILL) };
    }
}

#[test]
fn a_reload_starts_the_program_anew_with_the_settings_of_now_or_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, settings) = (folder.path().join("data"), folder.path().join("stentor.toml"));
    let mut server = with_settings_file(&data, &settings);
    let (map, pid) = (server.new_map("m"), server.pid());
    map.publish_many(3);
    let reload = || {
        let mut reload = program::command(&["reload", "--data"]);
        reload.arg(&data);
        run(reload)
    };
    // settings that cannot be used
    fs::write(&settings, "[limits]\nbatch_events = \"few\"\n").expect("it can be written");
    let (code, _, err) = reload();
    assert!(
        code == Some(1) && err.contains("ended before it took over") && err.contains("this server goes on"),
        "{err}"
    );
    assert_eq!((server.pid(), map.export().len()), (pid, 3));
    // and some that can
    fs::write(&settings, "[limits]\nbatch_events = 2\n").expect("it can be written");
    let (code, out, err) = reload();
    assert_eq!(code, Some(0), "{err}");
    let new = out.strip_prefix("the process ").and_then(|rest| rest.split(' ').next()).expect("its number");
    let new = Process(new.parse().expect("a number"));
    assert_ne!(new.0, pid);
    assert_eq!(map.export().len(), 3);
    let three = serde_json::json!({"events": vec![serde_json::json!({"type": "add_system", "payload": {}}); 3]});
    assert_eq!(map.post(&three).status, 413, "the new settings count");
    // with it ends the log, which both have written
    drop(new);
    assert!(server.wait().success(), "the one before has ended well");
    eventually("it has ended", || {
        let (code, _, err) = reload();
        code == Some(1) && err.contains("no server runs on the data folder")
    });
}
