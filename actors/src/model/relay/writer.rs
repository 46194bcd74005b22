//! What a node does while its term lasts: it queues requests of all nodes, has them planned, and appends one commit after
//! the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::protocol::{CommitAnswer, Refusal, RelayLimits, Settled};
use super::rules::{Rule, keeps};
use super::wire::{Commit, Load, Message, Nonce, ReplyKind, Request};

#[derive(Debug)]
pub(super) struct Writer<D, R> {
    term: u64,
    /// Without those of the commit under way.
    queue: VecDeque<Queued<D>>,
    /// With them.
    load: Load,
    lives: BTreeMap<u64, Life>,
    stage: Stage<R>,
    /// Claim anew as soon as no commit is under way.
    pub renewing: bool,
}

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Queued<D> {
    pub nonce: Nonce,
    /// Where replies go; none: this node.
    pub from: Option<Arc<str>>,
    pub deadline_ms: u64,
    pub load: Load,
    pub draft: D,
}

/// What is known of the requests of one life.
#[derive(Debug, Default)]
struct Life {
    /// Lower numbers are not taken any more.
    settled_below: u64,
    known: BTreeMap<u64, Fate>,
    heard_ms: u64,
}

#[derive(Debug)]
enum Fate {
    Queued,
    Settled(Box<ReplyKind>),
}

/// A request that is in a plan or a commit.
#[derive(Debug)]
struct Taken {
    nonce: Nonce,
    from: Option<Arc<str>>,
    load: Load,
}

#[derive(Debug)]
enum Stage<R> {
    Idle,
    Planning {
        number: u64,
        head: u64,
        requests: Vec<Taken>,
    },
    Committing {
        commit: Commit<R>,
        requests: Vec<Taken>,
        /// When to repeat it.
        again_ms: u64,
        /// An attempt may have landed.
        is_unsure: bool,
        /// Whether the last attempt is known to have come to nothing.
        is_answered: bool,
    },
}

/// A reply to a node; none: this one.
pub(super) type Addressed = (Option<Arc<str>>, Nonce, ReplyKind);

/// A plan that is asked for.
pub(super) struct PlanOrder<D> {
    pub number: u64,
    pub requests: Vec<Request<D>>,
}

/// What an answer to a commit makes necessary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<R> {
    Nothing,
    /// The messages are in the stream, the first behind this sequence.
    Stored(u64, Arc<[Arc<Message<R>>]>),
    /// The stream goes on in another way than was expected.
    Conflict,
    /// It cannot be known what became of it within this term.
    Renew,
}

impl<D, R> Writer<D, R> {
    pub fn new(term: u64) -> Writer<D, R> {
        Writer {
            term,
            queue: VecDeque::new(),
            load: Load::default(),
            lives: BTreeMap::new(),
            stage: Stage::Idle,
            renewing: false,
        }
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    pub fn load(&self) -> Load {
        self.load
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    #[cfg(test)]
    pub fn known(&self) -> (usize, usize) {
        (self.lives.len(), self.lives.values().map(|life| life.known.len()).max().unwrap_or(0))
    }

    /// Takes a request, or says again what was said about it. None: it is not to be answered.
    pub fn accept(
        &mut self,
        now_ms: u64,
        request: Queued<D>,
        settled_below: u64,
        limits: &RelayLimits,
    ) -> Option<ReplyKind> {
        let Nonce { life: name, number } = request.nonce;
        if !self.lives.contains_key(&name) && self.lives.len() >= limits.lives_max {
            let oldest = self.lives.iter().min_by_key(|(_, life)| life.heard_ms).map(|(name, _)| *name);
            oldest.map(|oldest| self.lives.remove(&oldest));
        }
        let life = self.lives.entry(name).or_default();
        life.heard_ms = now_ms;
        if settled_below > life.settled_below {
            life.settled_below = settled_below;
            life.known = life.known.split_off(&settled_below);
        }
        if keeps(Rule::KnowNonces) {
            if number < life.settled_below {
                return None;
            }
            match life.known.get(&number) {
                Some(Fate::Queued) => return Some(ReplyKind::Queued),
                Some(Fate::Settled(kind)) if keeps(Rule::KnowRefusals) => return Some((**kind).clone()),
                Some(Fate::Settled(_)) => {}
                None if life.known.len() >= limits.nonces_max => return None,
                None => {}
            }
        }
        if !self.load.has_room(request.load, limits) {
            let refused = ReplyKind::Refused(Refusal::QueueFull);
            life.known.insert(number, Fate::Settled(Box::new(refused.clone())));
            return Some(refused);
        }
        life.known.insert(number, Fate::Queued);
        self.load.add(request.load);
        self.queue.push_back(request);
        Some(ReplyKind::Queued)
    }

    /// What was said about a request last.
    pub fn asked(&self, nonce: Nonce) -> Option<ReplyKind> {
        match self.lives.get(&nonce.life)?.known.get(&nonce.number)? {
            Fate::Queued => Some(ReplyKind::Queued),
            Fate::Settled(kind) => Some((**kind).clone()),
        }
    }

    /// Drops what is past its deadline.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some(first) = self.queue.front() {
            if first.deadline_ms > now_ms {
                break;
            }
            self.load.subtract(first.load);
            self.queue.pop_front();
        }
    }

