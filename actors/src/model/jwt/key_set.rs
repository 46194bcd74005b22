//! JSON Web Key Sets (RFC 7517). Keys are read one by one, and those that mean nothing to us are skipped, as section 5 wants.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use serde::Deserialize;
use serde_json::Value;

use super::{HS256_KEY_BYTES_MIN, JwtAlgorithm, Key};

/// Keys of one set that are taken; a token without a `kid` is tried with each of them.
const KEYS_MAX: usize = 64;
/// Most of a text in a key that is repeated to people.
const TEXT_SHOWN_CHARS: usize = 64;

#[derive(Debug, Default)]
pub struct KeySet {
    pub keys: Vec<Key>,
    pub skipped: Vec<Skipped>,
}

/// A key that was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {number} of the set ({id}) is not used: {reason}")]
pub struct Skipped {
    /// From 1 on.
    pub number: usize,
    pub id: String,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
#[error("it is no JSON Web Key Set: {0}")]
pub struct NotAKeySet(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// The keys of a set that can verify tokens of this algorithm.
    ///
    /// # Errors
    /// The text is not `{"keys": [...]}`.
    pub fn read(text: &str, algorithm: JwtAlgorithm) -> Result<KeySet, NotAKeySet> {
        let mut set = KeySet::default();
        for (index, value) in serde_json::from_str::<Document>(text)?.keys.into_iter().enumerate() {
            let id = value.get("kid").and_then(Value::as_str).map(str::to_owned);
            let read = match set.keys.len() < KEYS_MAX {
                true => read_key(value, algorithm),
                false => Err(format!("a set has at most {KEYS_MAX} keys")),
            };
            match read {
                Ok(key) => set.keys.push(Key::of_set(id, key)),
                Err(reason) => {
                    let id = id.map_or_else(|| "without kid".into(), |id| format!("kid {:?}", shortened(&id)));
                    set.skipped.push(Skipped { number: index + 1, id, reason });
                }
            }
        }
        Ok(set)
    }
}

fn read_key(value: Value, algorithm: JwtAlgorithm) -> Result<DecodingKey, String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(shortened);
    if text("use").is_some_and(|usage| usage != "sig") {
        return Err("it is for something else than signatures (use)".into());
    }
    let operations = value.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return Err("it is for something else than verifying (key_ops)".into());
    }
    let wanted = algorithm.as_str();
    // the name that RFC 9864 gives to one of the curves of EdDSA
    let names = |named: &str| named == wanted || (algorithm == JwtAlgorithm::EdDsa && named == "Ed25519");
    if let Some(named) = text("alg").filter(|named| !names(named)) {
        return Err(format!("its algorithm is {named:?}, and auth.jwt.algorithm is {wanted}"));
    }
    let kind = text("kty").unwrap_or_default();
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| format!("a key of kind {kind:?} cannot be read"))?;
    let fits = match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::OctetKey(_), JwtAlgorithm::Hs256)
        | (AlgorithmParameters::RSA(_), JwtAlgorithm::Rs256) => true,
        (AlgorithmParameters::OctetKeyPair(key), JwtAlgorithm::EdDsa) => key.curve == EllipticCurve::Ed25519,
        (AlgorithmParameters::EllipticCurve(key), JwtAlgorithm::Es256) => key.curve == EllipticCurve::P256,
        _ => false,
    };
    if !fits {
        return Err(format!("a key of kind {kind:?} like this one does not verify {wanted}"));
    }
    // the library's own words might repeat a part of a shared key
    let key =
        DecodingKey::from_jwk(&jwk).map_err(|_| format!("a key of kind {kind:?} has values that are no base64url"))?;
    match key.try_get_as_bytes() {
        Ok(bytes) if algorithm == JwtAlgorithm::Hs256 && bytes.len() < HS256_KEY_BYTES_MIN => {
            Err(format!("a shared key has at least {HS256_KEY_BYTES_MIN} bytes"))
        }
        _ => Ok(key),
    }
}

/// A text of somebody else's as it is repeated to people.
fn shortened(text: &str) -> String {
    text.chars().take(TEXT_SHOWN_CHARS).collect()
}
