//! The address of the client, and the address by which it knows this server: what the connection says, or what a proxy in
//! `server.trusted_proxies` says for it by `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`. From anybody else these
//! headers count for nothing. Every look at them is in here.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::HttpRequest;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HOST, HeaderMap, HeaderName};
use actix_web::http::uri::Authority;
use actors::model::target::network;
use ipnet::IpNet;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const AUTHORITY: HeaderName = HeaderName::from_static("x-forwarded-host");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The longest path prefix of a proxy.
const PREFIX_BYTES_MAX: usize = 256;

/// The trusted proxies.
pub struct Proxies {
    trusted: Vec<IpNet>,
    /// Somebody else has sent such headers, and the operator was told.
    told: AtomicBool,
}

impl Proxies {
    /// `networks` as in `server.trusted_proxies`.
    pub fn new(networks: &[String]) -> Proxies {
        // the settings were checked by the same function
        let trusted = networks.iter().filter_map(|text| network(text).ok()).collect();
        Proxies { trusted, told: AtomicBool::new(false) }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    fn headers<'a>(&self, request: &'a HttpRequest) -> Option<&'a HeaderMap> {
        peer(request.peer_addr()).is_some_and(|peer| self.trusts(peer)).then(|| request.headers())
    }

    /// The address of the client: the connection's, or where a trusted proxy has connected, the last one in
    /// `X-Forwarded-For` that is not a trusted proxy's. None where the connection has no address.
    pub fn client(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = peer(request.peer_addr())?;
        if !self.trusts(peer) {
            return Some(peer);
        }
        let mut nearest = peer;
        let lines: Vec<_> = request.headers().get_all(FOR).collect();
        // what cannot be read was not written by a proxy of ours, and what stands before it is not believed either
        let entries = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or("-").rsplit(','));
        for entry in entries {
            let Some(address) = address(entry.trim()) else { break };
            nearest = address;
            if !self.trusts(address) {
                break;
            }
        }
        Some(nearest)
    }

    /// `http` or `https`; `own`: what the connection itself speaks.
    pub fn scheme(&self, request: &HttpRequest, own: &'static str) -> &'static str {
        let proto = self.headers(request).and_then(|headers| first(headers, PROTO));
        match proto {
            Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
            Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
            _ => own,
        }
    }

    /// The host and port that the client has asked for. None where the request names none.
    pub fn host<'a>(&self, request: &'a HttpRequest) -> Option<&'a str> {
        let is_host = |text: &&str| text.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
        let forwarded = self.headers(request).and_then(|headers| first(headers, AUTHORITY)).filter(is_host);
        let own = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has it in the address (RFC 9113, 8.3.1)
        let target = || request.uri().authority().map(Authority::as_str);
        forwarded.or_else(own).or_else(target)
    }

    /// The path below which clients know us, without a `/` at its end; empty where there is none. Proxies that strip a
    /// prefix each add theirs.
    pub fn prefix(&self, request: &HttpRequest) -> String {
        let Some(headers) = self.headers(request) else { return String::new() };
        let lines = headers.get_all(PREFIX).filter_map(|line| line.to_str().ok());
        let parts = lines.flat_map(|line| line.split(',')).map(|part| part.trim().trim_end_matches('/'));
        let prefix: String = parts.collect();
        if is_prefix(&prefix) { prefix } else { String::new() }
    }

    /// Tells the operator of the first request that bears such headers although nobody trusts its sender: most likely a
    /// proxy that the settings do not know.
    pub fn notice(&self, request: &ServiceRequest) {
        let bears = |name: &HeaderName| request.headers().contains_key(name);
        if self.told.load(Ordering::Relaxed) {
            return;
        }
        let Some(header) = [FOR, PROTO, AUTHORITY, PREFIX].into_iter().find(bears) else { return };
        let Some(peer) = peer(request.peer_addr()).filter(|peer| !self.trusts(*peer)) else { return };
        if !self.told.swap(true, Ordering::Relaxed) {
            log::warn!(
                peer:display, header:display;
                "a request from an address that is not in server.trusted_proxies has a header of proxies, which counts for \
                 nothing; if {peer} is your proxy, add it to server.trusted_proxies. Others are not named"
            );
        }
    }
}