    /// Whether there is something to plan.
    pub fn wants_plan(&self) -> bool {
        self.is_idle() && !self.renewing && !self.queue.is_empty()
    }

    /// Takes what fits into one commit from the queue. None: all of it was past its deadline.
    pub fn begin_plan(&mut self, now_ms: u64, number: u64, head: u64, limits: &RelayLimits) -> Option<PlanOrder<D>> {
        let mut load = Load::default();
        let (mut taken, mut requests) = (Vec::new(), Vec::new());
        while let Some(next) = self.queue.front() {
            let is_late = next.deadline_ms <= now_ms;
            let fits = load.events + next.load.events <= limits.batch_events
                && load.bytes + next.load.bytes <= limits.batch_bytes;
            if !is_late && !requests.is_empty() && !fits {
                break;
            }
            let Some(Queued { nonce, from, load: size, draft, .. }) = self.queue.pop_front() else { break };
            if is_late {
                self.load.subtract(size);
                continue;
            }
            load.add(size);
            taken.push(Taken { nonce, from, load: size });
            requests.push(Request { nonce, load: size, draft });
        }
        if requests.is_empty() {
            return None;
        }
        self.stage = Stage::Planning { number, head, requests: taken };
        Some(PlanOrder { number, requests })
    }

    /// The plan has been made. Gives the commit to append, if there is one.
    pub fn planned(
        &mut self,
        now_ms: u64,
        number: u64,
        messages: Vec<Message<R>>,
        settled: Vec<(Nonce, Settled)>,
        limits: &RelayLimits,
        replies: &mut Vec<Addressed>,
    ) -> Option<Commit<R>> {
        let Stage::Planning { number: awaited, head, .. } = self.stage else { return None };
        if awaited != number {
            return None;
        }
        let Stage::Planning { requests, .. } = std::mem::replace(&mut self.stage, Stage::Idle) else { return None };
        let mut settled: BTreeMap<Nonce, Settled> = settled.into_iter().collect();
        let within: BTreeSet<Nonce> =
            messages.iter().flat_map(|message| message.requests.iter().map(|(nonce, _)| *nonce)).collect();
        let mut left = Vec::with_capacity(requests.len());
        for taken in requests {
            if within.contains(&taken.nonce) {
                left.push(taken);
                continue;
            }
            let kind = match settled.remove(&taken.nonce) {
                Some(Settled::Known(receipt)) => ReplyKind::Known { receipt, through: head },
                Some(Settled::Refused(refusal)) => ReplyKind::Refused(refusal),
                None => ReplyKind::Refused(Refusal::Failed),
            };
            self.settle(taken, kind, replies);
        }
        if messages.is_empty() {
            return None;
        }
        let messages = messages.into_iter().map(Arc::new).collect();
        let commit = Commit { number, term: self.term, head, messages };
        self.stage = Stage::Committing {
            commit: commit.clone(),
            requests: left,
            again_ms: now_ms + limits.commit_ms,
            is_unsure: false,
            is_answered: false,
        };
        Some(commit)
    }

