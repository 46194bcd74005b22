//! Work of the processor that may take long: filters over many events, templates, scans of the log. It is done on a few
//! threads of its own, never on those that serve requests, streams and deliveries, and in slices: after some milliseconds the
//! next one has its turn. Turns go round by tenant, so that one who asks for much waits for itself and not others for it.
//!
//! Pages of the log are read in the same way, by threads of their own: a thread for each would be hundreds of them when many
//! streams and webhooks are behind, which take memory, and the processor from everybody else.
//!
//! The threads are less important to the kernel than those that serve ([`Nice`]), so a busy one delays a request by no more
//! than it takes to be put aside. What nobody waits for any more ends at its next turn. A panic ends the work that it came
//! from, and nothing else.
//!
//! What waits here is bounded by those who ask: each stream, webhook and request has one piece of work at a time.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

#[cfg(test)]
use crate::clock;
use crate::model::access::{Principal, Reach};
use crate::model::event::ChannelNo;
use crate::model::filter;

/// How long one turn takes. Work ends its turn between two operations, each of which is bounded by itself.
pub const SLICE: Duration = Duration::from_millis(3);

/// Whom work is done for. Each has the same share of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenant(u64);

impl Tenant {
    /// The owner of a channel.
    pub fn of_channel(no: ChannelNo) -> Tenant {
        Tenant::hashed(("channel", no.0))
    }

    /// Who holds a token: the owner of its channel, so that more tokens give no larger share.
    pub fn of(principal: &Principal) -> Tenant {
        match &principal.reach {
            Reach::Channel { no, .. } => Tenant::of_channel(*no),
            _ => Tenant::hashed(("token", &*principal.id)),
        }
    }

    fn hashed(what: impl Hash) -> Tenant {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        Tenant(hasher.finish())
    }
}

/// How much the kernel prefers all others, from 0 to 19; those at work together also give way to those of less.
#[derive(Clone, Copy, Debug)]
pub struct Nice(pub i32);

/// A turn.
#[derive(Debug)]
pub struct Slice {
    end: Option<Instant>,
}

impl Slice {
    fn begin() -> Slice {
        Slice { end: Some(Instant::now() + SLICE) }
    }

    /// For work that is bounded by itself and has a thread of its own.
    pub fn endless() -> Slice {
        Slice { end: None }
    }

    /// Whether the next one should have its turn.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work ended without a result, because the server stops or by an error of its own; the log says which")]
pub struct Ended;

/// Does work that waits for the disk on a thread for such work.
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(test)]
    if clock::simulated().is_some() {
        return actix_rt::spawn(async move { work() });
    }
    actix_rt::task::spawn_blocking(work)
}

