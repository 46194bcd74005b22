//! Backups of a running server.

use std::io;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION};
use actix_web::{HttpResponse, web};
use actors::hub::audit::AuditEntry;
use futures_util::StreamExt;

use super::Context;
use super::guard::Admin;
use super::problem::{Code, Problem};

/// `POST /api/v1/backup`: everything that the data folder keeps, of this moment, as a tar archive. A stop of the server cuts
/// it, which a reader of the archive sees.
pub async fn take(context: web::Data<Context>, Admin(principal): Admin) -> Result<HttpResponse, Problem> {
    let under_way = || Problem::new(Code::Conflict, "Another backup is under way; try again when it has ended");
    let backup = context.hub.backup(env!("CARGO_PKG_VERSION")).await?.ok_or_else(under_way)?;
    context.hub.audit(&principal.id, AuditEntry::BackupTaken);
    let long_answers = context.long_answers.clone();
    let pieces = backup.map(move |piece| match context.stopping() {
        true => Err(io::Error::other("the server is stopping")),
        false => piece,
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-tar")
        .insert_header((CONTENT_DISPOSITION, "attachment; filename=\"stentor-backup.tar\""))
        // it holds secrets, and its bytes are counted
        .insert_header((CACHE_CONTROL, "no-store, no-transform"))
        .streaming(long_answers.counting(pieces)))
}
