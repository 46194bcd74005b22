//! `stentor serve` and `stentor demo`: from flags to settings to a running server.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;

use super::secret_variable::secret_variable;
use super::{Failure, output};
use crate::handover::{guard, taking};
use crate::listeners::Inherited;
use crate::open_files;
use crate::settings::{Flags, Settings, SettingsError};
use crate::supervisor::Supervisor;
use crate::{Origin, ServeError, Server, Start, logging};

/// The flags of `stentor serve`.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    common: DemoArgs,
    /// Folder of the data, made when missing (setting storage.data_dir)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Take the place of the server that runs on the data folder, without a pause for its clients; without one, just start
    #[arg(long)]
    takeover: bool,
}

/// The flags of `stentor demo`, and those of `serve` that have to do with more than the data.
#[derive(Debug, Default, Args)]
pub struct DemoArgs {
    /// TOML file with settings; settings.toml in the repository lists them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one (setting server.listen)
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// For development on this machine: webhooks may go to http and to loopback addresses
    #[arg(long)]
    dev: bool,
}

impl ServeArgs {
    /// The flags as the layer above the other settings.
    pub fn flags(self) -> Flags {
        Flags { data: self.data, ..self.common.flags() }
    }
}

impl DemoArgs {
    /// The flags as the layer above the other settings.
    pub fn flags(self) -> Flags {
        Flags { config: self.config, data: None, listen: self.listen, dev: self.dev }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs the server until a signal stops it.
///
/// # Errors
/// Settings that cannot be used are wrong usage; a server that cannot start or stop failed.
pub fn run(args: ServeArgs) -> Result<(), Failure> {
    let takeover = args.takeover;
    let flags = args.flags();
    let supervisor = Supervisor::of_environment();
    // before the settings, which may be others by now: who only waits needs none
    let came_back = wait_for_successor(&flags, &supervisor)?;
    let settings = prepare(&flags)?;
    let origin = origin(takeover, came_back, supervisor, &settings)?;
    let (admin_token, secret_key) = (secret_variable(ADMIN_TOKEN)?, secret_variable(SECRET_KEY)?);
    let previous_secret_key = secret_variable(PREVIOUS_SECRET_KEY)?;
    let start = Start { admin_token, secret_key, previous_secret_key, dev: flags.dev };
    actix_web::rt::System::new().block_on(async {
        let server = Server::bind(settings, start, origin).await.map_err(failed)?;
        // before anybody learns that there is something to stop
        let stopped = stopped_by_signal();
        announce(&server)?;
        server.run_until_stopped(stopped).await.map_err(failed)
    })
}

/// What is left of a server that another one takes over from waits here for the end of that, and ends. Returns when there is
/// nothing to wait for, with the sockets if the other one has ended before it was ready.
fn wait_for_successor(flags: &Flags, supervisor: &Supervisor) -> Result<Option<Inherited>, Failure> {
    if !guard::is_left() {
        return Ok(None);
    }
    if let Ok(settings) = Settings::load(flags).or_else(|_| Settings::defaults()) {
        logging::start(&settings.log);
    }
    guard::stand_by(supervisor)
        .map_err(|e| Failure::Failed(format!("what was to be taken over is not there: {e}; start it again")))
}

/// Where the sockets come from, and who is to be told of the start.
fn origin(
    takeover: bool,
    came_back: Option<Inherited>,
    supervisor: Supervisor,
    settings: &Settings,
) -> Result<Origin, Failure> {
    let program = guard::program().inspect_err(|e| log::warn!("it is not known where this program lies: {e}")).ok();
    let (inherited, predecessor) = match (came_back, takeover) {
        (Some(inherited), _) => (inherited, None),
        (None, true) => match taking::ask(&settings.storage.data_dir).map_err(|e| Failure::Failed(e.to_string()))? {
            Some((predecessor, inherited)) => (inherited, Some(predecessor)),
            None => {
                log::info!("no server runs on the data folder; this one just starts");
                (Inherited::of_supervisor().map_err(|e| Failure::Failed(e.to_string()))?, None)
            }
        },
        (None, false) => (Inherited::of_supervisor().map_err(|e| Failure::Failed(e.to_string()))?, None),
    };
    Ok(Origin { inherited, predecessor, supervisor, program })
}

/// The environment variable that holds the operator's own admin token.
const ADMIN_TOKEN: &str = "STENTOR_ADMIN_TOKEN";

/// The environment variable that holds the key under which secrets are stored, as base64 of 32 bytes.
const SECRET_KEY: &str = "STENTOR_SECRET_KEY";
/// The key before it, while it is replaced.
const PREVIOUS_SECRET_KEY: &str = "STENTOR_PREVIOUS_SECRET_KEY";

/// Loads the settings and sets up what the whole process shares.
pub(super) fn prepare(flags: &Flags) -> Result<Settings, Failure> {
    let settings = Settings::load(flags)?;
    logging::start(&settings.log);
    settings.log();
    keep_files_private();
    let (open_files, least) = (open_files::raise(), open_files::MIN);
    if open_files < least {
        return Err(Failure::Failed(format!(
            "this process may open {open_files} files, and the server needs at least {least} beside its connections; \
             raise the limit (ulimit -n, or LimitNOFILE of systemd)"
        )));
    }
    Ok(settings)
}

pub(super) fn failed(e: ServeError) -> Failure {
    Failure::Failed(e.to_string())
}

/// Prints what whoever started the server has to know, on standard output. What lets somebody in is printed on a terminal
/// only: elsewhere standard output ends up in a log.
fn announce(server: &Server) -> Result<(), Failure> {
    let is_terminal = io::stdout().is_terminal();
    if let Some(path) = server.new_admin_token() {
        match is_terminal {
            true => {
                let token = token_in(&path)?;
                output::announce(format_args!(
                    "admin token, shown only now (it is in the file {}): {token}",
                    path.display()
                ));
            }
            false => output::announce(format_args!("the admin token was made and is in the file {}", path.display())),
        }
    }
    if is_terminal {
        output::announce(format_args!("dashboard, logs you in once within ten minutes: {}", server.login_link()));
    }
    if let Some(url) = server.admin_url() {
        output::announce(format_args!("administration on {url}"));
    }
    output::announce(format_args!("listening on {}", server.url()));
    warn_in_the_open(server);
    Ok(())
}

/// Says in the log that tokens cross the network in the open, where they do.
pub(super) fn warn_in_the_open(server: &Server) {
    if let Some(address) = server.open_without_tls() {
        log::warn!(
            "{address} can be reached from other machines, and what is sent there is not encrypted: tokens can be read on \
             the way. Set server.tls.cert and server.tls.key, listen on 127.0.0.1 behind a proxy that speaks TLS, or set \
             server.public_url to the https address of such a proxy"
        );
    }
}

/// The admin token that a start has just made.
pub(super) fn token_in(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::Failed(format!("{} cannot be read: {e}", path.display())))
}

/// Ready when SIGTERM or SIGINT arrives. From the call on neither ends the process.
pub(super) fn stopped_by_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut term), Ok(mut int)) = signals else {
            log::error!("signals cannot be heard; only SIGKILL will end this process");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

/// Whatever is made from now on is for the server's user alone.
pub(super) fn keep_files_private() {
    // SAFETY: it only changes a number of the process
    unsafe { libc::umask(0o077) };
}
