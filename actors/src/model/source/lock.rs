//! A recipe with a key, ready to verify requests.

use std::borrow::Cow;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::auth::{BadKey, Headers, Incoming, Proof, Untrusted};
use super::mac::Mac;
use super::recipe::{Encoding, KeyForm, Part, Recipe, SignatureScheme, TOLERANCE_S, TimeUnit};
use super::{form, pointer};
use crate::model::access::TokenHash;
use crate::model::draft::unix_ms;
use crate::model::hex;
use crate::model::signature::{SECRET_TEXT_BYTES_MAX, STANDARD_KEY_BYTES, STANDARD_PREFIX};

/// Signatures of one header that are looked at; it comes from outside.
const SIGNATURES_MAX: usize = 16;
/// The longest public key as text: room for PEM.
const PUBLIC_KEY_BYTES_MAX: usize = 1024;

/// A key, ready to judge. Its memory is overwritten as far as the libraries do that.
#[derive(Clone)]
enum Key {
    Mac(Box<Mac>),
    Ed25519(ParsedPublicKey),
    /// For signatures in DER, and for those of fixed length.
    Ecdsa(ParsedPublicKey, ParsedPublicKey),
    /// Kept as a hash, so that comparing takes the same time for every length.
    Token(TokenHash),
}

#[derive(Clone)]
pub(super) struct Lock {
    recipe: Recipe,
    parts: Vec<Part>,
    key: Key,
}

/// What of a request is compared.
pub(super) struct Evidence<'r> {
    /// The signatures that have the form of the recipe.
    pub signatures: Vec<Vec<u8>>,
    pub timestamp: Option<Cow<'r, str>>,
    /// In Unix milliseconds.
    pub at_ms: Option<i64>,
    pub id: Option<Cow<'r, str>>,
}

