//! The transport below HTTP handlers: sockets, TLS, and on each connection HTTP/1 or HTTP/2. What a client without a credential
//! may cost is bounded here: heads, waiting answers, time.
//!
//! HTTP/1 is spoken by actix-http, over a stream that watches heads (`conversation`). HTTP/2 is spoken by a dispatcher of our
//! own (`http2`), because actix-http has no setting for the streams of a connection and does not notice that a stream was reset
//! or that its reader takes nothing.

mod conversation;
mod expectation;
mod http2;
mod memory;
mod order;
mod stream;
mod traffic;
mod watched;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::body::MessageBody;
use actix_http::error::DispatchError;
use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, fn_factory, fn_service, map_config};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::Acceptor;
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actors::metrics::{Metrics, Shed};
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use self::conversation::Conversation;
use self::expectation::Judged;
pub use self::memory::SharedMemory;
pub use self::order::HeaderOrder;
use self::stream::ClientStream;
pub use self::traffic::{Stage, Traffic};
use self::watched::Watched;

/// The bounds of connections.
#[derive(Clone)]
pub struct Bounds {
    /// For the head of a request, for the handshake of TLS, and for the first request of HTTP/2.
    pub request_timeout: Duration,
    /// For what is left of a body that nobody reads any more.
    pub body_timeout: Duration,
    /// A connection without a request.
    pub keep_alive: Duration,
    /// A reader that takes no byte.
    pub stall_timeout: Duration,
    /// Of one HTTP/2 connection.
    pub h2_streams: u32,
    /// Shared by all connections.
    pub memory: Arc<SharedMemory>,
    /// Where what is refused is counted.
    pub metrics: Arc<Metrics>,
}

/// How the connections of one listening address are served.
#[derive(Clone)]
pub struct ListenerOptions {
    /// None: plain.
    pub tls: Option<ServerConfig>,
    pub bounds: Bounds,
    /// Shared by all listening addresses.
    pub traffic: Arc<Traffic>,
}

/// The head of a request, in HTTP/2 its header list.
pub const HEAD_BYTES: usize = 64 * 1024;
/// How long a connection that we end is still listened to, so that a client in the middle of sending reads our last bytes
/// before its own run into a closed socket. actix reckons it from a clock that it reads every half second: less than that
/// would be over before it began, and the connection would stay.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes that wait in a connection before its answer is asked for no more. Small: what waits there is memory per reader.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Encrypted bytes that wait in a connection.
const TLS_BUFFER_BYTES: usize = 32 * 1024;
/// How long the kernel waits before it probes a connection that says nothing.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Least time that a stalled client has to take the notice of its end.
const STALL_NOTICE: Duration = Duration::from_secs(5);
/// Handshakes of TLS that one thread has under way. More wait for their turn, so that each ends in time when all clients come
/// back at once.
const TLS_HANDSHAKES: usize = 1024;
/// Time for one of them.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection ended before its time; the client may be the reason. For the log of details only.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("no TLS: {0}")]
    Tls(String),
    #[error("HTTP/1: {0}")]
    Http1(String),
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("no HTTP/2 preface in time")]
    Preface,
}

/// Serves connections of a listening address with the application that `app` makes, once on each thread.
pub fn carrier<F, A, S, B>(options: ListenerOptions, app: F) -> impl Fn() -> CarrierFactory + Send + Clone + 'static
where
    F: Fn() -> A + Send + Clone + 'static,
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Error = actix_web::Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + Unpin + 'static,
{
    move || {
        let (options, app) = (options.clone(), app().into_factory());
        // scheme and host are found out from the settings and the request, see `http::forwarded`
        let app = Rc::new(map_config(app, |()| AppConfig::default()));
        actix_service::boxed::factory(fn_factory(move || {
            let (options, app) = (options.clone(), app.clone());
            async move { serve(options, app.new_service(()).await.map_err(|e| log::error!("no application: {e:?}"))?).await }
        }))
    }
}

