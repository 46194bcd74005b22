//! Where a webhook may go: the rules for URLs, for addresses and for custom headers.
//!
//! One place for them all: a target is judged by this file when it is saved, when it is tested and on the addresses
//! that are dialled for a delivery. It reads no resolver; `delivery::http::target` brings the addresses.
//!
//! Addresses have two tiers. Private networks are opened by an entry of `webhooks.allow_networks` that contains the
//! address. Everything else that is not the public internet is opened only by an entry for that single address (`/32`,
//! `/128`), so that `10.0.0.0/8` or even `0.0.0.0/0` never opens the loopback or a cloud's metadata.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use url::{Host, Url};

/// The longest URL of a target in bytes.
pub const URL_BYTES_MAX: usize = 2048;
/// The longest name of a custom header in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 128;
/// The longest value of a custom header in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 4096;

/// What an operator has opened. The default opens nothing: https to the public internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Targets may be `http:` as well.
    pub allow_http: bool,
    /// Networks that are opened; see the two tiers above.
    pub allow_networks: Vec<IpNet>,
    /// Opens http and the loopback, for development.
    pub dev: bool,
}

/// A URL that may be a target, in the normal form of WHATWG URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The whole URL; ASCII.
    pub url: String,
    /// The host: a name in its ASCII form, or an address without brackets.
    pub host: String,
    pub port: u16,
    pub https: bool,
    /// The host and, unless it is the default of the scheme, the port: the value of the header `Host`.
    pub authority: String,
    /// The address, if the host is one, however it was written.
    pub address: Option<IpAddr>,
}

/// Why a URL or an address is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("the url is longer than {URL_BYTES_MAX} bytes; use a shorter one")]
    TooLong,
    #[error("the url cannot be read ({0}); write it like https://example.com/path")]
    Malformed(String),
    #[error("the url is not https; use https, or set webhooks.allow_http")]
    NotHttps,
    #[error("the scheme of the url is not http or https; use https")]
    Scheme,
    #[error("the url carries a user name or password; use custom_headers for credentials")]
    Credentials,
    #[error("the url has a fragment, which is never sent; remove the part from # on")]
    Fragment,
    #[error("the url has port 0, which nobody listens on; name another port")]
    PortZero,
    #[error("{host} means this machine (RFC 6761, 6.3), which is not allowed; {}", Rule::Loopback.remedy())]
    Local { host: String },
    #[error("{address} is not allowed ({rule}); {}", rule.remedy())]
    Forbidden { address: IpAddr, rule: Rule },
}

/// The rule that closes an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Private,
    Loopback,
    LinkLocal,
    Metadata,
    Multicast,
    Broadcast,
    Unspecified,
    Reserved,
    /// An IPv6 form that carries an IPv4 address which is itself closed.
    Embedded,
}

impl Rule {
    fn remedy(self) -> &'static str {
        match self {
            Rule::Private => "open its network in webhooks.allow_networks if it is yours",
            Rule::Loopback => "open exactly this address in webhooks.allow_networks, or start with --dev",
            _ => "open exactly this address in webhooks.allow_networks if it must be reached",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Private => "private network",
            Rule::Loopback => "loopback",
            Rule::LinkLocal => "link-local",
            Rule::Metadata => "cloud metadata",
            Rule::Multicast => "multicast",
            Rule::Broadcast => "broadcast",
            Rule::Unspecified => "unspecified address",
            Rule::Reserved => "reserved range",
            Rule::Embedded => "IPv6 form of a closed IPv4 address",
        })
    }
}