    /// The stream has answered a commit.
    pub fn committed(
        &mut self,
        now_ms: u64,
        number: u64,
        answer: CommitAnswer,
        limits: &RelayLimits,
        replies: &mut Vec<Addressed>,
    ) -> Verdict<R> {
        let Stage::Committing { commit, again_ms, is_unsure, is_answered, .. } = &mut self.stage else {
            return Verdict::Nothing;
        };
        if commit.number != number {
            return Verdict::Nothing;
        }
        let end = commit.head + commit.messages.len() as u64;
        let refusal = match answer {
            CommitAnswer::Stored { last } if last == end => {
                return Verdict::Stored(commit.head, Arc::clone(&commit.messages));
            }
            CommitAnswer::Stored { .. } | CommitAnswer::Conflict => {
                // An earlier attempt that the leader has taken up refuses this one, and may still come to nothing.
                (*is_unsure, *again_ms) = (true, now_ms + limits.retry_ms);
                return Verdict::Conflict;
            }
            CommitAnswer::Busy => {
                (*is_answered, *again_ms) = (true, now_ms + limits.busy_ms);
                return Verdict::Nothing;
            }
            CommitAnswer::Failed => {
                (*is_unsure, *again_ms) = (true, now_ms + limits.retry_ms);
                return Verdict::Nothing;
            }
            CommitAnswer::Full => Refusal::StorageFull,
            CommitAnswer::Refused => Refusal::Failed,
        };
        if *is_unsure && keeps(Rule::RefuseWhatCannotLand) {
            // an attempt before may have landed
            *again_ms = now_ms + limits.retry_ms;
            return if answer == CommitAnswer::Refused { Verdict::Renew } else { Verdict::Nothing };
        }
        if let Stage::Committing { requests, .. } = std::mem::replace(&mut self.stage, Stage::Idle) {
            for taken in requests {
                self.settle(taken, ReplyKind::Refused(refusal), replies);
            }
        }
        Verdict::Nothing
    }

    fn settle(&mut self, taken: Taken, kind: ReplyKind, replies: &mut Vec<Addressed>) {
        self.load.subtract(taken.load);
        if let Some(life) = self.lives.get_mut(&taken.nonce.life)
            && taken.nonce.number >= life.settled_below
        {
            life.known.insert(taken.nonce.number, Fate::Settled(Box::new(kind.clone())));
        }
        replies.push((taken.from, taken.nonce, kind));
    }

    /// The node has taken the stream up to here. Gives how far the commit goes of which only a part has been taken: it
    /// is whole in the stream.
    pub fn reached(&mut self, taken: u64) -> Option<u64> {
        let Stage::Committing { commit, requests, .. } = &self.stage else { return None };
        let end = commit.head + commit.messages.len() as u64;
        if taken < end {
            return (taken > commit.head).then_some(end);
        }
        for request in requests {
            self.load.subtract(request.load);
        }
        self.stage = Stage::Idle;
        None
    }

    /// The commit to repeat at `now_ms`, unless the stream has gone on behind its head, which is `taken`.
    pub fn repeat(&mut self, now_ms: u64, taken: u64, limits: &RelayLimits) -> Option<Commit<R>> {
        let Stage::Committing { commit, again_ms, is_unsure, is_answered, .. } = &mut self.stage else { return None };
        if *again_ms > now_ms || taken > commit.head {
            return None;
        }
        *is_unsure |= !*is_answered;
        (*is_answered, *again_ms) = (false, now_ms + limits.commit_ms);
        Some(commit.clone())
    }

    /// When [`Writer::repeat`] or [`Writer::expire`] has something next.
    pub fn wake_at_ms(&self, taken: u64) -> Option<u64> {
        let again = match &self.stage {
            Stage::Committing { commit, again_ms, .. } if taken <= commit.head => Some(*again_ms),
            _ => None,
        };
        self.queue.front().map(|first| first.deadline_ms).into_iter().chain(again).min()
    }
}