impl Lock {
    /// # Errors
    /// The text is no key of this recipe.
    pub(super) fn new(recipe: &Recipe, text: &str) -> Result<Lock, BadKey> {
        let most = if recipe.scheme.has_public_key() { PUBLIC_KEY_BYTES_MAX } else { SECRET_TEXT_BYTES_MAX };
        if !(1..=most).contains(&text.len()) {
            return Err(match recipe.scheme {
                scheme if scheme.has_public_key() => BadKey::Public,
                SignatureScheme::Token if recipe.token_field.is_none() => BadKey::Header,
                _ => BadKey::Length,
            });
        }
        let key = match recipe.scheme {
            SignatureScheme::Hmac => Key::Mac(Box::new(match recipe.key_form {
                KeyForm::Text => Mac::new(recipe.algorithm, text.as_bytes()),
                KeyForm::Standard => {
                    let base64 = text.strip_prefix(STANDARD_PREFIX).unwrap_or(text);
                    let bytes = STANDARD.decode(base64).map_err(|_| BadKey::Standard)?;
                    if !STANDARD_KEY_BYTES.contains(&bytes.len()) {
                        return Err(BadKey::Standard);
                    }
                    Mac::new(recipe.algorithm, &bytes)
                }
            })),
            SignatureScheme::Ed25519 => {
                let bytes = public_key(text).ok_or(BadKey::Public)?;
                Key::Ed25519(ParsedPublicKey::new(&ED25519, bytes).map_err(|_| BadKey::Public)?)
            }
            SignatureScheme::Ecdsa => {
                let bytes = public_key(text).ok_or(BadKey::Public)?;
                let der = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &bytes).map_err(|_| BadKey::Public)?;
                let fixed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &bytes).map_err(|_| BadKey::Public)?;
                Key::Ecdsa(der, fixed)
            }
            SignatureScheme::Token => {
                let in_body = recipe.token_field.is_some();
                if !in_body && !text.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err(BadKey::Header);
                }
                Key::Token(TokenHash::of(text))
            }
            SignatureScheme::Basic => match text.split_once(':') {
                Some((user, _)) if !user.is_empty() => Key::Token(TokenHash::of(text)),
                _ => return Err(BadKey::Basic),
            },
        };
        // a recipe was checked before it was stored, and presets are checked by a test
        let parts = recipe.parts().map_err(|_| BadKey::Length)?;
        Ok(Lock { recipe: recipe.clone(), parts, key })
    }

    /// Whether the request carries what this recipe looks at first.
    pub(super) fn concerns(&self, request: &Incoming<'_>) -> bool {
        match (self.recipe.proof_header(), &self.recipe.token_query, &self.recipe.body_hash_query) {
            (_, _, Some(name)) => request.parameter(name).is_some(),
            (Some(header), _, _) => request.headers.get(header).is_some(),
            (None, Some(name), _) => request.parameter(name).is_some(),
            (None, None, _) => true,
        }
    }

    /// Whether headers and address alone say who the sender is.
    pub(super) fn needs_no_body(&self) -> bool {
        matches!(self.key, Key::Token(_)) && self.recipe.token_field.is_none()
    }

    pub(super) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The hexadecimal HMAC of a text, where the key is a shared secret.
    pub(super) fn hex_of(&self, text: &str) -> Option<String> {
        match &self.key {
            Key::Mac(mac) => Some(mac.as_ref().clone().hex(&[text.as_bytes()])),
            _ => None,
        }
    }

    pub(super) fn time_of(&self, request: &Incoming<'_>) -> Option<i64> {
        let json = self.json(request);
        self.evidence(request, &json).ok()?.at_ms
    }

    /// Whether the sender of a request has the key, at `now_ms` (Unix milliseconds).
    pub(super) fn verify(&self, request: &Incoming<'_>, now_ms: i64) -> Result<Proof, Untrusted> {
        if let Key::Token(expected) = &self.key {
            return self.token(expected, request).map(|()| Proof::default());
        }
        let json = self.json(request);
        let evidence = self.evidence(request, &json)?;
        self.fresh(&evidence, now_ms)?;
        if let Some(name) = &self.recipe.body_hash_query {
            let given = request.parameter(name).and_then(|digits| hex::decode(&digits)).unwrap_or_default();
            // a hash is no secret, and it is signed with the address
            if given != Sha256::digest(request.body).as_slice() {
                return Err(Untrusted::Mismatch);
            }
        }
        match self.matching(request, &evidence, request.body) {
            Some(signature) => Ok(Proof { signature: Some(hex::encode(signature)) }),
            None => Err(Untrusted::Mismatch),
        }
    }

    /// The body as JSON, where something is read from it.
    pub(super) fn json<'r>(&self, request: &Incoming<'r>) -> Cow<'r, str> {
        let Recipe { signature_field, timestamp_field, id_field, token_field, .. } = &self.recipe;
        if [signature_field, timestamp_field, id_field, token_field].into_iter().all(Option::is_none) {
            return "".into();
        }
        if request.headers.get("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
        {
            return form::json(request.body, false).unwrap_or_default().into();
        }
        let text = std::str::from_utf8(request.body).unwrap_or_default();
        text.trim_start_matches('\u{feff}').trim_matches([' ', '\t', '\r', '\n']).into()
    }

    /// What the request says.
    ///
    /// # Errors
    /// Something is missing, or does not have its form.
    pub(super) fn evidence<'r>(&self, request: &Incoming<'r>, json: &'r str) -> Result<Evidence<'r>, Untrusted> {
        let recipe = &self.recipe;
        let field = |pointer: &str| {
            let found = pointer::at(json, pointer).and_then(pointer::scalar);
            found.ok_or_else(|| Untrusted::MissingField(pointer.into()))
        };
        let timestamp = self.timestamp(request, json)?;
        let at_ms = match &timestamp {
            None => None,
            Some((text, named)) => {
                let at_ms = match recipe.timestamp_unit.unwrap_or_default() {
                    TimeUnit::S => digits(text).map(|at| at.saturating_mul(1_000)),
                    TimeUnit::Ms => digits(text),
                    TimeUnit::Iso => unix_ms(text),
                };
                Some(at_ms.ok_or_else(|| Untrusted::Malformed(named.as_str().into()))?)
            }
        };
        let id = match (&recipe.id_header, &recipe.id_field) {
            (Some(name), _) if self.parts.contains(&Part::Id) => Some(required(request.headers, name)?.into()),
            (None, Some(pointer)) if self.parts.contains(&Part::Id) => Some(field(pointer)?),
            _ => None,
        };
        let (given, named): (Cow<'_, str>, &str) = match (recipe.proof_header(), &recipe.signature_field) {
            (Some(name), _) => (required(request.headers, name)?.into(), name),
            (None, Some(pointer)) => (field(pointer)?, pointer),
            (None, None) => return Err(Untrusted::Mismatch),
        };
        let separator = recipe.separator.as_deref().unwrap_or(",");
        let decoded = |text: &str| {
            let text = text.trim();
            let text = match &recipe.prefix {
                Some(prefix) => text.strip_prefix(prefix.as_str())?,
                None => text,
            };
            match recipe.encoding {
                Encoding::Hex => hex::decode(text),
                Encoding::Base64 => STANDARD.decode(text).ok(),
            }
        };
        let signatures: Vec<_> = given.split(separator).take(SIGNATURES_MAX * 2).filter_map(decoded).collect();
        if signatures.is_empty() {
            return Err(Untrusted::Malformed(named.into()));
        }
        let timestamp = timestamp.map(|(text, _)| text);
        Ok(Evidence { signatures: signatures.into_iter().take(SIGNATURES_MAX).collect(), timestamp, at_ms, id })
    }

    /// The time as it was sent, and where.
    fn timestamp<'r>(
        &self,
        request: &Incoming<'r>,
        json: &'r str,
    ) -> Result<Option<(Cow<'r, str>, String)>, Untrusted> {
        let recipe = &self.recipe;
        if let Some(pointer) = &recipe.timestamp_field {
            let found = pointer::at(json, pointer).and_then(pointer::scalar);
            let found = found.ok_or_else(|| Untrusted::MissingField(pointer.as_str().into()))?;
            return Ok(Some((found, pointer.clone())));
        }
        let name = match (&recipe.timestamp_header, &recipe.timestamp_prefix) {
            (Some(name), _) => name.as_str(),
            (None, Some(_)) => recipe.proof_header().unwrap_or_default(),
            (None, None) => return Ok(None),
        };
        let value = required(request.headers, name)?;
        let text = match &recipe.timestamp_prefix {
            None => value,
            Some(prefix) => {
                let separator = recipe.separator.as_deref().unwrap_or(",");
                let mut found = value.split(separator).filter_map(|part| part.trim().strip_prefix(prefix.as_str()));
                // which of two times would count must not matter
                match (found.next(), found.next()) {
                    (Some(text), None) => text,
                    _ => return Err(Untrusted::Malformed(name.into())),
                }
            }
        };
        Ok(Some((text.into(), name.to_owned())))
    }

    /// Whether the request is young enough.
    pub(super) fn fresh(&self, evidence: &Evidence<'_>, now_ms: i64) -> Result<(), Untrusted> {
        let tolerance_ms = u64::from(self.recipe.tolerance_s.unwrap_or(TOLERANCE_S)) * 1_000;
        match evidence.at_ms {
            Some(at_ms) if at_ms.abs_diff(now_ms) > tolerance_ms => Err(Untrusted::Stale),
            _ => Ok(()),
        }
    }

    /// The signature that the key made of this body, if one of them is.
    pub(super) fn matching<'e>(
        &self,
        request: &Incoming<'_>,
        evidence: &'e Evidence<'_>,
        body: &[u8],
    ) -> Option<&'e [u8]> {
        let form_sorted = if self.parts.contains(&Part::FormSorted) { form::sorted(body) } else { String::new() };
        let urls = match self.parts.contains(&Part::Url) {
            true => addresses(request.url),
            false => vec![String::new()],
        };
        urls.iter().find_map(|url| {
            let parts: Vec<&[u8]> =
                self.parts.iter().map(|part| self.bytes(part, request, evidence, body, url, &form_sorted)).collect();
            evidence.signatures.iter().find(|given| self.signs(&parts, given)).map(Vec::as_slice)
        })
    }

    fn bytes<'p>(
        &'p self,
        part: &'p Part,
        request: &'p Incoming<'_>,
        evidence: &'p Evidence<'_>,
        body: &'p [u8],
        url: &'p str,
        form_sorted: &'p str,
    ) -> &'p [u8] {
        match part {
            Part::Text(text) => text.as_bytes(),
            Part::Timestamp => evidence.timestamp.as_deref().unwrap_or_default().as_bytes(),
            Part::Id => evidence.id.as_deref().unwrap_or_default().as_bytes(),
            Part::Url => url.as_bytes(),
            Part::Method => request.method.as_bytes(),
            Part::Body => body,
            Part::FormSorted => form_sorted.as_bytes(),
        }
    }

    fn signs(&self, parts: &[&[u8]], given: &[u8]) -> bool {
        match &self.key {
            Key::Mac(mac) => mac.signs(parts, given),
            Key::Ed25519(key) => key.verify_sig(&parts.concat(), given).is_ok(),
            Key::Ecdsa(der, fixed) => {
                let message = parts.concat();
                der.verify_sig(&message, given).is_ok() || fixed.verify_sig(&message, given).is_ok()
            }
            Key::Token(_) => false,
        }
    }

    fn token(&self, expected: &TokenHash, request: &Incoming<'_>) -> Result<(), Untrusted> {
        let recipe = &self.recipe;
        let is_right = |text: &str| if TokenHash::of(text).is(expected) { Ok(()) } else { Err(Untrusted::ApiKey) };
        if let Some(pointer) = &recipe.token_field {
            let json = self.json(request);
            let found = pointer::each(&json, pointer);
            if found.is_empty() {
                return Err(Untrusted::MissingField(pointer.as_str().into()));
            }
            let missing = || Untrusted::MissingField(pointer.as_str().into());
            return found
                .into_iter()
                .try_for_each(|found| is_right(&found.and_then(pointer::scalar).ok_or_else(missing)?));
        }
        if let Some(name) = &recipe.token_query {
            let given = request.parameter(name).ok_or_else(|| Untrusted::MissingParameter(name.as_str().into()))?;
            return is_right(&given);
        }
        let name = recipe.proof_header().unwrap_or_default();
        let given = required(request.headers, name)?;
        let malformed = || Untrusted::Malformed(name.into());
        if recipe.scheme == SignatureScheme::Basic {
            let (scheme, text) = given.split_once(' ').ok_or_else(malformed)?;
            let bytes = STANDARD.decode(text.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(malformed)?;
            return is_right(&text);
        }
        match &recipe.prefix {
            Some(prefix) => is_right(given.strip_prefix(prefix.as_str()).ok_or_else(malformed)?),
            None => is_right(given),
        }
    }
}

