//! What stands in a URL's query and in a body, read strictly.

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, web};
use actors::model::draft::BodyForm;
use actors::model::percent;
use actors::model::timestamp;
use actors::model::unpack::{self, UnpackError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::problem::{Code, Problem};
use super::query_names::QueryNames;
use super::{blame, bodies};

/// Most entries of a page of a list, and how many it has unless the request says otherwise.
pub const PAGE_MAX: usize = 1000;
/// See [`PAGE_MAX`].
pub const PAGE_DEFAULT: usize = 100;

/// What is said of a query that is no text (RFC 3986, 2.5).
const UNREADABLE: &str = "The query is not percent-encoded UTF-8";

/// The pairs of the query, in order.
pub struct Pairs(Vec<(String, String)>);

impl FromRequest for Pairs {
    type Error = Problem;
    type Future = Ready<Result<Pairs, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Pairs::of(request))
    }
}

impl Pairs {
    /// The pairs of the query, each under the name that it has inside, whatever spelling was used.
    ///
    /// # Errors
    /// The query cannot be read, or the address knows no parameter of that name.
    pub fn of(request: &HttpRequest) -> Result<Pairs, Problem> {
        if request.query_string().is_empty() {
            return Ok(Pairs(Vec::new()));
        }
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pairs = pairs.map_err(|_| Problem::new(Code::BadRequest, UNREADABLE))?.into_inner();
        match request.app_data::<Arc<QueryNames>>() {
            // it was read all the same, with U+FFFD in the place of what is none
            Some(_) if str::from_utf8(&percent::decode(request.query_string().as_bytes())).is_err() => {
                Err(Problem::new(Code::BadRequest, UNREADABLE))
            }
            Some(names) => Ok(Pairs(names.understand(request.method(), pairs)?)),
            // others than clients of the API send here, and put into a query what they like
            None => Ok(Pairs(pairs)),
        }
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// `true` or `false` (also 1 and 0).
    ///
    /// # Errors
    /// A 400 when it is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(Problem::parameter(name, "true or false is expected")),
        }
    }

    /// `limit`: how many entries of a list are asked for.
    ///
    /// # Errors
    /// A 400 when it is no number from 1 to [`PAGE_MAX`].
    pub fn page_limit(&self, default: usize) -> Result<usize, Problem> {
        Ok(self.number("limit", 1..=PAGE_MAX)?.unwrap_or(default))
    }

    /// A whole number.
    ///
    /// # Errors
    /// A 400 when it is no whole number of that range.
    pub fn number(&self, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = || {
            Problem::parameter(name, format!("a whole number from {} to {} is expected", range.start(), range.end()))
        };
        let number = text.parse().ok().filter(|n| range.contains(n)).ok_or_else(bad)?;
        Ok(Some(number))
    }

    /// An ISO-8601 time with offset, in Unix milliseconds. A `+` that was not percent-encoded is understood.
    ///
    /// # Errors
    /// A 400 when it is no such time.
    pub fn time(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let time = timestamp::from_iso(text).or_else(|| timestamp::from_iso(&text.replace(' ', "+")));
        let bad = || Problem::parameter(name, "an ISO-8601 time with offset is expected, such as 2025-06-21T12:34:56Z");
        Ok(Some(time.ok_or_else(bad)?))
    }

    /// A length of time: a whole number and one of `s m h d`, in milliseconds.
    ///
    /// # Errors
    /// A 400 when it is no such length, or 0.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = || Problem::parameter(name, "a whole number and a unit of s, m, h or d is expected, such as 24h");
        let unit = text.chars().last().ok_or_else(bad)?;
        let factor = match unit {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            _ => return Err(bad()),
        };
        let number: i64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
        Ok(Some(number.checked_mul(factor).filter(|ms| *ms > 0).ok_or_else(bad)?))
    }
}

