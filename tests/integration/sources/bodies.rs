//! What senders' bodies may look like once they are believed: packed, marked, cut, and called plain text.

use serde_json::json;

use super::{KEY, Source, now_ms};
use crate::support::packed::gzip;
use crate::support::{Request, TestServer};
use actors::model::source::{HmacAlgorithm, sign_hmac};

/// A request that is signed over the bytes as they are sent.
fn signed(source: &Source, body: &[u8], content_type: &str) -> Request {
    let at = now_ms().to_string();
    let signature = sign_hmac(HmacAlgorithm::Sha256, KEY, &at, body);
    let request = Request::new(source.addr, "POST", &format!("/webhooks/{}", source.id));
    request
        .header("Content-Type", content_type)
        .header("X-Webhook-Timestamp", &at)
        .header("X-Webhook-Signature", &signature)
        .body(body)
}

#[test]
fn a_signature_is_checked_over_the_packed_bytes_and_only_then_are_they_unpacked() {
    let server = TestServer::start(&[]);
    let map = server.new_map("packed");
    let source = Source::hmac(&map);
    let event = b"\xef\xbb\xbf{\"event_type\":\"a\",\"properties\":{\"cut\":\"\\ud83d\",\"n\":36893488147419103232}}";
    let packed = gzip(event);
    signed(&source, &packed, "application/json").header("Content-Encoding", "gzip").send().expect(200);
    signed(&source, event, "application/json").send().expect(200);
    let history = map.request("GET", "/events").send().text().to_owned();
    let properties = "\"properties\":{\"cut\":\"\u{fffd}\",\"n\":36893488147419103232}";
    assert_eq!(history.matches(properties).count(), 2, "{history}");
    // a signature over the unpacked bytes is none of this body
    let at = now_ms().to_string();
    let wrong = sign_hmac(HmacAlgorithm::Sha256, KEY, &at, event);
    let request = source.request("").header("Content-Encoding", "gzip").header("X-Webhook-Timestamp", &at);
    request.header("X-Webhook-Signature", &wrong).body(packed).send().expect(401);
}

#[test]
fn the_limit_of_a_packed_body_counts_what_it_unpacks_to() {
    let server = TestServer::start(&[("limits.batch_bytes", "100000")]);
    let map = server.new_map("bomb");
    let source = Source::hmac(&map);
    let bomb = gzip(&vec![b' '; 20_000_000]);
    assert!(bomb.len() < 100_000);
    let refused = signed(&source, &bomb, "application/json").header("Content-Encoding", "gzip").send();
    assert_eq!(refused.expect(413)["code"], "PAYLOAD_TOO_LARGE");
}

#[test]
fn json_that_is_called_plain_text_is_read_where_the_sender_was_verified() {
    let server = TestServer::start(&[]);
    let map = server.new_map("plain");
    let source = Source::hmac(&map);
    let event = json!({"event_type": "a"}).to_string();
    for kind in ["text/plain", "text/plain; charset=UTF-8", "text/json", "TEXT/PLAIN"] {
        signed(&source, event.as_bytes(), kind).send().expect(200);
    }
    signed(&source, event.as_bytes(), "text/html").send().expect(415);
    // any page in a browser can send this
    let open = Source::open(&map);
    let anybody =
        Request::new(map.addr, "POST", &format!("/webhooks/{}", open.id)).header("Content-Type", "text/plain");
    anybody.body(event).send().expect(415);
}
