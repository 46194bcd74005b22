//! The machine, what is done to it, and the lives of the server on it.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;

use super::clients::{self, Shared, draw};
use super::config::{DATA, config};
use super::coverage::EngineCoverage;
use super::model::{Fate, Found};
use crate::clock::{self, Clock, SimulatedClock};
use crate::delivery::http::simulated as receivers;
use crate::disk::failure::{Fault, Point};
use crate::disk::{Disk, chance};
use crate::hub::ground::{Ground, Threads};
use crate::hub::{Hub, HubError};
use crate::journal::{Round, Upkeep, Worker};
use crate::streams::{SessionEnd, shard};

const ADMIN: &str = "the-admin-token-of-the-simulation";
/// Room for everything that a run writes, and for the databases of some generations.
const CAPACITY_BYTES: u64 = 512 << 20;
/// How often everybody gets a turn after each step. What takes more goes on while the next thing happens.
const TURNS: usize = 12;
/// Of a piece of the write-ahead log.
const PIECE_BYTES: u32 = 256 << 10;
/// So many rounds a start may take.
const START_ROUNDS: usize = 10_000;
/// So many rounds of time pass in the end until nothing is under way any more: time for a probe of a webhook, at the latest
/// after some six minutes, and for what waits behind it.
const END_ROUNDS: usize = 60;
const END_ROUND_MS: u64 = 8_000;

/// How the last life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastEnd {
    /// The server is stopped in order.
    Stop,
    /// The process is killed behind a commit that nobody waits for, because a spoilt last record may be lost in silence.
    Kill,
}

/// How a life of the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Crash,
    Stop,
    /// The run is over.
    Over,
}

type Store = Rc<RefCell<Option<(Worker, Upkeep)>>>;

/// One life.
pub(super) struct Server {
    pub(super) hub: Hub,
    pub(super) store: Store,
}

pub struct World {
    seed: u64,
    pub(super) clock: Arc<SimulatedClock>,
    disk: Disk,
    pub(super) model: Shared,
    steps: usize,
    last: LastEnd,
    /// The number of the next event.
    pub(super) next: u64,
    pub reached: EngineCoverage,
}

impl World {
    pub fn new(seed: u64) -> World {
        let clock = Arc::new(SimulatedClock::new(seed, 1_800_000_000_000));
        let model = Shared::default();
        let disk = Disk::simulated(seed);
        let parent = PathBuf::from(DATA);
        disk.create_dir_all(parent.parent().expect("a folder")).expect("a folder");
        disk.sync_dir(Path::new("/")).expect("a folder that is there for good");
        let world = World {
            seed,
            clock,
            disk,
            model,
            steps: 0,
            last: LastEnd::Stop,
            next: 1,
            reached: EngineCoverage::default(),
        };
        world.stand_here();
        world
    }

    pub fn trace(&self) -> Vec<String> {
        // a panic may have come in the middle of a change
        self.model.try_borrow().map_or_else(|_| Vec::new(), |model| model.trace.clone())
    }

    /// What is done on this thread from now on is done in this world.
    pub fn stand_here(&self) {
        clock::set_here(Some(self.clock.clone()));
        receivers::set_here(Some(clients::receivers(&self.model, &self.clock)));
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Starts a server on this disk and looks at what is there; an error says why it does not start.
    pub fn look_at(&self, disk: &Disk) -> Result<Found, String> {
        let runner = actix_rt::System::new();
        let found = runner.block_on(async {
            let server = self.start(disk).await.map_err(|e| e.to_string())?;
            Ok(self.found(&server))
        });
        drop(runner);
        self.leave_life();
        found
    }

    /// What was under way ends, wherever it was.
    fn leave_life(&self) {
        shard::forget_here();
        self.clock.forget_timers();
    }

    pub fn run(&mut self, steps: usize, last: LastEnd) {
        (self.steps, self.last) = (steps, last);
        loop {
            let runner = actix_rt::System::new();
            let end = runner.block_on(self.live());
            drop(runner);
            self.leave_life();
            self.model.borrow_mut().forget();
            match end {
                End::Crash => self.crash(),
                End::Stop => self.clock.advance(1_000),
                End::Over => break,
            }
        }
        let model = self.model.borrow();
        let with = |fate: Fate| model.events.values().filter(|event| event.fate == fate).count();
        let reached = &mut self.reached;
        (reached.acknowledged, reached.refused, reached.unknown) =
            (with(Fate::Stored), with(Fate::Refused), with(Fate::Unknown));
        reached.shown = model.readers.iter().map(|reader| reader.got.len()).sum();
        reached.delivered = model.hooks.iter().map(|hook| hook.got.len()).sum();
        (reached.gaps, reached.attempts) = (model.gaps, model.attempts);
        reached.revoked = model.tokens.iter().filter(|token| token.life.has_surely_ended()).count();
        reached.deleted = model.maps.iter().filter(|map| map.life.has_surely_ended()).count()
            + model.hooks.iter().filter(|hook| hook.life.has_surely_ended()).count();
    }

    pub(super) fn draw(&self, below: u64) -> u64 {
        draw(&self.clock, below)
    }

    pub(super) fn chance(&self, one_in: u64) -> bool {
        self.draw(one_in) == 0
    }

    pub(super) fn pick(&self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.draw(count as u64) as usize)
    }

