//! All sources by id, each ready to verify, with what it counts. Read by every request that comes in; the state database
//! keeps the records.

use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::catalog::source::Source;
use crate::documents::notes::Notes;
use crate::ingest::dead_letters::{DeadLetters, LetterLimits, LockedLetters};
use crate::model::access::TokenHash;
use crate::model::event::{ChannelNo, Origin};
use crate::model::record_id::SourceId;
use crate::model::seal::SealKey;
use crate::model::source::{
    Authentication, Explained, Incoming, Proof, Recipe, Reply, Untrusted, Verifier, Window, handshake,
};

/// The bounds of sources.
#[derive(Clone, Copy, Debug)]
pub struct SourceLimits {
    /// Sources of one map or organization.
    pub per_channel: usize,
    /// Dead letters of one source, and the bytes of their bodies.
    pub dead_letters: usize,
    pub dead_letters_bytes: usize,
}

impl SourceLimits {
    pub fn letters(&self) -> LetterLimits {
        LetterLimits { letters: self.dead_letters, bytes: self.dead_letters_bytes }
    }
}

/// What is kept of the counters of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub received: u64,
    /// When the newest event came in, in Unix milliseconds; 0: never.
    pub last_ms: i64,
    #[serde(default)]
    pub refused_senders: RefusedSenders,
}

/// Requests whose sender could not be verified. Anybody can make them, so they are counted and only the latest is described;
/// none is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSenders {
    pub requests: u64,
    /// Those since the latest event, and when the first of them came, in Unix milliseconds.
    pub in_a_row: u64,
    pub since_ms: i64,
    /// When the latest came, in Unix milliseconds; 0: never.
    pub last_ms: i64,
    /// Why the latest was refused.
    pub reason: String,
    /// How the client of the latest called itself, as far as it is kept.
    pub user_agent: Option<String>,
}

/// Longest name of a refused client that is kept, in characters.
const USER_AGENT_CHARS_MAX: usize = 120;
/// Longest reason that is kept of a refused sender, in characters.
const REASON_CHARS_MAX: usize = 300;

impl RefusedSenders {
    fn add(&mut self, reason: &str, user_agent: Option<&str>, now_ms: i64) {
        let cut = |text: &str, most| text.chars().take(most).collect::<String>();
        if self.in_a_row == 0 {
            self.since_ms = now_ms;
        }
        self.requests += 1;
        self.in_a_row += 1;
        self.last_ms = now_ms;
        self.reason = cut(reason, REASON_CHARS_MAX);
        self.user_agent = user_agent.map(|name| cut(name, USER_AGENT_CHARS_MAX));
    }
}

/// What happens at a source, whatever becomes of its record meanwhile.
#[derive(Default)]
pub struct SourceStats {
    received: AtomicU64,
    last_ms: AtomicI64,
    /// Whether the counters have changed since they were written.
    changed: AtomicBool,
    /// Whether what was counted before could not be read at the start.
    is_unread: AtomicBool,
    window: Mutex<Window>,
    refusals: Mutex<Refusals>,
    refused_senders: Mutex<RefusedSenders>,
    /// Whether senders were refused since the latest event: read by every request that is taken.
    is_refusing: AtomicBool,
    /// The dead letters, one change at a time.
    pub letters: Arc<tokio::sync::Mutex<DeadLetters>>,
}

/// What was refused since it was last reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Requests of verified senders that were refused for their content.
    pub content: u64,
    /// Requests whose sender could not be verified.
    pub unauthenticated: u64,
    /// Why the latest of them was refused.
    pub reason: String,
    /// When it was last reported, in Unix milliseconds.
    reported_ms: i64,
}

/// Requests without a good credential that make a report: fewer are somebody's typing error.
const UNAUTHENTICATED_MIN: u64 = 10;
/// Shortest time between two reports of one source.
pub const REPORT_EVERY_MS: i64 = 60_000;

