//! The server: start from settings (bind, open the data folder) and stop in order on a signal.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_cors::Cors;
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use actors::hub::{Hub, HubError, Started};
use actors::metrics::Metrics;
use actors::model::draft;
use actors::streams::SessionEnd;
use tokio::sync::mpsc;

use crate::engine_config::{self, Start};
use crate::handover::giving::{self, Giving};
use crate::handover::guard::{Successor, let_go};
use crate::handover::taking::{Predecessor, Released, TakeoverError};
use crate::http::credential::failures::FailedLogins;
use crate::http::credential::jwt::{JwtError, Verifier};
use crate::http::credential::login_link::LoginLink;
use crate::http::credential::spent::SpentTickets;
use crate::http::forwarded::Proxies;
use crate::http::guard::ApiLimit;
use crate::http::ingest::Bodies;
use crate::http::long_answers::LongAnswers;
use crate::http::{self, Context, Side};
use crate::listeners::{Inherited, ListenError, Listeners};
use crate::open_files;
use crate::settings::Settings;
use crate::supervisor::Supervisor;
use crate::tls::{Certificate, Renewal, TlsError};
use crate::transport::{self, Bounds, ListenerOptions, SharedMemory, Stage, Traffic};

/// How a server comes into being.
#[derive(Default)]
pub struct Origin {
    /// Sockets that listen already.
    pub inherited: Inherited,
    /// The server whose place it takes.
    pub predecessor: Option<Predecessor>,
    /// Who wants to know how it is.
    pub supervisor: Supervisor,
    /// Where the program was when this process was started. None: nobody can take the place of this server.
    pub program: Option<PathBuf>,
}

/// A server that accepts connections.
pub struct Server {
    addr: SocketAddr,
    /// Of the second listener.
    admin_addr: Option<SocketAddr>,
    is_tls: bool,
    renewal: Renewal,
    hub: Hub,
    context: web::Data<Context>,
    handle: ServerHandle,
    running: actix_web::dev::Server,
    traffic: Arc<Traffic>,
    shutdown_timeout: Duration,
    made_admin_token: bool,
    supervisor: Arc<Supervisor>,
    /// The server before, which waits for this one to be ready.
    released: Option<Released>,
    heir: Option<Heir>,
}

/// What another process needs to take over.
struct Heir {
    giving: Giving,
    deciding: mpsc::Receiver<Successor>,
    listeners: Arc<Listeners>,
    is_given: bool,
    program: PathBuf,
}

/// How long connections have for one answer more, by which their clients learn that they have to connect anew, before those
/// without a request are closed. It is part of the pause of publishers.
const LAST_ANSWERS: Duration = Duration::from_millis(200);
/// How long clients have to take the end of their streams when another process takes over; what they miss they get there.
const TAKE_END: Duration = Duration::from_millis(500);
/// Within which the threads that serve connections come to what they were given.
const ROUND: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    #[error(
        "the folder was not handed over: this process cannot become the one that waits ({0}); the new server starts without that"
    )]
    LetGo(std::io::Error),
    #[error("the server failed: {0}")]
    Io(#[from] std::io::Error),
}

