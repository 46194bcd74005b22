//! In which order the headers of a request came. actix-http keeps them in a map without one, which is enough for everybody
//! (RFC 9110, 5.3) but those who keep a request as it came. Only requests at the addresses of sources pay for it, with a copy of
//! their head.
//!
//! Over HTTP/1 the copy is made of the bytes as they are heard. Over HTTP/2 `h2` gives the fields in the order of their first
//! appearance, with the values of a repeated name behind its first one.

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};

use super::HEAD_BYTES;

/// How the paths begin at which somebody may ask for the order.
const PATHS: &[u8] = b"/webhook";
/// The longest method that is waited for.
const METHOD_BYTES: usize = 64;

/// Lines of which each begins with the name of a header and a colon; what stands before the last of them may be something else.
pub struct HeaderOrder(Vec<u8>);

impl HeaderOrder {
    /// Of a request whose fields came one by one. None: nobody asks at this path.
    pub fn of_fields<'a>(path: &str, names: impl Iterator<Item = &'a HeaderName>) -> Option<HeaderOrder> {
        path.as_bytes().starts_with(PATHS).then(|| {
            let mut lines = Vec::new();
            names.for_each(|name| lines.extend([name.as_str().as_bytes(), b":\n"].concat()));
            HeaderOrder(lines)
        })
    }

    /// The headers as they came, if these are the headers of this request.
    pub fn of<'a>(&self, headers: &'a HeaderMap) -> Option<Vec<(&'a HeaderName, &'a HeaderValue)>> {
        let mut values: Vec<_> = headers.keys().map(|name| (name, headers.get_all(name))).collect();
        let lines: Vec<_> = self.0.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
        // a head has one line for each header, and they are its last ones
        let lines = &lines[lines.len().checked_sub(headers.len())?..];
        let next = |line: &&[u8]| {
            let name = &line[..line.iter().position(|byte| *byte == b':')?];
            let found = values.iter_mut().find(|(other, _)| other.as_str().as_bytes().eq_ignore_ascii_case(name));
            found.and_then(|(name, values)| Some((*name, values.next()?)))
        };
        lines.iter().map(next).collect()
    }
}

/// A head while it is being received.
#[derive(Default)]
pub struct HeadCopy {
    bytes: Vec<u8>,
    is_needed: Option<bool>,
    /// Its empty line came: what comes next is another head, or was none.
    is_whole: bool,
}

impl HeadCopy {
    /// More of it, up to its empty line if `is_whole`. `is_first`: nothing else can stand before it; else what is left of a
    /// body may. Answers how many bytes more are kept.
    pub fn add(&mut self, bytes: &[u8], is_first: bool, is_whole: bool) -> usize {
        if self.is_whole {
            self.forget();
        }
        self.is_whole = is_whole;
        if !is_first {
            self.is_needed = Some(true);
        }
        if self.is_needed.is_none() && self.bytes.is_empty() {
            // most heads are seen here to be no concern of ours, and are not copied
            self.is_needed = is_needed(bytes);
        }
        if self.is_needed == Some(false) {
            return 0;
        }
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        if self.is_needed.is_none() {
            self.is_needed = is_needed(&self.bytes);
        }
        if self.is_needed == Some(false) {
            self.bytes = Vec::new();
        }
        // a head is no longer, so what is cut off was something else
        let surplus = self.bytes.len().saturating_sub(HEAD_BYTES);
        self.bytes.drain(..surplus);
        self.bytes.len().saturating_sub(before)
    }

    pub fn forget(&mut self) {
        *self = HeadCopy::default();
    }

    /// The order of the headers of the head that is whole. None: nobody needs it.
    pub fn take(&mut self) -> Option<HeaderOrder> {
        let copy = std::mem::take(self);
        (copy.is_whole && copy.is_needed == Some(true)).then_some(HeaderOrder(copy.bytes))
    }
}