/// The threads, and what waits for them. A clone shares both.
#[derive(Clone)]
pub struct Compute(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// One piece of work; false: it is done.
type Job = Box<dyn FnMut(&mut Slice) -> bool + Send>;

#[derive(Default)]
struct Queue {
    /// Those who have work that waits, each once, in the order of their turns.
    turns: VecDeque<Tenant>,
    jobs: HashMap<Tenant, VecDeque<Job>>,
    is_stopping: bool,
}

impl Queue {
    fn add(&mut self, tenant: Tenant, job: Job) {
        let waiting = self.jobs.entry(tenant).or_default();
        if waiting.is_empty() {
            self.turns.push_back(tenant);
        }
        waiting.push_back(job);
    }

    fn take(&mut self) -> Option<(Tenant, Job)> {
        let tenant = self.turns.pop_front()?;
        let waiting = self.jobs.get_mut(&tenant)?;
        let job = waiting.pop_front();
        if waiting.is_empty() {
            self.jobs.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        Some((tenant, job?))
    }
}

impl Compute {
    /// Starts the threads, at least one.
    ///
    /// # Errors
    /// The system has none to give.
    pub fn start(name: &str, threads: usize, nice: Nice) -> io::Result<Compute> {
        let shared = Arc::new(Shared { queue: Mutex::default(), arrived: Condvar::new() });
        #[cfg(test)]
        if clock::simulated().is_some() {
            // whoever asks does it
            return Ok(Compute(shared));
        }
        for n in 0..threads.max(1) {
            let shared = shared.clone();
            // filters are compiled here, too
            let thread = std::thread::Builder::new().name(format!("{name}-{n}")).stack_size(filter::STACK_BYTES);
            thread.spawn(move || {
                give_way(nice);
                filter::this_thread_is_deep();
                shared.work();
            })?;
        }
        Ok(Compute(shared))
    }

    /// Does the work in turns, until `step` returns something. Ends when the future is dropped.
    ///
    /// # Errors
    /// The server stops, or `step` panicked.
    pub async fn slices<T: Send + 'static>(
        &self,
        tenant: Tenant,
        mut step: impl FnMut(&mut Slice) -> Option<T> + Send + 'static,
    ) -> Result<T, Ended> {
        #[cfg(test)]
        if clock::simulated().is_some() {
            loop {
                if let Some(result) = step(&mut Slice::endless()) {
                    return Ok(result);
                }
            }
        }
        let (tell, told) = oneshot::channel();
        let mut tell = Some(tell);
        let job: Job = Box::new(move |slice| {
            if tell.as_ref().is_none_or(oneshot::Sender::is_closed) {
                // nobody waits for it any more
                return false;
            }
            let Some(result) = step(slice) else { return true };
            // whoever waited may just have gone
            tell.take().map(|tell| tell.send(result));
            false
        });
        self.0.add(tenant, job);
        told.await.map_err(|_| Ended)
    }

    /// Does the work in one turn, which it has to bound by itself.
    ///
    /// # Errors
    /// The server stops, or `work` panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        tenant: Tenant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let mut work = Some(work);
        self.slices(tenant, move |_| work.take().map(|work| work())).await
    }

    /// Reads from the disk in one turn, which is bounded by the size of a page. What nobody waits for any more is not read.
    ///
    /// # Errors
    /// The server stops, or `read` panicked.
    pub async fn read<T: Send + 'static>(
        &self,
        tenant: Tenant,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Ended> {
        #[cfg(test)]
        if clock::simulated().is_some() {
            // a step of its own, as it is on a thread of its own
            return blocking(read).await.map_err(|_| Ended);
        }
        self.run(tenant, read).await
    }

    /// Work that waits for its turn.
    pub fn waiting(&self) -> usize {
        self.0.queue.lock().jobs.values().map(VecDeque::len).sum()
    }

    /// Ends the threads after their turn. What waits ends without a result.
    pub fn stop(&self) {
        let mut queue = self.0.queue.lock();
        let dropped = std::mem::replace(&mut *queue, Queue { is_stopping: true, ..Queue::default() });
        drop(queue);
        drop(dropped);
        self.0.arrived.notify_all();
    }
}

impl Shared {
    fn add(&self, tenant: Tenant, job: Job) {
        let mut queue = self.queue.lock();
        if queue.is_stopping {
            // its loss tells whoever waits
            return;
        }
        queue.add(tenant, job);
        drop(queue);
        self.arrived.notify_one();
    }

    fn work(&self) {
        loop {
            let (tenant, mut job) = {
                let mut queue = self.queue.lock();
                loop {
                    if queue.is_stopping {
                        return;
                    }
                    match queue.take() {
                        Some(next) => break next,
                        None => self.arrived.wait(&mut queue),
                    }
                }
            };
            let mut slice = Slice::begin();
            match catch_unwind(AssertUnwindSafe(|| job(&mut slice))) {
                Ok(true) => self.add(tenant, job),
                Ok(false) => {}
                Err(_) => log::error!("a piece of work panicked, and whoever waited for it is told"),
            }
        }
    }
}

/// How long a thread asks the kernel to be left running, in nanoseconds, for each step of [`Nice`]; the kernel takes 100 ms at
/// most. Since Linux 6.12 a thread that wakes up and has asked for less takes the place of one that has asked for more at once,
/// and does not wait until that one is interrupted at a tick of the clock, up to 4 ms later. Threads that serve ask for nothing,
/// which is some 3 ms at most. Nobody gets a larger share by that.
#[cfg(target_os = "linux")]
const KERNEL_SLICE_NS: u64 = 10_000_000;

