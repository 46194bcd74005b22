//! Recipes: how a provider signs its requests, as data. A preset is made of them, and the owner of a source may write one.

use serde::{Deserialize, Serialize};

use super::pointer;

/// How far the time of a signed request may be from ours unless a recipe says otherwise, in seconds.
pub const TOLERANCE_S: u32 = 300;
/// The most that a recipe may allow.
pub const TOLERANCE_MAX_S: u32 = 86_400;
/// The longest text in a recipe, in bytes.
pub const RECIPE_TEXT_BYTES_MAX: usize = 256;

/// What proves who the sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureScheme {
    /// HMAC (RFC 2104) with a shared secret.
    Hmac,
    /// Ed25519 (RFC 8032) with a public key.
    Ed25519,
    /// ECDSA over P-256 with SHA-256 (FIPS 186-5), its signature in DER or as r and s one after the other.
    Ecdsa,
    /// The shared secret itself.
    Token,
    /// The shared secret as `user:password` (RFC 7617).
    Basic,
}

impl SignatureScheme {
    /// Whether the key is public, so that whoever has it cannot sign.
    pub fn has_public_key(self) -> bool {
        matches!(self, SignatureScheme::Ed25519 | SignatureScheme::Ecdsa)
    }

    fn signs(self) -> bool {
        !matches!(self, SignatureScheme::Token | SignatureScheme::Basic)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    #[default]
    Hex,
    Base64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

impl HashAlgorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            HashAlgorithm::Sha1 => "sha1",
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha512 => "sha512",
        }
    }
}

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Unix seconds.
    #[default]
    S,
    /// Unix milliseconds.
    Ms,
    /// ISO 8601 with an offset.
    Iso,
}

/// How the text of a shared secret becomes a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyForm {
    /// Its bytes as they are.
    #[default]
    Text,
    /// As Standard Webhooks 1.0 writes it: base64, perhaps after `whsec_`.
    Standard,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How a request is signed. What is absent has the default that is named here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub scheme: SignatureScheme,
    /// The header with the signature or the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What stands before each signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Between the parts of the header; a comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    #[serde(default)]
    pub encoding: Encoding,
    #[serde(default)]
    pub algorithm: HashAlgorithm,
    /// What is signed, a template of `{timestamp} {id} {url} {method} {body} {form_sorted}`; the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
    /// What stands before the time in that header, or in the header with the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_prefix: Option<String>,
    /// How the time is written; in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_unit: Option<TimeUnit>,
    /// How far the time may be from ours; 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_header: Option<String>,
    /// JSON pointers (RFC 6901), where a provider puts these into the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_field: Option<String>,
    /// `*` in it stands for each element of an array: all of them must hold the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_field: Option<String>,
    /// The parameter of the query that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_query: Option<String>,
    /// The parameter of the query with the SHA-256 of the body in hexadecimal digits, where only the address is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_hash_query: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub key_form: KeyForm,
}

/// A part of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Timestamp,
    Id,
    Url,
    Method,
    Body,
    /// The fields of a form, sorted by name, each with its values sorted and without repetition.
    FormSorted,
}

/// Why a recipe is none: which field, and what about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct BadRecipe {
    pub field: &'static str,
    pub message: String,
}

fn bad(field: &'static str, message: impl Into<String>) -> BadRecipe {
    BadRecipe { field, message: message.into() }
}

impl Recipe {
    /// A recipe of this scheme with nothing else in it.
    pub(super) fn new(scheme: SignatureScheme, header: &str) -> Recipe {
        Recipe {
            scheme,
            header: Some(header.into()),
            prefix: None,
            separator: None,
            encoding: Encoding::Hex,
            algorithm: HashAlgorithm::Sha256,
            signed: None,
            timestamp_header: None,
            timestamp_prefix: None,
            timestamp_unit: None,
            tolerance_s: None,
            id_header: None,
            signature_field: None,
            timestamp_field: None,
            id_field: None,
            token_field: None,
            token_query: None,
            body_hash_query: None,
            key_form: KeyForm::Text,
        }
    }

