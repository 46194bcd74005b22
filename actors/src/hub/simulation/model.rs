//! What is right: a model of what clients were answered, what readers saw and what receivers got, and the rules that bind
//! them. It knows nothing of how the engine does it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::id::EventId;

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Waiting,
    /// The machine stopped before it was answered, or the answer is that it is not known.
    Unknown,
    Stored,
    Refused,
}

impl Fate {
    /// Whether it may be found: it was not refused.
    pub fn may_be(self) -> bool {
        self != Fate::Refused
    }
}

/// Something that is made and may be unmade: a map, a token, a webhook.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lifespan {
    pub made: Fate,
    /// What became of its deletion; none: nobody asked for it.
    pub ended: Option<Fate>,
}

impl Lifespan {
    /// It was acknowledged, and nobody has asked for its end.
    pub fn is_sure(self) -> bool {
        self.made == Fate::Stored && self.ended.is_none_or(|end| end == Fate::Refused)
    }

    pub fn has_surely_ended(self) -> bool {
        self.ended == Some(Fate::Stored)
    }

    /// Holds what is found against what was answered. Where the answer was not known, it is known from now on.
    fn settle(&mut self, is_there: bool, what: &str) {
        if is_there {
            assert!(self.made.may_be(), "{what} was refused and is there");
            assert!(!self.has_surely_ended(), "{what} was deleted and is there");
            self.made = Fate::Stored;
            self.ended = None;
        } else {
            assert!(!self.is_sure(), "{what} was made and is lost");
            match self.ended {
                Some(_) => self.ended = Some(Fate::Stored),
                None => self.made = Fate::Refused,
            }
        }
    }