/// Tells the kernel that this thread may wait for others.
fn give_way(Nice(nice): Nice) {
    // SAFETY: no memory is involved. On Linux the 0 means the calling thread alone (setpriority(2), "C library/kernel
    // differences")
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0 {
        log::debug!("a thread keeps its priority: {}", io::Error::last_os_error());
    }
    #[cfg(target_os = "linux")]
    {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: nice,
            sched_priority: 0,
            sched_runtime: KERNEL_SLICE_NS * nice.max(0) as u64,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the kernel reads what `size` says of a struct that outlives the call; 0 means the calling thread
        // (sched_setattr(2))
        if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0 {
            log::debug!("a thread keeps the slice of the kernel: {}", io::Error::last_os_error());
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::future::Future;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    fn one_thread() -> Compute {
        Compute::start("test", 1, Nice(0)).expect("a thread")
    }

    fn tenant(n: u32) -> Tenant {
        Tenant::of_channel(ChannelNo(n))
    }

    /// Holds the thread until the sender is dropped, so that everything asked for meanwhile waits.
    pub async fn held(compute: &Compute) -> (mpsc::Sender<()>, JoinHandle<()>) {
        let (release, released) = mpsc::channel::<()>();
        let (compute, begun) = (compute.clone(), Arc::new(tokio::sync::Notify::new()));
        let tell = begun.clone();
        let task = tokio::spawn(async move {
            let work = move || {
                tell.notify_one();
                assert!(released.recv().is_err(), "it is only dropped");
            };
            compute.run(tenant(0), work).await.expect("it ends");
        });
        begun.notified().await;
        (release, task)
    }

    #[tokio::test]
    async fn turns_go_round_by_tenant_however_much_one_asks_for() {
        let compute = one_thread();
        let (release, holding) = held(&compute).await;
        let turns = Arc::new(Mutex::new(Vec::new()));
        let work = |who: u32, slices: usize| {
            let (compute, turns, mut left) = (compute.clone(), turns.clone(), slices);
            tokio::spawn(async move {
                let step = move |_: &mut Slice| {
                    turns.lock().push(who);
                    left -= 1;
                    (left == 0).then_some(())
                };
                compute.slices(tenant(who), step).await.expect("it ends");
            })
        };
        let greedy: Vec<_> = (0..20).map(|_| work(1, 50)).collect();
        let modest = work(2, 3);
        while compute.waiting() < 21 {
            tokio::task::yield_now().await;
        }
        drop(release);
        modest.await.expect("it ends");
        for task in greedy {
            task.await.expect("it ends");
        }
        holding.await.expect("it ends");
        let turns = turns.lock();
        let last = turns.iter().rposition(|who| *who == 2).expect("it had its turns");
        assert_eq!(turns.len(), 20 * 50 + 3);
        assert!(last <= 6, "of the first turns every second one was its own: {:?}", &turns[..8]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_knows_that_these_threads_give_way() {
        let compute = Compute::start("test", 1, Nice(7)).expect("a thread");
        let held = compute.run(tenant(1), || {
            // SAFETY: the struct consists of numbers
            let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
            let bytes = size_of::<libc::sched_attr>();
            // SAFETY: the kernel writes at most that many bytes; 0 means the calling thread (sched_setattr(2))
            let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, bytes, 0) };
            (done, attributes.sched_nice, attributes.sched_runtime)
        });
        let (done, nice, slice_ns) = held.await.expect("it ends");
        assert_eq!((done, nice), (0, 7));
        // before Linux 6.12 the kernel knows of no slice and says 0
        assert!([0, 7 * KERNEL_SLICE_NS].contains(&slice_ns), "{slice_ns}");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_ends_at_its_next_turn() {
        let compute = one_thread();
        let (slices, is_gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        struct Tells(Arc<AtomicBool>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let (count, tells) = (slices.clone(), Tells(is_gone.clone()));
        let mut endless = Box::pin(compute.slices(tenant(1), move |_| {
            let _held = &tells;
            count.fetch_add(1, Ordering::SeqCst);
            None::<()>
        }));
        while slices.load(Ordering::SeqCst) == 0 {
            assert!(endless.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            tokio::task::yield_now().await;
        }
        drop(endless);
        compute.run(tenant(2), || ()).await.expect("others go on");
        compute.run(tenant(2), || ()).await.expect("others go on");
        assert!(is_gone.load(Ordering::SeqCst), "what it held is given back");
    }

    #[tokio::test]
    async fn a_panic_ends_one_piece_of_work_and_a_stop_all_of_them() {
        let compute = one_thread();
        assert_eq!(compute.run(tenant(1), || panic!("a test")).await, Err::<(), _>(Ended));
        assert_eq!(compute.run(tenant(1), || 1).await, Ok(1));
        let (release, holding) = held(&compute).await;
        let waits = tokio::spawn({
            let compute = compute.clone();
            async move { compute.run(tenant(2), || 2).await }
        });
        while compute.waiting() < 1 {
            tokio::task::yield_now().await;
        }
        compute.stop();
        assert_eq!(waits.await.expect("it is told"), Err(Ended));
        drop(release);
        holding.await.expect("what was under way ends");
        assert_eq!(compute.run(tenant(1), || 1).await, Err(Ended));
    }

    #[test]
    fn more_tokens_of_one_channel_give_no_larger_share() {
        let of = |id: &str, reach| Tenant::of(&Principal { id: id.into(), reach, expires_ms: None });
        let channel = |no| Reach::Channel { no: ChannelNo(no), scopes: Vec::new() };
        assert_eq!(of("tok_1", channel(7)), of("tok_2", channel(7)));
        assert_eq!(of("tok_1", channel(7)), Tenant::of_channel(ChannelNo(7)));
        assert_ne!(of("tok_1", channel(7)), of("tok_1", channel(8)));
        assert_ne!(of("a", Reach::Admin), of("b", Reach::Admin));
    }
}
