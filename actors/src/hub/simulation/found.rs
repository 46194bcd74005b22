//! What a server has, and what must hold at any moment.

use super::config::MEMORY_BYTES;
use super::model::{Found, Hook, Source, Token};
use super::world::{Server, World};
use super::{clients, flips};
use crate::log::{Direction, PageLimit};
use crate::model::channel::ChannelKind;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

impl World {
    /// What must hold at any moment.
    pub(super) fn look(&self, server: &Server) {
        let model = self.model.borrow();
        for (n, token) in model.tokens.iter().enumerate() {
            let Some(text) = &token.text else { continue };
            let counts = server.hub.principal(text).is_some();
            let map = model.maps[token.map].life;
            assert!(!(counts && token.life.has_surely_ended()), "token {n} was revoked and counts");
            assert!(counts || !token.life.is_sure() || !map.is_sure(), "token {n} does not count");
        }
        let rooms = &server.hub.rooms;
        assert!(rooms.budget.used_bytes() <= MEMORY_BYTES, "more memory is held than there may be");
    }

    /// Everything that is there, read from its beginning.
    pub(super) fn found(&self, server: &Server) -> Found {
        let (rooms, model) = (&server.hub.rooms, self.model.borrow());
        let numbers: Vec<Option<ChannelNo>> = (model.maps.iter())
            .map(|map| server.hub.find(ChannelKind::Map, &map.id).map(|channel| channel.no()))
            .collect();
        let (mut log, mut counts) = (Vec::new(), Vec::new());
        for (map, no) in numbers.iter().enumerate().filter_map(|(map, no)| Some((map, (*no)?))) {
            let (limit, mut cursor) = (PageLimit { events: 40, bytes: 1 << 16 }, EventId::ZERO);
            let before = log.len();
            loop {
                let page = rooms.log.read(no, cursor, limit, Direction::Forward).expect("the log can be read");
                for event in &page.events {
                    let payload: serde_json::Value = serde_json::from_slice(event.payload.as_bytes()).expect("JSON");
                    let (number, text) = clients::payload_of(&payload);
                    assert!(text.bytes().all(|byte| byte == b'x'), "an event is not what was published");
                    log.push((event.id, map, number));
                }
                if !page.more {
                    break;
                }
                cursor = page.last;
            }
            let counted = rooms.log.count_of(no, EventId::ZERO, rooms.log.head()) as usize;
            counts.push((map, log.len() - before, counted));
        }
        // some of it is noticed only when it is read
        let damaged = flips::announced(&rooms.log);
        for (map, read, counted) in counts {
            let is_right = read == counted || !damaged.is_empty();
            assert!(is_right, "of map {map} {read} events are read, and {counted} counted");
        }
        log.sort();
        let expired = |no: &Option<ChannelNo>| no.map_or(EventId::ZERO, |no| rooms.log.expired(no));
        // what was never told nobody can ask for
        let token_is_there =
            |token: &Token| token.text.as_ref().is_some_and(|text| server.hub.principal(text).is_some());
        let hook_is_there = |hook: &Hook| hook.id.as_ref().is_some_and(|id| server.hub.find_webhook(id).is_ok());
        let source_is_there = |source: &Source| source.id.as_ref().is_some_and(|id| server.hub.source(id).is_some());
        Found {
            log,
            maps: numbers.iter().map(Option::is_some).collect(),
            tokens: model.tokens.iter().map(token_is_there).collect(),
            hooks: model.hooks.iter().map(hook_is_there).collect(),
            sources: model.sources.iter().map(source_is_there).collect(),
            expired: numbers.iter().map(expired).collect(),
            damaged,
        }
    }
}
