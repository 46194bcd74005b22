//! Scans: requests that look at many events to answer with few. A page of history with a filter, statistics and counts are
//! such.
//!
//! Each has a budget of events and of steps of its filter, a token has only so many at once, and the work is done in slices on
//! threads of its own ([`crate::compute`]). A scan whose client is gone ends at its next slice, because what waits for it is
//! dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Hub;
use super::rooms::Rooms;
use crate::catalog::reader::ReadError;
use crate::clock;
use crate::compute::{Ended, Slice, Tenant};
use crate::feed::frame::Frame;
use crate::metrics::Shed;
use crate::model::access::Principal;
use crate::model::filter::{Filter, FilterError, FilterSpec};

/// How long a scan waits for another one of its token to end.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// Scans of one token that may wait; one more is refused at once.
pub const WAITING_MAX: usize = 64;

/// The settings of scans.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimits {
    /// Events that one scan looks at.
    pub events: usize,
    /// Steps that filters take in one scan.
    pub filter_steps: u64,
    /// Scans of one token at once. 0 = no limit.
    pub per_token: usize,
}

/// Why a scan has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("the request looks at more than {value} {what}; ask for less, or with a cheaper filter")]
    TooExpensive { setting: &'static str, value: u64, what: &'static str },
    #[error("this token has {per_token} scans under way; wait for one of them")]
    TooMany { per_token: usize },
    #[error("the server has no memory left for this; try again")]
    Memory,
    #[error("the server is stopping; try again")]
    Ended,
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<Ended> for ScanError {
    fn from(_: Ended) -> ScanError {
        ScanError::Ended
    }
}

/// What one scan may still do.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanBudget {
    limits: ScanLimits,
    events: usize,
    steps: u64,
}

impl ScanBudget {
    pub fn new(limits: ScanLimits) -> ScanBudget {
        ScanBudget { limits, events: limits.events, steps: limits.filter_steps }
    }

    /// Without a limit, for work that something else bounds.
    pub fn endless(limits: ScanLimits) -> ScanBudget {
        ScanBudget { limits, events: usize::MAX, steps: u64::MAX }
    }

    /// Whether the frame passes the filter, paid for.
    pub fn judge(&mut self, frame: &Frame, filter: &Filter, rooms: &Rooms) -> bool {
        let judged = frame.judge(filter);
        self.events = self.events.saturating_sub(1);
        self.steps = self.steps.saturating_sub(judged.steps);
        if judged.is_spent {
            rooms.metrics.shed(Shed::Filter);
        }
        judged.verdict.is_match()
    }

    /// Pays for an event that needs no judgement, or for a page without any event that anyone may see.
    pub fn read_nothing(&mut self) {
        self.events = self.events.saturating_sub(1);
    }

    /// Why nothing more may be done; none: it may.
    pub fn used_up(&self) -> Option<ScanError> {
        if self.events == 0 {
            let (setting, value) = ("limits.scan_events", self.limits.events as u64);
            return Some(ScanError::TooExpensive { setting, value, what: "events" });
        }
        let (setting, value) = ("limits.filter_steps_per_request", self.limits.filter_steps);
        (self.steps == 0).then_some(ScanError::TooExpensive { setting, value, what: "steps of its filter" })
    }
}

/// Counts the scans of each token. One short lock where a scan begins and where it ends.
#[derive(Debug)]
pub(super) struct Scans {
    per_token: usize,
    tokens: Mutex<HashMap<Arc<str>, TokenScans>>,
}

/// The scans of one token.
#[derive(Debug)]
struct TokenScans {
    /// A permit for each that may be under way.
    free: Arc<Semaphore>,
    /// Scans that are under way or wait.
    count: usize,
}

/// Counts a scan that is under way or waits, until it is dropped.
struct Counted {
    scans: Arc<Scans>,
    token: Arc<str>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut tokens = self.scans.tokens.lock();
        if let Some(of_token) = tokens.get_mut(&self.token) {
            of_token.count -= 1;
            if of_token.count == 0 {
                tokens.remove(&self.token);
            }
        }
    }
}

/// The right to scan, until it is dropped.
pub(super) struct ScanPermit {
    _permit: Option<OwnedSemaphorePermit>,
    _counted: Option<Counted>,
}

impl Scans {
    /// `per_token` 0 = no limit.
    pub fn new(per_token: usize) -> Arc<Scans> {
        Arc::new(Scans { per_token, tokens: Mutex::default() })
    }