impl Refusals {
    /// What is to be reported at `now_ms`, at most once a minute.
    fn due(&mut self, now_ms: i64) -> Option<Refusals> {
        let enough = self.content > 0 || self.unauthenticated >= UNAUTHENTICATED_MIN;
        // a clock that stepped back must not keep reports away
        let waited = now_ms.abs_diff(self.reported_ms) >= REPORT_EVERY_MS as u64;
        (enough && waited).then(|| std::mem::replace(self, Refusals { reported_ms: now_ms, ..Refusals::default() }))
    }
}

impl SourceStats {
    pub fn restored(counts: Counts) -> SourceStats {
        let Counts { received, last_ms, refused_senders } = counts;
        SourceStats {
            received: received.into(),
            last_ms: last_ms.into(),
            is_refusing: (refused_senders.in_a_row > 0).into(),
            refused_senders: refused_senders.into(),
            ..SourceStats::default()
        }
    }

    /// Counts from nothing until what was counted before can be read.
    pub fn unread() -> SourceStats {
        SourceStats { is_unread: true.into(), ..SourceStats::default() }
    }

    /// Whether what was counted before is still to be read.
    pub fn is_unread(&self) -> bool {
        self.is_unread.load(Ordering::Acquire)
    }

    /// Adds what was counted before, once.
    pub fn add_earlier(&self, earlier: Counts) {
        if !self.is_unread.swap(false, Ordering::AcqRel) {
            return;
        }
        self.received.fetch_add(earlier.received, Ordering::Relaxed);
        self.last_ms.fetch_max(earlier.last_ms, Ordering::Relaxed);
        let mut refused = self.refused_senders.lock();
        if refused.requests == 0 {
            self.is_refusing.store(earlier.refused_senders.in_a_row > 0, Ordering::Relaxed);
            *refused = earlier.refused_senders;
        } else {
            refused.requests += earlier.refused_senders.requests;
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            received: self.received.load(Ordering::Relaxed),
            last_ms: self.last_ms.load(Ordering::Relaxed),
            refused_senders: self.refused_senders.lock().clone(),
        }
    }

    pub fn took(&self, events: u64, now_ms: i64) {
        self.received.fetch_add(events, Ordering::Relaxed);
        self.last_ms.fetch_max(now_ms, Ordering::Relaxed);
        if self.is_refusing.load(Ordering::Relaxed) {
            let mut refused = self.refused_senders.lock();
            refused.in_a_row = 0;
            self.is_refusing.store(false, Ordering::Relaxed);
        }
        self.changed.store(true, Ordering::Release);
    }

    /// Whether the counters have changed since this was last asked.
    pub fn has_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Acquire)
    }

    /// They could not be written after all, or what was written is lost.
    pub fn still_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }

    pub fn refused_content(&self, reason: &str) {
        let mut refusals = self.refusals();
        refusals.content += 1;
        refusals.reason = reason.into();
    }

    fn refused_sender(&self, reason: &Untrusted, user_agent: Option<&str>, now_ms: i64) {
        let reason = reason.to_string();
        {
            let mut refused = self.refused_senders.lock();
            refused.add(&reason, user_agent, now_ms);
            self.is_refusing.store(true, Ordering::Relaxed);
        }
        self.changed.store(true, Ordering::Release);
        let mut refusals = self.refusals();
        refusals.unauthenticated += 1;
        refusals.reason = reason;
    }

    pub fn report_due(&self, now_ms: i64) -> Option<Refusals> {
        self.refusals().due(now_ms)
    }

    fn refusals(&self) -> parking_lot::MutexGuard<'_, Refusals> {
        self.refusals.lock()
    }
}

/// A source at work.
pub struct ActiveSource {
    pub source: Source,
    /// None: its keys do not open, and it takes nothing until they are rotated.
    verifier: Option<Verifier>,
    /// Of the token that a provider shows when it asks.
    verify_token: Option<TokenHash>,
    /// JSON pointers to what senders prove themselves by in their bodies: nobody else sees it.
    pub secret_fields: Vec<String>,
    /// Whether the address that a sender used says something about it.
    pub reads_address: bool,
    pub stats: Arc<SourceStats>,
    /// Who publishes what comes in here.
    pub by: Arc<str>,
}

