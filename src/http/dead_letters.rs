//! The dead letters of a source: list, look, send again, throw away. The node of a cluster that took a request keeps its letter;
//! whichever node is asked, it asks the others too.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::sources::{EditedLetter, Letter, SourceError, TakenIn};
use actors::model::source::Reply;
use actors::model::timestamp::to_iso;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Manages;
use super::ingest::accepted;
use super::problem::{Answer, Code, Problem};
use super::query::{self, PAGE_DEFAULT, Pairs};
use super::sources::OnSource;
use super::{Context, peers};

#[derive(Deserialize)]
pub struct LetterPath {
    letter: String,
}

impl LetterPath {
    /// A number that cannot be one belongs to no letter.
    fn n(&self) -> Result<u64, Problem> {
        self.letter.parse().map_err(|_| Problem::new(Code::NotFound, "Dead letter not found"))
    }
}

fn shown(letter: &Letter) -> Value {
    let detail = |d: &actors::hub::sources::Detail| json!({ "index": d.index, "field": d.field, "message": d.message });
    json!({
        "n": letter.n,
        "receivedAt": to_iso(letter.received_ms),
        "reason": letter.reason,
        "details": letter.details.iter().map(detail).collect::<Vec<_>>(),
        "bytes": letter.bytes,
        "truncated": !letter.is_whole(),
        "retries": letter.retries,
    })
}

/// `GET /api/webhooks/{source}/dead-letters`
pub async fn list(context: web::Data<Context>, on: OnSource<Manages>, request: HttpRequest, pairs: Pairs) -> Answer {
    let limit = pairs.page_limit(PAGE_DEFAULT)?;
    let after = pairs.number("after", 0..=usize::MAX)?.unwrap_or(0) as u64;
    let (letters, more) = context.hub.dead_letters(&on.live, after, limit).await?;
    let next = letters.last().filter(|_| more).map(|letter| letter.n);
    let data: Vec<_> = letters.iter().map(shown).collect();
    let own = json!({ "data": data, "next": next });
    let others = peers::ask_all(&context, &request).await;
    Ok(HttpResponse::Ok().json(joined(own, others.into_iter().map(|(_, page)| page), limit)))
}

/// One page of the pages of all nodes, by number.
fn joined(own: Value, others: impl Iterator<Item = Value>, limit: usize) -> Value {
    let (mut letters, mut more) = (Vec::new(), false);
    for mut page in std::iter::once(own).chain(others) {
        more |= !page["next"].is_null();
        if let Value::Array(data) = page["data"].take() {
            letters.extend(data);
        }
    }
    letters.sort_by_key(|letter| letter["n"].as_u64());
    more |= letters.len() > limit;
    letters.truncate(limit);
    let next = letters.last().filter(|_| more).map(|letter| letter["n"].clone());
    json!({ "data": letters, "next": next })
}

/// What another node answers to a request for a letter that this one does not have; else that there is none.
async fn elsewhere(context: &Context, request: &HttpRequest, body: &[u8], missing: Problem) -> Answer {
    match peers::ask_who_has(context, request, body).await? {
        Some(answer) => Ok(answer),
        None => Err(missing),
    }
}

/// `GET /api/webhooks/{source}/dead-letters/{letter}`: with the body as far as it is kept.
pub async fn get(
    context: web::Data<Context>,
    on: OnSource<Manages>,
    path: web::Path<LetterPath>,
    request: HttpRequest,
) -> Answer {
    let (letter, body) = match context.hub.dead_letter(&on.live, path.n()?).await {
        Err(e @ SourceError::LetterNotFound) => return elsewhere(&context, &request, b"", e.into()).await,
        found => found?,
    };
    let mut shown = shown(&letter);
    shown["headers"] = letter.headers.iter().map(|(name, value)| json!([name, value])).collect();
    // what is not UTF-8 is shown as well as can be, and once more exactly
    shown["body"] = String::from_utf8_lossy(&body).into();
    if std::str::from_utf8(&body).is_err() {
        shown["bodyBase64"] = STANDARD.encode(&body).into();
    }
    Ok(HttpResponse::Ok().json(json!({ "data": shown })))
}

/// What is to be sent in the place of the letter.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct EditForm {
    body: Option<String>,
    body_base64: Option<String>,
    content_type: Option<String>,
}

impl EditForm {
    fn edited(self) -> Result<EditedLetter, Problem> {
        let body = match (self.body, self.body_base64) {
            (Some(_), Some(_)) => return Err(Problem::invalid("bodyBase64", "stands beside body; give one of them")),
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(text)) => {
                Some(STANDARD.decode(text).map_err(|_| Problem::invalid("bodyBase64", "is no base64"))?)
            }
            (None, None) => None,
        };
        Ok(EditedLetter { body, content_type: self.content_type })
    }
}

/// `POST /api/webhooks/{source}/dead-letters/{letter}/retry`, perhaps with another body.
pub async fn retry(
    context: web::Data<Context>,
    on: OnSource<Manages>,
    path: web::Path<LetterPath>,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let edited = query::optional_json::<EditForm>(&request, &body)?.edited()?;
    let taken_in = match context.hub.retry_dead_letter(&on.live, path.n()?, edited, context.draft_limits).await {
        Err(e @ SourceError::LetterNotFound) => return elsewhere(&context, &request, &body, e.into()).await,
        done => done?,
    };
    match taken_in {
        TakenIn::Events { ids, repeated, .. } => Ok(accepted(&ids, repeated, None)),
        TakenIn::Answer(reply) => {
            let text = match reply {
                Reply::Echo(text) | Reply::Json(text) | Reply::Hashed(text) => text,
                Reply::Nothing => String::new(),
            };
            Ok(HttpResponse::Ok().json(json!({ "challenge": text })))
        }
    }
}

/// `DELETE /api/webhooks/{source}/dead-letters/{letter}`
pub async fn delete(
    context: web::Data<Context>,
    on: OnSource<Manages>,
    path: web::Path<LetterPath>,
    request: HttpRequest,
) -> Answer {
    match context.hub.remove_dead_letter(&on.live, path.n()?).await {
        Err(e @ SourceError::LetterNotFound) => return elsewhere(&context, &request, b"", e.into()).await,
        done => done?,
    }
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /api/webhooks/{source}/dead-letters`
pub async fn clear(context: web::Data<Context>, on: OnSource<Manages>, request: HttpRequest) -> Answer {
    context.hub.clear_dead_letters(&on.live).await?;
    peers::ask_to_do(&context, &request).await?;
    Ok(HttpResponse::NoContent().finish())
}
