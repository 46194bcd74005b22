//! Receivers whose certificates a private authority signed: the file that the operator names, `SSL_CERT_FILE`, and
//! `--ca-file` on the command line.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use crate::support::program::{Program, command};
use crate::support::webhooks::webhook;
use crate::support::{Map, Receiver, TestServer};

/// An authority of our own, and a receiver at a loopback address whose certificate it signed.
struct Private {
    folder: tempfile::TempDir,
    receiver: Receiver,
}

impl Private {
    fn new() -> Private {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let leaf = leaf.signed_by(&key, &authority).expect("signed");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key);
        let private = Private {
            folder: tempfile::tempdir().expect("a folder"),
            receiver: Receiver::over_tls(Arc::new(config.expect("a certificate and its key"))),
        };
        std::fs::write(private.ca_file(), authority.pem()).expect("written");
        private
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn ca(&self) -> String {
        self.ca_file().to_str().expect("a path of text").to_owned()
    }
}

const OPEN: [(&str, &str); 1] = [("webhooks.allow_networks", "127.0.0.1")];

/// What the test of a new webhook to the receiver says.
fn tested(server: &TestServer, receiver: &Receiver) -> Value {
    let map = server.new_map("m");
    let (webhook, _) = webhook(&map, json!({"url": receiver.url(), "events": ["*"]}));
    map.request("POST", &format!("{webhook}/test")).send().expect(200)["data"].clone()
}

#[test]
fn a_private_authority_is_trusted_when_a_setting_or_the_environment_names_its_file() {
    let private = Private::new();
    let named = TestServer::start(&[&OPEN[..], &[("webhooks.tls_ca_file", &private.ca())]].concat());
    let outcome = tested(&named, &private.receiver);
    assert_eq!(outcome["status_code"], 200, "{outcome}");

    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = private.ca_file();
    let mut environment = TestServer::at(folder.path(), &OPEN).prepared(move |mut command| {
        command.env("SSL_CERT_FILE", &ca_file);
        command
    });
    environment.launch();
    let outcome = tested(&environment, &private.receiver);
    assert_eq!(outcome["status_code"], 200, "{outcome}");
    assert_eq!(private.receiver.received().len(), 2);

    let outcome = tested(&TestServer::start(&OPEN), &private.receiver);
    assert_eq!(outcome["error_code"], "tls_error", "{outcome}");
    assert!(outcome.to_string().contains("webhooks.tls_ca_file"), "it says what helps: {outcome}");
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_ends_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").expect("written");
    for (file, reason) in [(folder.path().join("missing.pem"), "No such file"), (empty, "no certificate in PEM")] {
        let name = file.to_str().expect("a path of text");
        let data = folder.path().join("data");
        let ended = TestServer::at(&data, &[("webhooks.tls_ca_file", name)]).try_launch().expect_err("it ends");
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(name) && ended.err.contains(reason), "{ended:?}");
    }
    let mut named = TestServer::at(&folder.path().join("data"), &[]).prepared(|mut command| {
        command.env("SSL_CERT_FILE", "/nowhere/ca.pem").env_remove("SSL_CERT_DIR");
        command
    });
    let ended = named.try_launch().expect_err("it ends");
    assert!(ended.code == Some(1) && ended.err.contains("SSL_CERT_FILE"), "{ended:?}");
}

#[test]
fn the_command_line_trusts_the_authorities_of_a_file() {
    let private = Private::new();
    let run = |arguments: &[&str], map: Option<&Map>| {
        let mut command = command(arguments);
        if let Some(map) = map {
            command.env("STENTOR_SERVER", format!("http://{}", map.addr)).env("STENTOR_TOKEN", &map.token);
        }
        Program::start(command).wait()
    };
    let ca = private.ca();
    let url = private.receiver.url();
    // the receiver answers 200 to everything, as a server that is ready does
    let base = url.trim_end_matches("/webhook");
    let trusted = run(&["health", "--server", base, "--ca-file", &ca], None);
    assert_eq!((trusted.code, trusted.out.as_str()), (Some(0), "ready\n"), "{trusted:?}");
    assert_eq!(run(&["health", "--server", base], None).code, Some(1));
    let wrong = run(&["health", "--server", base, "--ca-file", "/nowhere/ca.pem"], None);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");

    let server = TestServer::start(&[]);
    let map = server.new_map("forwarded");
    map.publish(&json!({"type": "add_system", "payload": {}}));
    let listen = ["listen", "map:forwarded", "--forward-to", &url, "--since", "1h", "--limit", "1"];
    let trusting = run(&[&listen[..], &["--ca-file", &ca]].concat(), Some(&map));
    assert_eq!(trusting.code, Some(0), "{trusting:?}");
    let wary = run(&listen, Some(&map));
    assert!(wary.code == Some(1) && wary.out.contains("TLS"), "{wary:?}");
    let wrong = run(&[&listen[..], &["--ca-file", "/nowhere/ca.pem"]].concat(), Some(&map));
    assert!(wrong.code == Some(2) && wrong.err.contains("/nowhere/ca.pem: No such file"), "{wrong:?}");
}
