//! Compression of answers (RFC 9110, 8.4 and 12.5.3): which coding a client takes, and gzip for answers of the API that are
//! large enough and hold no secret. Streams are never compressed: each event has to leave at once. Files of the pages are kept
//! compressed, see `pages`.

use std::io::{self, Write};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::accept;

/// Smaller answers fit into one packet.
const COMPRESSED_FROM_BYTES: u64 = 1024;
/// Up to here it is done at once, in less than a millisecond. Larger ones do not hold up others on their thread.
const AT_ONCE_BYTES: usize = 32 * 1024;

/// A coding that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Brotli,
    Gzip,
}

/// Whether the client takes an answer in this coding. It takes what it names, or all by `*`, unless by `q=0`.
pub fn takes(headers: &HeaderMap, coding: Coding) -> bool {
    let wanted: &[&str] = match coding {
        Coding::Brotli => &["br"],
        Coding::Gzip => &["gzip", "x-gzip"],
    };
    let mut by_star = false;
    for value in headers.get_all(ACCEPT_ENCODING).filter_map(|value| value.to_str().ok()) {
        for part in value.split(',') {
            let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
            let (name, taken) = (name.trim(), accept::weight(parameters) > 0.0);
            if wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)) {
                return taken;
            }
            by_star |= name == "*" && taken;
        }
    }
    by_star
}

/// What a request says about the coding of its answer.
pub struct Asked {
    may: bool,
    taken: bool,
}

impl Asked {
    pub fn by(request: &ServiceRequest) -> Asked {
        // HEAD says what GET would send, its coding and length too
        let may = matches!(*request.method(), Method::GET | Method::HEAD);
        Asked { may, taken: may && takes(request.headers(), Coding::Gzip) }
    }

    /// Compresses answers to reads: their length is known, it is more than a packet's, they are text and nothing forbids it.
    /// Answers to other methods may show a secret once, and what is compressed tells an eavesdropper its length.
    pub async fn compress(self, mut response: ServiceResponse) -> ServiceResponse {
        if !self.may || response.status() != StatusCode::OK || !is_compressible(&response) {
            return response;
        }
        response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
        if self.taken { compressed(response).await } else { response }
    }
}

async fn compressed(response: ServiceResponse) -> ServiceResponse {
    let (request, response) = response.into_parts();
    let (mut response, body) = response.into_parts();
    let bytes = match body.try_into_bytes() {
        Ok(bytes) => bytes,
        // a body that is not in memory as a whole
        Err(body) => return ServiceResponse::new(request, response.set_body(body)),
    };
    let compressed = match bytes.len() <= AT_ONCE_BYTES {
        true => by_gzip(&bytes),
        false => {
            let copy = bytes.clone();
            web::block(move || by_gzip(&copy)).await.unwrap_or_else(|e| Err(io::Error::other(e)))
        }
    };
    let body = match compressed {
        Ok(compressed) => {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            web::Bytes::from(compressed)
        }
        Err(e) => {
            log::warn!("an answer goes out as it is, because it could not be compressed: {e}");
            bytes
        }
    };
    ServiceResponse::new(request, response.set_body(BoxBody::new(body)))
}

fn is_compressible(response: &ServiceResponse) -> bool {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = header(CONTENT_TYPE);
    let is_text =
        ["application/json", "application/openmetrics-text", "text/"].iter().any(|kind| content_type.starts_with(kind));
    let forbidden = header(CACHE_CONTROL).split(',').any(|part| matches!(part.trim(), "no-store" | "no-transform"));
    // what has a coding, or varies by it, was chosen by its handler
    let chosen = response.headers().contains_key(CONTENT_ENCODING) || response.headers().contains_key(VARY);
    let large = matches!(response.response().body().size(), BodySize::Sized(bytes) if bytes > COMPRESSED_FROM_BYTES);
    is_text && large && !forbidden && !chosen
}

/// Quick rather than small: it is done for every answer.
///
/// # Errors
/// None in practice: it writes into memory.
pub fn by_gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_coding_is_taken_when_it_is_named_or_starred_and_not_weighed_to_nothing() {
        for value in ["gzip", "br;q=1.0, GZIP;q=0.5", "deflate , gzip", "*", "identity;q=0, *;q=0.1", "x-gzip"] {
            assert!(takes(&asked(value), Coding::Gzip), "{value}");
        }
        for value in ["", "br", "gzip;q=0", "gzip; q=0.000, *", "*;q=0", "identity", "gzipped"] {
            assert!(!takes(&asked(value), Coding::Gzip), "{value}");
        }
        assert!(!takes(&HeaderMap::new(), Coding::Gzip));
    }
}