    fn say(&self, what: impl Into<String>) {
        self.model.borrow_mut().say(what);
    }

    fn heal(&mut self) {
        chance::heal(&self.disk, CAPACITY_BYTES);
    }

    /// The power goes.
    fn crash(&mut self) {
        self.reached.crashes += 1;
        self.say("a power cut");
        let seed = self.draw(u64::MAX);
        self.disk = self.disk.after_crash(seed).expect("a simulated disk");
        self.clock.advance(1_000);
        if self.chance(2) {
            self.clock.reboot();
        }
    }

    /// The server starts, does what it is made to do, and ends.
    async fn live(&mut self) -> End {
        self.heal();
        let server = self.start(&self.disk).await.unwrap_or_else(|e| panic!("the server does not start: {e}"));
        let found = self.found(&server);
        self.model.borrow_mut().check(&found, "after a start");
        for reader in 0..self.model.borrow().readers.len() {
            self.let_read(&server, reader);
        }
        let end = loop {
            if self.steps == 0 {
                break End::Over;
            }
            self.steps -= 1;
            match self.draw(1000) {
                0..170 => self.publish(&server),
                170..180 => self.make_source(&server),
                180..216 => self.arrive(&server),
                216..220 => self.delete_source(&server),
                220..245 => self.make_map(&server),
                245..290 => self.make_token(&server),
                290..330 => self.revoke(&server),
                330..360 => self.make_hook(&server),
                360..372 => self.delete_hook(&server),
                372..376 => self.delete_map(&server),
                376..395 => self.add_reader(&server),
                395..620 => self.work(&server),
                620..720 => self.keep_up(&server),
                720..920 => self.pass(self.draw(1_500)).await,
                920..925 => self.pass(600_000).await,
                // somebody sets the clock
                925..930 => self.set_clock(),
                930..955 => self.fail(),
                955..972 => self.disk.faults().clear_all(),
                972..978 => self.kill_an_actor(),
                978..992 => break End::Crash,
                _ => break End::Stop,
            }
            self.turn().await;
            self.look(&server);
        };
        match end {
            End::Crash => {}
            End::Stop => self.stop(server).await,
            End::Over => self.end(server).await,
        }
        end
    }

    /// Waits for something while everything else goes on.
    pub(super) async fn wait<T>(&self, server: &Server, what: impl Future<Output = T>) -> T {
        let mut what = Box::pin(what);
        for _ in 0..START_ROUNDS {
            if let Poll::Ready(output) = poll(what.as_mut()).await {
                return output;
            }
            self.go_on(&server.store, 10).await;
        }
        panic!("it does not come");
    }

    /// The same while upkeep stands still: nothing is sealed or dropped.
    pub(super) async fn wait_unkept<T>(&self, server: &Server, what: impl Future<Output = T>) -> T {
        let mut what = Box::pin(what);
        for _ in 0..START_ROUNDS {
            if let Poll::Ready(output) = poll(what.as_mut()).await {
                return output;
            }
            work(&server.store);
            self.clock.advance(10);
            tokio::task::yield_now().await;
        }
        panic!("it does not come");
    }

    /// Everything goes on for so many milliseconds.
    pub(super) async fn go_on(&self, store: &Store, ms: u64) {
        work(store);
        if let Some((_, upkeep)) = &mut *store.borrow_mut() {
            upkeep.step(None);
        }
        self.clock.advance(ms);
        tokio::task::yield_now().await;
    }

    /// Starts a server on this disk.
    pub(super) async fn start(&self, disk: &Disk) -> Result<Server, HubError> {
        let store = Store::default();
        let taken = store.clone();
        let threads = Threads::Here(Box::new(move |worker, upkeep| *taken.borrow_mut() = Some((worker, upkeep))));
        let ground = Ground {
            disk: disk.clone(),
            clock: Clock::simulated(self.clock.clone()),
            piece_bytes: Some(PIECE_BYTES),
            threads,
        };
        let mut starting = Box::pin(Hub::start_on(ground, config(self.seed), Some(ADMIN.into())));
        let mut rounds = 0;
        let started = loop {
            if let Poll::Ready(started) = poll(starting.as_mut()).await {
                break started;
            }
            self.go_on(&store, 10).await;
            rounds += 1;
            assert!(rounds < START_ROUNDS, "the server does not end its start");
        };
        Ok(Server { hub: started?.hub, store })
    }

