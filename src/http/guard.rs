//! Authentication, scopes and the request limit, as extractors. A handler that works on a channel names [`On`] in its
//! signature and gets the channel only when the caller may do what the handler does.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::dev::{Payload, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use actors::hub::sources::ActiveSource;
use actors::hub::webhooks::Webhook;
use actors::model::access::{Principal, Reach, Refusal, Scope};
use actors::model::channel::{Channel, ChannelKind};
use actors::model::filter::FilterSpec;

pub use super::credential::{caller, header_token, principal};
use super::per_minute::PerMinute;
use super::problem::{Code, Problem};
use super::query::Pairs;
use super::{Context, Side};

/// What a handler does, as a type.
pub trait Act: 'static {
    const SCOPE: Scope;
    /// Whether the request counts towards the API limit. Publishing and streams do not.
    const COUNTED: bool;
}

/// Read pages of events.
pub struct Reads;
/// Publish events.
pub struct Publishes;
/// Change what belongs to the channel.
pub struct Manages;

impl Act for Reads {
    const SCOPE: Scope = Scope::Subscribe;
    const COUNTED: bool = true;
}

impl Act for Publishes {
    const SCOPE: Scope = Scope::Publish;
    const COUNTED: bool = false;
}

impl Act for Manages {
    const SCOPE: Scope = Scope::Manage;
    const COUNTED: bool = true;
}

/// An authenticated caller.
pub struct Caller(pub Arc<Principal>);

/// The same, of a request that does not count towards the API limit.
pub struct Uncounted(pub Arc<Principal>);

/// A caller with the admin token.
pub struct Admin(pub Arc<Principal>);

/// A channel on which the caller may do `A`: the one in the path, else the token's own, or the one that an admin
/// names by `?channel=`.
pub struct On<A> {
    pub channel: Arc<Channel>,
    pub principal: Arc<Principal>,
    act: PhantomData<A>,
}

/// A webhook that the caller may manage. Its channel is named as in [`On`]; an admin need not name it, because the webhook
/// says it.
pub struct OnWebhook {
    pub channel: Arc<Channel>,
    pub webhook: Arc<Webhook>,
    pub principal: Arc<Principal>,
}

impl OnWebhook {
    /// Whether the caller may read the channel, too, which takes another scope: for what shows its events.
    ///
    /// # Errors
    /// The scope is missing.
    pub fn reads(&self) -> Result<(), Problem> {
        self.principal.may(&self.channel, Scope::Subscribe).map_err(refused)
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Caller, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(request).and_then(|principal| {
            count(request, &principal)?;
            Ok(Caller(principal))
        }))
    }
}

impl FromRequest for Uncounted {
    type Error = Problem;
    type Future = Ready<Result<Uncounted, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(request).map(Uncounted))
    }
}

impl FromRequest for Admin {
    type Error = Problem;
    type Future = Ready<Result<Admin, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(request).and_then(|principal| {
            count(request, &principal)?;
            match principal.is_admin() {
                true => Ok(Admin(principal)),
                false => Err(Problem::new(Code::Forbidden, "Only the admin token may do this")),
            }
        }))
    }
}

impl<A: Act> FromRequest for On<A> {
    type Error = Problem;
    type Future = Ready<Result<On<A>, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(request).and_then(|principal| {
            if A::COUNTED {
                count(request, &principal)?;
            }
            let channel = channel_for(request, &principal, A::SCOPE)?;
            Ok(On { channel, principal, act: PhantomData })
        }))
    }
}

impl FromRequest for OnWebhook {
    type Error = Problem;
    type Future = Ready<Result<OnWebhook, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(request).and_then(|principal| {
            count(request, &principal)?;
            let hub = &context(request).hub;
            let id = request.match_info().get("webhook").unwrap_or_default();
            let (channel, webhook) = match channel_or_all(request, &principal, Scope::Manage)? {
                Some(channel) => {
                    let webhook = hub.webhook(&channel, id)?;
                    (channel, webhook)
                }
                None => hub.find_webhook(id)?,
            };
            Ok(OnWebhook { channel, webhook, principal })
        }))
    }
}

/// How a request says which channel it means.
enum Named {
    /// In its path, or by `?channel=`: what it is called, and the channel if there is one.
    Channel { kind: Option<ChannelKind>, called: String, found: Option<Arc<Channel>> },
    /// By one of its sources, which stands in its path.
    Source(Option<Arc<Channel>>),
    /// Not at all.
    Not,
}

