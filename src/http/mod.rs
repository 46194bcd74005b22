//! The edge in HTTP: the route table, and what all handlers share.

mod accept;
mod asyncapi;
mod backup;
mod blame;
pub mod bodies;
mod cluster;
pub mod compression;
mod connections;
pub mod credential;
mod dead_letters;
mod docs;
mod events;
mod family;
pub mod forwarded;
pub mod guard;
pub mod head;
pub mod ingest;
pub mod layer;
mod login;
pub mod long_answers;
mod maps;
mod names;
pub mod openapi;
mod ops;
mod organizations;
mod overview;
mod pages;
#[cfg_attr(not(feature = "nats"), path = "no_peers.rs")]
pub mod peers;
mod per_minute;
mod preview;
pub mod problem;
pub mod query;
mod query_names;
mod reading;
mod realtime;
mod sources;
pub mod streams;
mod table;
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
use table::{BodyLimit, Table};

/// At which of the two addresses a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `server.listen`.
    Public,
    /// `server.admin_listen`.
    Admin,
}

impl Side {
    pub fn of(request: &HttpRequest) -> Side {
        // each `App` of this program is built with it
        *request.app_data::<Side>().expect("the app knows its side")
    }
}

/// Refuses what belongs to those who run the server, where they have an address of their own.
///
/// # Errors
/// A 404 on the public address when there is an address for operators.
pub fn operators_only(request: &HttpRequest) -> Result<(), problem::Problem> {
    let elsewhere = guard::context(request).settings.server.admin_listen.is_some();
    if elsewhere && Side::of(request) == Side::Public {
        return Err(problem::Problem::new(problem::Code::NotFound, format!("There is nothing at {}", request.path())));
    }
    Ok(())
}

/// What every handler may use.
pub struct Context {
    pub hub: Hub,
    pub settings: Arc<Settings>,
    /// [`Settings::fingerprint`].
    pub settings_fingerprint: String,
    pub jwt: Option<Arc<credential::jwt::Verifier>>,
    pub proxies: forwarded::Proxies,
    pub failed_logins: credential::failures::FailedLogins,
    pub spent_tickets: credential::spent::SpentTickets,
    pub login_link: credential::login_link::LoginLink,
    pub api_limit: guard::ApiLimit,
    pub draft_limits: draft::DraftLimits,
    pub bodies: ingest::Bodies,
    pub long_answers: long_answers::LongAnswers,
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
            None => self.origin(request) + &self.proxies.prefix(request),
        }
    }

    /// Scheme, host and port to which the client has sent this request.
    pub fn origin(&self, request: &HttpRequest) -> String {
        let server = &self.settings.server;
        let own = if server.tls.cert.is_some() { "https" } else { "http" };
        let host = self.proxies.host(request).unwrap_or(&server.listen);
        format!("{}://{host}", self.proxies.scheme(request, own))
    }
}

