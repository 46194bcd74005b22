//! Which certificates are trusted for outgoing TLS: those of the platform's authorities, and those of a file that the operator
//! names. `SSL_CERT_FILE` and `SSL_CERT_DIR` stand in for the platform's, as OpenSSL has them.

use std::error::Error as _;
use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Largest file of certificates.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Why the trusted certificates cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "no certificate can be read from where SSL_CERT_FILE and SSL_CERT_DIR point ({0}); \
         correct them, or unset them for the authorities of the system"
    )]
    Environment(String),
    #[error("no certificate authority can be read from {path}: {reason}; name a PEM file of certificates", path = .path.display())]
    File { path: PathBuf, reason: String },
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Certificate authorities.
#[derive(Debug)]
pub struct Trust {
    authorities: RootCertStore,
    /// Those that an operator named, each of which may also be the certificate of a receiver itself.
    named: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Trusts nobody.
    pub fn nobody() -> Trust {
        Trust { authorities: RootCertStore::empty(), named: Vec::new() }
    }

    /// The authorities of the platform. Where it has none, as in an empty container, those of Mozilla that are compiled in.
    /// Blocks on files.
    ///
    /// # Errors
    /// When the environment names a file or a folder from which no certificate can be read.
    pub fn platform() -> Result<Trust, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut authorities = RootCertStore::empty();
        let (readable, _) = authorities.add_parsable_certificates(found.certs);
        if readable == 0 {
            let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            if is_set("SSL_CERT_FILE") || is_set("SSL_CERT_DIR") {
                let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                let reason = if reasons.is_empty() { "none is there".to_owned() } else { reasons.join(", ") };
                return Err(TlsError::Environment(reason));
            }
            log::info!("the system has no certificate authorities; those of Mozilla that are compiled in are trusted");
            authorities.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Ok(Trust { authorities, named: Vec::new() })
    }

    /// Those of a PEM file as well. Blocks on the file.
    ///
    /// # Errors
    /// When it cannot be read, or one of its certificates cannot, or it has none.
    pub fn and_file(mut self, path: &Path) -> Result<Trust, TlsError> {
        let bad = |reason: String| TlsError::File { path: path.to_owned(), reason };
        let mut pem = Vec::new();
        let file = std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
        file.take(FILE_BYTES + 1).read_to_end(&mut pem).map_err(|e| bad(e.to_string()))?;
        if pem.len() as u64 > FILE_BYTES {
            return Err(bad(format!("it is larger than {FILE_BYTES} bytes")));
        }
        let before = self.named.len();
        for (place, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
            let wrong = |e: String| bad(format!("its certificate {} cannot be read ({e})", place + 1));
            self = self.and(certificate.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
        }
        match self.named.len() - before {
            0 => Err(bad("it holds no certificate in PEM".to_owned())),
            _ => Ok(self),
        }
    }

    /// One more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn and(mut self, certificate: CertificateDer<'static>) -> Result<Trust, TlsError> {
        self.authorities.add(certificate.clone())?;
        self.named.push(certificate);
        Ok(self)
    }

    /// What connections are made with: HTTP/1.1 by ALPN. To be made once and shared: it also holds the sessions to resume.
    ///
    /// # Errors
    /// When the cryptography does not go with it.
    pub fn client_config(self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let mut config = if self.named.is_empty() {
            builder.with_root_certificates(self.authorities).with_no_client_auth()
        } else {
            let verifier = Arc::new(self.verifier(provider)?);
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn verifier(self, provider: Arc<CryptoProvider>) -> Result<Verifier, TlsError> {
        let by_authority = WebPkiServerVerifier::builder_with_provider(Arc::new(self.authorities), provider)
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        Ok(Verifier { by_authority, named: self.named })
    }
}

/// Whom to trust beside the platform: the authorities of a file, if one is named.
///
/// # Errors
/// As [`Trust::platform`] and [`Trust::and_file`].
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    #[cfg(test)]
    if crate::clock::simulated().is_some() {
        // it connects to nobody
        return Trust::nobody().client_config();
    }
    let trust = Trust::platform()?;
    match ca_file {
        Some(path) => trust.and_file(path)?.client_config(),
        None => trust.client_config(),
    }
}

/// Checks certificates by their authorities as rustls does, and takes one more: a certificate that signed itself, if it is
/// named. `openssl req -x509` makes such a certificate as one of an authority, which rustls takes for no server.
#[derive(Debug)]
struct Verifier {
    by_authority: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.by_authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // said of a certificate that is valid now
            Err(error) if is_authority(&error) && self.named.iter().any(|named| named == end_entity) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// Whether a server was refused because its certificate is that of an authority.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// What went wrong with TLS, and what helps.
pub(super) fn in_words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            format!(
                "{error}; if an authority of your own signed the certificate, name its file in webhooks.tls_ca_file"
            )
        }
        Some(tls) if is_authority(tls) => {
            format!("{error}; if the receiver signed its certificate itself, name that file in webhooks.tls_ca_file")
        }
        Some(tls) => tls.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
        None => error.to_string(),
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