    /// Reads a recipe as its owner wrote it.
    ///
    /// # Errors
    /// A field is unknown or wrong, or the recipe would believe everybody.
    pub fn read(value: serde_json::Value) -> Result<Recipe, BadRecipe> {
        let recipe: Recipe = serde_json::from_value(value).map_err(|e| bad("authentication", e.to_string()))?;
        recipe.check()?;
        Ok(recipe)
    }

    pub(super) fn check(&self) -> Result<(), BadRecipe> {
        let headers =
            [("header", &self.header), ("timestamp_header", &self.timestamp_header), ("id_header", &self.id_header)];
        for (field, name) in headers {
            let is_name = |name: &String| {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
                (1..=128).contains(&name.len()) && name.bytes().all(allowed)
            };
            if !name.as_ref().is_none_or(is_name) {
                return Err(bad(field, "is the name of a header: 1 to 128 of its characters"));
            }
        }
        let pointers = [
            ("signature_field", &self.signature_field),
            ("timestamp_field", &self.timestamp_field),
            ("id_field", &self.id_field),
            ("token_field", &self.token_field),
        ];
        for (field, text) in pointers {
            let is_pointer = |text: &String| text.len() <= RECIPE_TEXT_BYTES_MAX && pointer::is_pointer(text);
            if !text.as_ref().is_none_or(is_pointer) {
                return Err(bad(field, "is a JSON pointer (RFC 6901) of up to 256 bytes, for example /signature"));
            }
        }
        let texts = [
            ("prefix", &self.prefix),
            ("separator", &self.separator),
            ("signed", &self.signed),
            ("timestamp_prefix", &self.timestamp_prefix),
            ("token_query", &self.token_query),
            ("body_hash_query", &self.body_hash_query),
        ];
        for (field, text) in texts {
            if !text.as_ref().is_none_or(|text| (1..=RECIPE_TEXT_BYTES_MAX).contains(&text.len())) {
                return Err(bad(field, "is a text of 1 to 256 bytes"));
            }
        }
        if !self.tolerance_s.is_none_or(|seconds| (1..=TOLERANCE_MAX_S).contains(&seconds)) {
            return Err(bad("tolerance_s", "is a number of seconds from 1 to 86400"));
        }
        if self.scheme.signs() { self.check_signature() } else { self.check_token() }
    }

    fn check_signature(&self) -> Result<(), BadRecipe> {
        match (&self.header, &self.signature_field) {
            (None, None) => return Err(bad("header", "is required: it names the header with the signature")),
            (Some(_), Some(_)) => return Err(bad("signature_field", "stands beside header; the signature is in one")),
            _ => {}
        }
        if self.token_field.is_some() || self.token_query.is_some() {
            return Err(bad("token_field", "goes with the scheme token"));
        }
        if self.scheme == SignatureScheme::Ecdsa && self.algorithm != HashAlgorithm::Sha256 {
            return Err(bad("algorithm", "is sha256 with ecdsa"));
        }
        if self.scheme.has_public_key() && self.key_form != KeyForm::Text {
            return Err(bad("key_form", "goes with a shared secret"));
        }
        let parts = self.parts()?;
        let has = |part: &Part| parts.contains(part);
        let covers = has(&Part::Body) || has(&Part::FormSorted) || self.body_hash_query.is_some();
        // a provider that puts its signature into the body signs something else than the body
        let covers = covers || self.signature_field.is_some() && has(&Part::Id);
        if !covers {
            return Err(bad("signed", "leaves the body out, so that a signature would be good for any; name {body}"));
        }
        if has(&Part::Timestamp) && !self.has_timestamp() {
            return Err(bad("timestamp_header", "is required where {timestamp} is signed"));
        }
        if has(&Part::Id) && self.id_header.is_none() && self.id_field.is_none() {
            return Err(bad("id_header", "is required where {id} is signed"));
        }
        Ok(())
    }

