//! A node of the simulation: a relay with its copy, its clock, and what is wrong with it.

use std::sync::Arc;

use super::stream::Stream;
use super::{Content, Draft, Key, START_MS};
use crate::model::id::EventId;
use crate::model::relay::{Message, Nonce, Now, Receipt, Refusal, Relay, Request, Run, Settled, event_id};

pub(super) struct Node {
    pub name: Arc<str>,
    /// None while it is down.
    pub relay: Option<Relay<Draft, Content>>,
    pub life: u64,
    started_ms: u64,
    /// How fast its timers run, in millionths.
    rate_ppm: u64,
    /// By how much its clock is before the stream's.
    pub clock_ahead_ms: i64,
    /// What the copy holds. It survives a crash, save for the last few messages.
    pub applied: u64,
    /// What was handed out to the copy.
    pub handed: u64,
    pub is_connected: bool,
    /// It does nothing before.
    pub paused_until_ms: u64,
    /// Since when it could have done something.
    pub awake_ms: u64,
    pub wake: u64,
    /// When it is woken next.
    pub wakes_at_ms: u64,
    pub is_stopping: bool,
}

impl Node {
    pub fn new(name: &str, rate_ppm: u64) -> Node {
        Node {
            name: name.into(),
            relay: None,
            life: 0,
            started_ms: 0,
            rate_ppm,
            clock_ahead_ms: 0,
            applied: 0,
            handed: 0,
            is_connected: true,
            paused_until_ms: 0,
            awake_ms: 0,
            wake: 0,
            wakes_at_ms: u64::MAX,
            is_stopping: false,
        }
    }

    pub fn begin(&mut self, now_ms: u64, life: u64) {
        (self.life, self.started_ms, self.awake_ms) = (life, now_ms, now_ms);
        self.wakes_at_ms = u64::MAX;
        (self.handed, self.is_stopping) = (self.applied, false);
    }

    pub fn now(&self, now_ms: u64) -> Now {
        let elapsed_ms = (now_ms - self.started_ms) * self.rate_ppm / 1_000_000;
        let clock_ms = (START_MS + now_ms).saturating_add_signed(self.clock_ahead_ms);
        Now { elapsed_ms, clock_ms }
    }

    /// When its timers show this.
    pub fn when_ms(&self, elapsed_ms: u64) -> u64 {
        self.started_ms + (elapsed_ms * 1_000_000).div_ceil(self.rate_ppm)
    }

    /// Makes messages of requests, as the journal's plan does: one for each channel, keys known once.
    pub fn plan(
        &self,
        (term, sequence, ms): (u64, u64, u64),
        requests: Vec<Request<Draft>>,
        stream: &Stream,
    ) -> (Vec<Message<Content>>, Vec<(Nonce, Settled)>) {
        let mut messages: Vec<Message<Content>> = Vec::new();
        let mut settled = Vec::new();
        for Request { nonce, draft, .. } in requests {
            if draft.is_gone {
                settled.push((nonce, Settled::Refused(Refusal::Gone)));
                continue;
            }
            let known = draft.key.and_then(|key| self.known(key, stream));
            if let Some(receipt) = known {
                settled.push((nonce, Settled::Known(receipt)));
                continue;
            }
            let fresh = draft.key.and_then(|key| within(&mut messages, key));
            if let Some((message, receipt)) = fresh {
                messages[message].requests.push((nonce, receipt));
                continue;
            }
            if draft.is_large {
                let receipt = cut(&mut messages, &draft, (term, sequence, ms));
                messages.last_mut().expect("two were added").requests.push((nonce, receipt));
                continue;
            }
            // in the order of the requests, as the nodes' own planning has it
            let last = messages.len().checked_sub(1);
            let at = last.filter(|at| messages[*at].content.channel == draft.channel).unwrap_or_else(|| {
                let content = Content { channel: draft.channel, ..Content::default() };
                messages.push(Message { term, requests: Vec::new(), last_id: EventId::ZERO, content });
                messages.len() - 1
            });
            let message = &mut messages[at];
            let first = message.content.events.len() as u16;
            let id = |n: u16| event_id(ms, sequence + at as u64, first + n);
            for n in 0..draft.events {
                message.content.events.push(((draft.request, n), id(n)));
            }
            message.last_id = id(draft.events - 1);
            message.content.is_bad |= draft.is_bad;
            let receipt = vec![Run { first: id(0), count: u32::from(draft.events) }];
            message.content.keys.extend(draft.key.map(|key| (key, receipt.clone())));
            message.requests.push((nonce, receipt));
        }
        (messages, settled)
    }

    fn known(&self, key: Key, stream: &Stream) -> Option<Receipt> {
        let (sequence, receipt) = stream.keys.get(&key)?;
        (*sequence <= self.applied).then(|| receipt.clone())
    }
}

/// Puts a request that is too large for one message into two of its own.
fn cut(messages: &mut Vec<Message<Content>>, draft: &Draft, (term, sequence, ms): (u64, u64, u64)) -> Receipt {
    let parts = [0..1, 1..draft.events];
    let parts = parts.into_iter().map(|places| {
        let id = |place: u16| event_id(ms, sequence + messages.len() as u64, place - places.start);
        let events: Vec<_> = places.clone().map(|place| ((draft.request, place), id(place))).collect();
        let run = Run { first: id(places.start), count: events.len() as u32 };
        let last_id = id(places.end - 1);
        let content = Content { channel: draft.channel, events, is_bad: draft.is_bad, ..Content::default() };
        messages.push(Message { term, requests: Vec::new(), last_id, content });
        run
    });
    parts.collect()
}

fn within(messages: &mut [Message<Content>], key: Key) -> Option<(usize, Receipt)> {
    messages.iter().enumerate().find_map(|(at, message)| {
        let known = message.content.keys.iter().find(|(other, _)| *other == key);
        known.map(|(_, receipt)| (at, receipt.clone()))
    })
}
