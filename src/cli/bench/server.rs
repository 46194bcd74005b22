//! The server under measurement: this program as a child process, with its limits opened, on a core of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::{Common, failed};
use crate::cli::Failure;

/// Longest wait for the server to start, to answer one request of the preparation, and to stop.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Server {
    child: Child,
    folder: PathBuf,
    pub addr: SocketAddr,
    /// May publish to and read the map.
    pub token: String,
    /// The path of the map, and of its events.
    pub map: String,
    pub path: String,
    /// The paths of the events of all channels that readers follow.
    pub paths: Vec<String>,
    /// What readers follow: the path before `/stream` or `/ws`, and the query behind it.
    pub followed: (String, String),
}

impl Server {
    /// Starts a server with one map. Blocks.
    ///
    /// # Errors
    /// The server does not start, or the map cannot be made.
    pub fn start(common: &Common) -> Result<Server, Failure> {
        Server::start_with(common, &[])
    }

    /// The same with further settings, by the names of their environment variables. Blocks.
    ///
    /// # Errors
    /// The server does not start, or the map cannot be made.
    pub fn start_with(common: &Common, settings: &[(&str, &str)]) -> Result<Server, Failure> {
        let folder = common.dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = folder.join(format!("stentor-bench-{}-{}", std::process::id(), super::marker::now_ns()));
        std::fs::create_dir_all(&folder).map_err(failed("the data folder could not be made"))?;
        let program = std::env::current_exe().map_err(failed("this program does not find itself"))?;
        let cores = cores();
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&folder)
            .env_remove("STENTOR_ADMIN_TOKEN")
            .env("STENTOR__LOG__LEVEL", "warn")
            .env("STENTOR__LIMITS__STREAMS_TOTAL", "0")
            .env("STENTOR__LIMITS__STREAMS_PER_CHANNEL", "0")
            .env("STENTOR__LIMITS__STREAMS_PER_TOKEN", "0")
            .env("STENTOR__SERVER__MAX_CONNECTIONS", "50000")
            // room for 256 publishers of batches of 100, which would be told to come back otherwise
            .env("STENTOR__JOURNAL__QUEUE_EVENTS", "100000")
            .env("STENTOR__STORAGE__DURABILITY", common.durability.name())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some((for_server, for_load)) = cores {
            // SAFETY: between fork and exec only a system call is made, on memory that the closure owns
            unsafe { command.pre_exec(move || pin(for_server)) };
            pin(for_load).map_err(failed("the load could not be given a core"))?;
        }
        let child = command.spawn().map_err(failed("the server did not start"))?;
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let (token, map, path, paths, followed) = Default::default();
        let mut server = Server { child, folder, addr, token, map, path, paths, followed };
        server.addr = server.listening()?;
        server.prepare()?;
        Ok(server)
    }

    /// The address that the server prints once it accepts connections.
    fn listening(&mut self) -> Result<SocketAddr, Failure> {
        let lines = self.child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
        // the pipe ends when the server does, so this does not wait for ever; it starts or fails within seconds
        let found = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on http://").and_then(|addr| addr.parse().ok()));
        found.ok_or_else(|| Failure::Failed("the server ended before it listened; its log says why".into()))
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        let (id, token) = self.new_map(&self.admin()?, "bench")?;
        self.token = token;
        self.map = format!("/api/maps/{id}");
        self.path = format!("{}/events", self.map);
        self.paths = vec![self.path.clone()];
        self.followed = (self.path.clone(), String::new());
        Ok(())
    }

    fn admin(&self) -> Result<String, Failure> {
        let admin = std::fs::read_to_string(self.folder.join("admin-token"));
        Ok(admin.map_err(failed("the server's admin token could not be read"))?.trim().to_owned())
    }

    /// The id and the token of a new map.
    fn new_map(&self, admin: &str, slug: &str) -> Result<(String, String), Failure> {
        let made = self.ask(admin, "POST", "/api/maps", &json!({ "name": "Bench", "slug": slug }))?;
        match (made["data"]["id"].as_str(), made["data"]["token"].as_str()) {
            (Some(id), Some(token)) => Ok((id.to_owned(), token.to_owned())),
            _ => Err(Failure::Failed("the server made no map".to_owned())),
        }
    }

    /// Makes so many maps, and a token for all of them, so that readers follow them by one stream each. Blocks.
    ///
    /// # Errors
    /// The server does not make a map or the token.
    pub fn follow_several(&mut self, count: u32) -> Result<(), Failure> {
        let admin = self.admin()?;
        let ids = (0..count).map(|n| Ok(self.new_map(&admin, &format!("bench-{n}"))?.0));
        let ids = ids.collect::<Result<Vec<_>, Failure>>()?;
        let names: Vec<String> = ids.iter().map(|id| format!("map:{id}")).collect();
        let asked = json!({ "channels": names, "scopes": ["subscribe", "publish"] });
        let made = self.ask(&admin, "POST", "/api/v1/tokens", &asked)?;
        let token = made["data"]["token"].as_str();
        self.token = token.ok_or_else(|| Failure::Failed("the server made no token".to_owned()))?.to_owned();
        self.paths = ids.iter().map(|id| format!("/api/maps/{id}/events")).collect();
        self.followed = ("/events".to_owned(), format!("?channel={}", names.join(",")));
        Ok(())
    }

    /// One request with the map's token. Returns the body of the answer, which is an error unless it is 2xx. Blocks.
    ///
    /// # Errors
    /// The server does not answer, or with another status than 2xx.
    pub fn call(&self, method: &str, path: &str, body: &Json) -> Result<Json, Failure> {
        self.ask(&self.token, method, path, body)
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &Json) -> Result<Json, Failure> {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len(),
        );
        let answer = self.exchange(&request).map_err(failed("the server did not answer"))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        match serde_json::from_str(body) {
            Ok(body) if head.starts_with("HTTP/1.1 2") => Ok(body),
            _ => {
                let status = head.lines().next().unwrap_or("nothing");
                Err(Failure::Failed(format!("the server answered {status} to {method} {path}: {body}")))
            }
        }
    }

    fn exchange(&self, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(1 << 20).read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Microseconds of processor time, user and system, of the server so far. Counted by the kernel in ticks of
    /// usually 10 ms.
    ///
    /// # Errors
    /// The kernel's figures of the process cannot be read.
    pub fn cpu_us(&self) -> Result<f64, Failure> {
        let stat = self.proc("stat")?;
        // the name in parentheses may hold spaces; utime and stime are the fields 14 and 15 of all (proc_pid_stat(5))
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        // SAFETY: sysconf only reads
        let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        Ok(ticks * 1e6 / ticks_per_second)
    }

    /// KiB of memory that the server alone answers for (proportional set size).
    ///
    /// # Errors
    /// The kernel's figures of the process cannot be read.
    pub fn memory_kib(&self) -> Result<f64, Failure> {
        let rollup = self.proc("smaps_rollup")?;
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
        pss.ok_or_else(|| Failure::Failed("the kernel does not tell the server's memory".into()))
    }

    fn proc(&self, file: &str) -> Result<String, Failure> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).map_err(failed("the server cannot be looked at"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = self.child.id() as libc::pid_t;
        // SAFETY: the child has not been waited for, so its id is still its own
        unsafe { libc::kill(id, libc::SIGTERM) };
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                // it may have ended by itself in the meantime
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("stentor: the data of the measurement stays in {}: {error}", self.folder.display());
        }
    }
}

/// A core for the server and one for the load, of those that this process may use; none when there is only one.
fn cores() -> Option<(usize, usize)> {
    // asked once, because the first measurement narrows this process to the core of the load
    static CORES: std::sync::OnceLock<Option<(usize, usize)>> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| {
        // SAFETY: the set is ours and starts as all zeroes, which is an empty set
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
                return None;
            }
            set
        };
        // SAFETY: the numbers are below the size of the set
        let mut free = (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) });
        Some((free.next()?, free.next()?))
    })
}

/// Keeps this process, and what it starts, on one core.
fn pin(core: usize) -> std::io::Result<()> {
    // SAFETY: the set is ours, and `core` was found in a set of the same size
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