/// Whether a request names a host that is none (RFC 9112, 3.2): nothing may be made of it.
pub fn has_bad_host(request: &ServiceRequest) -> bool {
    let is_of_host = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(b);
    request.headers().get(HOST).is_some_and(|host| !host.as_bytes().iter().all(is_of_host))
}

/// The address of a connection; IPv4 as such also where the socket speaks IPv6.
fn peer(peer: Option<SocketAddr>) -> Option<IpAddr> {
    peer.map(|peer| peer.ip().to_canonical())
}

/// An entry of `X-Forwarded-For`: an address, with a port or without.
fn address(entry: &str) -> Option<IpAddr> {
    let with_port = || entry.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address: Option<IpAddr> = entry.parse().ok().or_else(with_port).or_else(in_brackets);
    address.map(|address| address.to_canonical())
}

fn first(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim)
}

/// Whether it can stand between a host and a path of ours: no other host, nothing that leaves the path.
fn is_prefix(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~%".contains(&b);
    text.len() <= PREFIX_BYTES_MAX
        && text.starts_with('/')
        && text.bytes().all(plain)
        && text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn proxies(networks: &[&str]) -> Proxies {
        Proxies::new(&networks.iter().map(|text| text.to_string()).collect::<Vec<_>>())
    }

    fn request(peer: &str, headers: &[(HeaderName, &'static str)]) -> HttpRequest {
        let request = TestRequest::default().peer_addr(SocketAddr::new(peer.parse().expect("an address"), 1));
        headers.iter().fold(request, |request, header| request.append_header(header.clone())).to_http_request()
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy_of_ours() {
        let ours = proxies(&["127.0.0.0/8", "10.0.0.0/8", "::1"]);
        for (peer, lines, client) in [
            ("203.0.113.9", &["1.1.1.1"][..], "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6, 1.1.1.1 , 10.1.1.1,127.0.0.1"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6", "1.1.1.1", "10.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", &["10.1.1.1"], "10.1.1.1"),
            ("::1", &["2001:db8::1"], "2001:db8::1"),
            ("::ffff:127.0.0.1", &["1.1.1.1:4711"], "1.1.1.1"),
            ("127.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("127.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("127.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4"),
            ("127.0.0.1", &["1.1.1.1, unknown, 10.0.0.1"], "10.0.0.1"),
            ("127.0.0.1", &["unknown"], "127.0.0.1"),
            ("127.0.0.1", &["1.1.1.1,"], "127.0.0.1"),
        ] {
            let headers: Vec<_> = lines.iter().map(|line| (FOR, *line)).collect();
            let found = ours.client(&request(peer, &headers));
            assert_eq!(found, Some(client.parse().expect("an address")), "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_address_of_ours_is_what_a_trusted_proxy_says_and_nobody_else() {
        let headers = [
            (PROTO, "https, http"),
            (AUTHORITY, "events.example.org"),
            (PREFIX, "/live/"),
            (PREFIX, "/deep"),
            (HOST, "inside:8080"),
        ];
        let ours = proxies(&["127.0.0.1"]);
        let through = request("127.0.0.1", &headers);
        assert_eq!(ours.scheme(&through, "http"), "https");
        assert_eq!((ours.host(&through), ours.prefix(&through)), (Some("events.example.org"), "/live/deep".into()));
        let stranger = request("127.0.0.2", &headers);
        assert_eq!((ours.scheme(&stranger, "http"), ours.host(&stranger)), ("http", Some("inside:8080")));
        assert_eq!(ours.prefix(&stranger), "");
        let odd = [(PROTO, "javascript"), (AUTHORITY, "user@evil"), (HOST, "inside:8080")];
        let odd = request("127.0.0.1", &odd);
        assert_eq!((ours.scheme(&odd, "https"), ours.host(&odd)), ("https", Some("inside:8080")));
        for bad in ["//evil.example", "live", "/a/../b", "/a b", "/a?b", "/a\"b", "/./a", "/"] {
            assert_eq!(ours.prefix(&request("127.0.0.1", &[(PREFIX, bad)])), "", "{bad}");
        }
    }
}
