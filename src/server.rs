//! The server: from settings to a socket that answers, and from a signal back to a flushed store.

use std::any::Any;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_cors::Cors;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer, web};
use actors::hub::{Hub, HubError, Started};
use actors::model::draft;
use actors::streams::Socket;

use crate::engine_config::{self, Start};
use crate::http::credential::failures::FailedLogins;
use crate::http::credential::jwt::{JwtError, Verifier};
use crate::http::credential::login_link::LoginLink;
use crate::http::credential::spent::SpentTickets;
use crate::http::forwarded::Proxies;
use crate::http::guard::ApiLimit;
use crate::http::ingest::Bodies;
use crate::http::{self, Context, bodies, compression, guard, problem};
use crate::settings::Settings;
use crate::tls::{self, TlsError};

/// A server that accepts connections.
pub struct Server {
    addr: SocketAddr,
    tls: bool,
    hub: Hub,
    context: web::Data<Context>,
    handle: ServerHandle,
    running: actix_web::dev::Server,
    shutdown_timeout: Duration,
    made_admin_token: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen { addr: String, source: std::io::Error },
    #[error("the server failed: {0}")]
    Io(#[from] std::io::Error),
}

/// How long the kernel waits before it probes a connection that says nothing.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Least time that a stalled client has to take the notice of its end.
const STALL_NOTICE: Duration = Duration::from_secs(5);

impl Server {
    /// Opens the data folder, starts the engine and listens. To be called within an actix system.
    pub async fn bind(settings: Settings, start: Start) -> Result<Server, ServeError> {
        let settings = Arc::new(settings);
        let jwt = Verifier::from_settings(&settings.auth.jwt)?.map(Arc::new);
        let tls = tls::server_config(&settings.server)?;
        let listener = listen(&settings.server.listen, settings.server.backlog)
            .map_err(|source| ServeError::Listen { addr: settings.server.listen.clone(), source })?;
        let addr = listener.local_addr()?;
        let config = engine_config::of(&settings, &start);
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
            draft_limits: draft::Limits { event_bytes: limits.event_bytes, batch_events: limits.batch_events },
            bodies: Bodies::default(),
            stopping: AtomicBool::new(false),
            settings: settings.clone(),
        });
        let workers = match settings.server.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let for_app = context.clone();
        let stall_timeout = Duration::from_secs(settings.streams.stall_timeout_s);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(for_app.clone())
                .configure(|config| http::routes(config, &for_app.settings.limits))
                .wrap(from_fn(bodies::bounded))
                .wrap(from_fn(guard::quota_headers))
                .wrap(from_fn(compression::compress))
                .wrap(from_fn(problem::shape))
                .wrap(cors(&for_app.settings.cors.allowed_origins))
        })
        .workers(workers)
        .max_connections(settings.server.max_connections.div_ceil(workers))
        .client_request_timeout(Duration::from_secs(settings.server.request_timeout_s))
        .client_disconnect_timeout(LAST_WORDS)
        .keep_alive(Duration::from_secs(settings.server.keep_alive_s))
        .shutdown_timeout(settings.server.shutdown_timeout_s)
        .h1_allow_half_closed(false)
        .h1_write_buffer_size(WRITE_BUFFER_BYTES)
        .disable_signals()
        .on_connect(move |io, extensions| accepted(io, extensions, stall_timeout));
        let is_tls = tls.is_some();
        let server = match tls {
            Some(config) => server.listen_rustls_0_23(listener, config)?,
            None => server.listen(listener)?,
        };
        if let Some(jwt) = jwt {
            actix_web::rt::spawn(jwt.follow_file());
        }
        let running = server.run();
        Ok(Server {
            addr,
            tls: is_tls,
            hub,
            context,
            handle: running.handle(),
            running,
            shutdown_timeout: Duration::from_secs(settings.server.shutdown_timeout_s),
            made_admin_token,
        })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR:PORT`, or `https://`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.addr)
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
        let address = match &self.context.settings.server.public_url {
            Some(url) => url.clone(),
            None => {
                let mut addr = self.addr;
                // nobody can be reached at "every address"
                match addr.ip() {
                    ip if !ip.is_unspecified() => {}
                    IpAddr::V4(_) => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(_) => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
                }
                format!("{}://{addr}", if self.tls { "https" } else { "http" })
            }
        };
        format!("{address}/#login={secret}")
    }

    /// Serves until `signal` is ready, then stops in order: not ready, sessions, requests and webhooks, journal, store.
    pub async fn run_until_stopped(self, signal: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Server { hub, context, handle, running, shutdown_timeout, .. } = self;
        let mut serving = actix_web::rt::spawn(running);
        tokio::select! {
            ended = &mut serving => return Ok(ended.map_err(std::io::Error::other)??),
            () = signal => {}
        }
        log::info!("stopping");
        context.stopping.store(true, Ordering::Relaxed);
        hub.end_sessions().await;
        let requests = tokio::time::timeout(shutdown_timeout, handle.stop(true));
        // side by side, because a receiver and a client may each use the whole of the time
        let (requests, ()) = tokio::join!(requests, hub.end_deliveries(shutdown_timeout));
        if requests.is_err() {
            log::warn!("requests did not end within server.shutdown_timeout_s; they are cut");
        }
        hub.stop(shutdown_timeout).await;
        // dropping the server's future ends what is left of it
        serving.abort();
        log::info!("stopped");
        Ok(())
    }
}

/// How long a connection that we end is still listened to, so that a client in the middle of sending reads our last bytes
/// before its own run into a closed socket. actix reckons it from a clock that it reads every half second: less than that
/// would be over before it began, and the connection would stay.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes that wait in a connection before its stream is asked for no more. Small: what waits there is memory per reader.
const WRITE_BUFFER_BYTES: usize = 32 * 1024;

fn listen(addr: &str, backlog: u32) -> std::io::Result<TcpListener> {
    let mut last = std::io::Error::other("the address means nothing");
    for addr in std::net::ToSocketAddrs::to_socket_addrs(addr)? {
        let domain = socket2::Domain::for_address(addr);
        let bound = socket2::Socket::new(domain, socket2::Type::STREAM, None).and_then(|socket| {
            // so that a restart does not have to wait for connections of the one before
            socket.set_reuse_address(true)?;
            socket.bind(&addr.into())?;
            socket.listen(backlog as i32)?;
            Ok(socket.into())
        });
        match bound {
            Ok(listener) => return Ok(listener),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// A connection was accepted: it gets the timeouts that HTTP does not have.
fn accepted(io: &dyn Any, extensions: &mut Extensions, stall_timeout: Duration) {
    let plain = io.downcast_ref::<TcpStream>();
    let stream = plain.or_else(|| Some(io.downcast_ref::<TlsStream<TcpStream>>()?.get_ref().0));
    let Some(stream) = stream else { return };
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE / 6);
    // A stalled stream is told that it ends after the stall timeout; whoever does not even take that is cut by the kernel,
    // which must not come first: the shard notices up to two of its ticks late.
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(stall_timeout + stall_timeout.max(STALL_NOTICE))));
    if let Err(e) = set {
        // the connection may be gone already
        log::debug!("a connection's socket options were not set: {e}");
    }
    extensions.insert(Socket::new(stream.as_raw_fd(), plain.is_none()));
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
