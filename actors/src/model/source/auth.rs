//! Verification of senders: the ways in which they prove that a request is theirs, over its raw bytes.
//!
//! API keys, a generic HMAC, and whatever a [`Recipe`] describes are judged by one verifier driven by data; JWTs by another.
//! Whatever is compared with a secret is compared in constant time. A sender that is
//! refused learns what is missing, never what would have been right.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::jwt::SenderJwt;
use super::lock::Lock;
use super::preset::{self, Preset};
use super::recipe::{HashAlgorithm, KeyForm, Recipe, SignatureScheme, TimeUnit};
use crate::model::jwt::{JwtAlgorithm, JwtRules};
use crate::model::signature::{self, Secret};

/// The longest key of a JWT in bytes: room for the PEM of an RSA key of 16,384 bits.
pub const JWT_KEY_BYTES_MAX: usize = 4096;

/// How a source knows its sender.
#[derive(Clone, Copy, Debug)]
pub enum Authentication {
    /// Everybody who knows the address.
    None,
    ApiKey,
    Hmac,
    Jwt,
    /// As the owner of the source describes it.
    Recipe,
    /// As a provider does it that many people have.
    Preset(&'static Preset),
}

impl Authentication {
    const OWN: [Authentication; 5] = [
        Authentication::None,
        Authentication::ApiKey,
        Authentication::Hmac,
        Authentication::Jwt,
        Authentication::Recipe,
    ];

    /// The names that may be chosen; a recipe is chosen by writing it.
    pub fn names() -> Vec<&'static str> {
        let own = Authentication::OWN.iter().take(4).map(|own| own.as_str());
        own.chain(preset::all().iter().map(|preset| preset.name.as_str())).collect()
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Authentication::None => "none",
            Authentication::ApiKey => "api_key",
            Authentication::Hmac => "hmac",
            Authentication::Jwt => "jwt",
            Authentication::Recipe => "recipe",
            Authentication::Preset(preset) => &preset.name,
        }
    }

    /// By one of [`Authentication::names`].
    pub fn from_name(name: &str) -> Option<Authentication> {
        let own = Authentication::OWN.into_iter().take(4).find(|one| one.as_str() == name);
        own.or_else(|| preset::find(name).map(Authentication::Preset))
    }

    /// The preset, if it is one.
    pub fn preset(self) -> Option<&'static Preset> {
        match self {
            Authentication::Preset(preset) => Some(preset),
            _ => None,
        }
    }
}

impl PartialEq for Authentication {
    fn eq(&self, other: &Authentication) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Authentication {}

impl Serialize for Authentication {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        target.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Authentication {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Authentication, D::Error> {
        let name = Cow::<str>::deserialize(source)?;
        let known = if name == "recipe" { Some(Authentication::Recipe) } else { Authentication::from_name(&name) };
        known.ok_or_else(|| serde::de::Error::custom(format_args!("there is no authentication called {name}")))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HmacAlgorithm {
    #[default]
    Sha256,
    Sha512,
}

impl HmacAlgorithm {
    pub fn as_str(self) -> &'static str {
        self.hash().as_str()
    }

    pub(super) fn hash(self) -> HashAlgorithm {
        match self {
            HmacAlgorithm::Sha256 => HashAlgorithm::Sha256,
            HmacAlgorithm::Sha512 => HashAlgorithm::Sha512,
        }
    }
}

/// Everything about the authentication of a source but its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheme {
    pub authentication: Authentication,
    #[serde(default)]
    pub hmac_algorithm: HmacAlgorithm,
    /// Given exactly where the authentication is by JWT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtRules>,
    /// Given exactly where the authentication is by recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Box<Recipe>>,
}

/// Why a text is no key of a scheme; the text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("is 1 to 512 bytes long; leave it out to have one made")]
    Length,
    #[error("is 1 to 512 visible ASCII characters, because it is sent in a header; leave it out to have one made")]
    Header,
    #[error("is base64 of 24 to 64 bytes, with or without whsec_ before it; leave it out to have one made")]
    Standard,
    #[error("is user:password")]
    Basic,
    #[error("is a public key of this scheme, as PEM, hexadecimal digits or base64")]
    Public,
    #[error("is required: the provider shows it to you")]
    Provider,
    #[error("is a text for HS256, and the public key as PEM for EdDSA, ES256 and RS256")]
    Jwt,
    #[error("goes with another authentication")]
    NoKey,
}

/// The headers of a request. No value where there is none, and none where a header was sent more than once or is not
/// visible ASCII: what could be read in two ways proves nothing.
pub trait Headers {
    /// By name in any case.
    fn get(&self, name: &str) -> Option<&str>;

