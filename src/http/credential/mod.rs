//! Every credential that a request may bear, and the one place where it is judged: tokens and JWTs (`jwt`) in headers,
//! tokens in the query and tickets on streams. What is wrong is counted by the address it came from (`failures`); a ticket
//! that was spent (`spent`) is not. `login_link` is for the person at the terminal.

pub mod failures;
pub mod jwt;
pub mod login_link;
pub mod spent;

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use actors::hub::sources::ActiveSource;
use actors::model::access::Principal;
use actors::model::source::recipe::SignatureScheme;
use actors::streams::tickets::Grant;

use self::failures::Source;
use super::family::ApiFamily;
use super::guard::{context, source, wants_certificate};
use super::problem::{Code, Problem};
use super::query::Pairs;

/// The caller by `Authorization: Bearer` or `X-API-Key`: a token or a JWT.
///
/// # Errors
/// A 401 when there is no credential or it is not good, and a 400 for a query parameter that is not known.
pub fn caller(request: &HttpRequest) -> Result<Arc<Principal>, Problem> {
    let token = header_token(request).ok_or_else(Problem::missing_token)?;
    let principal = principal(request, token)?;
    // a name that is not known is an error even where nothing is read from the query
    Pairs::of(request)?;
    Ok(principal)
}

/// The token in the headers (RFC 6750, 2.1).
pub fn header_token(request: &HttpRequest) -> Option<&str> {
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let key = || request.headers().get("x-api-key")?.to_str().ok();
    bearer.or_else(key).filter(|token| !token.is_empty())
}

/// What kind of credential is missing or wrong (RFC 9110, 11.6.1; RFC 6750, 3; RFC 7617, 2).
pub fn challenge(request: &HttpRequest) -> &'static str {
    // a source has its own sender, whose kind of proof has no registered name unless it is a password
    let is_basic = |live: Arc<ActiveSource>| {
        live.source.scheme.recipes().iter().any(|recipe| recipe.scheme == SignatureScheme::Basic)
    };
    match request.match_info().get("source").filter(|_| !request.path().starts_with("/api/")) {
        Some(_) if source(request).is_some_and(is_basic) => r#"Basic realm="webhook", charset="UTF-8""#,
        Some(_) => r#"Signature realm="webhook""#,
        None if header_token(request).is_some() => r#"Bearer realm="stentor", error="invalid_token""#,
        None => r#"Bearer realm="stentor""#,
    }
}

/// The principal of a token or a JWT.
///
/// # Errors
/// A 401 when nobody has this token, or it has expired; a 403 for the admin token where it needs a client certificate;
/// a 429 after too many failed attempts.
pub fn principal(request: &HttpRequest, token: &str) -> Result<Arc<Principal>, Problem> {
    let (context, now_ms) = (context(request), super::now_ms());
    let by_jwt = || context.jwt.as_ref()?.principal(token, &context.hub, now_ms);
    match context.hub.principal(token).or_else(by_jwt) {
        Some(principal) if principal.is_admin() && wants_certificate(request) => Err(Problem::new(
            Code::Forbidden,
            "The admin token is taken at the address server.admin_listen only, with a client certificate",
        )),
        Some(principal) if !principal.expired(now_ms) => Ok(principal),
        _ => Err(wrong(request, Problem::bad_token(ApiFamily::of(request)))),
    }
}

/// What a ticket is good for. It is not spent by that.
///
/// # Errors
/// A 401 when the ticket is not known, was spent or has expired; a 429 after too many failed attempts.
pub async fn grant(request: &HttpRequest, ticket: &str) -> Result<Grant, Problem> {
    let context = context(request);
    match context.hub.look(ticket).await {
        Some(grant) => Ok(grant),
        None if context.spent_tickets.knows(ticket) => Err(Problem::bad_ticket()),
        None => Err(wrong(request, Problem::bad_ticket())),
    }
}

/// The answer to a credential that is wrong: `problem`, or that there were too many from this address.
pub fn wrong(request: &HttpRequest, problem: Problem) -> Problem {
    let context = context(request);
    context.hub.metrics().failed_logins.inc();
    let address = context.proxies.client(request);
    let verdict = context.failed_logins.count(Source::of(address), super::now_ms() / 1000);
    if let Some(unreported) = verdict.report {
        context.hub.audit_failed_login(address, unreported);
    }
    let Some(wait_s) = verdict.wait_s else { return problem };
    let limit = context.settings.limits.failed_logins_per_minute;
    let message = format!("More than {limit} wrong credentials in a minute from your address; wait {wait_s} s");
    let problem = Problem::new(Code::RateLimited, message).retry_after(wait_s);
    problem.by_setting("limits.failed_logins_per_minute", limit)
}