    fn check_token(&self) -> Result<(), BadRecipe> {
        let places = [&self.header, &self.token_field, &self.token_query];
        let required = self.scheme == SignatureScheme::Token;
        match places.iter().filter(|place| place.is_some()).count() {
            0 if required => return Err(bad("header", "is required: it names the header with the token")),
            0 | 1 => {}
            _ => return Err(bad("token_field", "stands beside header; the token is in one place")),
        }
        if self.scheme == SignatureScheme::Basic && (self.token_field.is_some() || self.token_query.is_some()) {
            return Err(bad("token_field", "goes with the scheme token"));
        }
        let signed = [
            ("signed", self.signed.is_some()),
            ("signature_field", self.signature_field.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
            ("timestamp_prefix", self.timestamp_prefix.is_some()),
            ("timestamp_field", self.timestamp_field.is_some()),
            ("body_hash_query", self.body_hash_query.is_some()),
            ("key_form", self.key_form != KeyForm::Text),
        ];
        match signed.into_iter().find(|(_, is_there)| *is_there) {
            Some((field, _)) => Err(bad(field, "goes with a scheme that signs: hmac, ed25519 or ecdsa")),
            None => Ok(()),
        }
    }

    /// Whether a request says when it was made.
    pub(super) fn has_timestamp(&self) -> bool {
        self.timestamp_header.is_some() || self.timestamp_field.is_some() || self.timestamp_prefix.is_some()
    }

    /// The header in which the signature or the token is.
    pub(super) fn proof_header(&self) -> Option<&str> {
        match self.scheme {
            SignatureScheme::Basic => Some(self.header.as_deref().unwrap_or("Authorization")),
            _ => self.header.as_deref(),
        }
    }

    /// The header that holds the secret itself.
    pub fn secret_header(&self) -> Option<&str> {
        if self.scheme.signs() { None } else { self.proof_header() }
    }

    /// Whether the address that the sender used is signed, or holds something.
    pub fn reads_address(&self) -> bool {
        let signed = self.signed.as_deref().is_some_and(|signed| signed.contains("{url}"));
        signed || self.token_query.is_some() || self.body_hash_query.is_some()
    }

    /// What makes the signature, in words.
    pub(super) fn scheme_name(&self) -> String {
        match self.scheme {
            SignatureScheme::Hmac => format!("HMAC with {}", self.algorithm.as_str()),
            SignatureScheme::Ed25519 => "Ed25519".into(),
            SignatureScheme::Ecdsa => "ECDSA over P-256 with sha256".into(),
            SignatureScheme::Token | SignatureScheme::Basic => "the key itself".into(),
        }
    }

    /// What is signed, in parts.
    pub(super) fn parts(&self) -> Result<Vec<Part>, BadRecipe> {
        let mut rest = self.signed.as_deref().unwrap_or("{body}");
        let mut parts = Vec::new();
        while let Some(at) = rest.find('{') {
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            let end = rest[at..].find('}').ok_or_else(|| bad("signed", "has a { without its }"))?;
            parts.push(match &rest[at + 1..at + end] {
                "timestamp" => Part::Timestamp,
                "id" => Part::Id,
                "url" => Part::Url,
                "method" => Part::Method,
                "body" => Part::Body,
                "form_sorted" => Part::FormSorted,
                _ => {
                    return Err(bad(
                        "signed",
                        "has a name that is none of timestamp, id, url, method, body, form_sorted",
                    ));
                }
            });
            rest = &rest[at + end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_recipe_is_read_as_it_is_written_and_written_as_it_was_read() {
        let written = json!({
            "scheme": "hmac", "header": "X-Signature", "prefix": "v1=", "encoding": "base64", "algorithm": "sha512",
            "signed": "{timestamp}.{body}", "timestamp_header": "X-Time", "timestamp_unit": "ms", "tolerance_s": 60,
        });
        let recipe = Recipe::read(written.clone()).expect("a recipe");
        assert_eq!(serde_json::to_value(&recipe).expect("JSON"), written);
        let parts = [Part::Timestamp, Part::Text(".".into()), Part::Body];
        assert_eq!(recipe.parts(), Ok(parts.to_vec()));
    }

    #[test]
    fn what_would_believe_everybody_or_nobody_is_no_recipe() {
        for (field, recipe) in [
            ("authentication", json!({"scheme": "md5", "header": "X"})),
            ("authentication", json!({"scheme": "hmac", "header": "X", "colour": "red"})),
            ("header", json!({"scheme": "hmac"})),
            ("header", json!({"scheme": "hmac", "header": "a b"})),
            ("header", json!({"scheme": "token"})),
            ("signed", json!({"scheme": "hmac", "header": "X", "signed": "constant"})),
            ("signed", json!({"scheme": "hmac", "header": "X", "signed": "{timestamp}", "timestamp_header": "T"})),
            ("signed", json!({"scheme": "hmac", "header": "X", "signed": "{body"})),
            ("signed", json!({"scheme": "hmac", "header": "X", "signed": "{query}{body}"})),
            ("timestamp_header", json!({"scheme": "hmac", "header": "X", "signed": "{timestamp}{body}"})),
            ("id_header", json!({"scheme": "hmac", "header": "X", "signed": "{id}{body}"})),
            ("algorithm", json!({"scheme": "ecdsa", "header": "X", "algorithm": "sha512"})),
            ("tolerance_s", json!({"scheme": "hmac", "header": "X", "tolerance_s": 0})),
            ("token_field", json!({"scheme": "token", "header": "X", "token_field": "/t"})),
            ("token_field", json!({"scheme": "token", "token_field": "t"})),
            ("signed", json!({"scheme": "token", "header": "X", "signed": "{body}"})),
            ("signature_field", json!({"scheme": "hmac", "header": "X", "signature_field": "/s"})),
            ("prefix", json!({"scheme": "hmac", "header": "X", "prefix": ""})),
        ] {
            let refusal = Recipe::read(recipe.clone()).map(|_| ()).expect_err("no recipe");
            assert_eq!(refusal.field, field, "{recipe}: {refusal}");
        }
        for good in [
            json!({"scheme": "basic"}),
            json!({"scheme": "token", "header": "X-Token", "prefix": "Bearer "}),
            json!({"scheme": "ed25519", "header": "X", "signed": "{timestamp}{body}", "timestamp_header": "T"}),
            json!({"scheme": "hmac", "signature_field": "/s", "id_field": "/t", "signed": "{id}"}),
            json!({"scheme": "hmac", "header": "X", "signed": "{url}{form_sorted}", "algorithm": "sha1"}),
        ] {
            assert_eq!(Recipe::read(good.clone()).map(|_| ()), Ok(()), "{good}");
        }
    }

    #[test]
    fn recipes_that_nobody_meant_are_refused_with_the_field() {
        let seeds = [
            json!({"scheme": "hmac", "header": "X", "signed": "{timestamp}.{body}", "timestamp_header": "T", "tolerance_s": 300}),
            json!({"scheme": "token", "header": "X-Token", "prefix": "Bearer "}),
            json!({"scheme": "hmac", "signature_field": "/s", "id_field": "/t", "signed": "{id}{url}{form_sorted}"}),
        ]
        .map(|seed| seed.to_string());
        let words = [
            "{body}",
            "{timestamp}",
            "{",
            "}",
            "\"scheme\":",
            "\"ed25519\"",
            "\"sha512\"",
            "\"tolerance_s\":",
            "\"/a~2\"",
            "null",
        ];
        crate::fuzz::run("recipes", seeds, &words, |bytes| {
            let Ok(value) = serde_json::from_slice(bytes) else { return };
            if let Err(refusal) = Recipe::read(value) {
                assert!(!refusal.field.is_empty());
            }
        });
    }
}