    /// All of them as they came, also those that [`Headers::get`] gives no value of.
    fn all(&self) -> Vec<(&str, Cow<'_, str>)>;
}

impl Headers for &[(&str, &str)] {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    fn all(&self) -> Vec<(&str, Cow<'_, str>)> {
        self.iter().map(|(name, value)| (*name, Cow::from(*value))).collect()
    }
}

/// What of a request can prove who sent it.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    pub method: &'a str,
    /// The whole address as the sender knows it, with its query.
    pub url: &'a str,
    pub headers: &'a dyn Headers,
    /// As it came, before anything unpacked or read it.
    pub body: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// A POST to an address that nothing is known of.
    pub fn of(headers: &'a dyn Headers, body: &'a [u8]) -> Incoming<'a> {
        Incoming { method: "POST", url: "", headers, body }
    }

    /// A parameter of the query; none where it is there more than once.
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        let (_, query) = self.url.split_once('?')?;
        let mut found = url::form_urlencoded::parse(query.as_bytes()).filter(|(other, _)| other == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// Why the sender of a request is not verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error("the header {0} is missing, or was sent more than once")]
    Missing(Box<str>),
    #[error("the body has nothing at {0}, where this sender proves who it is")]
    MissingField(Box<str>),
    #[error("the parameter {0} is missing in the address, or is there more than once")]
    MissingParameter(Box<str>),
    #[error("{0} does not have its form")]
    Malformed(Box<str>),
    #[error("the time of the request is too far from now; check the clock of the sender")]
    Stale,
    #[error("the key is not that of this address")]
    ApiKey,
    #[error("the signature does not match; sign the raw body with the key of this address")]
    Mismatch,
    #[error(
        "the token is no JWT that this address takes; check algorithm, key, issuer, audience, and that it has an exp"
    )]
    Token,
    #[error("the token has expired, or is not valid yet")]
    Expired,
}

/// What is known of a request whose sender is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The signature in one form. A second request with it is the same one sent again; none where nothing is signed.
    pub signature: Option<String>,
}

/// One key, ready to judge who has it.
#[derive(Clone)]
enum Locks {
    /// Any one of several recipes suffices.
    Recipes(Vec<Lock>),
    Jwt(Box<SenderJwt>),
}

/// The keys of a source, made ready: one, two while a rotation overlaps, none where nobody has to prove anything. No
/// Debug, Display or Serialize.
#[derive(Clone)]
pub struct Verifier {
    current: Option<Locks>,
    /// The key before the last rotation, and until when it counts, in Unix milliseconds.
    previous: Option<(Locks, i64)>,
}

impl Scheme {
    /// A scheme with nothing more to say than its name.
    pub fn of(authentication: Authentication) -> Scheme {
        Scheme { authentication, hmac_algorithm: HmacAlgorithm::Sha256, jwt: None, recipe: None }
    }

    /// Whether the source has a key.
    pub fn has_key(&self) -> bool {
        self.authentication != Authentication::None
    }