impl Policy {
    /// Judges a URL and, if its host is an address in any notation, that address.
    ///
    /// The text is read as WHATWG URL does, so `https://2130706433`, `https://0x7f.1` and `https://127.1` are all the
    /// address 127.0.0.1. What that standard repairs silently and other readers see otherwise (backslashes, tabs,
    /// missing slashes, user names) is refused.
    ///
    /// # Errors
    /// [`TargetError`] says which rule is broken: length, form, scheme, credentials, fragment, port, a local name, or a
    /// closed address.
    pub fn judge_url(&self, text: &str) -> Result<Target, TargetError> {
        if text.len() > URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let malformed = |reason: &str| Err(TargetError::Malformed(reason.to_owned()));
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return malformed("spaces, control characters and backslashes have no place in it");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return malformed("it has no ://");
        };
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" if self.allow_http || self.dev => false,
            "http" => return Err(TargetError::NotHttps),
            _ => return Err(TargetError::Scheme),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return malformed("it has no host");
        }
        if authority.contains('@') {
            return Err(TargetError::Credentials);
        }
        let url = Url::parse(text).map_err(|e| TargetError::Malformed(e.to_string()))?;
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        let (host, address) = match url.host() {
            Some(Host::Domain(name)) if name_is_valid(name) => (name.to_owned(), None),
            Some(Host::Domain(_)) => return malformed("its host is not a name of the DNS"),
            Some(Host::Ipv4(v4)) => (v4.to_string(), Some(IpAddr::V4(v4))),
            Some(Host::Ipv6(v6)) => (v6.to_string(), Some(IpAddr::V6(v6))),
            None => return malformed("it has no host"),
        };
        if address.is_none() && is_local(&host) && !self.opens_loopback() {
            return Err(TargetError::Local { host });
        }
        let port = url.port_or_known_default().unwrap_or(0);
        if port == 0 {
            return Err(TargetError::PortZero);
        }
        if let Some(address) = address {
            self.judge_address(address)?;
        }
        let authority = url.authority().to_owned();
        let url = String::from(url);
        // Reading turns other alphabets into ASCII with percent signs, which makes the text longer.
        if url.len() > 3 * URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        Ok(Target { url, host, port, https, authority, address })
    }

    /// Whether some address of the loopback is open, so that a name of it may be meant.
    fn opens_loopback(&self) -> bool {
        self.dev || self.allow_networks.iter().any(|net| is_single(net) && net.addr().is_loopback())
    }

    /// Judges one address that a delivery would dial.
    ///
    /// # Errors
    /// [`TargetError::Forbidden`], with the rule that closes it.
    pub fn judge_address(&self, address: IpAddr) -> Result<(), TargetError> {
        let Some(rule) = closed_by(address) else {
            return Ok(());
        };
        let opened = match rule {
            Rule::Private => self.allow_networks.iter().any(|net| net.contains(&address)),
            Rule::Loopback if self.dev => true,
            _ => self.allow_networks.iter().any(|net| is_single(net) && net.addr() == address),
        };
        if opened { Ok(()) } else { Err(TargetError::Forbidden { address, rule }) }
    }
}

/// Reads an entry of `webhooks.allow_networks`: a network like `10.0.0.0/8`, or a single address.
///
/// # Errors
/// The text is neither a network nor an address.
pub fn network(text: &str) -> Result<IpNet, NotANetwork> {
    let single = || IpAddr::from_str(text).map(IpNet::from);
    IpNet::from_str(text).or_else(|_| single()).map_err(|_| NotANetwork)
}

/// Says how an entry of `webhooks.allow_networks` should have looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is written like 10.0.0.0/8 or fd00::/8, a single address like 127.0.0.1")]
pub struct NotANetwork;

fn is_single(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// A name as the DNS takes it: RFC 1123 with the underscore, which internal names use.
fn name_is_valid(name: &str) -> bool {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    bare.len() <= 253
        && bare.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(letter))
        && bare.bytes().any(|b| b.is_ascii_alphanumeric())
}

/// Names that systems give to the loopback in their files of hosts, beside those of RFC 6761.
const LOCAL: [&str; 7] = [
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
];

/// Whether a name of the DNS means the loopback wherever it is resolved: `localhost` and what stands below it (RFC 6761, 6.3),
/// with a dot of the root at its end or without.
fn is_local(name: &str) -> bool {
    let bare = name.trim_end_matches('.').to_ascii_lowercase();
    bare == "localhost" || bare.ends_with(".localhost") || LOCAL.contains(&bare.as_str())
}

/// The rule that closes the address to a policy which opens nothing; none for the public internet.
pub fn closed_by(address: IpAddr) -> Option<Rule> {
    match address {
        IpAddr::V4(v4) => closed_v4(v4),
        IpAddr::V6(v6) => closed_v6(v6),
    }
}

/// After the IANA IPv4 Special-Purpose Address Registry (RFC 6890 and its updates).
fn closed_v4(v4: Ipv4Addr) -> Option<Rule> {
    let rule = match v4.octets() {
        // Alibaba (inside the shared address space), Azure (a public address), Oracle.
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] | [169, 254, 169, 254] => Rule::Metadata,
        [0, 0, 0, 0] => Rule::Unspecified,
        [255, 255, 255, 255] => Rule::Broadcast,
        [127, ..] => Rule::Loopback,
        [169, 254, ..] => Rule::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Rule::Private,
        [224..=239, ..] => Rule::Multicast,
        [0 | 240..=255, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] => Rule::Reserved,
        [198, 18..=19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Rule::Reserved,
        _ => return None,
    };
    Some(rule)
}