impl Server {
    /// Listens, opens the data folder and starts the engine. To be called within an actix system.
    ///
    /// # Errors
    /// What keeps the server from running. As long as that concerns the settings, the addresses or the format of the data, a
    /// server whose place this one was to take serves on.
    pub async fn bind(settings: Settings, start: Start, origin: Origin) -> Result<Server, ServeError> {
        let Origin { inherited, predecessor, supervisor, program } = origin;
        let settings = Arc::new(settings);
        let jwt = Verifier::from_settings(&settings.auth.jwt)?.map(Arc::new);
        let certificate = Certificate::of(&settings.server)?;
        let tls =
            |client_ca| certificate.as_ref().map(|own| own.server_config(settings.server.http2, client_ca)).transpose();
        let (tls, admin_tls) = (tls(None)?, tls(settings.server.admin_client_ca.as_deref())?);
        let is_given = inherited.is_given;
        let listeners = Listeners::open(&settings.server, inherited)?;
        let addr = listeners.public.local_addr()?;
        let admin_addr = listeners.admin.as_ref().map(|listener| listener.local_addr()).transpose()?;
        let for_heir = Arc::new(listeners.try_clone()?);
        let config = engine_config::of(&settings, &start);
        let released = match predecessor {
            None => None,
            Some(predecessor) => {
                let (data_dir, token) = (settings.storage.data_dir.clone(), start.admin_token.clone());
                let expected = web::block(move || Hub::expect_start(&data_dir, token.as_deref())).await;
                expected.map_err(std::io::Error::other)??;
                Some(web::block(move || predecessor.release()).await.map_err(std::io::Error::other)??)
            }
        };
        let Started { hub, admin_token, made_admin_token } = Hub::start(config, start.admin_token).await?;
        let limits = &settings.limits;
        let context = web::Data::new(Context {
            hub: hub.clone(),
            jwt: jwt.clone(),
            proxies: Proxies::new(&settings.server.trusted_proxies),
            failed_logins: FailedLogins::new(limits.failed_logins_per_minute),
            spent_tickets: SpentTickets::default(),
            login_link: LoginLink::new(admin_token),
            api_limit: ApiLimit::new(limits.api_requests_per_minute),
            draft_limits: draft::DraftLimits { event_bytes: limits.event_bytes, batch_events: limits.batch_events },
            bodies: Bodies::default(),
            long_answers: LongAnswers::default(),
            stopping: AtomicBool::new(false),
            settings_fingerprint: settings.fingerprint(),
            settings: settings.clone(),
        });
        let workers = match settings.server.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let app = |side: Side| {
            let context = context.clone();
            move || {
                App::new()
                    .app_data(context.clone())
                    .app_data(side)
                    .configure(|config| http::routes(config, &context.settings.limits))
                    .wrap(from_fn(http::layer::around))
                    .wrap(cors(&context.settings.cors.allowed_origins))
            }
        };
        if let Some(jwt) = jwt {
            actix_web::rt::spawn(jwt.follow_file());
        }
        #[cfg(feature = "nats")]
        if let Some(requests) = hub.take_peer_requests() {
            use actix_web::test::init_service;
            let of_peer = |side| app(side)().app_data(http::peers::OfPeer);
            let public = std::rc::Rc::new(init_service(of_peer(Side::Public)).await);
            let admin = std::rc::Rc::new(init_service(of_peer(Side::Admin)).await);
            let service_of = move |side| if side == Side::Admin { admin.clone() } else { public.clone() };
            actix_web::rt::spawn(http::peers::serve(context.clone(), requests, service_of));
        }
        let mut builder = actix_web::dev::Server::build()
            .workers(workers)
            .max_concurrent_connections(open_files::connections(settings.server.max_connections).div_ceil(workers))
            .shutdown_timeout(settings.server.shutdown_timeout_s)
            .disable_signals();
        let (bounds, traffic) = (bounds(&settings, hub.metrics()), Arc::<Traffic>::default());
        let options = |tls| ListenerOptions { tls, bounds: bounds.clone(), traffic: traffic.clone() };
        let Listeners { public, admin } = listeners;
        builder = builder.listen("public", public, transport::carrier(options(tls), app(Side::Public)))?;
        if let Some(admin) = admin {
            builder = builder.listen("admin", admin, transport::carrier(options(admin_tls), app(Side::Admin)))?;
        }
        let running = builder.run();
        let shutdown_timeout = Duration::from_secs(settings.server.shutdown_timeout_s);
        let heir = program.and_then(|program| {
            let server = giving::Server {
                hub: hub.clone(),
                listeners: for_heir.clone(),
                is_given,
                program: program.clone(),
                patience: shutdown_timeout,
                long_answers: context.long_answers.clone(),
                drain: Duration::from_secs(settings.server.takeover_drain_s),
            };
            match Giving::start(server, &settings.storage.data_dir) {
                Ok((giving, deciding)) => Some(Heir { giving, deciding, listeners: for_heir, is_given, program }),
                Err(e) => {
                    log::warn!("no other process can take over from this one without a pause: {e}");
                    None
                }
            }
        });
        Ok(Server {
            addr,
            admin_addr,
            is_tls: certificate.is_some(),
            renewal: Renewal::new(certificate)?,
            hub,
            context,
            handle: running.handle(),
            running,
            traffic,
            shutdown_timeout,
            made_admin_token,
            supervisor: Arc::new(supervisor),
            released,
            heir,
        })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR:PORT`, or `https://`.
    pub fn url(&self) -> String {
        self.url_of(self.addr)
    }

    /// The same of the second listener, where there is one.
    pub fn admin_url(&self) -> Option<String> {
        self.admin_addr.map(|addr| self.url_of(addr))
    }

    /// An address of this server that other machines reach without TLS, as far as its settings say.
    pub fn open_without_tls(&self) -> Option<SocketAddr> {
        let addresses = [Some(self.addr), self.admin_addr].into_iter().flatten();
        in_the_open(addresses, self.is_tls, self.context.settings.server.public_url.as_deref())
    }

    fn url_of(&self, addr: SocketAddr) -> String {
        format!("{}://{addr}", if self.is_tls { "https" } else { "http" })
    }

    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The file of the admin token, when this start made it.
    pub fn new_admin_token(&self) -> Option<PathBuf> {
        self.made_admin_token.then(|| self.context.settings.storage.data_dir.join("admin-token"))
    }

    /// A link to the dashboard that logs in as the admin, once within ten minutes. It takes the place of the one before.
    pub fn login_link(&self) -> String {
        let secret = self.context.login_link.make(actors::clock::random(), Instant::now());
        // the dashboard is at the second listener, where there is one
        let address = match (self.admin_addr, &self.context.settings.server.public_url) {
            (None, Some(url)) => url.clone(),
            (admin, _) => {
                let mut addr = admin.unwrap_or(self.addr);
                // nobody can be reached at "every address"
                match addr.ip() {
                    ip if !ip.is_unspecified() => {}
                    IpAddr::V4(_) => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(_) => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
                }
                self.url_of(addr)
            }
        };
        format!("{address}/#login={secret}")
    }

    /// Serves until `signal` is ready, then stops in order: not ready, sessions, requests and webhooks, journal, store. When
    /// another process takes over, this one becomes one that only waits for it, and does not return.
    ///
    /// # Errors
    /// The server failed.
    pub async fn run_until_stopped(self, signal: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Server { hub, context, handle, running, shutdown_timeout, renewal, traffic, supervisor, .. } = self;
        let mut serving = actix_web::rt::spawn(running);
        let (giving, mut heir) = match self.heir {
            Some(Heir { giving, deciding, listeners, is_given, program }) => {
                (Some(actix_web::rt::spawn(giving.run())), Some((deciding, listeners, is_given, program)))
            }
            None => (None, None),
        };
        // from here on the threads are there, or the server has failed
        actix_web::rt::task::yield_now().await;
        traffic.round_of_threads(ROUND).await;
        if let Some(released) = self.released {
            released.ready();
        }
        supervisor.ready();
        let watching = actix_web::rt::spawn(supervisor.clone().watch(traffic.clone()));
        let renewal = actix_web::rt::spawn(renewal.run());
        let successor = tokio::select! {
            ended = &mut serving => return Ok(ended.map_err(std::io::Error::other)??),
            () = signal => None,
            successor = decided(heir.as_mut().map(|(deciding, ..)| deciding)) => Some(successor),
        };
        renewal.abort();
        // with it goes its socket
        if let Some(giving) = giving {
            giving.abort();
            // an end that was asked for
            drop(giving.await);
        }
        if let (Some(successor), Some((_, listeners, is_given, program))) = (successor, heir) {
            quieten(&hub, &context, &handle, &traffic, shutdown_timeout).await;
            hub.stop(shutdown_timeout).await;
            return Err(ServeError::LetGo(let_go(&listeners, is_given, &successor, program)));
        }
        log::info!("stopping");
        supervisor.stopping();
        context.stopping.store(true, Ordering::Relaxed);
        // The thread that accepts is told before those that serve. If all were told at once, it might give a connection to
        // threads that have ended already.
        handle.pause().await;
        traffic.round_of_threads(ROUND).await;
        hub.end_sessions(SessionEnd::Shutdown).await;
        traffic.enter(Stage::Closing);
        let requests = tokio::time::timeout(shutdown_timeout, handle.stop(true));
        // side by side, because a receiver and a client may each use the whole of the time
        let (requests, ()) = tokio::join!(requests, hub.end_deliveries(shutdown_timeout));
        if requests.is_err() {
            log::warn!("requests did not end within server.shutdown_timeout_s; they are cut");
        }
        hub.stop(shutdown_timeout).await;
        watching.abort();
        // dropping the server's future ends what is left of it
        serving.abort();
        log::info!("stopped");
        Ok(())
    }
}

/// Who takes over, once that is decided.
async fn decided(deciding: Option<&mut mpsc::Receiver<Successor>>) -> Successor {
    match deciding {
        Some(deciding) => match deciding.recv().await {
            Some(successor) => successor,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Accepts no connection any more, answers what there is and ends all streams. Connections that come now wait in the kernel's
/// queue. Deliveries have ended before.
async fn quieten(hub: &Hub, context: &Context, handle: &ServerHandle, traffic: &Traffic, shutdown_timeout: Duration) {
    handle.pause().await;
    // whatever was accepted is with its thread now
    traffic.round_of_threads(ROUND).await;
    traffic.enter(Stage::LastAnswers);
    traffic.all_gone(LAST_ANSWERS).await;
    context.stopping.store(true, Ordering::Relaxed);
    hub.end_sessions(SessionEnd::Replaced).await;
    traffic.enter(Stage::Closing);
    let (_, answered) = tokio::join!(traffic.all_gone(TAKE_END), traffic.all_answered(shutdown_timeout));
    if !answered {
        log::warn!("requests did not end within server.shutdown_timeout_s; they are cut");
    }
}

/// The settings of connections.
fn bounds(settings: &Settings, metrics: &Arc<Metrics>) -> Bounds {
    let server = &settings.server;
    Bounds {
        request_timeout: Duration::from_secs(server.request_timeout_s),
        body_timeout: Duration::from_secs(server.body_timeout_s),
        keep_alive: Duration::from_secs(server.keep_alive_s),
        stall_timeout: Duration::from_secs(settings.streams.stall_timeout_s),
        h2_streams: server.h2_streams,
        memory: Arc::new(SharedMemory::new(server.unauthenticated_bytes)),
        metrics: metrics.clone(),
    }
}

fn cors(allowed: &[String]) -> Cors {
    let cors = Cors::default()
        .allow_any_method()
        .allow_any_header()
        .expose_headers([
            "RateLimit-Limit",
            "RateLimit-Remaining",
            "RateLimit-Reset",
            "Retry-After",
            "Idempotency-Replayed",
        ])
        .max_age(86_400);
    match allowed.iter().any(|origin| origin == "*") {
        true => cors.allow_any_origin().send_wildcard(),
        false => allowed.iter().fold(cors, |cors, origin| cors.allowed_origin(origin)),
    }
}

/// The first of the addresses that other machines reach, unless something says that what they send is encrypted.
fn in_the_open(
    addresses: impl IntoIterator<Item = SocketAddr>,
    is_tls: bool,
    public_url: Option<&str>,
) -> Option<SocketAddr> {
    let is_encrypted = is_tls || public_url.is_some_and(|url| url.starts_with("https:"));
    addresses.into_iter().find(|address| !address.ip().is_loopback() && !is_encrypted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_others_reach_without_encryption_is_told_of() {
        let https = Some("https://events.example.org");
        for (listen, is_tls, public_url, is_open) in [
            ("0.0.0.0:8080", false, None, true),
            ("[::]:8080", false, Some("http://events.example.org"), true),
            ("192.0.2.1:80", false, None, true),
            ("0.0.0.0:8080", true, None, false),
            ("0.0.0.0:8080", false, https, false),
            ("127.0.0.1:8080", false, None, false),
            ("[::1]:8080", false, None, false),
        ] {
            let address: SocketAddr = listen.parse().expect("an address");
            assert_eq!(
                in_the_open([address], is_tls, public_url).is_some(),
                is_open,
                "{listen} {is_tls} {public_url:?}"
            );
        }
    }
}
