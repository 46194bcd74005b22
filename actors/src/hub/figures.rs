//! Figures over time: what was counted is sampled every other second into the series and written twice a minute; what a
//! caller may read of them is put together here.
//!
//! The sampling is a task and no actor: a panic costs one round, and nobody holds an address of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;

use super::rooms::Rooms;
use super::{Hub, ScanError, attention, scan};
use crate::catalog::tables::Tables;
use crate::catalog::webhook::Webhook;
use crate::clock::Rounds;
use crate::compute::{self, Slice};
use crate::documents::notes::Notes;
use crate::metrics::tallies::Taken;
use crate::model::access::{Principal, Scope as Right};
use crate::model::channel::{Channel, ChannelKind};
use crate::model::event::ChannelNo;
use crate::series::names::{Needs, Of, SERIES, Series, Value};
use crate::series::step::{Count, Level};
use crate::series::{Scope, SeriesStore, Step, Window};

const ROUND: Duration = Duration::from_secs(2);
/// A crash costs what was counted since the last write.
const WRITE_EVERY_MS: u64 = 30_000;

/// The series, and what sampling them needs to remember.
pub(super) struct Figures {
    series: SeriesStore,
    /// Events that were handed to streams when that was last looked at.
    streamed: AtomicU64,
    /// Held by the one that writes.
    writer: tokio::sync::Mutex<()>,
    /// Since when what is wrong with the server has been so, in Unix milliseconds.
    since_ms: Mutex<BTreeMap<&'static str, i64>>,
}

impl Figures {
    pub fn new(notes: Arc<Notes>) -> Figures {
        Figures {
            series: SeriesStore::new(notes),
            streamed: AtomicU64::new(0),
            writer: tokio::sync::Mutex::default(),
            since_ms: Mutex::default(),
        }
    }

    /// Since when something has been wrong with the server.
    pub fn since_ms(&self, kind: &str) -> Option<i64> {
        self.since_ms.lock().get(kind).copied()
    }
}

/// Begins the rounds on an arbiter; they end with it.
pub(super) fn start(rooms: Arc<Rooms>, arbiter: &actix_rt::ArbiterHandle) {
    arbiter.spawn(async move {
        let mut timer = Rounds::every(ROUND);
        // the first round writes, because that makes hours of what was left by the server before
        let mut written_ms = None;
        loop {
            timer.due().await;
            let round = async {
                sample(&rooms);
                let now_ms = rooms.clock.moment().elapsed_ms;
                let is_due = written_ms.is_none_or(|at: u64| now_ms.saturating_sub(at) >= WRITE_EVERY_MS);
                if is_due || rooms.figures.series.holds_much() {
                    written_ms = Some(now_ms);
                    write(&rooms).await;
                }
            };
            if AssertUnwindSafe(round).catch_unwind().await.is_err() {
                log::error!("a round over the figures panicked; the next one comes all the same");
            }
        }
    });
}

/// Writes what was sampled, and when tokens were used.
pub(super) async fn write(rooms: &Arc<Rooms>) {
    let _only = rooms.figures.writer.lock().await;
    let (rooms, now_s) = (rooms.clone(), now_s(rooms));
    let write = move || {
        rooms.figures.series.write(now_s);
        let uses = rooms.catalog.read(Tables::unwritten_uses);
        rooms.token_uses.write(&uses, |token| rooms.catalog.token(token).is_some());
    };
    if let Err(e) = compute::blocking(write).await {
        log::error!("figures were not written, which is tried again: {e}");
    }
}

fn now_s(rooms: &Rooms) -> u64 {
    rooms.clock.moment().wall_ms / 1_000
}