/// Why a request gets no further than the address of a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceRefusal {
    #[error("too many requests; wait {wait_ms} ms")]
    Rate { wait_ms: u64, requests: u32 },
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error("the keys of this address cannot be read; its owner has to rotate them")]
    Unusable,
    #[error("this address takes nothing at the moment; send it again later")]
    Paused,
}

impl ActiveSource {
    pub fn new(source: Source, stats: Arc<SourceStats>, seal: &SealKey) -> ActiveSource {
        let verifier = source.verifier(seal).inspect_err(|e| {
            log::error!(source = &*source.id; "a source takes nothing until its secret is rotated: {e}");
        });
        let by = format!("{}{}", Origin::SOURCE, source.id).into();
        let recipes = source.scheme.recipes();
        let secret_fields = recipes.iter().filter_map(|recipe| recipe.token_field.clone()).collect();
        let reads = |recipe: &Recipe| recipe.reads_address();
        let asks = source.scheme.authentication.preset().is_some_and(|preset| preset.handshake.is_some());
        // a request that is kept has its address in it
        let reads_address = source.raw.is_some() || asks || recipes.iter().any(reads);
        drop(recipes);
        let verify_token = source.verify_token(seal);
        ActiveSource { verifier: verifier.ok(), verify_token, secret_fields, reads_address, source, stats, by }
    }

    /// Whether its keys can be read; else it takes nothing until they are rotated.
    pub fn is_usable(&self) -> bool {
        self.verifier.is_some()
    }

    /// Whether something proves who sends.
    pub fn verifies_senders(&self) -> bool {
        self.source.scheme.authentication != Authentication::None
    }

    /// The dead letters of the source, for one at a time.
    pub async fn letters(&self, notes: &Arc<Notes>) -> LockedLetters {
        let letters = self.stats.letters.clone().lock_owned().await;
        LockedLetters { letters, source: self.source.id.clone().into(), notes: notes.clone() }
    }

    /// How many dead letters there are; none where that cannot be read.
    pub async fn count_letters(&self, notes: &Arc<Notes>) -> usize {
        let letters = self.letters(notes).await;
        match letters.run(|letters, notes, source| letters.count(notes, source)).await {
            Ok((_, count)) => count,
            Err(e) => {
                log::warn!(source = &*self.source.id; "the dead letters of a source are not counted: {e}");
                0
            }
        }
    }

    /// Counts a request against the rate limit of the source.
    ///
    /// # Errors
    /// [`SourceRefusal::Rate`], with the time after which the next request may come.
    pub fn admit(&self, now_ms: i64) -> Result<(), SourceRefusal> {
        let Some(rate) = self.source.rate_limit else { return Ok(()) };
        let mut window = self.stats.window.lock();
        window
            .take(rate, now_ms.max(0) as u64)
            .map_err(|wait_ms| SourceRefusal::Rate { wait_ms, requests: rate.requests })
    }

    /// Refuses a request whose headers alone show that its sender cannot be verified.
    ///
    /// # Errors
    /// [`SourceRefusal::Untrusted`], or [`SourceRefusal::Unusable`] when the keys cannot be opened.
    pub fn foresee(&self, request: &Incoming<'_>, now_ms: i64) -> Result<(), SourceRefusal> {
        let verifier = self.verifier.as_ref().ok_or(SourceRefusal::Unusable)?;
        Ok(verifier.foresee(request, now_ms).inspect_err(|e| self.refused_sender(e, request, now_ms))?)
    }

    fn refused_sender(&self, reason: &Untrusted, request: &Incoming<'_>, now_ms: i64) {
        self.stats.refused_sender(reason, request.headers.get("user-agent"), now_ms);
    }

    /// Whether the headers alone verify the sender, where that can be said without the body.
    pub fn verify_headers(&self, request: &Incoming<'_>, now_ms: i64) -> Option<Proof> {
        let verifier = self.verifier.as_ref().filter(|verifier| verifier.needs_no_body() && !self.source.paused)?;
        verifier.verify(request, now_ms).ok()
    }