    /// A place among the scans of the token; waits for one as long as `patience` says, or for ever.
    ///
    /// # Errors
    /// There is none in that time, or too many wait.
    pub async fn place(
        self: &Arc<Self>,
        token: &Arc<str>,
        patience: Option<Duration>,
    ) -> Result<ScanPermit, ScanError> {
        if self.per_token == 0 {
            return Ok(ScanPermit { _permit: None, _counted: None });
        }
        let too_many = ScanError::TooMany { per_token: self.per_token };
        let (free, counted) = {
            let mut tokens = self.tokens.lock();
            let fresh = || TokenScans { free: Arc::new(Semaphore::new(self.per_token)), count: 0 };
            let of_token = tokens.entry(token.clone()).or_insert_with(fresh);
            if patience.is_some() && of_token.count >= self.per_token + WAITING_MAX {
                return Err(too_many);
            }
            of_token.count += 1;
            (of_token.free.clone(), Counted { scans: self.clone(), token: token.clone() })
        };
        let permit = match patience {
            Some(patience) => clock::timeout(patience, free.acquire_owned()).await.map_err(|_| too_many)?,
            None => free.acquire_owned().await,
        };
        // the semaphore is never closed
        Ok(ScanPermit { _permit: permit.ok(), _counted: Some(counted) })
    }
}

impl Hub {
    /// The filter that a caller asks for, compiled on a thread for that if it is new.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub async fn filter(&self, principal: &Principal, spec: &FilterSpec) -> Result<Filter, FilterError> {
        if let Some(filter) = Filter::ready(spec)? {
            return Ok(filter);
        }
        let spec = spec.clone();
        let compiled = self.rooms.scan_threads.run(Tenant::of(principal), move || Filter::compile(&spec)).await;
        compiled.unwrap_or(Err(FilterError::Busy))
    }

    /// Does a scan for a caller: `step` is called until it returns something, a slice at a time.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        principal: &Principal,
        patience: Option<Duration>,
        mut step: impl FnMut(&Rooms, &mut Slice) -> Option<Result<T, ScanError>> + Send + 'static,
    ) -> Result<T, ScanError> {
        let place = self.rooms.scans.place(&principal.id, patience).await;
        let _place = place.inspect_err(|_| self.rooms.metrics.shed(Shed::Scan))?;
        let rooms = self.rooms.clone();
        self.rooms.scan_threads.slices(Tenant::of(principal), move |slice| step(&rooms, slice)).await?
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    fn waits<F: Future + Unpin>(place: &mut F) -> bool {
        Pin::new(place).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    const MOMENT: Option<Duration> = Some(Duration::from_millis(10));

    #[tokio::test]
    async fn a_token_has_so_many_scans_at_once_and_the_next_one_waits_for_one_of_them() {
        let scans = Scans::new(2);
        let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
        let first = scans.place(&greedy, MOMENT).await.expect("there is room");
        let second = scans.place(&greedy, MOMENT).await.expect("there is room");
        let refused = scans.place(&greedy, MOMENT).await;
        assert!(matches!(refused, Err(ScanError::TooMany { per_token: 2 })));
        assert!(scans.place(&other, MOMENT).await.is_ok(), "another token has its own");
        let waits = tokio::spawn({
            let (scans, greedy) = (scans.clone(), greedy.clone());
            async move { scans.place(&greedy, None).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waits.await.expect("it ends"));
        drop(second);
        assert!(scans.tokens.lock().is_empty(), "nothing is remembered of those that ended");
    }

    #[tokio::test]
    async fn those_who_wait_are_bounded_and_a_client_that_leaves_makes_room() {
        let scans = Scans::new(1);
        let token: Arc<str> = "greedy".into();
        let place = scans.place(&token, MOMENT).await.expect("there is room");
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(scans.place(&token, Some(WAIT_MAX)))).collect();
        for wait in &mut waiting {
            assert!(waits(wait));
        }
        assert!(scans.place(&token, Some(WAIT_MAX)).await.is_err(), "at once");
        waiting.pop();
        assert!(waits(&mut Box::pin(scans.place(&token, Some(WAIT_MAX)))));
        drop((place, waiting));
        assert!(scans.tokens.lock().is_empty());
        assert!(Scans::new(0).place(&token, MOMENT).await.is_ok(), "no limit");
    }
}
