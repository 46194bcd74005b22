//! NATS servers as child processes, one or three, on free ports and folders of their own.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::within;

/// By when servers have found each other and answer. On a busy machine an election may have to be held twice.
const HEALTHY: Duration = Duration::from_secs(30);

/// The program, as `scripts/setup` has installed it. `STENTOR_NATS_SERVER` names another one.
fn program() -> PathBuf {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/.venv/bin/nats-server");
    std::env::var_os("STENTOR_NATS_SERVER").map_or_else(|| installed.into(), PathBuf::from)
}

struct NatsServer {
    name: String,
    port: u16,
    monitor: u16,
    config: PathBuf,
    child: Option<Child>,
}

/// Servers that know each other.
pub struct Nats {
    folder: tempfile::TempDir,
    servers: Vec<NatsServer>,
}

/// A port that nobody listens on. Somebody may take it before the server does; then the test fails at its start.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Nats {
    /// Starts `count` servers and waits until they answer.
    pub fn start(count: usize) -> Nats {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let routes: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let servers = (0..count).map(|n| {
            let (name, port, monitor) = (format!("n{n}"), free_port(), free_port());
            let config = folder.path().join(format!("{name}.conf"));
            let store = folder.path().join(&name);
            let mut text = format!(
                "server_name: {name}\nlisten: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitor}\nmax_payload: 8MB\n\
                 jetstream {{ store_dir: {store:?}, sync_interval: always }}\n"
            );
            if count > 1 {
                let others: Vec<String> = routes.iter().map(|route| format!("nats://127.0.0.1:{route}")).collect();
                text += &format!("cluster {{ name: test, listen: 127.0.0.1:{}, routes: {others:?} }}\n", routes[n]);
            }
            fs::File::create(&config).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
            NatsServer { name, port, monitor, config, child: None }
        });
        let mut nats = Nats { servers: servers.collect(), folder };
        (0..count).for_each(|n| nats.launch(n));
        nats.expect_healthy();
        nats
    }

    /// The setting that names them.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> =
            self.servers.iter().map(|server| format!("nats://127.0.0.1:{}", server.port)).collect();
        addresses.join(",")
    }

    /// The setting that names the monitoring of one.
    pub fn monitor(&self, n: usize) -> String {
        format!("http://127.0.0.1:{}", self.servers[n].monitor)
    }

    pub fn count(&self) -> usize {
        self.servers.len()
    }

    pub fn launch(&mut self, n: usize) {
        let server = &mut self.servers[n];
        let log = self.folder.path().join(format!("{}.log", server.name));
        let log = fs::File::options().create(true).append(true).open(log).expect("a file");
        let child = Command::new(program())
            .arg("-c")
            .arg(&server.config)
            .env("GOMEMLIMIT", "100MiB")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts; scripts/setup installs it");
        server.child = Some(child);
    }

    pub fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.servers[n].child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// How many messages were taken out of a stream again, as the first server's monitoring says it.
    pub fn taken_out_of(&self, stream: &str) -> u64 {
        let answer = asked(self.servers[0].monitor, "/jsz?streams=true").expect("the monitoring answers");
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        let told: Value = serde_json::from_str(body).expect("JSON");
        let streams = told["account_details"][0]["stream_detail"].as_array().expect("streams");
        let state = &streams.iter().find(|one| one["name"] == stream).expect("the stream")["state"];
        let number = |name: &str| state[name].as_u64().expect("a number");
        number("last_seq") + 1 - number("first_seq") - number("messages")
    }

    /// Waits until all that run are in touch with each other.
    pub fn expect_healthy(&self) {
        for server in self.servers.iter().filter(|server| server.child.is_some()) {
            within(HEALTHY, &format!("{} is healthy", server.name), || is_healthy(server.monitor));
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|n| self.kill(n));
    }
}

/// What the monitoring of a server answers, with its head.
fn asked(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn is_healthy(port: u16) -> bool {
    asked(port, "/healthz").is_ok_and(|answer| answer.contains("\"ok\""))
}
