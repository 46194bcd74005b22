//! What stands for [`peers`](super::peers) in a build that knows no cluster: every request is answered here.

use std::sync::Arc;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value as Json;

use super::Context;
use super::problem::Problem;

pub fn may_be_elsewhere(_: &Context) -> bool {
    false
}

pub async fn ask_elsewhere(_: &Context, _: &mut ServiceRequest) -> Option<HttpResponse> {
    None
}

pub fn name_node<B>(_: &Context, _: &mut ServiceResponse<B>) {}

pub async fn ask_all(_: &Context, _: &HttpRequest) -> Vec<(Arc<str>, Json)> {
    Vec::new()
}

pub async fn ask_who_has(_: &Context, _: &HttpRequest, _: &[u8]) -> Result<Option<HttpResponse>, Problem> {
    Ok(None)
}

pub async fn ask_to_do(_: &Context, _: &HttpRequest) -> Result<(), Problem> {
    Ok(())
}