/// Adds to the series what was counted since the time before.
pub(super) fn sample(rooms: &Rooms) {
    let metrics = &rooms.metrics;
    let Taken { published, commits, webhooks } = metrics.tallies.take();
    let mut server = Step::default();
    let mut channels: HashMap<ChannelNo, Step> = HashMap::new();
    let mut steps = Vec::new();
    for (no, count) in published {
        server.add(Count::Published, count);
        channels.entry(no).or_default().add(Count::Published, count);
    }
    let mut waiting: HashMap<ChannelNo, Step> = HashMap::new();
    for (tally, attempts) in webhooks {
        let (standing, mut step) = (tally.standing(), Step::default());
        if let Some(attempts) = attempts {
            step.add_attempts(&attempts);
        }
        if standing.lag_ms > 0 {
            step.stands(Level::LagMs, standing.lag_ms);
        }
        if standing.retrying > 0 {
            step.stands(Level::Retrying, u64::from(standing.retrying));
        }
        if !step.is_empty() {
            waiting.entry(tally.channel).or_default().join(&step);
            steps.push((Scope::Webhook(tally.webhook.clone()), step));
        }
    }
    for (no, step) in waiting {
        server.join(&step);
        channels.entry(no).or_default().absorb(&step);
    }
    for (no, count) in rooms.streams.open_by_channel() {
        channels.entry(no).or_default().stands(Level::Connections, count as u64);
    }
    let delivered = metrics.delivered.get();
    server.add(Count::Streamed, delivered.saturating_sub(rooms.figures.streamed.swap(delivered, Ordering::Relaxed)));
    server.commits = commits;
    for (level, at) in [
        (Level::Connections, metrics.streams.get()),
        (Level::DiskFreeBytes, metrics.disk_free_bytes.get()),
        (Level::LogBytes, metrics.log_bytes.get()),
        (Level::MemoryBytes, metrics.resident_bytes.get()),
    ] {
        // 0 is what nothing was measured of yet
        if at > 0 {
            server.stands(level, at as u64);
        }
    }
    steps.push((Scope::Server, server));
    steps.extend(channels.into_iter().map(|(no, step)| (Scope::Channel(no), step)));
    rooms.figures.series.add(now_s(rooms), steps);
    remember_troubles(rooms);
}

/// Notes since when what is wrong with the server has been so.
fn remember_troubles(rooms: &Rooms) {
    let now_ms = rooms.clock.now_ms();
    let troubles = attention::of_server(rooms);
    let mut since_ms = rooms.figures.since_ms.lock();
    since_ms.retain(|kind, _| troubles.iter().any(|(trouble, _)| trouble.name == *kind));
    for (kind, _) in troubles {
        since_ms.entry(kind.name).or_insert(now_ms);
    }
}

/// Whose figures are asked for.
#[derive(Clone)]
pub enum FiguresOf {
    Server,
    /// These together.
    Channels(Vec<Arc<Channel>>),
    Webhook(Arc<Webhook>),
}

impl FiguresOf {
    fn scopes(&self) -> Vec<Scope> {
        match self {
            FiguresOf::Server => vec![Scope::Server],
            FiguresOf::Channels(channels) => channels.iter().map(|channel| Scope::Channel(channel.no())).collect(),
            FiguresOf::Webhook(webhook) => vec![Scope::Webhook(webhook.id.clone())],
        }
    }

    /// When the oldest of them was made, in Unix seconds; before that nothing is known.
    fn made_s(&self) -> u64 {
        let made_ms = match self {
            FiguresOf::Server => Some(0),
            FiguresOf::Channels(channels) => channels.iter().map(|channel| channel.inserted_ms).min(),
            FiguresOf::Webhook(webhook) => Some(webhook.inserted_ms),
        };
        made_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0) / 1_000
    }

    fn has(&self, series: &Series) -> bool {
        match self {
            FiguresOf::Server => true,
            FiguresOf::Channels(_) => series.of != Of::Server,
            FiguresOf::Webhook(_) => series.of == Of::All,
        }
    }
}

