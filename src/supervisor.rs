//! What a supervisor such as systemd is told of the state of this process, by the protocol of `sd_notify(3)`: datagrams to the
//! socket that `NOTIFY_SOCKET` names. Without that variable nothing is said.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::transport::Traffic;

/// The part of the time within which the supervisor wants a sign of life, after which it gets one.
const SIGNS_IN_TIME: u32 = 3;
/// Shortest time between two signs of life.
const SIGN_EVERY_MIN: Duration = Duration::from_millis(50);

/// Who started this process and wants to know how it is.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    /// Within which it wants a sign of life.
    patience: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names. One that cannot be reached is told nothing, and the log says so.
    pub fn of_environment() -> Supervisor {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Supervisor::default() };
        let socket = connect(name.as_encoded_bytes())
            .inspect_err(|e| log::warn!("the supervisor is told nothing: NOTIFY_SOCKET cannot be used: {e}"));
        let text = |name| env::var(name).ok();
        let is_ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let patience = text("WATCHDOG_USEC").filter(|_| is_ours).and_then(|us| us.parse().ok());
        Supervisor { socket: socket.ok(), patience: patience.map(Duration::from_micros) }
    }

    /// The server accepts connections.
    pub fn ready(&self) {
        self.tell(&format!("READY=1\nSTATUS=Version {}", env!("CARGO_PKG_VERSION")));
    }

    /// The server ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// What people are shown.
    pub fn status(&self, sentence: &str) {
        self.tell(&format!("STATUS={sentence}"));
    }

    /// Another process of the same service is the server from now on.
    pub fn replaced_by(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How often it wants one; none: never.
    pub fn signs_every(&self) -> Option<Duration> {
        Some((self.patience? / SIGNS_IN_TIME).max(SIGN_EVERY_MIN))
    }

    /// Gives signs of life as long as all threads that serve connections come to their work. When one does not, there is none,
    /// and the supervisor does what it does with a process that hangs.
    pub async fn watch(self: Arc<Self>, traffic: Arc<Traffic>) {
        let Some(every) = self.signs_every() else { return };
        loop {
            match traffic.round_of_threads(every).await {
                true => self.alive(),
                false => log::error!("a thread that serves connections does not come to its work"),
            }
            actix_web::rt::time::sleep(every).await;
        }
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(e) = socket.send(message.as_bytes()) {
            log::warn!("the supervisor was not told {message:?}: {e}");
        }
    }
}

fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => {
            use std::os::unix::ffi::OsStrExt;
            SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?
        }
    };
    let socket = UnixDatagram::unbound()?;
    // a supervisor that does not read must not hold up the server
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_told_by_its_socket_and_nobody_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).expect("a socket");
        let socket = connect(path.as_os_str().as_encoded_bytes()).expect("it is there");
        let supervisor = Supervisor { socket: Some(socket), patience: Some(Duration::from_secs(30)) };
        assert_eq!(supervisor.signs_every(), Some(Duration::from_secs(10)));
        supervisor.ready();
        supervisor.replaced_by(7);
        let mut buffer = [0; 256];
        let mut next = || {
            let length = heard.recv(&mut buffer).expect("a message");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert!(next().starts_with("READY=1\n"));
        assert_eq!(next(), "MAINPID=7");
        let nobody = Supervisor::default();
        nobody.ready();
        assert_eq!(nobody.signs_every(), None);
    }

    #[test]
    fn a_supervisor_may_have_an_abstract_name() {
        let name = format!("stentor-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let heard = UnixDatagram::bind_addr(&address).expect("a socket");
        connect(format!("@{name}").as_bytes()).expect("it is there").send(b"x").expect("it is sent");
        assert_eq!(heard.recv(&mut [0; 8]).expect("a message"), 1);
    }
}