    /// The recipes of which any one suffices; none for JWTs, and where nobody has to prove anything.
    pub fn recipes(&self) -> Cow<'_, [Recipe]> {
        match self.authentication {
            Authentication::None | Authentication::Jwt => Cow::Borrowed(&[]),
            Authentication::ApiKey => vec![Recipe::new(SignatureScheme::Token, "X-API-Key")].into(),
            Authentication::Hmac => vec![Recipe {
                prefix: Some(format!("{}=", self.hmac_algorithm.as_str())),
                // the algorithm is the source's, so that nobody chooses a weaker one
                algorithm: self.hmac_algorithm.hash(),
                signed: Some("{timestamp}.{body}".into()),
                timestamp_header: Some("X-Webhook-Timestamp".into()),
                timestamp_unit: Some(TimeUnit::Ms),
                ..Recipe::new(SignatureScheme::Hmac, "X-Webhook-Signature")
            }]
            .into(),
            Authentication::Recipe => self.recipe.iter().map(|recipe| Recipe::clone(recipe)).collect::<Vec<_>>().into(),
            Authentication::Preset(preset) => Cow::Borrowed(&preset.recipes),
        }
    }

    /// Whether the key is a public one.
    pub fn has_public_key(&self) -> bool {
        self.recipes().first().is_some_and(|recipe| recipe.scheme.has_public_key())
    }

    /// A new key made of random bytes; none where only somebody else can make it.
    pub fn make_key(&self, random: [u8; 32]) -> Option<String> {
        let shared = || Secret::from_random(random).reveal().to_owned();
        let plain = |prefix| crate::model::access::secret_text(prefix, random);
        match self.authentication {
            Authentication::None => None,
            Authentication::ApiKey => Some(plain("key_")),
            Authentication::Hmac => Some(shared()),
            Authentication::Jwt => {
                let shares = self.jwt.as_ref().is_some_and(|rules| rules.algorithm == JwtAlgorithm::Hs256);
                shares.then(shared)
            }
            Authentication::Preset(preset) if !preset.makes_key => None,
            Authentication::Preset(_) | Authentication::Recipe => {
                let recipes = self.recipes();
                let recipe = recipes.first()?;
                match (recipe.scheme, recipe.key_form) {
                    (SignatureScheme::Hmac, KeyForm::Standard) => {
                        Some(format!("{}{}", signature::STANDARD_PREFIX, shared()))
                    }
                    (SignatureScheme::Hmac, KeyForm::Text) => Some(shared()),
                    (SignatureScheme::Token, _) => Some(plain("")),
                    (SignatureScheme::Basic, _) => Some(format!("stentor:{}", plain(""))),
                    (SignatureScheme::Ed25519 | SignatureScheme::Ecdsa, _) => None,
                }
            }
        }
    }

    /// Whether a text can be the key of this scheme.
    ///
    /// # Errors
    /// [`BadKey`] says what a key of this scheme looks like.
    pub fn check_key(&self, text: &str) -> Result<(), BadKey> {
        self.locks(text).map(|_| ())
    }

    /// What is missing where no key is given and none can be made.
    pub fn missing_key(&self) -> BadKey {
        if self.authentication == Authentication::Jwt { BadKey::Jwt } else { BadKey::Provider }
    }

    fn locks(&self, text: &str) -> Result<Locks, BadKey> {
        match (self.authentication, &self.jwt) {
            (Authentication::None, _) => return Err(BadKey::NoKey),
            (Authentication::Jwt, Some(rules)) if (1..=JWT_KEY_BYTES_MAX).contains(&text.len()) => {
                return Ok(Locks::Jwt(Box::new(SenderJwt::new(rules, text)?)));
            }
            (Authentication::Jwt, _) => return Err(BadKey::Jwt),
            _ => {}
        }
        let (mut locks, mut refusal) = (Vec::new(), None);
        for recipe in self.recipes().iter() {
            match Lock::new(recipe, text) {
                Ok(lock) => locks.push(lock),
                // a key that fits one of them is none of the others
                Err(bad) => refusal = refusal.or(Some(bad)),
            }
        }
        if locks.is_empty() { Err(refusal.unwrap_or(BadKey::NoKey)) } else { Ok(Locks::Recipes(locks)) }
    }
}