fn named(request: &HttpRequest) -> Result<Named, Problem> {
    let hub = &context(request).hub;
    let in_path = [("map", ChannelKind::Map), ("org", ChannelKind::Organization)]
        .into_iter()
        .find_map(|(name, kind)| Some((kind, request.match_info().get(name)?)));
    if let Some((kind, called)) = in_path {
        return Ok(Named::Channel { kind: Some(kind), called: called.into(), found: hub.find(kind, called) });
    }
    if request.match_info().get("source").is_some() {
        let live = source(request);
        return Ok(Named::Source(live.and_then(|live| hub.channel(live.source.channel_no()))));
    }
    let pairs = Pairs::of(request)?;
    let mut names = pairs.iter().filter(|(name, _)| *name == "channel").map(|(_, value)| value);
    match (names.next(), names.next()) {
        (Some(""), None) => Err(which_channel()),
        (Some(name), None) => Ok(Named::Channel { kind: None, called: name.into(), found: hub.find_named(name) }),
        (None, _) => Ok(Named::Not),
        (Some(_), Some(_)) => Err(Problem::parameter("channel", "one channel is expected here")),
    }
}

/// Whether the request's path, and not something else, says which channel it means.
pub fn names_channel_in_path(request: &HttpRequest) -> bool {
    ["map", "org", "source"].into_iter().any(|name| request.match_info().get(name).is_some())
}

/// The source that the path names.
pub fn source(request: &HttpRequest) -> Option<Arc<ActiveSource>> {
    context(request).hub.source(request.match_info().get("source")?)
}

/// What the query filters by, and the path: a path that names a source means its events only.
///
/// # Errors
/// A 400 when `session` or `filter` is given twice.
pub fn filter(request: &HttpRequest, pairs: &Pairs) -> Result<FilterSpec, Problem> {
    let source = request.match_info().get("source").map(str::to_owned);
    Ok(FilterSpec { source, ..FilterSpec::from_query(pairs.iter())? })
}

/// The channel that the request means, if the principal may do something of this scope with it.
///
/// # Errors
/// A 400 when no channel is named and there is more than one, a 404 when it does not exist or belongs to another, a 403
/// when the token lacks the scope.
pub fn channel_for(request: &HttpRequest, principal: &Principal, scope: Scope) -> Result<Arc<Channel>, Problem> {
    channel_or_all(request, principal, scope)?.ok_or_else(which_channel)
}

/// Like [`channel_for`]; none: all of them, for an admin who names no channel.
///
/// # Errors
/// As [`channel_for`].
pub fn channel_or_all(
    request: &HttpRequest,
    principal: &Principal,
    scope: Scope,
) -> Result<Option<Arc<Channel>>, Problem> {
    let (kind, called, found) = match (named(request)?, &principal.reach) {
        (Named::Channel { kind, called, found }, _) => (kind, called, found),
        (Named::Source(found), _) => {
            return permitted(found, principal, scope, Problem::no_source).map(Some);
        }
        (Named::Not, Reach::Admin) => return Ok(None),
        (Named::Not, Reach::Several { .. }) => {
            // without the scope there is no channel that it could name
            principal.has(scope).map_err(refused)?;
            return Err(which_channel());
        }
        // a token ends with its channel
        (Named::Not, Reach::Channel { no, .. }) => (None, String::new(), context(request).hub.channel(*no)),
    };
    permitted(found, principal, scope, || Problem::no_channel(kind, &called)).map(Some)
}

/// The channel that the query names, else the principal's own, whatever it may do there; none: all that it reaches.
///
/// # Errors
/// There is no such channel, or it is somebody else's.
pub fn reached_channel(request: &HttpRequest, principal: &Principal) -> Result<Option<Arc<Channel>>, Problem> {
    let (called, found) = match (named(request)?, &principal.reach) {
        (Named::Channel { called, found, .. }, _) => (called, found),
        (Named::Source(found), _) => (String::new(), found),
        (Named::Not, Reach::Admin | Reach::Several { .. }) => return Ok(None),
        (Named::Not, Reach::Channel { no, .. }) => (String::new(), context(request).hub.channel(*no)),
    };
    let reached = found.filter(|channel| principal.reaches(channel));
    reached.map(Some).ok_or_else(|| Problem::no_channel(None, &called))
}

