//! Which channels a request reads: one, several in one order, or all that the caller may read.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use std::future::{Ready, ready};
use std::sync::Arc;

use actors::model::access::{Principal, Reach, Refusal, Scope};
use actors::model::envelope::Envelope;
use actors::model::selection::{CHANNELS_MAX, ChannelSet, Selection, Selector};
use actors::streams::session::StreamTarget;

use super::family::ApiFamily;
use super::guard;
use super::problem::Problem;
use super::query::Pairs;

/// The envelope in which events are read by this address.
///
/// # Errors
/// `with_channel` is neither true nor false.
pub fn envelope(request: &HttpRequest, pairs: &Pairs) -> Result<Envelope, Problem> {
    let envelope = ApiFamily::of(request).envelope();
    let names_channel = envelope == Envelope::Feed && pairs.flag("with_channel")? == Some(true);
    Ok(if names_channel { Envelope::FeedWithChannel } else { envelope })
}

/// What the caller may read and asks for.
pub struct Reading {
    pub target: StreamTarget,
    pub principal: Arc<Principal>,
}

impl FromRequest for Reading {
    type Error = Problem;
    type Future = Ready<Result<Reading, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(guard::caller(request).and_then(|principal| {
            guard::count(request, &principal)?;
            Ok(Reading { target: target(request, &principal)?, principal })
        }))
    }
}

/// What a ticket is asked for: by whom, and what it may read as far as the address says.
pub struct Minting {
    pub principal: Arc<Principal>,
    pub target: StreamTarget,
}

impl FromRequest for Minting {
    type Error = Problem;
    type Future = Ready<Result<Minting, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(guard::caller(request).and_then(|principal| {
            let target = target(request, &principal)?;
            Ok(Minting { principal, target })
        }))
    }
}

/// What the request names: by its path, or by `?channel=`; without that all that the principal may read.
///
/// # Errors
/// A 400 or 404 for the names, a 403 when the token may not subscribe.
pub fn target(request: &HttpRequest, principal: &Principal) -> Result<StreamTarget, Problem> {
    if !guard::names_channel_in_path(request) {
        let names = names_in_query(request)?;
        if !names.is_empty() {
            return named(request, principal, &names);
        }
        match &principal.reach {
            Reach::Admin => return Ok(StreamTarget::All),
            Reach::Several { channels, .. } => {
                principal.has(Scope::Subscribe).map_err(guard::refused)?;
                return Ok(StreamTarget::Several(channels.clone()));
            }
            Reach::Channel { .. } => {}
        }
    }
    guard::channel_for(request, principal, Scope::Subscribe).map(StreamTarget::Channel)
}

/// What `?channel=` names: it may be repeated, and each may be a list between commas.
///
/// # Errors
/// A 400 for more than [`CHANNELS_MAX`] names, or a query that cannot be read.
pub fn names_in_query(request: &HttpRequest) -> Result<Vec<String>, Problem> {
    let pairs = Pairs::of(request)?;
    let values = pairs.iter().filter(|(name, _)| *name == "channel").flat_map(|(_, value)| value.split(','));
    let mut names: Vec<String> = values.map(|name| name.trim().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0..=CHANNELS_MAX => Ok(names),
        _ => Err(Problem::parameter("channel", format!("at most {CHANNELS_MAX} channels are expected"))),
    }
}

/// The channels of these names, if the principal may read all of them. One that is not there, or that it may not know of,
/// makes it a 404 for all.
///
/// # Errors
/// A 404 when one of them does not exist or belongs to another, a 403 when the token may not subscribe.
pub fn named(request: &HttpRequest, principal: &Principal, names: &[String]) -> Result<StreamTarget, Problem> {
    selectors(request, principal, Scope::Subscribe, names).map(target_of)
}

/// As [`named`], for something of this scope.
///
/// # Errors
/// A 404 when one of them does not exist or belongs to another, a 403 when the token lacks the scope.
pub fn selectors(
    request: &HttpRequest,
    principal: &Principal,
    scope: Scope,
    names: &[String],
) -> Result<Vec<Selector>, Problem> {
    let hub = &guard::context(request).hub;
    let selector = |name: &String| {
        let absent = || Problem::unknown_channel(name);
        let selector = hub.find_selector(name).ok_or_else(absent)?;
        match principal.may_all(&selector, scope) {
            Ok(()) => Ok(selector),
            Err(Refusal::Foreign) => Err(absent()),
            Err(refusal) => Err(guard::refused(refusal)),
        }
    };
    names.iter().map(selector).collect()
}

fn target_of(selectors: Vec<Selector>) -> StreamTarget {
    match &selectors[..] {
        [Selector::Channel(channel)] => StreamTarget::Channel(channel.clone()),
        // an id and a slug of one map
        [Selector::Channel(first), rest @ ..] if rest.iter().all(|one| *one == selectors[0]) => {
            StreamTarget::Channel(first.clone())
        }
        _ => StreamTarget::Several(Arc::new(ChannelSet::of(&selectors))),
    }
}

/// What a ticket opens: what was granted, or those of it that the request names. A ticket of one channel is for that one,
/// whatever the query says.
///
/// # Errors
/// A 401 when the request names something else than was granted, or the channel is gone. A 400 or 404 when what it
/// names cannot be read or found.
pub fn granted(request: &HttpRequest, principal: &Principal, granted: &Selection) -> Result<StreamTarget, Problem> {
    if guard::names_channel_in_path(request) {
        let channel = guard::channel_for(request, principal, Scope::Subscribe)?;
        let is_it = *granted == Selection::One(channel.no());
        return if is_it { Ok(StreamTarget::Channel(channel)) } else { Err(Problem::bad_ticket()) };
    }
    let names = names_in_query(request)?;
    if !names.is_empty() && !matches!(granted, Selection::One(_)) {
        let selectors = selectors(request, principal, Scope::Subscribe, &names)?;
        let is_within = selectors.iter().all(|selector| granted.includes(selector));
        return if is_within { Ok(target_of(selectors)) } else { Err(Problem::bad_ticket()) };
    }
    match granted {
        Selection::All => Ok(StreamTarget::All),
        Selection::Several(set) => Ok(StreamTarget::Several(set.clone())),
        Selection::One(no) => {
            guard::context(request).hub.channel(*no).map(StreamTarget::Channel).ok_or_else(Problem::bad_ticket)
        }
    }
}
