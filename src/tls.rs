//! TLS by rustls, when a certificate is configured. The certificate and its key are read again when their files change, or on
//! SIGHUP; connections that are open go on with the one that they began with.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::error::BlockingError;
use actix_web::web;
use parking_lot::RwLock;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::settings;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{key} {}: {reason}; give a PEM file", path.display())]
    File { key: &'static str, path: PathBuf, reason: String },
    #[error("the certificate and the key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
    #[error("server.admin_client_ca: {0}; give a PEM file with the certificates of the authorities")]
    ClientCa(#[from] VerifierBuilderError),
}

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A certificate with its key, which may be exchanged while it is in use.
#[derive(Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    /// Of the files as they were read at the start.
    stamp: Option<Stamp>,
}

/// What tells whether a file was written or replaced.
type Stamp = [(u64, u64, i64, i64); 2];

impl Certificate {
    /// None without a certificate: plain http. Blocks.
    ///
    /// # Errors
    /// [`TlsError::File`] when a file cannot be read, [`TlsError::Pair`] when key and certificate do not belong
    /// together.
    pub fn of(settings: &settings::Server) -> Result<Option<Arc<Certificate>>, TlsError> {
        let (Some(cert), Some(key)) = (settings.tls.cert.clone(), settings.tls.key.clone()) else { return Ok(None) };
        // before they are read: a change in between is then noticed
        let stamp = stamp(&cert, &key);
        let current = RwLock::new(read(&cert, &key)?);
        Ok(Some(Arc::new(Certificate { cert, key, current, stamp })))
    }

    /// For one listener. `client_ca`: clients need a certificate of these authorities. Blocks.
    ///
    /// # Errors
    /// [`TlsError::File`] or [`TlsError::ClientCa`] when the authorities cannot be read or used.
    pub fn server_config(self: &Arc<Self>, http2: bool, client_ca: Option<&Path>) -> Result<ServerConfig, TlsError> {
        let provider = provider();
        let versions = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let clients = match client_ca {
            None => versions.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates("server.admin_client_ca", path)? {
                    roots.add(authority)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build()?;
                versions.with_client_cert_verifier(verifier)
            }
        };
        let mut config = clients.with_cert_resolver(self.clone());
        if http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        // whoever speaks HTTP/1.0 names that alone (RFC 7301, 6)
        config.alpn_protocols.extend([b"http/1.1".to_vec(), b"http/1.0".to_vec()]);
        Ok(config)
    }

    /// Reads the files and uses what they hold, if it can be used. Blocks.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together; the certificate of before stays.
    fn read_again(&self) -> Result<(), TlsError> {
        let new = read(&self.cert, &self.key)?;
        *self.current.write() = new;
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

/// None when one of them is missing. Blocks.
fn stamp(cert: &Path, key: &Path) -> Option<Stamp> {
    let of = |path: &Path| fs::metadata(path).map(|meta| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
    Some([of(cert).ok()?, of(key).ok()?])
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unreadable(key: &'static str, path: &Path) -> impl Fn(pem::Error) -> TlsError {
    move |e| TlsError::File { key, path: path.into(), reason: e.to_string() }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    all.map_err(unreadable(key, path))
}

fn read(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates("server.tls.cert", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable("server.tls.key", key))?;
    // also says whether the key is that of the certificate
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider())?))
}

/// Reads the certificate again when its files have changed, and at each SIGHUP.
pub struct Renewal {
    certificate: Option<Arc<Certificate>>,
    hangups: Signal,
}

impl Renewal {
    /// From now on SIGHUP does not end the process.
    ///
    /// # Errors
    /// SIGHUP cannot be heard.
    pub fn new(certificate: Option<Arc<Certificate>>) -> io::Result<Renewal> {
        Ok(Renewal { certificate, hangups: signal(SignalKind::hangup())? })
    }

    /// Does so as long as the process lives.
    pub async fn run(mut self) {
        let Some(certificate) = self.certificate.take() else {
            while self.hangups.recv().await.is_some() {
                log::info!("SIGHUP: there is no certificate that could be read again");
            }
            return;
        };
        if let Err(e) = self.look_after(certificate).await {
            log::error!("the certificate will not be read again until the next start: {e}");
        }
    }

    async fn look_after(&mut self, certificate: Arc<Certificate>) -> Result<(), BlockingError> {
        let (mut used, mut before) = (certificate.stamp, None);
        loop {
            let asked = tokio::select! {
                heard = self.hangups.recv() => heard.is_some(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let looking = certificate.clone();
            let now = web::block(move || stamp(&looking.cert, &looking.key)).await?;
            // two files are not replaced in one moment
            let lies_still = now == before && now != used;
            before = now;
            if !asked && !lies_still {
                continue;
            }
            used = now;
            let reading = certificate.clone();
            match web::block(move || reading.read_again()).await? {
                Ok(()) => log::info!("{} was read again; new connections get it", certificate.cert.display()),
                Err(e) => log::error!("the certificate stays as it was: {e}"),
            }
        }
    }
}
