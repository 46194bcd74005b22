//! Any changes in any order, over a journal that commits, fails, and refuses in any order, held against a list of what was
//! committed.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

const MOST: usize = 3;
const SLUGS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Create {
        slug: usize,
    },
    /// `of`: which of the maps that were ever made.
    Rename {
        of: usize,
        slug: usize,
    },
    Delete {
        of: usize,
    },
    Revoke {
        of: usize,
    },
    Commit {
        count: usize,
    },
    Fail {
        count: usize,
    },
    /// Somebody else has changed something.
    MoveOn,
    /// The client of the nth change under way leaves.
    Leave {
        nth: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..SLUGS.len()).prop_map(|slug| Step::Create { slug }),
        3 => (0usize..8, 0..SLUGS.len()).prop_map(|(of, slug)| Step::Rename { of, slug }),
        2 => (0usize..8).prop_map(|of| Step::Delete { of }),
        2 => (0usize..8).prop_map(|of| Step::Revoke { of }),
        5 => (1usize..5).prop_map(|count| Step::Commit { count }),
        2 => (1usize..5).prop_map(|count| Step::Fail { count }),
        1 => Just(Step::MoveOn),
        1 => (0usize..4).prop_map(|nth| Step::Leave { nth }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What was committed at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// Number to (slug, name).
    maps: BTreeMap<u32, (String, String)>,
    tokens: BTreeMap<String, u32>,
}

impl State {
    /// Takes a committed change over; returns what ought to be said of it.
    fn take(&mut self, change: &Change) -> Option<String> {
        match change.table() {
            Table::Channels => {
                let no = u32::from_be_bytes(change.own_key().try_into().expect("a number"));
                match change.document::<Channel>().expect("a channel") {
                    Some(map) => {
                        let new = (map.slug.to_string(), map.name);
                        let old = self.maps.insert(no, new.clone());
                        old.filter(|old| *old != new).map(|_| format!("{no} changed"))
                    }
                    None => self.maps.remove(&no).map(|_| format!("{no} removed")),
                }
            }
            Table::Tokens => {
                let id = String::from_utf8(change.own_key().to_vec()).expect("an id");
                match change.document::<TokenRecord>().expect("a token") {
                    Some(token) => drop(self.tokens.insert(id, token.channel)),
                    None => return self.tokens.remove(&id).map(|_| format!("{id} revoked")),
                }
                None
            }
            _ => None,
        }
    }

    fn of(tables: &Tables) -> State {
        let maps = tables.channels(ChannelKind::Map);
        State {
            maps: maps.iter().map(|map| (map.no, (map.slug.to_string(), map.name.clone()))).collect(),
            tokens: tables.tokens(None).iter().map(|token| (token.id.to_string(), token.channel)).collect(),
        }
    }

    fn has_slug(&self, slug: &str) -> bool {
        self.maps.values().any(|(other, _)| other == slug)
    }

    fn assert_sound(&self) {
        assert!(self.maps.len() <= MOST, "more maps than there may be: {self:?}");
        let slugs: HashSet<_> = self.maps.values().map(|(slug, _)| slug).collect();
        assert_eq!(slugs.len(), self.maps.len(), "a slug is there twice: {self:?}");
        assert!(self.tokens.values().all(|no| self.maps.contains_key(no)), "a token without its map: {self:?}");
    }
}

fn said(event: &CatalogEvent) -> Option<String> {
    match event {
        CatalogEvent::ChannelChanged { new, .. } => Some(format!("{} changed", new.no)),
        CatalogEvent::ChannelRemoved { channel } => Some(format!("{} removed", channel.no)),
        CatalogEvent::TokenRevoked { token } => Some(format!("{} revoked", token.id)),
        _ => None,
    }
}

