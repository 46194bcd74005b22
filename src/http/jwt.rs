//! JWTs as credentials (RFC 7519): who signs them and what they must say is in the settings, never in the token.

use std::sync::Arc;

use actors::hub::Hub;
use actors::model::access::{Principal, Reach, Scope};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use crate::settings::{Jwt, JwtAlgorithm};

/// What a token must carry.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    /// `map:<id>` or `organization:<id>`, or `*` for everything.
    channel: String,
    #[serde(default)]
    scopes: Vec<Scope>,
}

pub struct Verifier {
    validation: Validation,
    /// With the key id that a token must name, where keys come as a set.
    keys: Vec<(Option<String>, DecodingKey)>,
}

#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("auth.jwt.key cannot be used: {0}; give the secret for HS256, a PEM public key for the others")]
    Key(String),
    #[error("auth.jwt.jwks_file cannot be used: {0}")]
    KeySet(String),
    #[error("auth.jwt.jwks_file holds no key")]
    NoKey,
}

impl Verifier {
    /// None when JWTs are not configured.
    pub fn from_settings(settings: &Jwt) -> Result<Option<Verifier>, JwtError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let algorithm = match settings.algorithm {
            JwtAlgorithm::Hs256 => Algorithm::HS256,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::Rs256 => Algorithm::RS256,
        };
        let mut keys = Vec::new();
        if let Some(key) = &settings.key {
            keys.push((None, decoding_key(algorithm, key.expose())?));
        }
        if let Some(file) = &settings.key_file {
            let text = std::fs::read_to_string(file).map_err(|e| JwtError::Key(e.to_string()))?;
            keys.push((None, decoding_key(algorithm, text.trim())?));
        }
        if let Some(file) = &settings.jwks_file {
            let text = std::fs::read_to_string(file).map_err(|e| JwtError::KeySet(e.to_string()))?;
            let set: JwkSet = serde_json::from_str(&text).map_err(|e| JwtError::KeySet(e.to_string()))?;
            for jwk in &set.keys {
                let key = DecodingKey::from_jwk(jwk).map_err(|e| JwtError::KeySet(e.to_string()))?;
                keys.push((jwk.common.key_id.clone(), key));
            }
        }
        if keys.is_empty() {
            return Err(JwtError::NoKey);
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = 0;
        validation.set_required_spec_claims(&["exp", "sub"]);
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        match &settings.audience {
            None => validation.validate_aud = false,
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".into());
            }
        }
        Ok(Some(Verifier { validation, keys }))
    }

    /// Whoever the token stands for; none when it is not a JWT of ours.
    pub fn principal(&self, token: &str, hub: &Hub) -> Option<Arc<Principal>> {
        let named = decode_header(token).ok()?.kid;
        let fits = |(id, _): &&(Option<String>, DecodingKey)| id.is_none() || named.is_none() || *id == named;
        let claims = self
            .keys
            .iter()
            .filter(fits)
            .find_map(|(_, key)| decode::<Claims>(token, key, &self.validation).ok())?
            .claims;
        let reach = match claims.channel.as_str() {
            "*" => Reach::Admin,
            name => Reach::Channel { no: hub.find_named(name)?.no(), scopes: claims.scopes },
        };
        let id = format!("jwt:{}", claims.sub).into();
        Some(Arc::new(Principal { id, reach, expires_ms: Some(claims.exp.saturating_mul(1000)) }))
    }
}

/// The shared text for HS256, a PEM public key for the others.
fn decoding_key(algorithm: Algorithm, key: &str) -> Result<DecodingKey, JwtError> {
    let parsed = match algorithm {
        Algorithm::HS256 => return Ok(DecodingKey::from_secret(key.as_bytes())),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(key.as_bytes()),
        Algorithm::ES256 => DecodingKey::from_ec_pem(key.as_bytes()),
        _ => DecodingKey::from_rsa_pem(key.as_bytes()),
    };
    parsed.map_err(|e| JwtError::Key(e.to_string()))
}