    /// The answer to a provider that asks without a signature whether somebody is there; none where nobody asks. With a
    /// problem comes what it is about.
    ///
    /// # Errors
    /// The question cannot be answered: the text to be sent back is missing or too long, or has a character that may
    /// not be.
    pub fn answer(&self, request: &Incoming<'_>) -> Option<Result<Reply, (&'static str, handshake::Unanswered)>> {
        let handshake = self.source.scheme.authentication.preset()?.handshake?;
        if self.source.paused {
            return None;
        }
        let is_token = |given: &str| self.verify_token.as_ref().is_some_and(|token| TokenHash::of(given).is(token));
        handshake::unsigned(handshake, request, is_token)
    }

    /// What of a request is not kept because it is the secret itself: headers and parameters.
    pub fn secret_places(&self) -> (Vec<String>, Vec<String>) {
        let recipes = self.source.scheme.recipes();
        let headers = recipes.iter().filter_map(Recipe::secret_header).map(str::to_owned).collect();
        (headers, recipes.iter().filter_map(|recipe| recipe.token_query.clone()).collect())
    }

    /// Whether its provider asks without a signature, so that what proves nothing may still be answered.
    pub fn asks_unsigned(&self) -> bool {
        let handshake = self.source.scheme.authentication.preset().and_then(|preset| preset.handshake);
        handshake.is_some_and(handshake::is_unsigned)
    }

    /// The hexadecimal HMAC of a text with the key of the source.
    pub fn hex_of(&self, text: &str) -> Option<String> {
        self.verifier.as_ref()?.hex_of(text)
    }

    /// Why a sender would be verified or not. Nothing is counted.
    pub fn explain(&self, request: &Incoming<'_>, now_ms: i64) -> Option<Explained> {
        Some(self.verifier.as_ref()?.explain(request, now_ms))
    }

    /// Verifies the sender of a request, by its headers and the raw bytes of its body.
    ///
    /// # Errors
    /// [`SourceRefusal::Untrusted`] says what does not fit, [`SourceRefusal::Unusable`] when the keys cannot be opened.
    /// A sender that is believed gets [`SourceRefusal::Paused`] when the source is paused.
    pub fn verify(&self, request: &Incoming<'_>, now_ms: i64) -> Result<Proof, SourceRefusal> {
        let verifier = self.verifier.as_ref().ok_or(SourceRefusal::Unusable)?;
        let proof = verifier.verify(request, now_ms).inspect_err(|e| self.refused_sender(e, request, now_ms))?;
        if self.source.paused { Err(SourceRefusal::Paused) } else { Ok(proof) }
    }
}

pub struct SourceRegistry {
    pub limits: SourceLimits,
    sources: RwLock<HashMap<SourceId, Arc<ActiveSource>>>,
}

impl SourceRegistry {
    pub fn new(limits: SourceLimits) -> SourceRegistry {
        SourceRegistry { limits, sources: RwLock::default() }
    }

    pub fn get(&self, id: &str) -> Option<Arc<ActiveSource>> {
        self.sources.read().get(id).cloned()
    }

    /// Puts a source in, in place of the one with its id.
    pub fn put(&self, live: ActiveSource) -> Arc<ActiveSource> {
        let live = Arc::new(live);
        let mut sources = self.sources.write();
        sources.insert(live.source.id.clone(), live.clone());
        live
    }

    /// Takes a source out, and returns it.
    pub fn remove(&self, id: &str) -> Option<Arc<ActiveSource>> {
        self.sources.write().remove(id)
    }

