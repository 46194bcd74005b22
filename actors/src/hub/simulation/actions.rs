//! What clients ask of the server, each request in a task of its own, and what is noted of the answers.

use super::clients::{self, HOOKS};
use super::model::{Event, Fate, Hook, Map, Reader, Source, Token};
use super::world::{Server, World};
use crate::hub::sources::{Arrival, NewSource, SourceError, TakenIn};
use crate::hub::webhooks::{ApiFamily, WebhookError, WebhookSpec};
use crate::hub::{ChannelError, NewMap, NewToken, TokenError};
use crate::journal::AppendError;
use crate::journal::test_store::numbered;
use crate::model::access::Scope;
use crate::model::channel::{self, ChannelKind};
use crate::model::draft::DraftLimits;
use crate::model::source::{Authentication, HmacAlgorithm, Incoming, Proof, Scheme};

const MAPS: usize = 4;
const HOOKS_MAX: usize = 5;
const SOURCES_MAX: usize = 3;
const READERS: usize = 4;

impl World {
    /// A map that is known to be there.
    pub(super) fn some_map(&self) -> Option<(usize, String)> {
        let model = self.model.borrow();
        let sure: Vec<_> = (0..model.maps.len()).filter(|n| model.maps[*n].life.is_sure()).collect();
        self.pick(sure.len()).map(|at| (sure[at], model.maps[sure[at]].id.clone()))
    }