/// The forms of an address that providers sign: as it stands, without its port, with the one of its scheme, and with
/// characters of the query that HubSpot writes plainly.
fn addresses(url: &str) -> Vec<String> {
    let mut all = vec![url.to_owned()];
    let mut add = |other: String| {
        if !all.contains(&other) {
            all.push(other);
        }
    };
    if let Some((scheme, rest)) = url.split_once("://") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let port =
            host.rfind(':').filter(|at| host[at + 1..].bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(']'));
        match port {
            Some(at) => add(format!("{scheme}://{}{path}", &host[..at])),
            None => {
                let port = if scheme == "https" { 443 } else { 80 };
                add(format!("{scheme}://{host}:{port}{path}"));
            }
        }
    }
    const PLAIN: [(&str, &str); 13] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
        ("%7E", "~"),
    ];
    if url.contains('%') {
        add(PLAIN.iter().fold(url.to_owned(), |url, (escape, plain)| url.replace(escape, plain)));
    }
    all
}

/// The bytes of a public key: PEM, hexadecimal digits or base64; raw, or a SubjectPublicKeyInfo (RFC 5280).
fn public_key(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("-----BEGIN PUBLIC KEY-----") {
        let base64 = rest.split("-----END").next()?;
        return STANDARD.decode(base64.split_ascii_whitespace().collect::<String>()).ok();
    }
    let plain: String = text.split_ascii_whitespace().collect();
    hex::decode(&plain).or_else(|| STANDARD.decode(plain).ok())
}

