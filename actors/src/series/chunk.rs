//! How steps are kept: several of one tier and one owner in a chunk, which is one note.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::model::event::ChannelNo;
use crate::model::record_id::WebhookId;

/// Whose steps.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    Server,
    Channel(ChannelNo),
    Webhook(WebhookId),
}

impl Scope {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Scope::Server => b"s".to_vec(),
            Scope::Channel(no) => [&b"c"[..], &no.0.to_be_bytes()].concat(),
            Scope::Webhook(id) => [b"w", id.as_bytes()].concat(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Scope> {
        match bytes.split_first()? {
            (b's', []) => Some(Scope::Server),
            (b'c', no) => Some(Scope::Channel(ChannelNo(u32::from_be_bytes(no.try_into().ok()?)))),
            (b'w', id) => Some(Scope::Webhook(std::str::from_utf8(id).ok()?.into())),
            _ => None,
        }
    }

    /// The tiers in which steps are counted; those of hours are made of them when they expire.
    pub fn counted_in(&self) -> &'static [Tier] {
        match self {
            Scope::Server => &[Tier::TenSeconds, Tier::Minute],
            Scope::Channel(_) | Scope::Webhook(_) => &[Tier::FiveMinutes],
        }
    }

    /// The tier whose chunks become hours.
    pub fn folded_from(&self) -> Tier {
        match self {
            Scope::Server => Tier::Minute,
            Scope::Channel(_) | Scope::Webhook(_) => Tier::FiveMinutes,
        }
    }
}

/// How long steps are, and how long they are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Tier {
    TenSeconds = b'a',
    Minute = b'b',
    FiveMinutes = b'c',
    Hour = b'd',
}

impl Tier {
    pub const ALL: [Tier; 4] = [Tier::TenSeconds, Tier::Minute, Tier::FiveMinutes, Tier::Hour];

    pub fn step_s(self) -> u64 {
        match self {
            Tier::TenSeconds => 10,
            Tier::Minute => 60,
            Tier::FiveMinutes => 300,
            Tier::Hour => 3_600,
        }
    }

    /// A chunk of what becomes hours is an hour.
    pub fn chunk_s(self) -> u64 {
        match self {
            Tier::TenSeconds => 600,
            Tier::Minute | Tier::FiveMinutes => 3_600,
            Tier::Hour => 86_400,
        }
    }

    pub fn kept_s(self) -> u64 {
        match self {
            Tier::TenSeconds => 3_600,
            Tier::Minute | Tier::FiveMinutes => 86_400,
            Tier::Hour => 7 * 86_400,
        }
    }

    /// Chunks with lower numbers hold nothing that is kept.
    pub fn oldest_kept(self, now_s: u64) -> u32 {
        number(now_s.saturating_sub(self.kept_s()) / self.chunk_s())
    }
}

/// Chunks are counted from 1970, which a `u32` holds for a thousand centuries.
fn number(of: u64) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChunkKey {
    pub tier: Tier,
    /// The time since 1970, in lengths of a chunk.
    pub number: u32,
    pub scope: Scope,
}

impl ChunkKey {
    /// The chunk of a time, and its step within.
    pub fn at(scope: &Scope, tier: Tier, at_s: u64) -> (ChunkKey, u16) {
        let key = ChunkKey { tier, number: number(at_s / tier.chunk_s()), scope: scope.clone() };
        // a chunk has at most 60 steps
        (key, (at_s % tier.chunk_s() / tier.step_s()) as u16)
    }

    /// By time within the tier, so that what expires is found first.
    pub fn to_note(&self) -> Vec<u8> {
        [&[self.tier as u8][..], &self.number.to_be_bytes(), &self.scope.to_bytes()].concat()
    }

    pub fn from_note(key: &[u8]) -> Option<ChunkKey> {
        let (letter, rest) = key.split_first()?;
        let (number, scope) = rest.split_first_chunk()?;
        let tier = Tier::ALL.into_iter().find(|tier| *tier as u8 == *letter)?;
        Some(ChunkKey { tier, number: u32::from_be_bytes(*number), scope: Scope::from_bytes(scope)? })
    }

    /// When the chunk begins, in Unix seconds.
    pub fn begins_s(&self) -> u64 {
        u64::from(self.number) * self.tier.chunk_s()
    }
}

/// Some steps by their place in the chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chunk(pub BTreeMap<u16, Step>);

impl Chunk {
    pub fn absorb(&mut self, other: &Chunk) {
        for (at, step) in &other.0 {
            self.0.entry(*at).or_default().absorb(step);
        }
    }

    /// All of it as one step.
    pub fn folded(&self) -> Step {
        let mut whole = Step::default();
        self.0.values().for_each(|step| whole.absorb(step));
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_chunk_is_read_as_it_is_written_and_sorts_by_time() {
        let scopes = [Scope::Server, Scope::Channel(ChannelNo(7)), Scope::Webhook("0b0e3b9c-9c4e".into())];
        for scope in scopes {
            for tier in Tier::ALL {
                let (key, at) = ChunkKey::at(&scope, tier, 1_750_000_000);
                assert_eq!(ChunkKey::from_note(&key.to_note()), Some(key.clone()));
                let begins = key.begins_s() + u64::from(at) * tier.step_s();
                assert!((1_750_000_000 - tier.step_s() + 1..=1_750_000_000).contains(&begins), "{tier:?} {begins}");
                let later = ChunkKey { number: key.number + 1, scope: Scope::Server, tier };
                assert!(later.to_note() > key.to_note());
            }
        }
        assert_eq!(ChunkKey::from_note(b"a123"), None);
    }
}