fn media_type(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(CONTENT_TYPE)?;
    let text = value.to_str().unwrap_or_default();
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// How large a body of this address may be, packed and unpacked.
#[derive(Clone, Copy)]
pub struct BodyBytes(pub usize);

/// The body as it was before it was packed; of one that was not, the body itself.
///
/// # Errors
/// The coding is not known, or the body is damaged, or too large.
pub fn unpacked<'a>(request: &HttpRequest, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Problem> {
    let mut values = Vec::new();
    for value in request.headers().get_all(CONTENT_ENCODING) {
        values.push(value.to_str().map_err(|_| UnpackError::Unknown(String::new()))?);
    }
    let codings = unpack::codings(values)?;
    if codings.is_empty() || body.is_empty() {
        return Ok(body.into());
    }
    // every address of the table says how much it takes
    let BodyBytes(limit) = *request.app_data::<BodyBytes>().expect("the address has its limit");
    let unpacked = unpack::unpack(body, &codings, limit)?;
    bodies::hold(request, unpacked.len())?;
    Ok(unpacked.into())
}

/// The key under which the sender knows its request.
///
/// # Errors
/// A 400 when it is empty, too long, or has other than visible characters.
pub fn idempotency_key(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let Some(value) = request.headers().get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let wrong = || Problem::new(Code::BadRequest, "Idempotency-Key is 1 to 255 visible ASCII characters");
    key.ok_or_else(wrong).map(Some)
}

/// Whether a body of events is JSON or NDJSON, by its content type.
///
/// # Errors
/// A 415 for another content type.
pub fn body_form(request: &HttpRequest) -> Result<BodyForm, Problem> {
    match media_type(request).as_deref() {
        None | Some("application/json") => Ok(BodyForm::Json),
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => Ok(BodyForm::NdJson),
        Some(_) => Err(Problem::new(Code::UnsupportedMediaType, "Send application/json or application/x-ndjson")),
    }
}

/// For a field that may be left out or be `null`: tells the one from the other.
///
/// # Errors
/// The value is of another type.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Reads a JSON object into a type, and says where it is wrong.
///
/// # Errors
/// A 415 for another content type or coding, a 413 when it is too large unpacked, a 400 when it is no JSON object or
/// does not fit the type.
pub fn json<T: DeserializeOwned>(request: &HttpRequest, body: &[u8]) -> Result<T, Problem> {
    with_text(request, body, |text| {
        let is_object = text.trim_start().starts_with('{');
        if !is_object && read_json::<serde::de::IgnoredAny>(text).is_ok() {
            // a list could be read as the fields of an object in their order, which nobody means
            return Err(Problem::invalid("body", "a JSON object is expected"));
        }
        read_json(text)
    })
}

/// Reads JSON of any kind into a type, and says where it is wrong.
///
/// # Errors
/// As [`json`], except that other JSON than an object may fit.
pub fn any_json<T: DeserializeOwned>(request: &HttpRequest, body: &[u8]) -> Result<T, Problem> {
    with_text(request, body, read_json)
}

/// Hands on the text of a body of JSON, which may be packed.
fn with_text<T>(
    request: &HttpRequest,
    body: &[u8],
    read: impl FnOnce(&str) -> Result<T, Problem>,
) -> Result<T, Problem> {
    match media_type(request).as_deref() {
        None | Some("application/json") => {}
        Some(_) => return Err(Problem::new(Code::UnsupportedMediaType, "Send application/json")),
    }
    let body = unpacked(request, body)?;
    let text = actors::model::json::text(&body).map_err(|e| not_json(&e))?;
    read(&text)
}

fn read_json<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => {
            let field = blame::field_of(text, &e);
            Problem::invalid(field.as_deref().unwrap_or("body"), e)
        }
        _ => not_json(&e),
    })
}

fn not_json(why: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidJson, format!("The body is not JSON: {why}"))
}

/// Like [`json`], for bodies that may be left out.
///
/// # Errors
/// As [`json`].
pub fn optional_json<T: DeserializeOwned + Default>(request: &HttpRequest, body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { json(request, body) }
}
