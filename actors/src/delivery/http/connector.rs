//! How awc gets its connections: through the check of targets, to the addresses that it judged and to no other.
//!
//! awc's own `Resolve` hook is not asked for IPv4 literals, and its connector never sets TCP_NODELAY; this one replaces
//! both. TLS follows in awc and checks the certificate against the host name of the URL.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection as Connected};
use awc::http::Uri;
use awc::http::uri::Authority;
use futures_util::future::LocalBoxFuture;

use crate::delivery::http::connection::{Connection, Io, TRACE, Trace};
use crate::delivery::http::target::{Refusal, TargetCheck};
use crate::model::delivery::FailureCode;

/// Below this many remembered connections nothing is forgotten.
const CONNECTIONS_MIN: usize = 64;

#[derive(Clone)]
pub(super) struct Connector(Rc<Inner>);

struct Inner {
    target_check: Arc<TargetCheck>,
    connections: RefCell<Connections>,
}

/// Every connection that may still be open. Those that ended are forgotten when their number has doubled.
struct Connections {
    all: Vec<Weak<Connection>>,
    forget_at: usize,
}

impl Connector {
    pub(super) fn new(target_check: Arc<TargetCheck>) -> Connector {
        let connections = Connections { all: Vec::new(), forget_at: CONNECTIONS_MIN };
        Connector(Rc::new(Inner { target_check, connections: RefCell::new(connections) }))
    }

    /// Closes the connections that rested for so long, to one receiver or to all.
    pub(super) fn close_idle(&self, authority: Option<&Authority>, at_least: Duration) {
        self.0.connections.borrow_mut().all.retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            if authority.is_none_or(|a| *a == connection.authority) {
                connection.close_if_idle(at_least);
            }
            true
        });
    }

    /// The number of connections that have not ended, for tests.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.0.connections.borrow().all.iter().filter(|connection| connection.strong_count() > 0).count()
    }

    fn remember(&self, connection: &Rc<Connection>) {
        let mut connections = self.0.connections.borrow_mut();
        if connections.all.len() >= connections.forget_at {
            connections.all.retain(|connection| connection.strong_count() > 0);
            connections.forget_at = CONNECTIONS_MIN.max(connections.all.len() * 2);
        }
        connections.all.push(Rc::downgrade(connection));
    }

    async fn connect(&self, uri: &Uri, port: u16, trace: &Trace) -> Result<Rc<Connection>, (FailureCode, String)> {
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err((FailureCode::DnsError, "the url has no host".to_owned()));
        };
        let began = Instant::now();
        let addresses = self.0.target_check.admit_host(host, port).await.map_err(|refusal| {
            let code = match refusal {
                Refusal::Forbidden { .. } => FailureCode::TargetForbidden,
                Refusal::Unresolved { .. } => FailureCode::DnsError,
            };
            (code, refusal.to_string())
        })?;
        let resolved = Instant::now();
        if !is_literal(host) {
            trace.dns.set(Some(resolved - began));
        }
        let (address, stream) = dial(&addresses, trace.connect_by).await?;
        let dialled = Instant::now();
        trace.connect.set(Some(dialled - resolved));
        trace.dialled.set(Some(dialled));
        let https = uri.scheme_str() == Some("https");
        let connection = Rc::new(Connection::new(address, authority.clone(), https, stream));
        self.remember(&connection);
        Ok(connection)
    }
}

fn is_literal(host: &str) -> bool {
    host.starts_with('[') || host.parse::<IpAddr>().is_ok()
}

/// Dials one address after the other. Each gets its share of the time that is left, so that a silent one cannot keep
/// the client from the next.
async fn dial(addresses: &[SocketAddr], by: Instant) -> Result<(SocketAddr, TcpStream), (FailureCode, String)> {
    let mut failure = (FailureCode::DnsError, "the name has no address".to_owned());
    for (tried, address) in addresses.iter().enumerate() {
        let left = by.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        failure = match tokio::time::timeout(share, connecting).await {
            Ok(Ok(stream)) => return Ok((*address, stream)),
            Ok(Err(error)) => (connect_code(&error), format!("cannot connect to {address}: {error}")),
            Err(_) => (FailureCode::Timeout, format!("cannot connect to {address}: no answer in time")),
        };
    }
    Err(failure)
}

fn connect_code(error: &io::Error) -> FailureCode {
    match error.kind() {
        io::ErrorKind::TimedOut => FailureCode::Timeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => FailureCode::ConnectionReset,
        _ => FailureCode::ConnectionRefused,
    }
}

impl Service<ConnectInfo<Uri>> for Connector {
    type Response = Connected<Uri, Io>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, wanted: ConnectInfo<Uri>) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            // Every request is sent inside of a trace; without one there is no bound on time, so no connection.
            let trace = TRACE.try_with(Rc::clone).map_err(|_| ConnectError::Unresolved)?;
            trace.fresh.set(true);
            let uri = wanted.request().clone();
            match connector.connect(&uri, wanted.port(), &trace).await {
                Ok(connection) => Ok(Connected::new(uri, Io(connection))),
                Err(failure) => {
                    // awc turns errors into its own; the trace carries this one past it.
                    trace.failure.replace(Some(failure));
                    Err(ConnectError::Unresolved)
                }
            }
        })
    }
}
