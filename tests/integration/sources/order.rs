//! The headers of a request that is kept as it came: all of them, in their order, whatever came before on the connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Source;
use crate::support::program::{Program, command};
use crate::support::secure::{Http2, run, whole};
use crate::support::{Map, Receiver, Request, SOON, TestServer};

/// As a sender writes them, in no order of the alphabet and with names that come again.
const SENT: [(&str, &str); 9] = [
    ("X-Zebra", "1"),
    ("Date", "Tue, 15 Nov 1994 08:12:31 GMT"),
    ("X-Alpha", "2"),
    ("Accept", "*/*"),
    ("X-Zebra", "3"),
    ("X-Empty", ""),
    ("x-alpha", "4; POST /webhooks/x HTTP/1.1"),
    ("Via", "1.1 a"),
    ("X-Zebra", "5"),
];

fn expected(sent: &[(&str, &str)]) -> Vec<(String, String)> {
    sent.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect()
}

/// The headers of the newest event, without those that every request has.
fn kept(map: &Map) -> Vec<(String, String)> {
    let payload = map.history("").last().expect("an event")["payload"].clone();
    let list = payload["headers"].as_array().expect("a list").clone();
    let pair = |pair: &Value| {
        let text = |n: usize| pair[n].as_str().expect("a text").to_owned();
        (text(0), text(1))
    };
    list.iter()
        .map(pair)
        .filter(|(name, _)| !["host", "content-length", "transfer-encoding"].contains(&&**name))
        .collect()
}

fn raw(map: &Map, more: Value) -> Source {
    let mut asked = json!({"authentication": "none", "mode": "raw"});
    for (name, value) in more.as_object().expect("an object") {
        asked[name] = value.clone();
    }
    Source::new(map, asked).0
}

/// A connection that a sender keeps.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn open(server: &TestServer) -> Kept {
        let stream = TcpStream::connect(server.addr()).expect("the server listens");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        Kept(BufReader::new(stream))
    }

    /// Sends it in parts of so many bytes; the status of the answer.
    fn send(&mut self, request: &[u8], part: usize) -> u16 {
        for part in request.chunks(part) {
            self.0.get_mut().write_all(part).expect("the server takes it");
        }
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("an answer");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_ascii_lowercase()),
            }
        }
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.0.read_exact(&mut body).expect("a body");
        lines[0].split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }
}

fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn headers_are_kept_as_they_came_however_they_are_cut_and_whatever_was_left_unread_before_them() {
    let server = TestServer::plain(&[]);
    let map = server.new_map("order");
    let source = raw(&map, json!({}));
    let paths = [format!("/webhooks/{}", source.id), format!("/webhook/{}/below?q", source.id)];
    for (n, part) in [usize::MAX, 1, 7, 64].into_iter().enumerate() {
        let mut connection = Kept::open(&server);
        // the body of one that is refused by its headers is not read, and in chunks it may stay in the connection
        let refused = format!(
            "POST /api/maps/{}/events HTTP/1.1\r\nHost: a\r\nX-First: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
             a\r\n{{\"a\":\n\n 1}}\r\n7\r\n\r\n\r\nGET\r\n0\r\nX-Trailer: 1\r\n\r\n",
            map.id
        );
        let refused = refused.as_bytes();
        assert_eq!(connection.send(refused, part), 401);
        assert_eq!(connection.send(&post(&paths[n % 2], &SENT, "body"), part), 200);
        assert_eq!(kept(&map), expected(&SENT), "in parts of {part}");
        // and again, with another order
        let turned: Vec<_> = SENT.iter().rev().copied().collect();
        assert_eq!(connection.send(&post(&paths[n % 2], &turned, ""), part), 200);
        assert_eq!(kept(&map), expected(&turned), "in parts of {part}");
    }
    // the whole address, as a proxy is sent it (RFC 9112, 3.2.2), behind an empty line
    let mut connection = Kept::open(&server);
    let absolute = post(&format!("http://a{}", paths[0]), &SENT, "x");
    assert_eq!(connection.send(&[b"\r\n", &absolute[..]].concat(), usize::MAX), 200);
    assert_eq!(kept(&map), expected(&SENT));
}

#[test]
fn headers_of_http2_are_kept_in_the_order_of_their_names() {
    let (server, pair) = TestServer::secure(&[]);
    let map = server.new_map("order");
    let source = raw(&map, json!({}));
    run(async {
        let mut connection = Http2::open(server.secure_addr(), &pair).await;
        let target = format!("/webhooks/{}", source.id);
        let (answer, mut body) = connection.begin("POST", &target, &SENT).await.expect("a stream");
        body.send_data(Bytes::from_static(b"x"), true).expect("it takes the body");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        whole(answer.into_body()).await.expect("a body");
    });
    // what repeats stands behind its first one: the client of this test sends it so, too
    let mut grouped: Vec<(String, String)> = Vec::new();
    for (name, value) in expected(&SENT) {
        let at = grouped.iter().rposition(|(other, _)| *other == name).map_or(grouped.len(), |at| at + 1);
        grouped.insert(at, (name, value));
    }
    assert_eq!(kept(&map), grouped);
}

#[test]
fn headers_go_on_in_the_order_in_which_they_came() {
    let server = TestServer::plain(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("forward");
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let (receiver, local) = (Receiver::start(&[]), Receiver::start(&[]));
    map.request("POST", "/webhooks").json(&json!({"url": receiver.url(), "format": "raw"})).send().expect(201);
    let source = raw(&map, json!({}));
    let long = "x".repeat(9_000);
    let mut sent = SENT.to_vec();
    sent.insert(2, ("X-Long", &long));
    sent.insert(5, ("X-Name", "caf\u{e9}"));
    let request = sent.iter().fold(
        Request::new(source.addr, "POST", &format!("/webhooks/{}/to", source.id)).undescribed(),
        |request, (name, value)| request.header(name, value),
    );
    request.body("body").send().expect(200);
    // of the head that a client writes, and of ours
    let of_sender = |headers: Vec<(String, String)>| -> Vec<_> {
        let theirs =
            |name: &str| name.starts_with("x-stentor-") || ["host", "content-length", "user-agent"].contains(&name);
        headers.into_iter().filter(|(name, _)| !theirs(name)).collect()
    };
    assert_eq!(of_sender(receiver.expect(1)[0].headers()), expected(&sent));
    let (url, channel) = (format!("http://{}", server.addr()), format!("map:{}", map.id));
    let to = local.url();
    let line = ["listen", &channel, "--forward-to", &to, "--server", &url, "--token", &map.token];
    let program = Program::start(command(&[&line[..], &["--since", "1h", "--limit", "1"]].concat()));
    assert_eq!(program.wait().code, Some(0));
    assert_eq!(of_sender(local.expect(1)[0].headers()), expected(&sent));
}