/// After the IANA IPv6 Special-Purpose Address Registry. Only 2000::/3 is public at all (RFC 4291, 2.4), but for the
/// NAT64 prefix behind which a DNS64 shows the IPv4 internet (RFC 6052).
fn closed_v6(v6: Ipv6Addr) -> Option<Rule> {
    if v6.is_unspecified() {
        return Some(Rule::Unspecified);
    }
    if v6.is_loopback() {
        return Some(Rule::Loopback);
    }
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        closed_v4(Ipv4Addr::new(a, b, c, d)).map(|_| Rule::Embedded)
    };
    match v6.segments() {
        // AWS, Google, Scaleway.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254]
        | [0xfd20, 0x0ce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => Some(Rule::Metadata),
        // Mapped ::ffff:0:0/96 and NAT64 64:ff9b::/96 are as good as what they carry.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // Compatible ::/96, and the NAT64 prefix for local use 64:ff9b:1::/48.
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(Rule::Embedded),
        // 6to4 2002::/16 carries its IPv4 address behind the prefix.
        [0x2002, high, low, ..] => embedded(high, low).or_else(|| isatap(v6)),
        // Teredo 2001::/32 carries a server and a masked client; nobody can be reached there any more.
        [0x2001, 0, ..] => Some(Rule::Embedded),
        // IETF protocol assignments 2001::/23, documentation 2001:db8::/32 and 3fff::/20.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some(Rule::Reserved),
        [0xfc00..=0xfdff, ..] => Some(Rule::Private),
        [0xfe80..=0xfebf, ..] => Some(Rule::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Rule::Multicast),
        [0x2000..=0x3fff, ..] => isatap(v6),
        _ => Some(Rule::Reserved),
    }
}

/// ISATAP (RFC 5214) puts `0:5efe` or `200:5efe` and an IPv4 address behind any prefix.
fn isatap(v6: Ipv6Addr) -> Option<Rule> {
    match v6.segments() {
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => {
            let carried = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
            closed_v4(carried).map(|_| Rule::Embedded)
        }
        _ => None,
    }
}

/// Why a custom header cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("a header's name is 1 to {HEADER_NAME_BYTES_MAX} letters, digits and -_.!#$%&'*+^`|~; rename it")]
    Name,
    #[error("this header belongs to the connection and is set by the server; remove it")]
    Owned,
    #[error(
        "a header's value is at most {HEADER_VALUE_BYTES_MAX} printable ASCII characters without line breaks; change it"
    )]
    Value,
}

/// Headers that frame or route a request (RFC 9110, 7.6.1; RFC 9112, 6), and `expect`, which waits for an answer.
const OWNED: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
    "expect",
];

/// Judges a custom header: a token for a name (RFC 9110, 5.6.2), not one that frames the request, and a value of
/// printable ASCII, spaces and tabs, so that it cannot begin a new line.
///
/// # Errors
/// [`HeaderError`] says whether the name is no token, belongs to the server, or the value has what may not be.
pub fn header_allowed(name: &str, value: &str) -> Result<(), HeaderError> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX || !name.bytes().all(token) {
        return Err(HeaderError::Name);
    }
    if OWNED.iter().any(|owned| owned.eq_ignore_ascii_case(name)) {
        return Err(HeaderError::Owned);
    }
    let printable = |b: u8| b == b'\t' || (b' '..=b'~').contains(&b);
    if value.len() > HEADER_VALUE_BYTES_MAX || !value.bytes().all(printable) {
        return Err(HeaderError::Value);
    }
    Ok(())
}

/// Judges a header on its way out. It may be one that came in and goes on as it came, so it may be longer than a custom one and
/// hold more than ASCII (RFC 9110, 5.5); it cannot frame the request or begin a new line either.
///
/// # Errors
/// What of it cannot be sent.
pub fn header_sendable(name: &str, value: &str) -> Result<(), HeaderError> {
    match header_allowed(name, "") {
        Err(e) => Err(e),
        Ok(()) if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') => Err(HeaderError::Value),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