impl Verifier {
    /// Makes keys ready for verification. `current` and `previous` are the texts of the keys; there is a current one exactly if the scheme has keys.
    ///
    /// # Errors
    /// [`BadKey`]: a key is missing, or is not one of this scheme.
    pub fn new(scheme: Scheme, current: Option<&str>, previous: Option<(&str, i64)>) -> Result<Verifier, BadKey> {
        let current = match current {
            None if scheme.has_key() => return Err(scheme.missing_key()),
            None => None,
            Some(text) => Some(scheme.locks(text)?),
        };
        let previous = previous.map(|(text, until_ms)| scheme.locks(text).map(|key| (key, until_ms))).transpose()?;
        Ok(Verifier { current, previous })
    }

    /// Verifies the sender of a request at `now_ms` (Unix milliseconds), with the current key or the one before it.
    ///
    /// # Errors
    /// [`Untrusted`] says what is missing, malformed, too old or does not match, by the current key.
    pub fn verify(&self, request: &Incoming<'_>, now_ms: i64) -> Result<Proof, Untrusted> {
        let Some(current) = &self.current else { return Ok(Proof::default()) };
        let refusal = match current.verify(request, now_ms) {
            Ok(proof) => return Ok(proof),
            Err(refusal) => refusal,
        };
        match &self.previous {
            Some((previous, until_ms)) if now_ms < *until_ms => previous.verify(request, now_ms).map_err(|_| refusal),
            _ => Err(refusal),
        }
    }

    /// What headers and address alone tell, before there is a body: a credential that has to be there, has to have its form and
    /// must not be too old. What is in the body, and a signature over it, is not judged.
    ///
    /// # Errors
    /// [`Untrusted`], except for what a body can still put right.
    pub fn foresee(&self, request: &Incoming<'_>, now_ms: i64) -> Result<(), Untrusted> {
        match self.verify(request, now_ms) {
            // what a body can put right
            Ok(_) | Err(Untrusted::Mismatch | Untrusted::MissingField(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether headers and address alone say who the sender is, whatever the body.
    pub fn needs_no_body(&self) -> bool {
        match &self.current {
            None | Some(Locks::Jwt(_)) => true,
            Some(Locks::Recipes(locks)) => locks.iter().all(Lock::needs_no_body),
        }
    }

    /// The recipe by which a request would be judged with the key of now, and the one before while it counts.
    pub(super) fn locks(&self, request: &Incoming<'_>, now_ms: i64) -> Vec<&Lock> {
        let previous = self.previous.as_ref().filter(|(_, until_ms)| now_ms < *until_ms).map(|(locks, _)| locks);
        self.current.iter().chain(previous).filter_map(|locks| locks.choose(request)).collect()
    }

    /// When a request says that it was made, in Unix milliseconds.
    pub fn time_of(&self, request: &Incoming<'_>) -> Option<i64> {
        self.locks(request, i64::MIN).first()?.time_of(request)
    }

    /// The hexadecimal HMAC of a text with the current key, where there is a shared one.
    pub fn hex_of(&self, text: &str) -> Option<String> {
        match &self.current {
            Some(Locks::Recipes(locks)) => locks.first()?.hex_of(text),
            _ => None,
        }
    }
}

impl Locks {
    fn verify(&self, request: &Incoming<'_>, now_ms: i64) -> Result<Proof, Untrusted> {
        match self {
            Locks::Jwt(sender) => {
                const HEADER: &str = "Authorization";
                let given = request.headers.get(HEADER).ok_or_else(|| Untrusted::Missing(HEADER.into()))?;
                let bearer = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
                let (_, token) = bearer.ok_or_else(|| Untrusted::Malformed(HEADER.into()))?;
                sender.verify(token.trim(), now_ms).map(|()| Proof::default())
            }
            // a key opens at least one recipe
            Locks::Recipes(_) => self.choose(request).ok_or(Untrusted::Mismatch)?.verify(request, now_ms),
        }
    }

    /// The recipe whose proof the request carries; the first where it carries none.
    fn choose(&self, request: &Incoming<'_>) -> Option<&Lock> {
        match self {
            Locks::Jwt(_) => None,
            Locks::Recipes(locks) => locks.iter().find(|lock| lock.concerns(request)).or(locks.first()),
        }
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
