//! From a host name to addresses: the system's resolver, or another in its place.
//!
//! `getaddrinfo` blocks, for many seconds when a name server is silent. So lookups have threads of their own, which stay
//! for a while for the next ones. There is one lookup per name at a time however many deliveries wait for it, and no more
//! than [`LOOKUPS_MAX`] at once. A caller may stop waiting at any time; the lookup then ends by itself, bounded by the
//! system's own time limits.
//!
//! It is `getaddrinfo` and no resolver of our own because that follows `/etc/nsswitch.conf` and changes of
//! `/etc/resolv.conf`, as every other program of the machine does.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::disk::{Disk, Faults, Point};

/// Lookups of the system's resolver that run at once in the process: more than one owner has webhooks, so that names whose
/// servers are silent do not keep those of others from being looked up.
pub const LOOKUPS_MAX: usize = 256;

/// The stack of a thread that looks up names: glibc's resolver keeps its buffers there.
const STACK_BYTES: usize = 256 * 1024;

/// A thread that had no name to look up for so long ends.
const LINGER: Duration = Duration::from_secs(10);

type Addresses = io::Result<Vec<IpAddr>>;
type Lookup = Pin<Box<dyn Future<Output = Addresses> + Send>>;

/// A shareable way to look up host names.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Fn(String) -> Lookup + Send + Sync>);

impl Resolver {
    /// A resolver of the caller's own, for example one that asks a particular name server.
    pub fn new<F, L>(lookup: F) -> Resolver
    where
        F: Fn(String) -> L + Send + Sync + 'static,
        L: Future<Output = Addresses> + Send + 'static,
    {
        Resolver(Arc::new(move |host| Box::pin(lookup(host))))
    }

    /// The system's resolver (`getaddrinfo`: `/etc/hosts`, then the name servers of `/etc/resolv.conf`).
    pub fn system() -> Resolver {
        let system = Arc::new(System::new(Disk::real().faults().clone()));
        Resolver::new(move |host| {
            let system = Arc::clone(&system);
            async move { system.lookup(host, getaddrinfo).await }
        })
    }

    /// The addresses of a host, in the order in which they should be tried.
    ///
    /// # Errors
    /// The host is not known, or the resolver does not answer.
    pub async fn lookup(&self, host: &str) -> Addresses {
        (self.0)(host.to_owned()).await
    }
}

/// What waiters share: an error cannot be cloned, so its kind and text are.
type Shared = Option<Result<Vec<IpAddr>, (io::ErrorKind, String)>>;

struct System {
    running: Mutex<HashMap<String, watch::Receiver<Shared>>>,
    slots: Arc<Semaphore>,
    threads: Arc<Threads>,
    /// What tests let fail.
    faults: Faults,
}

impl System {
    fn new(faults: Faults) -> System {
        let slots = Arc::new(Semaphore::new(LOOKUPS_MAX));
        System { running: Mutex::default(), slots, threads: Arc::default(), faults }
    }

