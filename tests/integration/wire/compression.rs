//! Answers are compressed when asked for: files of the pages by Brotli and gzip, reads of the API by gzip, and never streams or
//! what may show a secret.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::json;

use crate::support::{Answer, Request, Sse, TestServer};

fn unpacked(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let mut plain = Vec::new();
    GzDecoder::new(&*answer.body).read_to_end(&mut plain).expect("it is gzip");
    plain
}

fn asking(request: Request, codings: &str) -> Answer {
    request.header("Accept-Encoding", codings).send()
}

fn varies_by_encoding(answer: &Answer) -> bool {
    let values = answer.headers.iter().filter(|(name, _)| name == "vary");
    values.flat_map(|(_, value)| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("accept-encoding"))
}

#[test]
fn files_come_in_the_coding_that_the_client_takes_each_with_a_tag_of_its_own() {
    let server = TestServer::start(&[]);
    let get = || server.request("GET", "/vendor/swagger-ui-bundle.js");
    let plain = get().send();
    assert_eq!((plain.status, plain.header("content-encoding")), (200, None));
    let gzip = asking(get(), "gzip");
    assert!(unpacked(&gzip) == plain.body, "the same bytes");
    let brotli = asking(get(), "gzip, deflate, br, zstd");
    assert_eq!(brotli.header("content-encoding"), Some("br"));
    assert!(brotli.body.len() < gzip.body.len());
    assert_eq!(asking(get(), "br;q=0, gzip;q=0").header("content-encoding"), None);
    let mut tags: Vec<_> =
        [&plain, &gzip, &brotli].iter().map(|one| one.header("etag").expect("a tag").to_owned()).collect();
    for (one, codings) in [(&plain, "identity"), (&gzip, "gzip"), (&brotli, "br, gzip")] {
        assert!(varies_by_encoding(one));
        let tag = one.header("etag").expect("a tag");
        let again = get().header("If-None-Match", tag).header("Accept-Encoding", codings).send();
        assert_eq!((again.status, again.header("etag")), (304, Some(tag)), "{codings}");
        assert!(varies_by_encoding(&again));
    }
    let other = get().header("If-None-Match", &tags[1]).send();
    assert_eq!(other.status, 200, "the tag of one coding does not stand for the bytes of another");
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3);
}

#[test]
fn large_reads_are_compressed_and_small_ones_and_errors_are_not() {
    let server = TestServer::start(&[]);
    let map = server.new_map("large");
    map.publish_many(200);
    let page = || map.request("GET", "/events?limit=200");
    let (plain, gzip) = (page().send(), asking(page(), "gzip"));
    assert_eq!(plain.header("content-encoding"), None);
    assert!(varies_by_encoding(&plain) && varies_by_encoding(&gzip));
    assert!(unpacked(&gzip) == plain.body && gzip.body.len() < plain.body.len() / 4);
    for path in ["/openapi.json", "/asyncapi.json", "/metrics"] {
        let answer = asking(server.request("GET", path), "gzip, br");
        assert!(unpacked(&answer).len() > answer.body.len(), "{path}");
    }
    let small = asking(map.request("GET", "/events?limit=1"), "gzip");
    assert_eq!((small.status, small.header("content-encoding")), (200, None));
    let error = asking(server.request("GET", "/nothing"), "gzip");
    assert_eq!((error.status, error.header("content-encoding")), (404, None));
}

#[test]
fn streams_exports_and_secrets_are_never_compressed() {
    let server = TestServer::start(&[]);
    let map = server.new_map("never");
    let first = map.publish_many(100).remove(0);
    let (answer, _) = map.request("GET", "/events/stream").header("Accept-Encoding", "gzip").open().expect("a stream");
    assert_eq!((answer.status, answer.header("content-encoding")), (200, None));
    let resumed = map.request("GET", &format!("/events/stream?since={first}"));
    let mut stream = Sse::open(resumed.header("Accept-Encoding", "gzip, br"));
    stream.take(1);
    let lines =
        map.request("GET", "/events").header("Accept", "application/x-ndjson").header("Accept-Encoding", "gzip").send();
    assert_eq!((lines.status, lines.header("content-encoding"), lines.text().lines().count()), (200, None, 100));
    // what is made may show its secret once, so that answers to changes are left alone, however long they are
    let events: Vec<_> = (0..100).map(|_| json!({"type": "add_system"})).collect();
    let made = map.request("POST", "/events").header("Accept-Encoding", "gzip").json(&json!({"events": events})).send();
    assert_eq!((made.status, made.header("content-encoding")), (201, None));
    assert!(made.body.len() > 1024);
}
