//! The dead letters of a source: list, look, send again, throw away.

use actix_web::{HttpResponse, web};
use actors::hub::sources::{Letter, TakenIn};
use actors::model::timestamp::to_iso;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::guard::Manages;
use super::ingest::accepted;
use super::problem::{Answer, Code, Problem};
use super::query::{PAGE_DEFAULT, Pairs};
use super::sources::OnSource;

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
pub async fn list(context: web::Data<Context>, on: OnSource<Manages>, pairs: Pairs) -> Answer {
    let limit = pairs.page_limit(PAGE_DEFAULT)?;
    let after = pairs.number("after", 0..=usize::MAX)?.unwrap_or(0) as u64;
    let (letters, more) = context.hub.dead_letters(&on.live, after, limit).await?;
    let next = letters.last().filter(|_| more).map(|letter| letter.n);
    let data: Vec<_> = letters.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data, "next": next })))
}

/// `GET /api/webhooks/{source}/dead-letters/{letter}`: with the body as far as it is kept.
pub async fn get(context: web::Data<Context>, on: OnSource<Manages>, path: web::Path<LetterPath>) -> Answer {
    let (letter, body) = context.hub.dead_letter(&on.live, path.n()?).await?;
    let mut shown = shown(&letter);
    // what is not UTF-8 was refused for that, and is shown as well as can be
    shown["body"] = String::from_utf8_lossy(&body).into();
    Ok(HttpResponse::Ok().json(json!({ "data": shown })))
}

/// `POST /api/webhooks/{source}/dead-letters/{letter}/retry`
pub async fn retry(context: web::Data<Context>, on: OnSource<Manages>, path: web::Path<LetterPath>) -> Answer {
    match context.hub.retry_dead_letter(&on.live, path.n()?, context.draft_limits).await? {
        TakenIn::Events { ids, repeated, .. } => Ok(accepted(&ids, repeated, None)),
        TakenIn::Challenge(text) => Ok(HttpResponse::Ok().json(json!({ "challenge": text }))),
    }
}

/// `DELETE /api/webhooks/{source}/dead-letters/{letter}`
pub async fn delete(context: web::Data<Context>, on: OnSource<Manages>, path: web::Path<LetterPath>) -> Answer {
    context.hub.remove_dead_letter(&on.live, path.n()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /api/webhooks/{source}/dead-letters`
pub async fn clear(context: web::Data<Context>, on: OnSource<Manages>) -> Answer {
    context.hub.clear_dead_letters(&on.live).await?;
    Ok(HttpResponse::NoContent().finish())
}
