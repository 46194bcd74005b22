//! The server: start from settings (bind, open the data folder) and stop in order on a signal.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_cors::Cors;
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use actors::hub::{Hub, HubError, Started};
use actors::model::draft;

use crate::engine_config::{self, Start};
use crate::http::credential::failures::FailedLogins;
use crate::http::credential::jwt::{JwtError, Verifier};
use crate::http::credential::login_link::LoginLink;
use crate::http::credential::spent::SpentTickets;
use crate::http::forwarded::Proxies;
use crate::http::guard::ApiLimit;
use crate::http::ingest::Bodies;
use crate::http::{self, Context, Side};
use crate::settings::Settings;
use crate::tls::{Certificate, Renewal, TlsError};
use crate::transport::{self, Bounds, ListenerOptions};

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
    #[error("cannot listen on {addr}: {source}; choose another address with {by}")]
    Listen { addr: String, by: &'static str, source: std::io::Error },
    #[error("the server failed: {0}")]
    Io(#[from] std::io::Error),
}

impl Server {
    /// Opens the data folder, starts the engine and listens. To be called within an actix system. Blocks.
    ///
    /// # Errors
    /// [`ServeError`]: certificate, keys of JWT or an address to listen at cannot be used, or the data folder cannot be
    /// opened.
    pub async fn bind(settings: Settings, start: Start) -> Result<Server, ServeError> {
        let settings = Arc::new(settings);
        let jwt = Verifier::from_settings(&settings.auth.jwt)?.map(Arc::new);
        let certificate = Certificate::of(&settings.server)?;
        let tls =
            |client_ca| certificate.as_ref().map(|own| own.server_config(settings.server.http2, client_ca)).transpose();
        let admin = match &settings.server.admin_listen {
            None => None,
            Some(at) => {
                let (listener, addr) = listen(at, "server.admin_listen", settings.server.backlog)?;
                Some((listener, addr, tls(settings.server.admin_client_ca.as_deref())?))
            }
        };
        let admin_addr = admin.as_ref().map(|(_, addr, _)| *addr);
        let tls = tls(None)?;
        let (listener, addr) = listen(&settings.server.listen, "--listen", settings.server.backlog)?;
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
        let mut builder = actix_web::dev::Server::build()
            .workers(workers)
            .max_concurrent_connections(settings.server.max_connections.div_ceil(workers))
            .shutdown_timeout(settings.server.shutdown_timeout_s)
            .disable_signals();
        let signal = builder.graceful_shutdown_signal();
        let stopping = move || {
            let signal = signal.clone();
            async move { signal.notified().await }
        };
        let bounds = bounds(&settings);
        let options = |tls| ListenerOptions { tls, bounds: bounds.clone() };
        builder = builder.listen(
            "public",
            listener,
            transport::carrier(options(tls), app(Side::Public), stopping.clone()),
        )?;
        if let Some((listener, _, tls)) = admin {
            builder =
                builder.listen("admin", listener, transport::carrier(options(tls), app(Side::Admin), stopping))?;
        }
        let running = builder.run();
        Ok(Server {
            addr,
            admin_addr,
            is_tls: certificate.is_some(),
            renewal: Renewal::new(certificate)?,
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
        self.url_of(self.addr)
    }

    /// The same of the second listener, where there is one.
    pub fn admin_url(&self) -> Option<String> {
        self.admin_addr.map(|addr| self.url_of(addr))
    }

    /// An address of this server that other machines reach without TLS, as far as its settings say.
    pub fn open_without_tls(&self) -> Option<SocketAddr> {
        let public_url = &self.context.settings.server.public_url;
        let is_encrypted = self.is_tls || public_url.as_ref().is_some_and(|url| url.starts_with("https:"));
        let open = [Some(self.addr), self.admin_addr].into_iter().flatten().find(|addr| !addr.ip().is_loopback());
        open.filter(|_| !is_encrypted)
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

    /// Serves until `signal` is ready, then stops in order: not ready, sessions, requests and webhooks, journal, store.
    ///
    /// # Errors
    /// [`ServeError::Io`] when the server ends by itself.
    pub async fn run_until_stopped(self, signal: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Server { hub, context, handle, running, shutdown_timeout, renewal, .. } = self;
        let mut serving = actix_web::rt::spawn(running);
        let renewal = actix_web::rt::spawn(renewal.run());
        tokio::select! {
            ended = &mut serving => return Ok(ended.map_err(std::io::Error::other)??),
            () = signal => {}
        }
        renewal.abort();
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

/// The settings of connections.
fn bounds(settings: &Settings) -> Bounds {
    let server = &settings.server;
    Bounds {
        request_timeout: Duration::from_secs(server.request_timeout_s),
        body_timeout: Duration::from_secs(server.body_timeout_s),
        keep_alive: Duration::from_secs(server.keep_alive_s),
        stall_timeout: Duration::from_secs(settings.streams.stall_timeout_s),
        h2_streams: server.h2_streams,
        memory: Arc::default(),
    }
}

/// Listens on `at`, which `by` names.
fn listen(at: &str, by: &'static str, backlog: u32) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listening = || {
        let mut last = std::io::Error::other("the address means nothing");
        for addr in std::net::ToSocketAddrs::to_socket_addrs(at)? {
            match bound(addr, backlog) {
                Ok(listener) => return Ok((listener.local_addr()?, listener)),
                Err(e) => last = e,
            }
        }
        Err(last)
    };
    let (addr, listener) = listening().map_err(|source| ServeError::Listen { addr: at.into(), by, source })?;
    Ok((listener, addr))
}

fn bound(addr: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    // so that a restart does not have to wait for connections of the one before
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog as i32)?;
    Ok(socket.into())
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