/// The channel that was found, if the principal may do something of this scope with it.
///
/// # Errors
/// `absent` when there is none or the principal may not know of it, else a 403 when the token lacks the scope.
pub fn permitted(
    found: Option<Arc<Channel>>,
    principal: &Principal,
    scope: Scope,
    absent: impl Fn() -> Problem,
) -> Result<Arc<Channel>, Problem> {
    let channel = found.ok_or_else(&absent)?;
    match principal.may(&channel, scope) {
        Ok(()) => Ok(channel),
        // what the caller may not know of does not exist
        Err(Refusal::Foreign) => Err(absent()),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// The answer where it may be said why.
pub fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Foreign => Problem::new(Code::NotFound, "The channel does not exist"),
        Refusal::Scope(scope) => Problem::new(Code::Forbidden, format!("The token lacks the scope '{scope}'")),
    }
}

/// A request that has to say which of several channels it means.
fn which_channel() -> Problem {
    Problem::parameter("channel", "say which one: map:<id or slug> or organization:<id>")
}

/// Whether the admin needs a client certificate, and this request came in where none is asked for.
pub fn wants_certificate(request: &HttpRequest) -> bool {
    context(request).settings.server.admin_client_ca.is_some() && Side::of(request) == Side::Public
}

pub fn context(request: &HttpRequest) -> &Context {
    // the one `App` of this program is built with it
    request.app_data::<web::Data<Context>>().expect("the app has its context")
}

/// Tokens and subjects of JWTs that are told apart within a minute.
const CALLERS_MAX: usize = 1_000_000;

/// How many requests each token has made in the current minute.
pub struct ApiLimit {
    per_minute: u32,
    made: PerMinute<Arc<str>>,
}

impl ApiLimit {
    /// `per_minute` 0 = no limit.
    pub fn new(per_minute: u32) -> ApiLimit {
        ApiLimit { per_minute, made: PerMinute::new(CALLERS_MAX) }
    }

    fn take(&self, token: &Arc<str>, now_s: i64) -> Option<Quota> {
        if self.per_minute == 0 {
            return None;
        }
        let made = self.made.count(token, now_s);
        Some(Quota { limit: self.per_minute, remaining: self.per_minute.checked_sub(made.times), reset_s: made.left_s })
    }
}

/// What a token has left in this minute; `remaining` none: this request is one too many.
#[derive(Clone, Copy)]
struct Quota {
    limit: u32,
    remaining: Option<u32>,
    reset_s: u64,
}

/// Counts the request. The admin token is the operator's own and is not limited.
///
/// # Errors
/// A 429 when the token's requests of this minute are used up.
pub fn count(request: &HttpRequest, principal: &Principal) -> Result<(), Problem> {
    if principal.is_admin() {
        return Ok(());
    }
    let Some(quota) = context(request).api_limit.take(&principal.id, super::now_ms() / 1000) else { return Ok(()) };
    request.extensions_mut().insert(quota);
    match quota.remaining {
        Some(_) => Ok(()),
        None => {
            let message = format!("More than {} API requests in a minute; wait {} s", quota.limit, quota.reset_s);
            let problem = Problem::new(Code::RateLimited, message).retry_after(quota.reset_s);
            Err(problem.by_setting("limits.api_requests_per_minute", quota.limit))
        }
    }
}

/// Puts the `RateLimit-*` headers on answers to counted requests (draft-ietf-httpapi-ratelimit-headers-07).
pub fn quota_headers(response: &mut ServiceResponse) {
    let quota = response.request().extensions().get::<Quota>().copied();
    let Some(quota) = quota else { return };
    let fields = [
        ("ratelimit-limit", u64::from(quota.limit)),
        ("ratelimit-remaining", u64::from(quota.remaining.unwrap_or(0))),
        ("ratelimit-reset", quota.reset_s),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_over_the_limit_is_refused_until_the_minute_ends() {
        let limit = ApiLimit::new(2);
        let token: Arc<str> = "tok_1".into();
        let left = |now| limit.take(&token, now).map(|quota| quota.remaining);
        assert_eq!(left(60), Some(Some(1)));
        assert_eq!(left(61), Some(Some(0)));
        assert_eq!(left(119), Some(None));
        assert_eq!(left(120), Some(Some(1)));
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        assert!(ApiLimit::new(0).take(&"tok_1".into(), 0).is_none());
    }
}