/// What was asked, which is held against the answer.
#[derive(Clone, Debug)]
enum What {
    Create { slug: &'static str, name: String },
    Rename { no: u32, slug: &'static str },
    Delete { no: u32 },
    Revoke { id: String },
}

/// A change under way.
struct Under {
    what: What,
    /// The state when it began, in the history.
    since: usize,
    asked: Asked<String, ChangeError<No>>,
}

/// What was committed, state after state.
struct History {
    states: Vec<State>,
    said: Vec<String>,
}

impl History {
    fn now(&self) -> &State {
        self.states.last().expect("there is a first")
    }

    /// Holds the answer against the states between the question and now: a refusal was right in one of them, and what was
    /// done is there in one of them, or, where it failed, in none.
    fn judge(&self, under: &Under) {
        let answer = under.asked.answer.as_ref().expect("an answer");
        let between = &self.states[under.since..];
        let some = |holds: &dyn Fn(&State) -> bool| between.iter().any(holds);
        let right = match (&under.what, answer) {
            (What::Create { name, .. }, Ok(no)) => some(&|state| {
                let no: u32 = no.parse().expect("a number");
                state.maps.get(&no).is_some_and(|(_, other)| other == name)
            }),
            (What::Create { slug, .. }, Err(ChangeError::Refused(No::Taken))) => some(&|state| state.has_slug(slug)),
            (What::Create { .. }, Err(ChangeError::Refused(No::TooMany))) => some(&|state| state.maps.len() >= MOST),
            (What::Create { name, .. }, Err(ChangeError::Append(_))) => {
                !some(&|state| state.maps.values().any(|(_, other)| other == name))
            }
            (What::Rename { no, slug }, Ok(_)) => {
                some(&|state| state.maps.get(no).is_some_and(|(other, _)| other == slug))
            }
            (What::Rename { no, slug }, Err(ChangeError::Refused(No::Taken))) => {
                some(&|state| state.maps.iter().any(|(other, (taken, _))| other != no && taken == slug))
            }
            (What::Rename { no, .. } | What::Delete { no }, Err(ChangeError::Refused(No::Gone))) => {
                some(&|state| !state.maps.contains_key(no))
            }
            (What::Delete { no }, Ok(_)) => !self.now().maps.contains_key(no),
            (What::Revoke { id }, Ok(was_there)) if was_there == "true" => !self.now().tokens.contains_key(id),
            (What::Revoke { id }, Ok(_)) => some(&|state| !state.tokens.contains_key(id)),
            (_, Err(ChangeError::Append(AppendError::Store(_) | AppendError::Conflict))) => true,
            _ => false,
        };
        assert!(right, "{:?} was answered {answer:?} over {between:?}", under.what);
    }
}

struct Run {
    stage: Stage,
    under: Vec<Under>,
    history: History,
    asked: usize,
}

impl Run {
    fn new() -> Run {
        let history = History { states: vec![State::default()], said: Vec::new() };
        Run { stage: Stage::new(), under: Vec::new(), history, asked: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create { slug } => {
                let (slug, name) = (SLUGS[slug], format!("name {}", self.asked));
                let change = create_named(self.stage.catalog.clone(), slug, name.clone(), MOST);
                let change = async move { change.await.map(|no| no.0.to_string()) };
                self.begin(What::Create { slug, name }, change);
            }
            Step::Rename { of, slug } => {
                let (no, slug) = (of as u32 + 1, SLUGS[slug]);
                let change = rename(self.stage.catalog.clone(), ChannelNo(no), slug);
                self.begin(What::Rename { no, slug }, async move { change.await.map(|()| String::new()) });
            }
            Step::Delete { of } => {
                let no = of as u32 + 1;
                let change = delete(self.stage.catalog.clone(), ChannelNo(no));
                self.begin(What::Delete { no }, async move { change.await.map(|()| String::new()) });
            }
            Step::Revoke { of } => {
                let id = format!("tok_{}", of + 1);
                let change = revoke(self.stage.catalog.clone(), id.as_str().into());
                self.begin(What::Revoke { id }, async move { change.await.map(|was_there| was_there.to_string()) });
            }
            Step::Commit { count } => self.commit(count),
            Step::Fail { count } => {
                let before = State::of(&self.stage.catalog.applied.read());
                self.stage.worker.fail(count);
                assert_eq!(State::of(&self.stage.catalog.applied.read()), before);
            }
            Step::MoveOn => self.stage.worker.move_epoch_on(),
            Step::Leave { nth } if nth < self.under.len() => drop(self.under.remove(nth)),
            Step::Leave { .. } => {}
        }
        self.go_on();
    }

    fn begin(&mut self, what: What, change: impl Future<Output = Answer<String>> + 'static) {
        self.asked += 1;
        let since = self.history.states.len() - 1;
        self.under.push(Under { what, since, asked: self.stage.begin(change) });
    }

    fn commit(&mut self, count: usize) {
        let changes = self.stage.commit(count);
        let mut state = self.history.now().clone();
        for change in &changes {
            self.history.said.extend(state.take(change));
            // a change in the middle of a commit is a state that others have decided on
            self.history.states.push(state.clone());
        }
        self.history.now().assert_sound();
        assert_eq!(State::of(&self.stage.catalog.applied.read()), state);
        let said: Vec<_> = self.stage.events.lock().iter().filter_map(said).collect();
        assert_eq!(said, self.history.said);
    }

    /// Lets everybody go on who can, and judges the answers.
    fn go_on(&mut self) {
        for mut under in std::mem::take(&mut self.under) {
            match self.stage.poll(&mut under.asked) {
                true => self.history.judge(&under),
                false => self.under.push(under),
            }
        }
    }

    fn end(&mut self) {
        while !self.under.is_empty() {
            assert!(self.stage.worker.waiting() > 0, "somebody waits for nothing");
            self.commit(usize::MAX);
            self.go_on();
        }
        self.commit(usize::MAX);
        let [applied, ahead] = self.stage.both();
        assert_eq!(applied, ahead);
        let restarted = Documents::of(
            self.stage.documents.freeze().entries().map(|(key, text)| Change::stored(key, text).expect("a document")),
            1,
        );
        let restarted = Stage::with(LIMITS, restarted);
        assert_eq!(State::of(&restarted.catalog.applied.read()), *self.history.now());
        assert_eq!(
            self.stage.catalog.revocations(),
            self.history.said.iter().filter(|s| s.ends_with("revoked")).count() as u64
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_races_fails_and_leaves_every_answer_is_true_and_nothing_is_half_done(steps in steps()) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.end();
    }
}
