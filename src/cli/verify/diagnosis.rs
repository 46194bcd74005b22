//! Why a signature does not match: what else would make it match, tried one after the other.

use std::borrow::Cow;

use actors::model::json::Canonical;

use super::request::Request;
use super::scheme::{Fault, Format};

/// Something that may have happened to a secret or to a body, in words, and what it would have been before.
type Suspicion<'a, T> = (&'static str, Cow<'a, T>);

/// What would make the signature match, or that nothing that often happens would.
pub fn of_mismatch(format: Format, secret: &str, request: &Request) -> String {
    for (about_body, body) in bodies(&request.body) {
        let mut tried = request.clone();
        tried.body = body.into_owned();
        for (about_secret, secret) in secrets(secret) {
            if format.verify(&secret, &tried).is_err() {
                continue;
            }
            return match (about_secret, about_body) {
                ("", about) | (about, "") => format!("the signature does not match, because {about}"),
                (secret, body) => format!("the signature does not match, because {secret}, and {body}"),
            };
        }
    }
    let mut reason =
        "the signature does not match: the secret is another one, or the body is not what was signed".to_owned();
    if let Some(said) = request.header("Content-Length").and_then(|length| length.parse::<usize>().ok())
        && said != request.body.len()
    {
        reason.push_str(&format!("; the body has {} bytes, and Content-Length says {said}", request.body.len()));
    }
    let right = Format::OWN_FIRST.into_iter().find(|other| *other != format && other.verify(secret, request).is_ok());
    match right {
        Some(other) => reason.push_str(&format!("; its signature of format {} does match", other.name())),
        None => reason.push_str("; give the secret of this webhook (rotate-secret makes a new one) and the raw body"),
    }
    reason
}

/// Headers that are what they are called, so that none of them is another one misspelt.
const KNOWN: [&str; 14] = [
    "X-Wanderer-Signature",
    "X-Wanderer-Signature-Previous",
    "X-Wanderer-Timestamp",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "X-Webhook-Request-Id",
    "X-Webhook-Timestamp",
    "X-Webhook-Hmac",
    "X-Webhook-Hmac-Previous",
    "X-Webhook-Hmac-Algorithm",
    "X-Webhook-Signature",
    "X-AeorDB-Signature",
    "X-AeorDB-Signature-Previous",
];

/// What the headers of a request that lacks some say about it.
pub fn of_headers(format: Format, fault: &Fault, request: &Request) -> String {
    match (fault, Format::of(request)) {
        (Fault::Missing(_), Some(other)) if other != format => {
            format!("; the request has the headers of format {0}: use --format {0}", other.name())
        }
        (Fault::Missing(header), _) => {
            let unknown = request.names().filter(|name| !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)));
            let hint = crate::cli::suggest::nearest(header, unknown);
            let hint = hint.map(|name| format!("; there is a header {}", crate::cli::output::tame(name)));
            hint.unwrap_or_else(|| "; give all headers of the request".to_owned())
        }
        _ => String::new(),
    }
}

fn secrets(given: &str) -> Vec<Suspicion<'_, str>> {
    let mut secrets = vec![("", Cow::from(given))];
    let mut suspect = |about, text: &str| {
        if text != given {
            secrets.push((about, text.to_owned().into()));
        }
    };
    suspect("the secret has white space around it", given.trim());
    suspect("the secret has quotes around it", given.trim_matches(['"', '\'']));
    let bare = given.trim().trim_start_matches("whsec_");
    suspect("the secret has whsec_ before it, which is no part of the key of this format", bare);
    suspect("the secret lacks the = at its end", &format!("{}=", given.trim()));
    secrets
}

fn bodies(given: &[u8]) -> Vec<Suspicion<'_, [u8]>> {
    let mut bodies = vec![("", Cow::from(given))];
    let mut suspect = |about, body: Vec<u8>| {
        if body != given {
            bodies.push((about, body.into()));
        }
    };
    let ended = given.strip_suffix(b"\n").unwrap_or(given);
    let ended = ended.strip_suffix(b"\r").unwrap_or(ended);
    suspect(
        "the body has a line break at its end that was not sent; save it with printf '%s' or --output",
        ended.to_vec(),
    );
    suspect("the body lacks the line break at its end that was sent", [given, b"\n"].concat());
    suspect("the body begins with a byte order mark", given.strip_prefix(b"\xef\xbb\xbf").unwrap_or(given).to_vec());
    if let Ok(text) = std::str::from_utf8(given) {
        suspect("the line breaks of the body were changed to CRLF", text.replace("\r\n", "\n").into_bytes());
        if let Ok(canonical) = Canonical::parse(text) {
            suspect(
                "the body was parsed and serialised again: with the white space, numbers and escapes of JSON.stringify it \
                 matches; verify the raw bytes",
                canonical.as_bytes().to_vec(),
            );
        }
    }
    bodies
}