/// Whether the request that begins so is at an address of a source; none: that is not known yet.
fn is_needed(head: &[u8]) -> Option<bool> {
    // empty lines may come first (RFC 9112, 2.2)
    let start = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let line = &head[start..];
    let Some(space) = line.iter().position(|byte| *byte == b' ') else {
        return (line.len() > METHOD_BYTES).then_some(false);
    };
    let target = &line[space + 1..];
    match target.first()? {
        b'/' if target.len() < PATHS.len() => (!PATHS.starts_with(target)).then_some(false),
        b'/' => Some(target.starts_with(PATHS)),
        // the whole address (RFC 9112, 3.2.2), which hardly anybody sends
        _ => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 6] = ["x-b", "host", "x-a", "x-b", "accept", "x-a"];

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (n, name) in NAMES.iter().enumerate() {
            headers.append(HeaderName::from_static(name), HeaderValue::from(n));
        }
        headers
    }

    fn order(head: &[u8], is_first: bool, parts: usize) -> Option<HeaderOrder> {
        let mut copy = HeadCopy::default();
        let chunks = head.chunks(head.len().div_ceil(parts));
        let last = chunks.len() - 1;
        for (n, chunk) in chunks.enumerate() {
            copy.add(chunk, is_first, n == last);
        }
        copy.take()
    }

    #[track_caller]
    fn is_in_order(order: Option<HeaderOrder>) {
        let headers = headers();
        let pairs = order.expect("an order").of(&headers).expect("the headers of this head");
        let pairs: Vec<_> =
            pairs.into_iter().map(|(name, value)| (name.as_str(), value.to_str().expect("a number"))).collect();
        assert_eq!(pairs, [("x-b", "0"), ("host", "1"), ("x-a", "2"), ("x-b", "3"), ("accept", "4"), ("x-a", "5")]);
    }

    const LINES: &str = "X-B: 0\r\nHost:1\r\nx-a: POST /x HTTP/1.1\r\nX-b: 3\r\nAccept: a:b\r\nX-A: 5\r\n\r\n";

    #[test]
    fn headers_come_out_as_they_came_in_however_the_head_is_cut() {
        for parts in 1..150 {
            for begin in ["POST /webhooks/x", "\r\n\nGET /webhook/x/y?z", "POST http://a/webhooks/x"] {
                is_in_order(order(format!("{begin} HTTP/1.1\r\n{LINES}").as_bytes(), true, parts));
            }
            let behind = format!("{{\"rest\": 1,\n\"of\": \"a body\"}}PUT /webhooks/x HTTP/1.0\r\n{LINES}");
            is_in_order(order(behind.as_bytes(), false, parts));
        }
        let names = NAMES.map(HeaderName::from_static);
        is_in_order(HeaderOrder::of_fields("/webhooks/a", names.iter()));
        let long = [vec![b'x'; HEAD_BYTES], format!("GET /webhook/x HTTP/1.1\r\n{LINES}").into_bytes()].concat();
        is_in_order(order(&long, false, 9));
    }

    #[test]
    fn nothing_is_kept_for_other_addresses_and_no_more_than_a_head() {
        for parts in 1..60 {
            for begin in ["GET /events", "GET /", "POST /api/webhooks", "GET /webhoo"] {
                assert!(order(format!("{begin} HTTP/1.1\r\n{LINES}").as_bytes(), true, parts).is_none(), "{begin}");
            }
        }
        assert!(HeaderOrder::of_fields("/events", std::iter::empty()).is_none());
        let mut copy = HeadCopy::default();
        assert_eq!(copy.add(b"GET /events HTTP/1.1\r\n", true, false) + copy.add(&[b'a'; 9000], true, false), 0);
        let mut copy = HeadCopy::default();
        assert_eq!(copy.add(&vec![b'a'; 3 * HEAD_BYTES], false, false), HEAD_BYTES);
        assert_eq!(copy.add(b"more", false, false), 0);
    }

    #[test]
    fn an_order_counts_for_its_own_request_only() {
        let other = order(b"POST /webhooks/x HTTP/1.1\r\nHost: a\r\nX-B: 1\r\n\r\n", true, 1).expect("an order");
        assert!(other.of(&headers()).is_none());
        let mut longer = headers();
        longer.append(HeaderName::from_static("x-c"), HeaderValue::from_static("1"));
        let order = order(format!("POST /webhooks/x HTTP/1.1\r\n{LINES}").as_bytes(), true, 1).expect("an order");
        assert!(order.of(&longer).is_none());
    }
}