pub fn now_ms() -> i64 {
    // a clock before 1970 counts as 1970
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Every address of the server, with what is said of it.
pub fn table() -> Table {
    use openapi::about;

    let mut table = Table::default();
    channels(&mut table);
    reading(&mut table);
    webhooks(&mut table);
    incoming(&mut table);
    table
        .at("/api/v1/tokens")
        .post(tokens::create, about::tokens::create)
        .get(tokens::list, about::tokens::list_tokens);
    table.at("/api/v1/tokens/current").get(tokens::current, about::tokens::current);
    let token = table.at("/api/v1/tokens/{id}").get(tokens::get, about::tokens::get_token);
    token.patch(tokens::change, about::tokens::change).delete(tokens::revoke, about::tokens::revoke);
    table.at("/api/v1/login").post(login::exchange, about::tokens::login);
    table.at("/api/v1/connections").get(connections::list, about::streams::connections);
    table.at("/api/v1/connections/{id}").delete(connections::end, about::streams::end_connection);
    table.at("/api/v1/overview").get(overview::overview, about::overview::overview);
    table.at("/api/v1/cluster").get(cluster::cluster, about::operations::cluster);
    table.at("/api/event-types").get(events::event_types, about::events::event_types);
    table.at("/api/v1/backup").post(backup::take, about::operations::backup);
    table.at("/health/live").any_query().get(ops::live, about::operations::live);
    table.at("/health/ready").any_query().get(ops::ready, about::operations::ready);
    table.at("/metrics").any_query().get(ops::metrics, about::operations::metrics);
    table.at("/openapi.json").any_query().get(pages::openapi, about::operations::openapi);
    table.at("/asyncapi.json").any_query().get(pages::asyncapi, about::operations::asyncapi);
    table.at("/docs/search").any_query().get(docs::search, about::operations::search);
    for page in ["/", "/docs", "/docs/{page}", "/docs/{folder}/{page}", "/{file}", "/{folder:app|vendor}/{file}"] {
        table.at(page).any_query().only_where(pages::is_there).get(pages::file, about::operations::file);
    }
    table
}

/// Maps and organizations.
fn channels(table: &mut Table) {
    use openapi::about::channels as about;

    table.at("/api/maps").post(maps::create, about::create_map).get(maps::list, about::list_maps);
    let map = table.at("/api/maps/{map}").get(maps::get, about::get_map);
    map.patch(maps::change, about::change_map).delete(maps::delete, about::delete_map);
    let all = table.at("/api/v1/organizations");
    all.post(organizations::create, about::create_organization).get(organizations::list, about::list_organizations);
    let one = table.at("/api/v1/organizations/{org}").get(organizations::get, about::get_organization);
    one.patch(organizations::change, about::change_organization);
    one.delete(organizations::delete, about::delete_organization);
}

/// The events of one channel, or of all that the caller may read.
fn reading(table: &mut Table) {
    use openapi::about;

    for (all, stats) in [
        ("/api/maps/{map}/events", "/api/maps/{map}/stats"),
        ("/api/v1/organizations/{org}/events", "/api/v1/organizations/{org}/stats"),
        ("/events", "/events/stats"),
    ] {
        let events = table.at(all).room(BodyLimit::Batch);
        events.post(events::publish, about::events::publish).get(events::history, about::events::history);
        table.at(format!("{all}/stream")).get(streams::sse, about::streams::sse);
        table.at(format!("{all}/ws")).get(streams::websocket, about::streams::websocket);
        table.at(format!("{all}/ticket")).post(events::ticket, about::streams::ticket);
        table.at(stats).get(events::stats, about::events::stats);
    }
    table.at("/system/events").get(streams::sse, about::streams::sse);
    table.at("/api/v1/realtime").get(streams::websocket, about::streams::websocket);
    table.at("/api/v1/realtime/stream").get(streams::sse, about::streams::sse);
    table.at("/api/v1/realtime/ticket").post(realtime::ticket, about::streams::realtime_ticket);
    table.at("/api/v1/events/{id}/trace").get(trace::trace, about::events::traced);
}

/// Webhooks of every family.
fn webhooks(table: &mut Table) {
    use openapi::about::{deliveries as of_deliveries, webhooks as about};
    use webhooks::{deliveries, document};

    table.at("/api/maps/{map}/webhooks/toggle").put(webhooks::toggle, about::toggle);
    let maps = table.at("/api/maps/{map}/webhooks");
    maps.get(webhooks::list, about::list_webhooks).post(webhooks::create, about::create);
    for webhooks in ["/api/maps/{map}/webhooks", "/api/v1/webhooks"] {
        table.at(format!("{webhooks}/preview")).post(preview::preview, about::preview);
    }
    let organizations = table.at("/api/v1/webhooks");
    organizations.get(webhooks::page, about::page).post(webhooks::create, about::create);
    for webhook in ["/api/maps/{map}/webhooks/{webhook}", "/api/v1/webhooks/{webhook}"] {
        let one = table.at(webhook).get(webhooks::get, about::get).patch(webhooks::change, about::change);
        one.delete(webhooks::delete, about::delete);
        if webhook.starts_with("/api/maps") {
            one.put(webhooks::change, about::change);
        }
        let below = |path: &str| format!("{webhook}/{path}");
        table.at(below("rotate-secret")).post(webhooks::rotate_secret, about::rotate_secret);
        table.at(below("test")).post(deliveries::test, of_deliveries::test);
        table.at(below("deliveries")).get(deliveries::list, of_deliveries::list_deliveries);
        table.at(below("deliveries/{delivery}")).get(deliveries::get, of_deliveries::get);
        table.at(below("deliveries/{delivery}/retry")).post(deliveries::retry, of_deliveries::retry);
        table.at(below("replay")).post(deliveries::replay, of_deliveries::replay);
        table.at(below("replays")).get(deliveries::replay_jobs, of_deliveries::replay_jobs);
        table.at(below("replays/{job}")).get(deliveries::replay_job, of_deliveries::replay_job);
    }
    let document = table.at("/engine/.config/webhooks.json").room(BodyLimit::Batch);
    document.get(document::get, about::get_document).put(document::put, about::put_document);
    document.delete(document::delete, about::delete_document);
}

/// Sources, and what comes in at them.
fn incoming(table: &mut Table) {
    use openapi::about::{events as of_events, sources as about, streams as of_streams};

    table.at("/api/webhooks").post(sources::create, about::create).get(sources::list, about::list_sources);
    table.at("/api/source-presets").get(sources::presets, about::presets);
    let source = table.at("/api/webhooks/{source}").get(sources::get, about::get);
    source.patch(sources::change, about::change).delete(sources::delete, about::delete);
    let at = |path: &str| format!("/api/webhooks/{{source}}/{path}");
    table.at(at("status")).get(sources::get_status, about::status);
    table.at(at("rotate-secret")).post(sources::rotate_secret, about::rotate_secret);
    table.at(at("check")).post(sources::check, about::check);
    let letters = table.at(at("dead-letters"));
    letters.get(dead_letters::list, about::list_letters).delete(dead_letters::clear, about::clear_letters);
    let letter = table.at(at("dead-letters/{letter}"));
    letter.get(dead_letters::get, about::get_letter).delete(dead_letters::delete, about::delete_letter);
    table.at(at("dead-letters/{letter}/retry")).post(dead_letters::retry, about::retry_letter);
    table.at(at("events")).get(streams::sse, of_streams::sse);
    table.at(at("events/stream")).get(streams::sse, of_streams::sse);
    table.at(at("events/ws")).get(streams::websocket, of_streams::websocket);
    table.at(at("events/ticket")).post(events::ticket, of_streams::ticket);
    table.at(at("events/history")).get(events::history, of_events::history);
    for address in ["/webhooks/{source}", "/webhook/{source}"] {
        let at = table.at(address).room(BodyLimit::Batch).any_query();
        let at = at.post(ingest::take, about::take).get(ingest::asks, about::asks);
        at.options(ingest::options, about::options).others(ingest::take);
        let below = table.at(format!("{address}/{{below:.*}}")).room(BodyLimit::Batch).any_query();
        below.post(ingest::take, about::take_below).others(ingest::take);
    }
}

/// Registers every address of the server.
pub fn routes(config: &mut web::ServiceConfig, limits: &Limits) {
    table().serve(config, limits);
    config.default_service(web::to(HttpResponse::NotFound));
}