    /// The server is stopped in order.
    async fn stop(&mut self, server: Server) {
        self.heal();
        self.reached.restarts += 1;
        self.say("a stop");
        let patience = Duration::from_secs(8);
        let Server { hub, store } = server;
        let stopping = async {
            hub.end_sessions(SessionEnd::Shutdown).await;
            hub.end_deliveries(patience).await;
            hub.stop(patience).await;
        };
        let mut stopping = Box::pin(stopping);
        let mut rounds = 0;
        while poll(stopping.as_mut()).await.is_pending() {
            self.go_on(&store, 100).await;
            rounds += 1;
            assert!(rounds < 1_000, "the server does not stop");
        }
        if let Some((mut worker, mut upkeep)) = store.borrow_mut().take() {
            while worker.step() == Round::Worked {}
            worker.stop();
            self.step_upkeep(&mut upkeep);
        }
    }

    /// Everything heals, time passes, and in the end nobody waits for anything.
    async fn end(&mut self, server: Server) {
        self.heal();
        self.model.borrow_mut().is_healed = true;
        for _ in 0..END_ROUNDS {
            work(&server.store);
            self.keep_up(&server);
            self.turn().await;
            self.pass(END_ROUND_MS).await;
        }
        self.turn().await;
        let found = self.found(&server);
        self.check_end(&found);
        match self.last {
            LastEnd::Stop => self.stop(server).await,
            LastEnd::Kill => {
                if self.some_map().is_some() {
                    self.publish(&server);
                } else {
                    self.make_map(&server);
                }
                self.turn().await;
                self.work(&server);
                // nobody is answered any more
                self.model.borrow_mut().forget();
            }
        }
    }

    fn check_end(&self, found: &Found) {
        let mut model = self.model.borrow_mut();
        model.check(found, "in the end");
        let waits = model.events.values().any(|event| event.fate == Fate::Waiting);
        assert!(!waits, "something is never answered");
        model.check_end(found);
    }

    /// Everybody gets some turns.
    async fn turn(&self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        let broken = self.model.borrow().broken.clone();
        if let Some(what) = broken {
            panic!("{what}");
        }
    }

    /// Lets a client do something beside everything else. What it panics over is told to the simulation.
    pub(super) fn go(&self, what: impl Future<Output = ()> + 'static) {
        let model = self.model.clone();
        actix_rt::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(what).catch_unwind().await {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                model.borrow_mut().broken.get_or_insert(text.unwrap_or_else(|| "a client panicked".into()));
            }
        });
    }

    async fn pass(&self, ms: u64) {
        // in parts, because what is done at one moment makes what is due at another
        for _ in 0..4 {
            self.clock.advance(ms / 4);
            self.turn().await;
        }
    }

    fn set_clock(&self) {
        let now = self.clock.moment().wall_ms;
        let hours = 1 + self.draw(48);
        let to = if self.chance(2) { now + hours * 3_600_000 } else { now - hours * 3_600_000 };
        self.say(format!("the clock is set to {to}"));
        self.clock.set_wall(to);
    }

    fn work(&self, server: &Server) {
        work(&server.store);
    }

    fn keep_up(&mut self, server: &Server) {
        if let Some((_, upkeep)) = &mut *server.store.borrow_mut() {
            self.step_upkeep(upkeep);
        }
    }

    /// A step of upkeep, of which is noted what it came to.
    fn step_upkeep(&mut self, upkeep: &mut Upkeep) {
        let before = upkeep.counts();
        upkeep.step(None);
        let after = upkeep.counts();
        self.reached.sealed += after.sealed - before.sealed;
        self.reached.dropped += after.dropped - before.dropped;
        self.reached.generations += after.generations - before.generations;
    }

    fn fail(&mut self) {
        let disk = self.disk.clone();
        let done = chance::fail_somewhere(&disk, |below| self.draw(below));
        self.say(done);
    }

    /// An actor panics over the next batch.
    fn kill_an_actor(&mut self) {
        let point = [Point::ChannelBatch, Point::ShardBatch, Point::StartActor][self.draw(3) as usize];
        self.say(format!("{} panics", point.name()));
        self.reached.deaths += 1;
        self.disk.faults().set(point, Fault::panic().times(1));
    }
}

/// How far a future is.
async fn poll<F: Future>(mut what: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(what.as_mut().poll(cx))).await
}

/// The worker of the store does what waits for it.
fn work(store: &Store) {
    if let Some((worker, _)) = &mut *store.borrow_mut() {
        while worker.step() == Round::Worked {}
    }
}