    /// The sources of a channel, or all, the oldest first.
    pub fn list(&self, channel: Option<ChannelNo>) -> Vec<Arc<ActiveSource>> {
        let of_channel = |live: &&Arc<ActiveSource>| channel.is_none_or(|no| live.source.channel_no() == no);
        let mut list: Vec<_> = self.sources.read().values().filter(of_channel).cloned().collect();
        list.sort_by(|a, b| (a.source.inserted_ms, &a.source.id).cmp(&(b.source.inserted_ms, &b.source.id)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_reported_at_most_once_a_minute_and_a_few_wrong_keys_not_at_all() {
        let stats = SourceStats::default();
        let now = 1_000_000_000;
        for _ in 0..UNAUTHENTICATED_MIN - 1 {
            stats.refused_sender(&Untrusted::ApiKey, None, now);
        }
        assert_eq!(stats.report_due(now), None);
        stats.refused_sender(&Untrusted::ApiKey, None, now);
        let report = stats.report_due(now).expect("a report");
        assert_eq!((report.content, report.unauthenticated), (0, UNAUTHENTICATED_MIN));
        stats.refused_content("no JSON");
        assert_eq!(stats.report_due(now + REPORT_EVERY_MS - 1), None);
        stats.refused_content("no JSON at all");
        let report = stats.report_due(now + REPORT_EVERY_MS).expect("a report");
        assert_eq!((report.content, report.reason.as_str()), (2, "no JSON at all"));
        assert_eq!(stats.report_due(now + 10 * REPORT_EVERY_MS), None);
    }

    #[test]
    fn counters_are_written_when_they_have_changed() {
        let counts = |received| Counts { received, last_ms: 50, ..Counts::default() };
        let stats = SourceStats::restored(counts(5));
        assert!(!stats.has_changed());
        stats.took(2, 40);
        assert!(stats.has_changed());
        assert_eq!(stats.counts(), counts(7));
        assert!(!stats.has_changed());
        stats.still_changed();
        assert!(stats.has_changed());
    }

    #[test]
    fn what_could_not_be_read_at_the_start_is_added_later_and_once() {
        let mut earlier = Counts { received: 5, last_ms: 50, ..Counts::default() };
        earlier.refused_senders.add("no key", None, 20);
        let stats = SourceStats::unread();
        stats.took(2, 90);
        assert!(stats.is_unread());
        stats.add_earlier(earlier.clone());
        stats.add_earlier(earlier.clone());
        let counts = stats.counts();
        assert_eq!((counts.received, counts.last_ms, &counts.refused_senders), (7, 90, &earlier.refused_senders));
        let stats = SourceStats::unread();
        stats.refused_sender(&Untrusted::ApiKey, None, 80);
        stats.add_earlier(earlier);
        let refused = stats.counts().refused_senders;
        assert_eq!((refused.requests, refused.last_ms), (2, 80), "the latest is described");
    }

    #[test]
    fn refused_senders_are_counted_the_latest_is_described_and_an_event_ends_the_row() {
        let stats = SourceStats::default();
        let long = "x".repeat(10_000);
        for at in [10, 20, 30] {
            stats.refused_sender(&Untrusted::Missing(long.clone().into()), Some(&long), at);
        }
        let refused = stats.counts().refused_senders;
        assert_eq!((refused.requests, refused.in_a_row, refused.since_ms, refused.last_ms), (3, 3, 10, 30));
        assert_eq!(refused.reason.chars().count(), REASON_CHARS_MAX);
        assert_eq!(refused.user_agent.map(|name| name.chars().count()), Some(USER_AGENT_CHARS_MAX));
        // over a restart
        let stats = SourceStats::restored(stats.counts());
        stats.took(1, 40);
        assert_eq!(stats.counts().refused_senders.in_a_row, 0);
        stats.refused_sender(&Untrusted::Mismatch, None, 50);
        let refused = stats.counts().refused_senders;
        assert_eq!((refused.requests, refused.in_a_row, refused.since_ms, refused.last_ms), (4, 1, 50, 50));
        assert_eq!((refused.reason, refused.user_agent), (Untrusted::Mismatch.to_string(), None));
    }

    #[test]
    fn counters_that_were_written_before_senders_were_counted_are_read() {
        let counts: Counts = serde_json::from_str(r#"{"received":5,"last_ms":50}"#).expect("counters");
        assert_eq!(counts, Counts { received: 5, last_ms: 50, ..Counts::default() });
    }
}
