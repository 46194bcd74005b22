//! How a connection comes about: through the check of targets, to the addresses that it judged and to no other, and with
//! TLS, which checks the certificate against the host name of the URL.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::net::TcpStream;
use awc::http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::delivery::http::connection::{Connection, Stream};
use crate::delivery::http::target::{Refusal, TargetCheck};
use crate::delivery::http::tls::in_words;
use crate::model::delivery::FailureCode;

/// What went wrong, in the words of the delivery log.
pub(super) type Failure = (FailureCode, String);

pub(super) struct Connector {
    target_check: Arc<TargetCheck>,
    tls: TlsConnector,
    open: Rc<()>,
}

/// How far connecting has come, and how long its parts took.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) dns: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) tls: Option<Duration>,
    /// To which TCP stands.
    pub(super) address: Option<SocketAddr>,
}

impl Progress {
    /// Where it stood when time was up.
    pub(super) fn stage(&self) -> &'static str {
        match (self.address, self.dns) {
            (Some(_), _) => "the TLS handshake did not end in time",
            (None, Some(_)) => "the connection did not stand in time",
            (None, None) => "the name was not resolved, or the connection did not stand, in time",
        }
    }
}

impl Connector {
    pub(super) fn new(target_check: Arc<TargetCheck>, tls: Arc<ClientConfig>) -> Connector {
        Connector { target_check, tls: TlsConnector::from(tls), open: Rc::new(()) }
    }

    /// The number of connections that have not ended, for tests.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        Rc::strong_count(&self.open) - 1
    }

    /// Connects to the host of a URL. The caller bounds the time; `by` is the end of it.
    pub(super) async fn connect(&self, uri: &Uri, by: Instant, progress: &mut Progress) -> Result<Connection, Failure> {
        let Some(host) = uri.host() else {
            return Err((FailureCode::DnsError, "the url has no host".to_owned()));
        };
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let began = Instant::now();
        let addresses = self.target_check.admit_host(host, port).await.map_err(|refusal| {
            let code = match refusal {
                Refusal::Forbidden { .. } => FailureCode::TargetForbidden,
                Refusal::Unresolved { .. } => FailureCode::DnsError,
            };
            (code, refusal.to_string())
        })?;
        let resolved = Instant::now();
        let bare = host.trim_matches(['[', ']']);
        if bare.parse::<IpAddr>().is_err() {
            progress.dns = Some(resolved - began);
        }
        let (address, stream) = dial(&addresses, by).await?;
        let dialled = Instant::now();
        (progress.connect, progress.address) = (Some(dialled - resolved), Some(address));
        let stream = if https {
            let stream = self.handshake(bare, stream).await?;
            progress.tls = Some(dialled.elapsed());
            stream
        } else {
            Stream::Plain(stream)
        };
        Ok(Connection { stream, address, opened: dialled, _open: Rc::clone(&self.open) })
    }

    async fn handshake(&self, host: &str, stream: TcpStream) -> Result<Stream, Failure> {
        let no_name = |e| (FailureCode::TlsError, format!("no certificate can be for {host:?}: {e}"));
        let name = ServerName::try_from(host.to_owned()).map_err(no_name)?;
        let stream = self.tls.connect(name, stream).await.map_err(|e| handshake_failure(&e))?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// Dials one address after the other. Each gets its share of the time that is left, so that a silent one cannot keep
/// the client from the next.
async fn dial(addresses: &[SocketAddr], by: Instant) -> Result<(SocketAddr, TcpStream), Failure> {
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

/// TCP stood, the request did not begin: what failed is the handshake, or the network under it.
fn handshake_failure(error: &io::Error) -> Failure {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset => {
            (FailureCode::ConnectionReset, format!("the connection broke off in the TLS handshake: {error}"))
        }
        _ => (FailureCode::TlsError, format!("the TLS handshake failed: {}", in_words(error))),
    }
}