/// Makes the service of one thread.
pub type CarrierFactory = actix_service::boxed::BoxServiceFactory<(), TcpStream, (), Broken, ()>;

/// The service of one thread.
async fn serve<S, B>(
    options: ListenerOptions,
    app: S,
) -> Result<impl Service<TcpStream, Response = (), Error = Broken>, ()>
where
    S: Service<Request, Error = actix_web::Error> + 'static,
    S::Response: Into<Response<B>> + 'static,
    S::Future: 'static,
    B: MessageBody + Unpin + 'static,
{
    let ListenerOptions { tls, bounds, traffic } = options;
    traffic.served_here();
    let app = Rc::new(Watched::<S, B>::new(app, traffic.clone()));
    let acceptor = match tls {
        Some(config) => {
            let mut acceptor = Acceptor::new(config);
            acceptor.set_handshake_timeout(bounds.request_timeout.min(TLS_HANDSHAKE_TIMEOUT));
            Some(ServiceFactory::<TcpStream>::new_service(&acceptor, ()).await?)
        }
        None => None,
    };
    let (for_http1, for_waiting) = (app.clone(), app.clone());
    // Of the connection that begins to be served: actix-http asks for its end right after it was handed over.
    let beginning = Rc::new(RefCell::new(None));
    let (ending, of_beginning) = (traffic.clone(), beginning.clone());
    let http1 = HttpService::build()
        .keep_alive(bounds.keep_alive)
        // heads have their time in `conversation`
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(LAST_WORDS)
        .h1_allow_half_closed(false)
        .h1_write_buffer_size(WRITE_BUFFER_BYTES)
        .graceful_shutdown_signal(move || ending.clone().ends_for(of_beginning.borrow_mut().take()))
        .on_connect_ext(|stream: &ClientStream, data| {
            data.insert(stream.socket());
            if let Some(conversation) = stream.conversation() {
                data.insert(conversation);
            }
        })
        .expect(fn_factory(move || {
            let judged = Judged::new(for_waiting.clone());
            async move { Ok::<_, ()>(judged) }
        }))
        .h1(fn_factory(move || {
            let app = for_http1.clone();
            async move { Ok::<_, ()>(app) }
        }));
    let http1 = Rc::new(http1.new_service(()).await?);
    let (acceptor, turns) = (Rc::new(acceptor), Rc::new(Semaphore::new(TLS_HANDSHAKES)));
    Ok(fn_service(move |tcp: TcpStream| {
        let (app, http1, acceptor, turns) = (app.clone(), http1.clone(), acceptor.clone(), turns.clone());
        let (bounds, traffic, beginning) = (bounds.clone(), traffic.clone(), beginning.clone());
        let connection = traffic.connection();
        async move {
            let _connection = connection;
            let peer = tcp.peer_addr().ok();
            prepare(&tcp, bounds.stall_timeout);
            let mut stream = match &*acceptor {
                None => ClientStream::plain(tcp),
                Some(acceptor) => {
                    let _turn = turns.acquire().await;
                    let mut tls = acceptor.call(tcp).await.map_err(|e| {
                        if matches!(e, TlsError::Timeout) {
                            bounds.metrics.shed(Shed::Handshake);
                        }
                        Broken::Tls(format!("{e:?}"))
                    })?;
                    tls.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
                    ClientStream::tls(tls)
                }
            };
            if stream.is_http2() {
                return http2::serve(stream, peer, app, bounds, traffic.ends()).await;
            }
            stream.watch(Conversation::new(&bounds));
            beginning.replace(stream.conversation());
            http1.call((stream, peer)).await.map_err(|e| {
                // what it answered was its own
                if matches!(e, DispatchError::Parse(_)) {
                    bounds.metrics.shed(Shed::Head);
                }
                Broken::Http1(e.to_string())
            })
        }
    }))
}

/// Gives a connection the timeouts that HTTP does not have.
fn prepare(tcp: &TcpStream, stall_timeout: Duration) {
    let socket = socket2::SockRef::from(tcp);
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
}
