//! Why the sender of a request is verified or not, step by step, for the owner of a source who looks for a mistake. Never a
//! secret, and never what would have been right.

use sha2::{Digest, Sha256};

use super::auth::{Incoming, Untrusted, Verifier};
use super::lock::Lock;
use crate::model::hex;
use crate::model::json::Canonical;
use crate::model::timestamp::to_iso;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was looked at, in one word: `headers`, `timestamp`, `token`, `signature` ...
    pub name: &'static str,
    pub is_right: bool,
    pub message: String,
}

/// Whether the sender of a request is verified, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    pub is_believed: bool,
    pub steps: Vec<Step>,
}

/// How much of a text that was sent is shown, in characters.
const SHOWN_CHARS_MAX: usize = 80;

fn step(name: &'static str, is_right: bool, message: impl Into<String>) -> Step {
    Step { name, is_right, message: message.into() }
}

impl Verifier {
    /// Looks at a request as [`Verifier::verify`] does at `now_ms` (Unix milliseconds), and says what it sees.
    pub fn explain(&self, request: &Incoming<'_>, now_ms: i64) -> Explained {
        let verdict = self.verify(request, now_ms);
        let mut steps = Vec::new();
        for lock in self.locks(request, now_ms).into_iter().take(1) {
            lock.explain(request, now_ms, &mut steps);
        }
        match &verdict {
            Ok(_) if steps.is_empty() => {
                steps.push(step("sender", true, "nothing has to be proved, or the token is right"))
            }
            Ok(_) if steps.iter().any(|step| !step.is_right) => {
                steps.push(step("previous", true, "the key before the last rotation, which still counts, is right"));
            }
            Err(refusal) if steps.iter().all(|step| step.is_right) => {
                steps.push(step("sender", false, refusal.to_string()));
            }
            _ => {}
        }
        Explained { is_believed: verdict.is_ok(), steps }
    }
}

impl Lock {
    fn explain(&self, request: &Incoming<'_>, now_ms: i64, steps: &mut Vec<Step>) {
        let recipe = self.recipe();
        let place = match (recipe.proof_header(), &recipe.signature_field, &recipe.token_field, &recipe.token_query) {
            (Some(name), ..) => format!("the header {name}"),
            (None, Some(pointer), ..) | (None, None, Some(pointer), _) => format!("{pointer} in the body"),
            (None, None, None, Some(name)) => format!("the parameter {name} of the address"),
            _ => "nothing".to_owned(),
        };
        if recipe.secret_header().is_some() || recipe.token_field.is_some() || recipe.token_query.is_some() {
            return steps.push(match self.verify(request, now_ms) {
                Ok(_) => step("token", true, format!("{place} holds the key of this source")),
                Err(Untrusted::ApiKey) => {
                    step("token", false, format!("{place} holds another key than this source has"))
                }
                Err(refusal) => step("token", false, refusal.to_string()),
            });
        }
        let json = self.json(request);
        let evidence = match self.evidence(request, &json) {
            Ok(evidence) => evidence,
            Err(refusal) => return steps.push(step("headers", false, described(&refusal, request))),
        };
        let count = evidence.signatures.len();
        let signatures = if count == 1 { "one signature".to_owned() } else { format!("{count} signatures") };
        steps.push(step("headers", true, format!("{place} holds {signatures} of the form that is expected")));
        if let (Some(text), Some(at_ms)) = (&evidence.timestamp, evidence.at_ms) {
            let (text, away_s) = (shown(text), (now_ms - at_ms) / 1_000);
            let when = match away_s {
                0.. => format!("{away_s} s ago"),
                _ => format!("{} s ahead", -away_s),
            };
            let message = format!("the request says {text}, which is {} and {when}", to_iso(at_ms));
            match self.fresh(&evidence, now_ms) {
                Ok(()) => steps.push(step("timestamp", true, message)),
                Err(refusal) => steps.push(step("timestamp", false, format!("{message}; {refusal}"))),
            }
        }
        let template = recipe.signed.as_deref().unwrap_or("{body}");
        let hash = hex::encode(&Sha256::digest(request.body));
        let mut message = format!(
            "{} over {template}; the body has {} bytes, their SHA-256 is {hash}",
            recipe.scheme_name(),
            request.body.len()
        );
        if template.contains("{url}") {
            message.push_str(&format!("; the address is taken to be {}", shown(request.url)));
        }
        if self.matching(request, &evidence, request.body).is_some() {
            return steps.push(step("signature", true, format!("the signature matches: {message}")));
        }
        let changed = bodies(request.body).into_iter();
        let reason =
            changed.filter(|(_, body)| self.matching(request, &evidence, body).is_some()).map(|(why, _)| why).next();
        let reason = reason.unwrap_or("the key is another one, or the body is not the one that was signed");
        steps.push(step("signature", false, format!("the signature does not match: {reason}. Compared was {message}")));
    }
}

/// A refusal, and a header that may have been meant.
fn described(refusal: &Untrusted, request: &Incoming<'_>) -> String {
    let Untrusted::Missing(name) = refusal else { return refusal.to_string() };
    let names: Vec<_> = request.headers.all().into_iter().map(|(name, _)| shown(name)).take(40).collect();
    match request.headers.all().iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).count() {
        0 if names.is_empty() => format!("the header {name} is missing; the request has none"),
        0 => format!("the header {name} is missing; the request has {}", names.join(", ")),
        count => format!("the header {name} is there {count} times, or is no visible ASCII; it has to be there once"),
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

/// What often happens to a body on its way, and the body before that.
fn bodies(given: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    let ended = given.strip_suffix(b"\n").unwrap_or(given);
    all.push((
        "the body has a line break at its end that was not signed",
        ended.strip_suffix(b"\r").unwrap_or(ended).to_vec(),
    ));
    all.push(("the body lacks a line break at its end that was signed", [given, b"\n"].concat()));
    all.push(("the body lacks a line break (CRLF) at its end that was signed", [given, b"\r\n"].concat()));
    if let Some(rest) = given.strip_prefix(b"\xef\xbb\xbf") {
        all.push(("the body begins with a byte order mark that was not signed", rest.to_vec()));
    }
    if let Ok(text) = std::str::from_utf8(given) {
        all.push(("the line breaks of the body were changed to CRLF", text.replace("\r\n", "\n").into_bytes()));
        all.push(("the line breaks of the body were changed from CRLF", text.replace('\n', "\r\n").into_bytes()));
        if let Ok(canonical) = Canonical::parse(text) {
            let why =
                "the body was parsed and serialised again, or was not where it should have been; send the raw bytes";
            all.push((why, canonical.as_bytes().to_vec()));
        }
    }
    all.retain(|(_, body)| body != given);
    all
}