    async fn lookup(self: Arc<Self>, host: String, ask: fn(&str) -> Addresses) -> Addresses {
        let mut answer = match self.running(&host) {
            Some(answer) => answer,
            None => {
                let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(io::Error::other)?;
                self.join(host, slot, ask)?
            }
        };
        let ended = "the lookup ended without an answer";
        match &*answer.wait_for(Option::is_some).await.map_err(|_| io::Error::other(ended))? {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err((kind, text))) => Err(io::Error::new(*kind, text.clone())),
            None => Err(io::Error::other(ended)),
        }
    }

    fn running(&self, host: &str) -> Option<watch::Receiver<Shared>> {
        self.running.lock().get(host).cloned()
    }

    /// Joins the lookup of this name that another began while the slot was waited for, or begins it.
    fn join(
        self: &Arc<Self>,
        host: String,
        slot: OwnedSemaphorePermit,
        ask: fn(&str) -> Addresses,
    ) -> io::Result<watch::Receiver<Shared>> {
        let mut running = self.running.lock();
        if let Some(answer) = running.get(&host) {
            return Ok(answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        running.insert(host.clone(), answer.clone());
        let (name, system) = (host.clone(), Arc::clone(self));
        let work = move || {
            let look_up = || system.faults.check(Point::ResolveName).and_then(|()| ask(&name));
            let found = catch_unwind(AssertUnwindSafe(look_up));
            let found = found.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")));
            let found = found.map_err(|e| (e.kind(), e.to_string()));
            system.running.lock().remove(&name);
            // The slot is free before anyone is told, so that who is told can start the next lookup.
            drop(slot);
            tell.send_replace(Some(found));
        };
        let started = self.threads.run(Box::new(work));
        started.inspect_err(|_| drop(running.remove(&host)))?;
        Ok(answer)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The threads that look names up. There are about as many as lookups at once.
#[derive(Default)]
struct Threads {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The number of each, and where it takes its next lookup from.
    threads: Vec<(u64, mpsc::Sender<Job>)>,
    next: u64,
}

impl Threads {
    /// Gives a lookup to a thread that has none, or to a new one.
    fn run(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let job = match self.idle() {
            // one that is idle waits for what it is sent
            Some(thread) => match thread.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(job)) => job,
            },
            None => job,
        };
        let threads = Arc::clone(self);
        let thread = std::thread::Builder::new().name("dns".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || threads.work(job)).map(drop)
    }

    fn idle(&self) -> Option<mpsc::Sender<Job>> {
        self.idle.lock().threads.pop().map(|(_, thread)| thread)
    }

    /// What a thread does: one lookup after the other.
    fn work(&self, first: Job) {
        let (to_me, jobs) = mpsc::channel();
        let me = {
            let mut idle = self.idle.lock();
            idle.next += 1;
            idle.next
        };
        let mut next = Ok(first);
        while let Ok(job) = next {
            job();
            self.idle.lock().threads.push((me, to_me.clone()));
            next = jobs.recv_timeout(LINGER).or_else(|ended| match self.leave(me) {
                true => Err(ended),
                // it was taken for idle in this moment, and is sent a lookup
                false => Ok(jobs.recv()?),
            });
        }
    }

    /// Whether the thread was idle; it is not any more.
    fn leave(&self, me: u64) -> bool {
        let threads = &mut self.idle.lock().threads;
        let before = threads.len();
        threads.retain(|(thread, _)| *thread != me);
        threads.len() < before
    }
}

fn getaddrinfo(host: &str) -> Addresses {
    let mut addresses: Vec<IpAddr> = (host, 0).to_socket_addrs()?.map(|a| a.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use futures_util::future::{join, join_all};

    use super::*;
    use crate::disk::failure::Fault;

    fn system() -> Arc<System> {
        Arc::new(System::new(Faults::default()))
    }

    #[actix::test]
    async fn the_system_knows_localhost() {
        let found = Resolver::system().lookup("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }

    #[actix::test]
    async fn deliveries_that_wait_for_one_name_share_one_lookup() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static GATE: Mutex<()> = Mutex::new(());
        let hold = GATE.lock();
        let ask = |_: &str| {
            ASKED.fetch_add(1, SeqCst);
            let _open = GATE.lock();
            Ok(vec![IpAddr::from([192, 0, 2, 1])])
        };
        let system = system();
        let open = async { drop(hold) };
        let all = join_all((0..32).map(|_| Arc::clone(&system).lookup("slow.test".to_owned(), ask)));
        let (all, ()) = join(all, open).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        assert_eq!(ASKED.load(SeqCst), 1);
        assert!(system.running.lock().is_empty());
        assert_eq!(system.slots.available_permits(), LOOKUPS_MAX);
    }

    #[actix::test]
    async fn the_next_lookup_takes_the_thread_of_the_last_one() {
        let ask = |_: &str| {
            let id = format!("{:?}", std::thread::current().id());
            Err(io::Error::other(id))
        };
        let system = system();
        let first = Arc::clone(&system).lookup("a.test".to_owned(), ask).await.unwrap_err().to_string();
        // it says that it is idle a moment after it has answered
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while system.threads.idle.lock().threads.is_empty() {
            assert!(std::time::Instant::now() < deadline, "the thread is not idle");
            actix_rt::task::yield_now().await;
        }
        let second = Arc::clone(&system).lookup("b.test".to_owned(), ask).await.unwrap_err().to_string();
        assert_eq!(first, second);
    }

    #[actix::test]
    async fn an_unknown_name_is_an_error_for_every_waiter() {
        let ask = |host: &str| Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} is unknown")));
        let error = system().lookup("nowhere.test".to_owned(), ask).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::NotFound, "nowhere.test is unknown"));
    }

    #[actix::test]
    async fn a_lookup_that_panics_leaves_its_waiters_with_an_error() {
        let ask = |_: &str| -> Addresses { panic!("a bug in the resolver") };
        let system = system();
        assert!(Arc::clone(&system).lookup("bad.test".to_owned(), ask).await.is_err());
        assert!(system.running("bad.test").is_none(), "the name can be asked for again");
    }

    #[actix::test]
    async fn a_lookup_that_failed_is_made_anew_by_who_asks_next() {
        let system = system();
        let ask = |_: &str| Ok(vec![IpAddr::from([192, 0, 2, 1])]);
        system.faults.set(Point::ResolveName, Fault::errno(libc::EIO).times(1));
        let first = Arc::clone(&system).lookup("name.test".to_owned(), ask).await;
        assert!(first.is_err());
        assert_eq!(system.lookup("name.test".to_owned(), ask).await.unwrap().len(), 1);
    }
}
