//! Handshakes in memory: whom a client trusts that was told of a file.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;

/// A server's chain with its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = if ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
    params
}

fn key_of(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

/// A certificate that signed itself, and its PEM.
fn self_signed(params: CertificateParams) -> (Identity, String) {
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    (Identity { chain: vec![made.der().clone()], key: key_of(&key) }, pem(made.der()))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("# a comment\n-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// A certificate for a name that an authority signed, and the authority's PEM.
fn signed(name: &str) -> (Identity, String) {
    let authority = CertifiedIssuer::self_signed(params("authority", true), KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let made = params(name, false).signed_by(&key, &authority).unwrap();
    (Identity { chain: vec![made.der().clone()], key: key_of(&key) }, pem(authority.der()))
}

/// Trusts a file with this text.
fn trusting(text: &str) -> Result<Trust, TlsError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Trust::nobody().and_file(file.path())
}

fn handshake(trust: Trust, identity: &Identity, name: &'static str) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let server = server.with_no_client_auth().with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(trust.client_config().unwrap(), name)?;
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

#[test]
fn an_authority_of_a_file_is_trusted_for_the_names_that_it_signed() {
    let (identity, authority) = signed("good.test");
    assert_eq!(handshake(trusting(&authority).unwrap(), &identity, "good.test"), Ok(()));
    let (_, other) = signed("good.test");
    let both = trusting(&format!("{other}\n{authority}")).unwrap();
    assert_eq!(handshake(both, &identity, "good.test"), Ok(()));
    for (trust, name) in [(trusting(&authority), "bad.test"), (trusting(&other), "good.test")] {
        assert!(handshake(trust.unwrap(), &identity, name).is_err(), "{name}");
    }
    assert!(handshake(Trust::nobody(), &identity, "good.test").is_err());
}

#[test]
fn a_certificate_that_signed_itself_is_trusted_if_it_is_named() {
    // with and without the mark of an authority, as `openssl req -x509` and rcgen make them
    for ca in [true, false] {
        let (identity, own) = self_signed(params("good.test", ca));
        assert_eq!(handshake(trusting(&own).unwrap(), &identity, "good.test"), Ok(()), "{ca}");
        assert!(handshake(trusting(&own).unwrap(), &identity, "bad.test").is_err(), "{ca}");
        let (_, other) = self_signed(params("good.test", ca));
        assert!(handshake(trusting(&other).unwrap(), &identity, "good.test").is_err(), "{ca}");
        let mut over = params("good.test", ca);
        (over.not_before, over.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        let (identity, own) = self_signed(over);
        assert!(handshake(trusting(&own).unwrap(), &identity, "good.test").is_err(), "{ca}");
    }
}

#[test]
fn a_certificate_signed_by_one_that_is_named_and_no_authority_is_not_trusted() {
    let issuer = CertifiedIssuer::self_signed(params("issuer", false), KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let made = params("good.test", true).signed_by(&key, &issuer).unwrap();
    let identity = Identity { chain: vec![made.der().clone()], key: key_of(&key) };
    assert!(handshake(trusting(&pem(issuer.der())).unwrap(), &identity, "good.test").is_err());
}

#[test]
fn a_file_without_certificates_is_refused_by_name() {
    let (_, own) = self_signed(params("good.test", true));
    let cut = own.replace("-----END CERTIFICATE-----\n", "");
    let nonsense = pem(&CertificateDer::from_slice(b"nonsense"));
    for (text, reason) in [
        ("", "it holds no certificate in PEM"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "it holds no certificate in PEM"),
        (&cut, "its certificate 1 cannot be read"),
        (&format!("{own}{nonsense}"), "its certificate 2 cannot be read"),
        (&" ".repeat(FILE_BYTES as usize + 1), "it is larger than"),
    ] {
        let error = trusting(text).expect_err(reason).to_string();
        assert!(error.contains(reason) && error.contains("name a PEM file"), "{error}");
    }
    let missing = Trust::nobody().and_file(Path::new("/nowhere/ca.pem")).unwrap_err().to_string();
    assert!(missing.contains("/nowhere/ca.pem: No such file"), "{missing}");
}