    pub(super) fn make_map(&mut self, server: &Server) {
        if self.model.borrow().maps.iter().filter(|map| map.life.ended.is_none()).count() >= MAPS {
            return;
        }
        let id = channel::uuid_from(self.clock.random());
        let n = self.model.borrow().maps.len();
        self.model.borrow_mut().maps.push(Map { id: id.clone(), ..Map::default() });
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let made =
                hub.create_map(NewMap { name: format!("map {n}"), slug: None, id: Some(id), token_name: None }).await;
            let mut model = model.borrow_mut();
            model.say(format!("map {n}: {:?}", made.as_ref().map(|_| ()).map_err(ToString::to_string)));
            let map = &mut model.maps[n];
            match made {
                Ok((_, token)) => (map.life.made, map.token) = (Fate::Stored, token),
                Err(ChannelError::Append(e)) => map.life.made = fate_of(&e),
                Err(_) => map.life.made = Fate::Refused,
            }
        });
    }

    pub(super) fn delete_map(&mut self, server: &Server) {
        let Some((n, id)) = self.some_map() else { return };
        let Some(channel) = server.hub.find(ChannelKind::Map, &id) else { panic!("map {n} is not found") };
        self.model.borrow_mut().maps[n].life.ended = Some(Fate::Waiting);
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let ended = hub.delete_channel(&channel).await;
            let mut model = model.borrow_mut();
            model.say(format!("map {n} is deleted: {ended:?}"));
            model.maps[n].life.ended = Some(if ended.is_ok() { Fate::Stored } else { Fate::Unknown });
        });
    }

    pub(super) fn publish(&mut self, server: &Server) {
        let Some((n, id)) = self.some_map() else { return };
        let Some(channel) = server.hub.find(ChannelKind::Map, &id) else { panic!("map {n} is not found") };
        let bytes = if self.chance(30) { 9_000 } else { self.draw(700) as usize };
        let count = 1 + self.draw(if self.chance(4) { 20 } else { 4 });
        let (mut numbers, mut drafts) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let number = self.next;
            self.next += 1;
            numbers.push(number);
            drafts.push(numbered(number, bytes));
            self.note_event(number, n);
        }
        let key = self.chance(3).then(|| format!("key {}", numbers[0]));
        let repeats = key.is_some() && self.chance(2);
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let mut answer = hub.publish(channel.clone(), drafts.clone(), key.as_deref(), "client".into()).await;
            if repeats && matches!(answer, Ok(_) | Err(AppendError::OutcomeUnknown)) {
                // a client that repeats what it has sent gets the same answer
                let first = answer.clone();
                answer = hub.publish(channel, drafts, key.as_deref(), "client".into()).await;
                if let (Ok(first), Ok(second)) = (&first, &answer) {
                    assert_eq!(first.ids, second.ids, "a repetition is stored again");
                }
                answer = first.or(answer).or(Err(AppendError::OutcomeUnknown));
            }
            let mut model = model.borrow_mut();
            match answer {
                Ok(receipt) => model.settle_events(&numbers, Fate::Stored, Some(&receipt.ids)),
                Err(e) => model.settle_events(&numbers, fate_of(&e), None),
            }
        });
    }

    pub(super) fn make_token(&mut self, server: &Server) {
        let Some((map, id)) = self.some_map() else { return };
        let Some(channel) = server.hub.find(ChannelKind::Map, &id) else { panic!("map {map} is not found") };
        let n = self.model.borrow().tokens.len();
        self.model.borrow_mut().tokens.push(Token { map, ..Token::default() });
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let new = NewToken { scopes: vec![Scope::Subscribe], name: None, expires_ms: None, created_by: None };
            let made = hub.create_token(&channel, new).await;
            let mut model = model.borrow_mut();
            model.say(format!("token {n}: {}", made.is_ok()));
            let token = &mut model.tokens[n];
            match made {
                Ok((record, text)) => {
                    (token.life.made, token.id, token.text) = (Fate::Stored, record.id.to_string(), Some(text));
                }
                Err(TokenError::Append(e)) => token.life.made = fate_of(&e),
                Err(_) => token.life.made = Fate::Refused,
            }
        });
    }

    pub(super) fn revoke(&mut self, server: &Server) {
        let chosen = {
            let model = self.model.borrow();
            let sure = |token: &Token| token.life.is_sure() && model.maps[token.map].life.is_sure();
            let sure: Vec<_> = (0..model.tokens.len()).filter(|n| sure(&model.tokens[*n])).collect();
            self.pick(sure.len()).map(|at| (sure[at], model.tokens[sure[at]].id.clone()))
        };
        let Some((n, id)) = chosen else { return };
        self.model.borrow_mut().tokens[n].life.ended = Some(Fate::Waiting);
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let ended = hub.revoke_token(&id).await;
            let mut model = model.borrow_mut();
            model.say(format!("token {n} is revoked: {ended:?}"));
            model.tokens[n].life.ended = Some(if ended.is_ok() { Fate::Stored } else { Fate::Unknown });
        });
    }

    pub(super) fn make_hook(&mut self, server: &Server) {
        if self.model.borrow().hooks.iter().filter(|hook| hook.life.ended.is_none()).count() >= HOOKS_MAX {
            return;
        }
        let Some((map, id)) = self.some_map() else { return };
        let Some(channel) = server.hub.find(ChannelKind::Map, &id) else { panic!("map {map} is not found") };
        let n = self.model.borrow().hooks.len();
        let is_ordered = self.chance(2);
        self.model.borrow_mut().hooks.push(Hook { map, is_ordered, ..Hook::default() });
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            if !channel.webhooks_enabled && hub.toggle_webhooks(&channel, true).await.is_err() {
                model.borrow_mut().hooks[n].life.made = Fate::Refused;
                return;
            }
            let spec =
                WebhookSpec { url: Some(format!("{HOOKS}{n}")), ordered: Some(is_ordered), ..WebhookSpec::default() };
            let made = hub.create_webhook(&channel, ApiFamily::Maps, spec).await;
            let mut model = model.borrow_mut();
            model.say(format!("webhook {n}: {}", made.is_ok()));
            let hook = &mut model.hooks[n];
            match made {
                Ok((webhook, _)) => (hook.life.made, hook.id) = (Fate::Stored, Some(webhook.id.to_string())),
                Err(WebhookError::Append(e)) => hook.life.made = fate_of(&e),
                Err(WebhookError::Invalid(bad)) => panic!("webhook {n} is refused: {bad:?}"),
                Err(_) => hook.life.made = Fate::Refused,
            }
        });
    }

    pub(super) fn delete_hook(&mut self, server: &Server) {
        let chosen = {
            let model = self.model.borrow();
            let sure = |hook: &Hook| hook.life.is_sure() && model.maps[hook.map].life.is_sure();
            let sure: Vec<_> = (0..model.hooks.len()).filter(|n| sure(&model.hooks[*n])).collect();
            self.pick(sure.len()).map(|at| {
                let hook = &model.hooks[sure[at]];
                (sure[at], hook.id.clone().expect("it was told"), model.maps[hook.map].id.clone())
            })
        };
        let Some((n, id, map)) = chosen else { return };
        let Some(channel) = server.hub.find(ChannelKind::Map, &map) else {
            panic!("the map of webhook {n} is not found")
        };
        self.model.borrow_mut().hooks[n].life.ended = Some(Fate::Waiting);
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let ended = hub.delete_webhook(&channel, &id).await;
            let mut model = model.borrow_mut();
            model.say(format!("webhook {n} is deleted: {ended:?}"));
            model.hooks[n].life.ended = Some(if ended.is_ok() { Fate::Stored } else { Fate::Unknown });
        });
    }

    pub(super) fn make_source(&mut self, server: &Server) {
        if self.model.borrow().sources.iter().filter(|source| source.life.ended.is_none()).count() >= SOURCES_MAX {
            return;
        }
        let Some((map, id)) = self.some_map() else { return };
        let Some(channel) = server.hub.find(ChannelKind::Map, &id) else { panic!("map {map} is not found") };
        let n = self.model.borrow().sources.len();
        self.model.borrow_mut().sources.push(Source { map, ..Source::default() });
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let scheme = Scheme {
                authentication: Authentication::None,
                hmac_algorithm: HmacAlgorithm::default(),
                jwt: None,
                recipe: None,
            };
            let new = NewSource {
                name: None,
                scheme,
                key: None,
                event_type: None,
                schema: None,
                rate_limit: None,
                verify_token: None,
                raw: None,
            };
            let made = hub.create_source(&channel, new).await;
            let mut model = model.borrow_mut();
            model.say(format!("source {n}: {}", made.is_ok()));
            let source = &mut model.sources[n];
            match made {
                Ok((live, _)) => (source.life.made, source.id) = (Fate::Stored, Some(live.source.id.to_string())),
                Err(SourceError::Append(e)) => source.life.made = fate_of(&e),
                // it was stored and deleted with its map at once, or never stored
                Err(_) => source.life.made = Fate::Unknown,
            }
        });
    }

    /// A source that is known to be there: its number and its id.
    fn some_source(&self) -> Option<(usize, String)> {
        let model = self.model.borrow();
        let sure = |source: &Source| source.life.is_sure() && model.maps[source.map].life.is_sure();
        let sure: Vec<_> = (0..model.sources.len()).filter(|n| sure(&model.sources[*n])).collect();
        self.pick(sure.len()).map(|at| (sure[at], model.sources[sure[at]].id.clone().expect("it was told")))
    }

    pub(super) fn delete_source(&mut self, server: &Server) {
        let Some((n, id)) = self.some_source() else { return };
        self.model.borrow_mut().sources[n].life.ended = Some(Fate::Waiting);
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let ended = hub.delete_source(&id).await;
            let mut model = model.borrow_mut();
            model.say(format!("source {n} is deleted: {}", ended.is_ok()));
            model.sources[n].life.ended = Some(if ended.is_ok() { Fate::Stored } else { Fate::Unknown });
        });
    }

    /// Somebody sends an event from outside, and once more when it is not known whether it has come.
    pub(super) fn arrive(&mut self, server: &Server) {
        let Some((n, id)) = self.some_source() else { return };
        let Some(live) = server.hub.source(&id) else { panic!("source {n} is not found") };
        let number = self.next;
        self.next += 1;
        let map = self.model.borrow().sources[n].map;
        self.note_event(number, map);
        let is_bad = self.chance(8);
        let (hub, model) = (server.hub.clone(), self.model.clone());
        self.go(async move {
            let kind = if is_bad { "no kind of event" } else { "test" };
            let body = format!("{{\"event_type\":\"{kind}\",\"properties\":{{\"n\":{number},\"text\":\"xx\"}}}}");
            let headers: &[(&str, &str)] = &[("content-type", "application/json")];
            let (request, key) = (Incoming::of(&headers, body.as_bytes()), format!("key {number}"));
            let limits = DraftLimits { event_bytes: 1 << 16, batch_events: 10 };
            let mut answer = None;
            for _ in 0..2 {
                let arrival = Arrival { request, path: "", query: "", partial: false, idempotency: Some(&key), limits };
                let taken = hub.take_in(&live, &Proof::default(), arrival).await;
                let is_known = !matches!(taken, Err(SourceError::Append(AppendError::OutcomeUnknown)));
                answer = Some(taken);
                if is_known {
                    break;
                }
            }
            let mut model = model.borrow_mut();
            match answer {
                Some(Ok(TakenIn::Events { ids, .. })) => model.settle_events(&[number], Fate::Stored, Some(&ids)),
                Some(Err(SourceError::Append(e))) => model.settle_events(&[number], fate_of(&e), None),
                _ => model.settle_events(&[number], Fate::Refused, None),
            }
        });
    }

    /// An event is on its way, and due to the webhooks that are known to be there.
    fn note_event(&self, number: u64, map: usize) {
        let mut model = self.model.borrow_mut();
        model.events.insert(number, Event { map, fate: Fate::Waiting, id: None });
        for hook in model.hooks.iter_mut().filter(|hook| hook.map == map && hook.life.is_sure()) {
            hook.due.insert(number);
        }
    }

    pub(super) fn add_reader(&mut self, server: &Server) {
        if self.model.borrow().readers.len() >= READERS {
            return;
        }
        let Some((map, _)) = self.some_map() else { return };
        self.model.borrow_mut().readers.push(Reader { map, ..Reader::default() });
        let reader = self.model.borrow().readers.len() - 1;
        self.let_read(server, reader);
    }

    pub(super) fn let_read(&self, server: &Server, reader: usize) {
        self.go(clients::read(server.hub.clone(), self.model.clone(), self.clock.clone(), reader));
    }
}

fn fate_of(e: &AppendError) -> Fate {
    match e {
        AppendError::OutcomeUnknown | AppendError::Stopping | AppendError::Failed => Fate::Unknown,
        _ => Fate::Refused,
    }
}
