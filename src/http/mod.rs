//! The edge in HTTP: the route table, and what all handlers share.

mod backup;
mod dead_letters;
mod door;
mod events;
pub mod guard;
pub mod ingest;
pub mod jwt;
mod maps;
mod names;
mod ops;
mod organizations;
mod preview;
pub mod problem;
pub mod query;
mod realtime;
mod sources;
pub mod streams;
mod tokens;
mod trace;
mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::Hub;
use actors::model::draft;

use crate::settings::{Limits, Settings};
use webhooks::{deliveries, document};

/// What every handler may use.
pub struct Context {
    pub hub: Hub,
    pub settings: Arc<Settings>,
    pub jwt: Option<jwt::Verifier>,
    pub api_limit: guard::ApiLimit,
    pub draft_limits: draft::Limits,
    pub bodies: ingest::Bodies,
    pub stopping: AtomicBool,
}

impl Context {
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The address that clients know us by, without a slash at the end.
    pub fn base_url(&self, request: &HttpRequest) -> String {
        match &self.settings.server.public_url {
            Some(url) => url.clone(),
            None => {
                let connection = request.connection_info();
                format!("{}://{}", connection.scheme(), connection.host())
            }
        }
    }
}

pub fn now_ms() -> i64 {
    // a clock before 1970 counts as 1970
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Every address of the server.
pub fn routes(config: &mut web::ServiceConfig, limits: &Limits) {
    let at = |path: &str| web::resource(path.to_string()).app_data(web::PayloadConfig::new(limits.request_bytes));
    // the events of one channel, or of all that the caller may read
    for events in ["/api/maps/{map}/events", "/api/v1/organizations/{org}/events", "/events"] {
        config
            .service(
                at(events)
                    .app_data(web::PayloadConfig::new(limits.batch_bytes))
                    .route(web::post().to(events::publish))
                    .route(web::get().to(events::history)),
            )
            .service(at(&format!("{events}/stream")).route(web::get().to(streams::sse)))
            .service(at(&format!("{events}/ws")).route(web::get().to(streams::websocket)))
            .service(at(&format!("{events}/ticket")).route(web::post().to(events::ticket)));
    }
    for stats in ["/api/maps/{map}/stats", "/api/v1/organizations/{org}/stats", "/events/stats"] {
        config.service(at(stats).route(web::get().to(events::stats)));
    }
    config
        .service(at("/system/events").route(web::get().to(streams::sse)))
        .service(at("/api/v1/realtime").route(web::get().to(streams::websocket)))
        .service(at("/api/v1/realtime/stream").route(web::get().to(streams::sse)))
        .service(at("/api/v1/realtime/ticket").route(web::post().to(realtime::ticket)))
        .service(
            at("/api/v1/organizations")
                .route(web::post().to(organizations::create))
                .route(web::get().to(organizations::list)),
        )
        .service(
            at("/api/v1/organizations/{org}")
                .route(web::get().to(organizations::get))
                .route(web::patch().to(organizations::change))
                .route(web::delete().to(organizations::delete)),
        );
    config
        .service(at("/api/maps").route(web::post().to(maps::create)).route(web::get().to(maps::list)))
        .service(
            at("/api/maps/{map}")
                .route(web::get().to(maps::get))
                .route(web::patch().to(maps::change))
                .route(web::delete().to(maps::delete)),
        )
        .service(at("/api/maps/{map}/webhooks/toggle").route(web::put().to(webhooks::toggle)))
        .service(
            at("/api/maps/{map}/webhooks").route(web::get().to(webhooks::list)).route(web::post().to(webhooks::create)),
        )
        .service(at("/api/maps/{map}/webhooks/preview").route(web::post().to(preview::preview)))
        .service(at("/api/v1/webhooks/preview").route(web::post().to(preview::preview)))
        .service(
            at("/api/maps/{map}/webhooks/{webhook}")
                .route(web::get().to(webhooks::get))
                .route(web::put().to(webhooks::change))
                .route(web::patch().to(webhooks::change))
                .route(web::delete().to(webhooks::delete)),
        )
        .service(at("/api/v1/webhooks").route(web::get().to(webhooks::page)).route(web::post().to(webhooks::create)))
        .service(
            at("/api/v1/webhooks/{webhook}")
                .route(web::get().to(webhooks::get))
                .route(web::patch().to(webhooks::change))
                .route(web::delete().to(webhooks::delete)),
        )
        .service(
            at("/engine/.config/webhooks.json")
                .app_data(web::PayloadConfig::new(limits.batch_bytes))
                .route(web::get().to(document::get))
                .route(web::put().to(document::put))
                .route(web::delete().to(document::delete)),
        );
    // what belongs to one webhook
    for webhook in ["/api/maps/{map}/webhooks/{webhook}", "/api/v1/webhooks/{webhook}"] {
        let below = |path: &str| at(&format!("{webhook}/{path}"));
        config
            .service(below("rotate-secret").route(web::post().to(webhooks::rotate_secret)))
            .service(below("test").route(web::post().to(deliveries::test)))
            .service(below("deliveries").route(web::get().to(deliveries::list)))
            .service(below("deliveries/{delivery}").route(web::get().to(deliveries::get)))
            .service(below("deliveries/{delivery}/retry").route(web::post().to(deliveries::retry)))
            .service(below("replay").route(web::post().to(deliveries::replay)))
            .service(below("replays/{job}").route(web::get().to(deliveries::replay_job)));
    }
    config
        .service(at("/api/event-types").route(web::get().to(events::event_types)))
        .service(at("/api/webhooks").route(web::post().to(sources::create)).route(web::get().to(sources::list)))
        .service(
            at("/api/webhooks/{source}")
                .route(web::get().to(sources::get))
                .route(web::patch().to(sources::change))
                .route(web::delete().to(sources::delete)),
        )
        .service(at("/api/webhooks/{source}/status").route(web::get().to(sources::get_status)))
        .service(at("/api/webhooks/{source}/rotate-secret").route(web::post().to(sources::rotate_secret)))
        .service(
            at("/api/webhooks/{source}/dead-letters")
                .route(web::get().to(dead_letters::list))
                .route(web::delete().to(dead_letters::clear)),
        )
        .service(
            at("/api/webhooks/{source}/dead-letters/{letter}")
                .route(web::get().to(dead_letters::get))
                .route(web::delete().to(dead_letters::delete)),
        )
        .service(at("/api/webhooks/{source}/dead-letters/{letter}/retry").route(web::post().to(dead_letters::retry)))
        .service(at("/api/webhooks/{source}/events").route(web::get().to(streams::sse)))
        .service(at("/api/webhooks/{source}/events/stream").route(web::get().to(streams::sse)))
        .service(at("/api/webhooks/{source}/events/ws").route(web::get().to(streams::websocket)))
        .service(at("/api/webhooks/{source}/events/ticket").route(web::post().to(events::ticket)))
        .service(at("/api/webhooks/{source}/events/history").route(web::get().to(events::history)))
        .service(at("/webhooks/{source}").route(web::post().to(ingest::take)))
        .service(at("/webhook/{source}").route(web::post().to(ingest::take)))
        .service(at("/api/v1/tokens").route(web::post().to(tokens::create)).route(web::get().to(tokens::list)))
        .service(at("/api/v1/tokens/current").route(web::get().to(tokens::current)))
        .service(at("/api/v1/tokens/{id}").route(web::delete().to(tokens::revoke)))
        .service(at("/api/v1/events/{id}/trace").route(web::get().to(trace::trace)))
        .service(at("/api/v1/backup").route(web::post().to(backup::take)))
        .service(at("/health/live").route(web::get().to(ops::live)))
        .service(at("/health/ready").route(web::get().to(ops::ready)))
        .service(at("/metrics").route(web::get().to(ops::metrics)))
        .service(at("/").route(web::get().to(ops::file)))
        .service(at("/{file}").route(web::get().to(ops::file)))
        .service(at("/{folder:app|vendor}/{file}").route(web::get().to(ops::file)))
        .default_service(web::to(HttpResponse::NotFound));
}