fn required<'h>(headers: &'h dyn Headers, name: &str) -> Result<&'h str, Untrusted> {
    headers.get(name).ok_or_else(|| Untrusted::Missing(name.into()))
}

/// A whole number without a sign. A signed text has one form only.
fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_tried_in_the_forms_that_providers_sign() {
        assert_eq!(addresses("https://a.org/x?y=1"), ["https://a.org/x?y=1", "https://a.org:443/x?y=1"]);
        assert_eq!(addresses("http://a.org:8080/x"), ["http://a.org:8080/x", "http://a.org/x"]);
        assert_eq!(addresses("http://[::1]/x"), ["http://[::1]/x", "http://[::1]:80/x"]);
        let decoded = addresses("https://a.org:1/x?u=a%3Ab");
        assert_eq!(decoded, ["https://a.org:1/x?u=a%3Ab", "https://a.org/x?u=a%3Ab", "https://a.org:1/x?u=a:b"]);
    }

    #[test]
    fn a_public_key_is_read_in_each_of_its_forms() {
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
        let raw = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let recipe = Recipe::new(SignatureScheme::Ed25519, "X");
        let base64 = STANDARD.encode(hex::decode(raw).expect("hex"));
        for text in [pem, raw, &base64, "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="] {
            assert!(Lock::new(&recipe, text).is_ok(), "{text}");
        }
        for text in ["", "x", &raw[2..], "MCowBQYDK2VwAyEA"] {
            assert!(matches!(Lock::new(&recipe, text), Err(BadKey::Public)), "{text}");
        }
    }
}
