//! JWTs as credentials (RFC 7519): who signs them and what they must say is in the settings, never in the token. Keys that
//! come as a set are read again when the file changes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actors::hub::Hub;
use actors::model::access::{JWT_PREFIX, Principal, Reach, Scope};
use actors::model::jwt::{HS256_KEY_BYTES_MIN, Judge, JwtAlgorithm, JwtRules, Key, KeySet, NotAKeySet, Refused};
use parking_lot::RwLock;
use serde::Deserialize;

use crate::settings::Jwt;

/// Between two looks at the key set.
const LOOK: Duration = Duration::from_secs(5);
/// The largest file of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a token must carry beside its `exp`.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// `map:<id>` or `organization:<id>`, or `*` for everything.
    channel: String,
    #[serde(default)]
    scopes: Vec<Scope>,
}

pub struct Verifier {
    judge: Judge,
    keys: RwLock<Arc<[Key]>>,
    /// Where the keys come from when they come as a set, and what it held at the start.
    set: Option<(SetFile, String)>,
    /// It was said in the log that tokens name an audience and none is configured.
    audience_missed: AtomicBool,
}

#[derive(Clone)]
struct SetFile {
    path: PathBuf,
    algorithm: JwtAlgorithm,
}

#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("{setting} cannot be used: it {reason}")]
    Key { setting: &'static str, reason: String },
    #[error("auth.jwt.key_file cannot be read: {}: {source}; check the path and who may read it", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "{setting} holds a key of {bytes} bytes; whoever signs for the whole API needs at least {HS256_KEY_BYTES_MIN}: \
         make one with `openssl rand -base64 32`, and give it to the issuer too"
    )]
    Short { setting: &'static str, bytes: usize },
    #[error("auth.jwt.jwks_file cannot be used: {0}; give a JSON Web Key Set (RFC 7517)")]
    KeySet(#[from] SetError),
    #[error("auth.jwt.jwks_file holds no key that verifies {}; the log says why each is not used", algorithm.as_str())]
    NoKey { algorithm: JwtAlgorithm },
}

/// Why a set of keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: it is larger than {FILE_BYTES_MAX} bytes", path.display())]
    Large { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Form { path: PathBuf, source: NotAKeySet },
}

impl Verifier {
    /// None when JWTs are not configured. Blocks.
    ///
    /// # Errors
    /// A key cannot be read or is none.
    pub fn from_settings(settings: &Jwt) -> Result<Option<Verifier>, JwtError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let algorithm = settings.algorithm;
        let mut keys = Vec::new();
        if let Some(key) = &settings.key {
            keys.push(one_key("auth.jwt.key", algorithm, key.expose())?);
        }
        if let Some(path) = &settings.key_file {
            let text = read(path).map_err(|source| JwtError::File { path: path.clone(), source })?;
            keys.push(one_key("auth.jwt.key_file", algorithm, String::from_utf8_lossy(&text).trim())?);
        }
        let mut set = None;
        if let Some(path) = &settings.jwks_file {
            let file = SetFile { path: path.clone(), algorithm };
            let text = file.text()?;
            keys.extend(file.keys(&text)?);
            set = Some((file, text));
        }
        if keys.is_empty() {
            return Err(JwtError::NoKey { algorithm });
        }
        let rules = JwtRules { algorithm, issuer: settings.issuer.clone(), audience: settings.audience.clone() };
        let (judge, keys) = (Judge::new(&rules), RwLock::new(keys.into()));
        Ok(Some(Verifier { judge, keys, set, audience_missed: AtomicBool::new(false) }))
    }

    /// Whoever the token stands for; none when it is not a JWT of ours.
    pub fn principal(&self, token: &str, hub: &Hub, now_ms: i64) -> Option<Arc<Principal>> {
        let keys = self.keys.read().clone();
        let verified = match self.judge.verify::<Claims>(token, &keys, now_ms) {
            Ok(verified) => verified,
            Err(Refused::Audience) => {
                if !self.audience_missed.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "a JWT with a right signature is refused, because it names an audience (`aud`) and none is \
                         configured; set auth.jwt.audience to the name that the issuer has for this server"
                    );
                }
                return None;
            }
            Err(Refused::Token | Refused::Time) => return None,
        };
        let Claims { sub, channel, scopes } = verified.claims;
        let reach = match channel.as_str() {
            "*" => Reach::Admin,
            // by its id, because a slug may be another map's tomorrow
            name => Reach::Channel { no: hub.find_by_id(name)?.no(), scopes },
        };
        let id = format!("{JWT_PREFIX}{sub}").into();
        Some(Arc::new(Principal { id, reach, expires_ms: Some(verified.expires_ms) }))
    }

    /// Reads the set of keys again whenever its file has changed, for as long as the system runs. While it cannot be read,
    /// the keys from before count.
    pub async fn follow_file(self: Arc<Verifier>) {
        let Some((set, mut known)) = self.set.clone() else { return };
        let mut complaint = String::new();
        let mut timer = actix_web::rt::time::interval(LOOK);
        loop {
            timer.tick().await;
            let file = set.clone();
            // a thread that panicked is one that did not read it
            let Ok(text) = actix_web::rt::task::spawn_blocking(move || file.text()).await else { continue };
            let keys = match text {
                Ok(text) if text == known => continue,
                Ok(text) => {
                    let keys = set.keys(&text);
                    known = text;
                    keys
                }
                Err(e) => Err(e),
            };
            match keys {
                Ok(keys) => {
                    log::info!(keys = keys.len(); "the keys of auth.jwt.jwks_file were read again");
                    *self.keys.write() = keys.into();
                    complaint.clear();
                }
                Err(e) if e.to_string() == complaint => {}
                Err(e) => {
                    complaint = e.to_string();
                    log::warn!("auth.jwt.jwks_file cannot be used, and the keys from before count on: {complaint}");
                }
            }
        }
    }
}

impl SetFile {
    fn text(&self) -> Result<String, SetError> {
        let path = &self.path;
        let bytes = read(path).map_err(|source| SetError::File { path: path.clone(), source })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(SetError::Large { path: path.clone() });
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The keys in the text of the file. Those that are not used are named in the log, each in a line.
    fn keys(&self, text: &str) -> Result<Vec<Key>, SetError> {
        let set =
            KeySet::read(text, self.algorithm).map_err(|source| SetError::Form { path: self.path.clone(), source })?;
        for skipped in &set.skipped {
            log::warn!("auth.jwt.jwks_file: {skipped}");
        }
        Ok(set.keys)
    }
}

/// As much of a file as may be used, and a byte more where there is more.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The shared text for HS256, a PEM public key for the others.
fn one_key(setting: &'static str, algorithm: JwtAlgorithm, text: &str) -> Result<Key, JwtError> {
    if algorithm == JwtAlgorithm::Hs256 && text.len() < HS256_KEY_BYTES_MIN {
        return Err(JwtError::Short { setting, bytes: text.len() });
    }
    Key::new(algorithm, text).map_err(|e| JwtError::Key { setting, reason: e.to_string() })
}