    /// The process is gone, and with it every answer that had not come.
    fn forget(&mut self) {
        for fate in [Some(&mut self.made), self.ended.as_mut()].into_iter().flatten() {
            if *fate == Fate::Waiting {
                *fate = Fate::Unknown;
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Map {
    pub life: Lifespan,
    /// Its public id, which is the client's own choice.
    pub id: String,
    /// The token that came with it.
    pub token: String,
}

#[derive(Clone, Debug, Default)]
pub struct Token {
    pub map: usize,
    pub life: Lifespan,
    pub id: String,
    /// None until it was told.
    pub text: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Hook {
    pub map: usize,
    pub life: Lifespan,
    /// None until it was told.
    pub id: Option<String>,
    pub is_ordered: bool,
    /// Events that were published when it was known to be there.
    pub due: BTreeSet<u64>,
    /// What its receiver has taken.
    pub got: BTreeMap<EventId, u64>,
}

/// Where events come in from outside.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub map: usize,
    pub life: Lifespan,
    /// None until it was told.
    pub id: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub map: usize,
    pub fate: Fate,
    pub id: Option<EventId>,
}

/// A reader that resumes by its cursor, over the lives of the server.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    pub map: usize,
    /// Where its first stream began.
    pub begin: Option<EventId>,
    pub cursor: EventId,
    pub got: BTreeMap<EventId, u64>,
    /// (after, before): it was told that events in between are not there any more.
    pub gaps: Vec<(EventId, Option<EventId>)>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub maps: Vec<Map>,
    pub tokens: Vec<Token>,
    pub hooks: Vec<Hook>,
    pub sources: Vec<Source>,
    pub readers: Vec<Reader>,
    pub events: BTreeMap<u64, Event>,
    pub trace: Vec<String>,
    /// Receivers fail no more, and readers do not pause.
    pub is_healed: bool,
    pub attempts: u64,
    pub gaps: u64,
    /// The first promise that was seen to be broken, where nobody could be told at once.
    pub broken: Option<String>,
}

/// What a start has found.
pub struct Found {
    /// In the order of the log: id, map, number.
    pub log: Vec<(EventId, usize, u64)>,
    /// Whether each map, token, webhook and source is there.
    pub maps: Vec<bool>,
    pub tokens: Vec<bool>,
    pub hooks: Vec<bool>,
    pub sources: Vec<bool>,
    /// Of each map: the newest event that retention took.
    pub expired: Vec<EventId>,
    /// The ranges of ids in which events may be missing because of damage.
    pub damaged: Vec<(EventId, EventId)>,
}

impl Model {
    pub fn say(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    pub fn settle_events(&mut self, numbers: &[u64], fate: Fate, ids: Option<&[EventId]>) {
        self.say(format!("{numbers:?} {fate:?} {ids:?}"));
        for (n, number) in numbers.iter().enumerate() {
            let event = self.events.get_mut(number).expect("it was published");
            event.fate = fate;
            event.id = ids.map(|ids| ids[n]);
        }
    }

    /// The process is gone.
    pub fn forget(&mut self) {
        for event in self.events.values_mut().filter(|event| event.fate == Fate::Waiting) {
            event.fate = Fate::Unknown;
        }
        let maps = self.maps.iter_mut().map(|map| &mut map.life);
        let tokens = self.tokens.iter_mut().map(|token| &mut token.life);
        let hooks = self.hooks.iter_mut().map(|hook| &mut hook.life);
        let sources = self.sources.iter_mut().map(|source| &mut source.life);
        maps.chain(tokens).chain(hooks).chain(sources).for_each(Lifespan::forget);
    }

    /// Notes that something does not hold. Who finds that out may be within the engine, which survives a panic.
    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.get_or_insert_with(what);
        }
    }

    /// Holds an event that somebody was shown against what was answered.
    fn require_event(&mut self, map: usize, id: EventId, number: u64, what: &str) {
        let Some(event) = self.events.get(&number) else {
            return self.require(false, || format!("nobody published event {number}, which is {what}"));
        };
        let (of, fate, known) = (event.map, event.fate, event.id);
        self.require(of == map, || format!("event {number} of another map is {what}"));
        self.require(fate.may_be(), || format!("event {number} was refused and is {what}"));
        self.require(known.is_none_or(|known| known == id), || format!("event {number} is {what} with another id"));
    }

    /// A reader has got an event.
    pub fn saw(&mut self, reader: usize, id: EventId, number: u64) {
        self.say(format!("reader {reader} sees {number}"));
        self.require_event(self.readers[reader].map, id, number, "shown");
        let known = &self.readers[reader];
        let (is_newer, is_twice) = (id > known.cursor, known.got.values().any(|known| *known == number));
        self.require(is_newer, || format!("event {number} is shown out of order to reader {reader}"));
        self.require(!is_twice, || format!("event {number} is shown twice to reader {reader}"));
        let known = &mut self.readers[reader];
        known.got.insert(id, number);
        known.cursor = id;
    }

    /// A reader was told of a gap.
    pub fn told(&mut self, reader: usize, after: EventId, before: Option<EventId>, reason: &str) {
        self.say(format!("reader {reader} is told of a gap: {reason}"));
        // what a reader has seen was durable, so no cursor is ever ahead of the log
        self.require(reason == "expired", || format!("reader {reader} is told of a gap that must not be: {reason}"));
        self.gaps += 1;
        self.readers[reader].gaps.push((after, before));
    }

    /// A receiver has taken an event.
    pub fn delivered(&mut self, hook: usize, id: EventId, number: u64) {
        self.require_event(self.hooks[hook].map, id, number, "delivered");
        let known = &self.hooks[hook];
        let is_late = known.is_ordered
            && !known.got.contains_key(&id)
            && known.got.keys().next_back().is_some_and(|newest| *newest > id);
        self.require(!is_late, || format!("event {number} is delivered to webhook {hook} after a newer one"));
        self.hooks[hook].got.insert(id, number);
    }

    /// A start must have found everything that was acknowledged, and nothing that was refused.
    pub fn check(&mut self, found: &Found, when: &str) {
        self.say(format!("{when}: {} events", found.log.len()));
        let mut seen = BTreeMap::new();
        let mut before = EventId::ZERO;
        for (id, map, number) in &found.log {
            assert!(*id > before, "event {number} is out of order in the log {when}");
            before = *id;
            assert!(seen.insert(*number, *id).is_none(), "event {number} is there twice {when}");
            let event = self.events.get(number).expect("nobody published what is in the log");
            assert_eq!(event.map, *map, "event {number} is in another map {when}");
        }
        for (n, is_there) in found.maps.iter().enumerate() {
            self.maps[n].life.settle(*is_there, &format!("map {n}, {when},"));
        }
        for (n, is_there) in found.tokens.iter().enumerate() {
            let map = self.maps[self.tokens[n].map].life;
            if *is_there {
                assert!(!map.has_surely_ended(), "token {n} counts without its map {when}");
            }
            if map.is_sure() {
                self.tokens[n].life.settle(*is_there, &format!("token {n}, {when},"));
            }
        }
        for (n, is_there) in found.hooks.iter().enumerate() {
            let map = self.maps[self.hooks[n].map].life;
            if *is_there {
                assert!(!map.has_surely_ended(), "webhook {n} is there without its map {when}");
            }
            if map.is_sure() {
                self.hooks[n].life.settle(*is_there, &format!("webhook {n}, {when},"));
            }
        }
        for (n, is_there) in found.sources.iter().enumerate() {
            let map = self.maps[self.sources[n].map].life;
            if *is_there {
                assert!(!map.has_surely_ended(), "source {n} is there without its map {when}");
            }
            if map.is_sure() {
                self.sources[n].life.settle(*is_there, &format!("source {n}, {when},"));
            }
        }
        for (number, event) in &mut self.events {
            if !self.maps[event.map].life.is_sure() {
                continue;
            }
            match (event.fate, seen.get(number)) {
                (Fate::Stored, None) => {
                    let id = event.id.expect("it was answered");
                    assert!(id <= found.expired[event.map], "event {number} is lost {when}");
                }
                (Fate::Stored, Some(id)) => assert_eq!(event.id, Some(*id), "event {number} has another id {when}"),
                (Fate::Refused, Some(_)) => panic!("event {number} was refused and is there {when}"),
                _ => {}
            }
        }
        for (n, reader) in self.readers.iter().enumerate().filter(|(_, one)| self.maps[one.map].life.is_sure()) {
            for (id, number) in &reader.got {
                let is_kept = seen.get(number) == Some(id) || *id <= found.expired[reader.map];
                assert!(is_kept, "reader {n} was shown event {number}, which is not there {when}");
            }
        }
    }

    /// In the end every reader has seen what it was to see, and every receiver has got what it was to get.
    pub fn check_end(&self, found: &Found) {
        let is_gone = |map: usize, id: EventId| id <= found.expired[map];
        for (n, reader) in self.readers.iter().enumerate().filter(|(_, one)| self.maps[one.map].life.is_sure()) {
            let Some(begin) = reader.begin else { continue };
            for (id, _, number) in found.log.iter().filter(|(id, map, _)| *map == reader.map && *id > begin) {
                assert!(reader.got.contains_key(id), "reader {n} has missed event {number}");
            }
            let stored = self.events.iter().filter(|(_, event)| event.map == reader.map);
            for (number, id) in
                stored.filter_map(|(number, event)| Some((number, event.id?))).filter(|(_, id)| *id > begin)
            {
                let told =
                    reader.gaps.iter().any(|(after, before)| id > *after && before.is_none_or(|before| id < before));
                assert!(reader.got.contains_key(&id) || told, "reader {n} has missed event {number} and was not told");
            }
        }
        for (n, hook) in self.hooks.iter().enumerate() {
            if !hook.life.is_sure() || !self.maps[hook.map].life.is_sure() {
                continue;
            }
            for number in &hook.due {
                let event = &self.events[number];
                if let (Fate::Stored, Some(id)) = (event.fate, event.id) {
                    let is_done = hook.got.contains_key(&id) || is_gone(event.map, id);
                    assert!(is_done, "event {number} was never delivered to webhook {n}");
                }
            }
        }
    }
}
