//! Which worker stands behind the journal's queue: that of a server alone, or that of a node among many.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::lifecycle::{Config, HubError};
use crate::catalog::Catalog;
#[cfg(feature = "nats")]
use crate::cluster::{self, ClusterError};
use crate::delivery::ownership::Ownership;
use crate::journal::{self, Committer, Journal, Queue, Rest, Worker};
use crate::model::id::IdSource;

/// A worker that does not run yet. What it commits to is complete: everything that was stored is in it.
pub(super) enum Engine {
    Local(Box<Worker>),
    #[cfg(feature = "nats")]
    Cluster(Box<cluster::Worker>, Arc<cluster::Status>),
}

impl Engine {
    /// Blocks, in a cluster until the copy holds what the log does.
    ///
    /// # Errors
    /// Why a node cannot take part in its cluster.
    pub fn open(
        config: &Config,
        committer: Committer,
        journal: &Journal,
        queue: Queue,
        ownership: &Arc<Ownership>,
    ) -> Result<Engine, HubError> {
        let limits = config.journal.clone();
        #[cfg(feature = "nats")]
        if let Some(options) = &config.cluster {
            // a thread of its own, because it waits for the network and this one has a runtime
            let opened = std::thread::scope(|scope| {
                let open = || cluster::open(options, committer, journal, queue, limits, ownership);
                scope.spawn(open).join()
            });
            let (worker, status) = opened.unwrap_or(Err(ClusterError::Panicked))?;
            return Ok(Engine::Cluster(Box::new(worker), status));
        }
        #[cfg(not(feature = "nats"))]
        let _ = (journal, ownership);
        let ids = IdSource::after(committer.log.head());
        Ok(Engine::Local(Box::new(Worker { queue, committer, limits, ids, rest: Rest::default() })))
    }

    /// From now on the catalog is told of what is committed.
    pub fn tell(&mut self, catalog: &Arc<Catalog>) {
        // held weakly: the catalog holds the queue's other end, by whose loss the worker ends
        let told = Arc::downgrade(catalog);
        let applied: journal::Applied = Box::new(move |changes| {
            if let Some(catalog) = told.upgrade() {
                catalog.apply(changes);
            }
        });
        match self {
            Engine::Local(worker) => worker.committer.applied = applied,
            #[cfg(feature = "nats")]
            Engine::Cluster(worker, _) => {
                worker.committer.applied = applied;
                let asked = Arc::downgrade(catalog);
                worker.owner_of = Box::new(move |no| Some(asked.upgrade()?.channel(no)?.owner()));
            }
        }
    }

    /// How this node is among the others; none: it is a server alone.
    #[cfg(feature = "nats")]
    pub fn status(&self) -> Option<Arc<cluster::Status>> {
        match self {
            Engine::Local(_) => None,
            Engine::Cluster(_, status) => Some(status.clone()),
        }
    }

    /// The worker of a server alone, for a simulation that lets it go on itself.
    #[cfg(test)]
    pub fn into_local(self) -> Worker {
        match self {
            Engine::Local(worker) => *worker,
            #[cfg(feature = "nats")]
            Engine::Cluster(..) => panic!("a simulated server is alone"),
        }
    }

    /// Runs the worker on a thread of its own: it blocks on the disk, and actors share single-threaded runtimes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        match self {
            Engine::Local(worker) => journal::spawn(*worker),
            #[cfg(feature = "nats")]
            Engine::Cluster(worker, _) => {
                std::thread::Builder::new().name("cluster".into()).spawn(move || worker.run())
            }
        }
    }
}
