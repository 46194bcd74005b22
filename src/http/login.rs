//! The login by the link that the start has printed, see [`super::credential::login_link`].

use std::time::Instant;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::problem::{Answer, Code, Problem};
use super::{Context, credential, query};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// What stands behind `#login=` in the link.
    secret: String,
}

/// What a link is exchanged for.
#[derive(Serialize, ToSchema)]
#[schema(as = LoggedIn)]
pub struct LoggedIn {
    /// The admin token.
    token: String,
}

/// `POST /api/v1/login`
pub async fn exchange(context: web::Data<Context>, request: HttpRequest, body: web::Bytes) -> Answer {
    let Login { secret } = query::json(&request, &body)?;
    let Some(token) = context.login_link.exchange(&secret, Instant::now()) else {
        let message = "The link is unknown, was used, or is older than ten minutes; log in with a token";
        return Err(credential::wrong(&request, Problem::new(Code::Unauthorized, message)));
    };
    context.hub.audit_login_link(context.proxies.client(&request));
    let answer = json!({ "data": LoggedIn { token: token.to_owned() } });
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(answer))
}
