//! TLS as it is run: certificates are exchanged under open streams, and those who run the server have an address of their own.

use std::time::Duration;

use serde_json::json;

use crate::support::secure::{Http2, Pair, connect, run, whole};
use crate::support::server::ADMIN;
use crate::support::{TestServer, eventually, within};

/// Longest time in which a new pair of files is noticed.
const NOTICED: Duration = Duration::from_secs(10);

/// The certificate that new connections get.
fn shown(server: &TestServer, trusted: &Pair) -> Option<Vec<u8>> {
    run(async {
        let tls = connect(server.secure_addr(), trusted.client(&["http/1.1"], None)).await.ok()?;
        Some(tls.get_ref().1.peer_certificates()?.first()?.to_vec())
    })
}

#[test]
fn a_certificate_is_exchanged_under_a_thousand_open_streams_and_none_ends() {
    let (server, pair) = TestServer::secure(&[("limits.streams_per_channel", "0"), ("limits.streams_per_token", "0")]);
    let map = server.new_map("exchange");
    let folder = pair.cert.parent().expect("a folder").to_owned();
    let name = pair.cert.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
    let kept = tempfile::tempdir().expect("a folder");
    let old = Pair { cert: kept.path().join("old.pem"), key: kept.path().join("old.key") };
    std::fs::copy(&pair.cert, &old.cert).expect("a copy");
    run(async {
        let target = format!("/api/maps/{}/events/stream", map.id);
        let bearer = format!("Bearer {}", map.token);
        let mut connections = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..10 {
            let mut connection = Http2::open(server.secure_addr(), &old).await;
            for _ in 0..100 {
                let answer = connection.get(&target, &[("authorization", &bearer)]).await.expect("an answer");
                assert_eq!(answer.status(), 200);
                streams.push(answer.into_body());
            }
            connections.push(connection);
        }
        let (server, new, map) = (&server, Pair::new(&folder, &name), &map);
        std::thread::scope(|scope| {
            let exchanged = scope.spawn(|| {
                let expected = new.certificate().to_vec();
                within(NOTICED, "new connections get the new certificate", || {
                    shown(server, &new) == Some(expected.clone())
                });
                map.publish(&json!({"type": "add_system", "payload": {"text": "behind the exchange"}}));
            });
            exchanged.join().expect("it is exchanged");
        });
        for body in &mut streams {
            let mut text = Vec::new();
            while !String::from_utf8_lossy(&text).contains("behind the exchange") {
                let piece = tokio::time::timeout(NOTICED, body.data()).await.expect("in time");
                let piece = piece.expect("it goes on").expect("it is well");
                body.flow_control().release_capacity(piece.len()).expect("it was taken");
                text.extend_from_slice(&piece);
            }
        }
    });
    assert_eq!(shown(&server, &old), None, "the old one is not shown any more");
}

#[test]
fn a_pair_that_cannot_be_used_is_logged_and_the_one_before_stays() {
    let (server, pair) = TestServer::secure(&[]);
    let first = pair.certificate().to_vec();
    let folder = tempfile::tempdir().expect("a folder");
    let other = Pair::new(folder.path(), "other");
    // the certificate of one pair with the key of another
    std::fs::copy(&other.cert, &pair.cert).expect("a copy");
    let complained =
        |server: &TestServer| server.log_lines().iter().filter(|line| line.contains("stays as it was")).count();
    within(NOTICED, "it is logged", || complained(&server) == 1);
    let old = Pair { cert: folder.path().join("old.pem"), key: pair.key.clone() };
    std::fs::write(&old.cert, pem(&first)).expect("a file");
    assert_eq!(shown(&server, &old), Some(first));
    // SIGHUP reads at once, and says at once what is wrong
    server.hang_up();
    within(NOTICED, "it is logged again", || complained(&server) == 2);
    std::fs::copy(&other.key, &pair.key).expect("a copy");
    within(NOTICED, "the pair is whole again", || shown(&server, &other) == Some(other.certificate().to_vec()));
    server.hang_up();
    let read_again = |line: &&String| line.contains("was read again");
    within(NOTICED, "a hangup reads it once more", || server.log_lines().iter().filter(read_again).count() >= 2);
}

fn pem(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[test]
fn a_server_without_tls_lives_on_after_a_hangup() {
    let server = TestServer::plain(&[]);
    server.hang_up();
    eventually("it says so", || server.log_lines().iter().any(|line| line.contains("SIGHUP")));
    assert_eq!(server.request("GET", "/health/live").send().status, 200);
}

#[test]
fn those_who_run_the_server_have_an_address_of_their_own() {
    let server = TestServer::plain(&[("server.admin_listen", "127.0.0.1:0")]);
    let map = server.new_map("apart");
    for path in ["/", "/metrics"] {
        assert_eq!(server.request("GET", path).send().status, 404, "{path} is not for everybody");
        assert_eq!(server.request_admin("GET", path).send().status, 200, "{path}");
    }
    for path in ["/health/live", "/health/ready", "/docs", "/openapi.json"] {
        assert_eq!(server.request("GET", path).send().status, 200, "{path}");
        assert_eq!(server.request_admin("GET", path).send().status, 200, "{path}");
    }
    server.request_admin("GET", &format!("/api/maps/{}", map.id)).bearer(ADMIN).send().expect(200);
    server.request("GET", &format!("/api/maps/{}", map.id)).bearer(ADMIN).send().expect(200);
}

#[test]
fn where_client_certificates_are_asked_for_the_admin_token_counts_only_with_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let operator = Pair::new(folder.path(), "operator");
    let ca = operator.cert.to_str().expect("a path").to_owned();
    let (server, pair) = TestServer::secure(&[("server.admin_listen", "127.0.0.1:0"), ("server.admin_client_ca", &ca)]);
    let get = |addr, own: Option<&Pair>, path: &str| {
        let config = pair.client(&["h2"], own);
        let path = path.to_owned();
        run(async move {
            let tls = connect(addr, config).await.ok()?;
            let (requests, connection) = h2::client::handshake(tls).await.ok()?;
            tokio::spawn(connection);
            let request =
                http::Request::get(format!("https://{addr}{path}")).header("authorization", format!("Bearer {ADMIN}"));
            let mut requests = requests.ready().await.ok()?;
            let (answer, _) = requests.send_request(request.body(()).expect("a request"), true).ok()?;
            let answer = answer.await.ok()?;
            let status = answer.status().as_u16();
            whole(answer.into_body()).await.ok()?;
            Some(status)
        })
    };
    let admin = server.admin_addr();
    assert_eq!(get(admin, Some(&operator), "/api/maps"), Some(200));
    assert_eq!(get(admin, Some(&operator), "/metrics"), Some(200));
    assert_eq!(get(admin, None, "/api/maps"), None, "without a certificate there is no connection");
    assert_eq!(get(admin, Some(&Pair::new(folder.path(), "stranger")), "/api/maps"), None, "nor with another");
    assert_eq!(get(server.secure_addr(), None, "/api/maps"), Some(403));
    assert_eq!(get(server.secure_addr(), None, "/health/live"), Some(200));
}