/// Series over one window.
#[derive(Debug)]
pub struct Plot {
    pub window: Window,
    pub resolution_s: u64,
    /// Each with its points: when a step begins, in Unix milliseconds, and what it says, if that is known.
    pub series: Vec<(&'static Series, Vec<Point>)>,
}

/// When a step begins, in Unix milliseconds, and what it says, if that is known.
pub type Point = (u64, Option<Value>);

impl Hub {
    /// The channels that a principal reaches, of whatever kind.
    pub fn reached(&self, principal: &Principal) -> Vec<Arc<Channel>> {
        let kinds = [ChannelKind::Map, ChannelKind::Organization];
        let all = kinds.into_iter().flat_map(|kind| self.list(kind));
        all.filter(|channel| principal.reaches(channel)).collect()
    }

    /// Those series of someone that the principal may read.
    ///
    /// # Errors
    /// The principal has too many scans under way, or the server stops.
    pub async fn figures(&self, principal: &Principal, of: FiguresOf, window: Window) -> Result<Plot, ScanError> {
        // so that what happened a moment ago is in it
        sample(&self.rooms);
        let shown: Vec<&'static Series> =
            SERIES.iter().filter(|series| of.has(series) && may_read(principal, series.needs)).collect();
        let mut reading = Reading::new(of, window, now_s(&self.rooms));
        self.scan(principal, Some(scan::WAIT_MAX), move |rooms, slice| {
            reading.step(rooms, slice).map(|()| Ok(reading.plot(&shown)))
        })
        .await
    }
}

fn may_read(principal: &Principal, needs: Needs) -> bool {
    match needs {
        Needs::Subscribe => principal.has(Right::Subscribe).is_ok(),
        Needs::Manage => principal.has(Right::Manage).is_ok(),
        Needs::Admin => principal.is_admin(),
    }
}

/// Series that are being read, one owner after the other.
struct Reading {
    window: Window,
    now_s: u64,
    is_server: bool,
    made_s: u64,
    scopes: std::vec::IntoIter<Scope>,
    /// When steps begin in which the server ran; none: that is not looked up yet.
    known: Option<BTreeSet<u64>>,
    joined: BTreeMap<u64, Step>,
}

impl Reading {
    fn new(of: FiguresOf, window: Window, now_s: u64) -> Reading {
        Reading {
            window,
            now_s,
            is_server: matches!(of, FiguresOf::Server),
            made_s: of.made_s(),
            scopes: of.scopes().into_iter(),
            known: None,
            joined: BTreeMap::new(),
        }
    }

    /// Goes on for a slice; none: there is more to do. Blocks.
    fn step(&mut self, rooms: &Rooms, slice: &mut Slice) -> Option<()> {
        let series = &rooms.figures.series;
        if self.known.is_none() {
            let step_s = self.window.resolution_s(self.is_server);
            let ran = series.read(&Scope::Server, self.window, self.now_s);
            self.known = Some(ran.into_keys().map(|begins_s| begins_s - begins_s % step_s).collect());
        }
        while let Some(scope) = self.scopes.next() {
            for (begins_s, step) in series.read(&scope, self.window, self.now_s) {
                self.joined.entry(begins_s).or_default().join(&step);
            }
            if slice.is_over() && self.scopes.len() > 0 {
                return None;
            }
        }
        Some(())
    }

    fn plot(&mut self, shown: &[&'static Series]) -> Plot {
        let resolution_s = self.window.resolution_s(self.is_server);
        let nothing = Step::default();
        let begins: Vec<u64> = self.window.steps(self.is_server, self.now_s).collect();
        let step_at = |begins_s: u64| {
            let ran = || self.known.as_ref().is_some_and(|known| known.contains(&begins_s));
            let was_there = begins_s + resolution_s > self.made_s;
            self.joined.get(&begins_s).or_else(|| (was_there && ran()).then_some(&nothing))
        };
        let points = |series: &&'static Series| {
            let value = |begins_s: &u64| step_at(*begins_s).and_then(|step| series.value(step));
            (*series, begins.iter().map(|begins_s| (begins_s * 1_000, value(begins_s))).collect())
        };
        Plot { window: self.window, resolution_s, series: shown.iter().map(points).collect() }
    }
}
