//! From a host name to addresses: the system's resolver, or another in its place.
//!
//! `getaddrinfo` blocks, for many seconds when a name server is silent. So each lookup has a thread of its own, there
//! is one lookup per name at a time however many deliveries wait for it, and no more than [`LOOKUPS_MAX`] at once. A
//! caller may stop waiting at any time; the lookup then ends by itself, bounded by the system's own time limits.
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
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::disk::{Disk, Faults, Point};

/// Lookups of the system's resolver that run at once in the process: more than one owner has webhooks, so that names whose
/// servers are silent do not keep those of others from being looked up.
pub const LOOKUPS_MAX: usize = 256;

/// The stack of a thread that looks up one name: glibc's resolver keeps its buffers there.
const STACK_BYTES: usize = 256 * 1024;

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

    /// The addresses of a host, in the order in which they should be tried. An unknown host is an error.
    pub async fn lookup(&self, host: &str) -> Addresses {
        (self.0)(host.to_owned()).await
    }
}

/// What waiters share: an error cannot be cloned, so its kind and text are.
type Shared = Option<Result<Vec<IpAddr>, (io::ErrorKind, String)>>;

struct System {
    running: Mutex<HashMap<String, watch::Receiver<Shared>>>,
    slots: Arc<Semaphore>,
    /// What tests let fail.
    faults: Faults,
}

impl System {
    fn new(faults: Faults) -> System {
        System { running: Mutex::default(), slots: Arc::new(Semaphore::new(LOOKUPS_MAX)), faults }
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
        let started = std::thread::Builder::new().name("dns".to_owned()).stack_size(STACK_BYTES).spawn(work);
        started.inspect_err(|_| drop(running.remove(&host)))?;
        Ok(answer)
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
