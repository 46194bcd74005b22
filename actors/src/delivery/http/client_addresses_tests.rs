//! Which addresses are dialled: those that a name has at that moment, each of them judged, in whatever notation they come.

use super::*;
use crate::model::target::network;

#[actix::test]
async fn the_next_address_is_dialled_when_one_refuses() {
    let receiver = Receiver::answering(OK);
    let client = client_of(open_loopback(), answers(&[&["::1", "127.0.0.1"]]), &[]);
    let outcome = post(&client, &receiver.url("two.test")).await;
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.address, Some(receiver.address));
}

#[actix::test]
async fn a_name_that_is_rebound_to_the_loopback_is_not_dialled() {
    let receiver = Receiver::answering(OK);
    // The name passes while it is public (nothing answers there: the documentation network is opened for the test).
    let policy = Policy { allow_http: true, allow_networks: vec![network("192.0.2.1").unwrap()], dev: false };
    let rebinding = answers(&[&["192.0.2.1"], &["127.0.0.1"]]);
    let target_check = TargetCheck::new(policy.clone(), rebinding.clone());
    let url = target(&receiver.url("rebind.test"));
    assert_eq!(target_check.admit(&url).await.unwrap(), [SocketAddr::from(([192, 0, 2, 1], url.port))]);
    let outcome = post(&client_of(policy, rebinding, &[]), &url.url).await;
    assert_eq!(outcome.error, Some(FailureCode::TargetForbidden));
    assert!(outcome.detail.contains("rebind.test: 127.0.0.1 is not allowed (loopback)"), "{}", outcome.detail);
    assert_eq!(receiver.accepted(), 0);
}

#[actix::test]
async fn one_closed_address_among_public_ones_closes_the_target() {
    let receiver = Receiver::answering(OK);
    let policy = Policy { allow_http: true, ..Policy::default() };
    for list in [
        ["1.1.1.1", "fd00::1"],
        ["1.1.1.1", "::ffff:127.0.0.1"],
        ["127.0.0.1", "1.1.1.1"],
        ["1.1.1.1", "64:ff9b::7f00:1"],
    ] {
        let outcome = post(&client_of(policy.clone(), answers(&[&list]), &[]), &receiver.url("mixed.test")).await;
        assert_eq!(outcome.error, Some(FailureCode::TargetForbidden), "{list:?}");
    }
    assert_eq!(receiver.accepted(), 0);
}

#[actix::test]
async fn literals_of_the_loopback_make_no_connection_in_any_notation() {
    let receiver = Receiver::answering(OK);
    let policy = Policy { allow_http: true, ..Policy::default() };
    let client = client_of(policy, Resolver::system(), &[]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "0",
        "localhost",
    ] {
        // A target that was saved when the policy was another one, and one that never passed the check at all.
        let normal = Policy {
            allow_http: true,
            dev: true,
            allow_networks: ["0.0.0.0", "::", "::ffff:127.0.0.1"].map(|n| network(n).unwrap()).to_vec(),
        };
        let saved = normal.judge_url(&receiver.url(host)).unwrap();
        for url in [saved.url.clone(), receiver.url(host)] {
            let attempt = Attempt {
                method: "POST",
                url: &Target { url, ..saved.clone() },
                headers: vec![],
                body: Bytes::from_static(b"{}"),
                deadline: Duration::from_secs(10),
                connect_timeout: Duration::from_secs(10),
            };
            let outcome = client.send(attempt).await;
            assert_eq!(outcome.error, Some(FailureCode::TargetForbidden), "{host}: {}", outcome.detail);
        }
    }
    assert_eq!(receiver.accepted(), 0);
}
