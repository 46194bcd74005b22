//! Many nodes on NATS JetStream: another worker behind the journal's queue.
//!
//! One stream is the log, and it is the truth: what is in it is what survives. It holds commits, each of them what the
//! journal of a single server would write into its write-ahead log: events with their dedupe keys, and changes of documents.
//! One node at a time writes it, by the protocol of [`relay`](crate::model::relay); the others forward their requests to
//! that one. Every node follows the stream into its own data folder, which is a copy that may be thrown away. So whatever
//! reads, on any node, reads what it reads on a single server, and knows nothing of NATS.
//!
//! - [`worker`]: the thread that owns the copy; [`planning`]: what the writer makes of requests; [`applying`]: reading entries
//! - [`link`]: the network; [`connecting`]: how NATS is reached; [`inbox`]: what waits for the worker; [`reading`]: parts of the log that did not come; [`nats`]: JetStream; [`names`]: streams and subjects
//! - [`monitor`]: whether NATS syncs what it acknowledges
//! - [`request`], [`entry`], [`wire`]: what is sent and stored, as bytes
//! - [`taking`]: taking a snapshot over into the copy
//! - [`vital`]: what ends the process when it panics
//! - [`snapshot`]: all documents of one moment, so that old changes can go
//! - [`fill`]: filling a new cluster from the folder of a server that was alone
//! - [`peers`]: what nodes ask each other beside the log
//! - [`picture`]: the cluster as people see it, and what is wrong with it
//! - [`position`]: how far the copy goes; [`slots`]: which node delivers for which webhooks; [`status`]: how all that is

mod addresses;
mod applying;
mod bytes;
mod connecting;
mod entry;
mod fill;
mod inbox;
mod link;
mod monitor;
mod names;
mod nats;
mod peers;
pub mod picture;
mod planning;
mod position;
mod reading;
mod request;
mod slots;
mod snapshot;
mod status;
mod taking;
mod vital;
mod wire;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::fill::{FillError, Filled, fill};
use self::inbox::Inbox;
use self::link::Link;
use self::names::Names;
use self::nats::{Conditions, EnsureError, Find, JetStream, NatsError, StreamSpec, StreamState, VERSION_MIN, version};
use self::peers::Peers;
pub use self::peers::{PeerError, PeerRequest};
use self::picture::About;
use self::position::Position;
use self::slots::Claims;
pub use self::status::{SlotChange, SlotsSink, Status};
use self::worker::Parts;
pub use self::worker::{OwnerOf, Worker};
use crate::delivery::ownership::Ownership;
use crate::documents::DocumentError;
use crate::journal::{Committer, Journal, JournalLimits, Queue};
use crate::model::id::EventId;
use crate::model::relay::{Opened, Term};
use crate::wal::CommitError;

/// How a node is connected to the others.
#[derive(Clone)]
pub struct Options {
    /// `nats://host:port` or `tls://host:port`, at least one.
    pub servers: Vec<String>,
    /// A credentials file as `nsc` makes it.
    pub credentials: Option<PathBuf>,
    /// PEM file of authorities that are trusted beside those of the platform.
    pub tls_ca: Option<PathBuf>,
    /// With which all names of streams and subjects begin.
    pub prefix: String,
    pub replicas: usize,
    /// The monitoring of NATS servers, each `http://host:port`.
    pub monitors: Vec<String>,
    /// The name of this node, another one for each.
    pub node: Arc<str>,
    /// The version of this program, and where it listens, for the people who look at the cluster.
    pub version: Arc<str>,
    pub address: Arc<str>,
    /// A node that was not heard for so long counts as gone.
    pub silent: Duration,
    /// A node that has not reached the log for so long serves nobody; none: it does all the same.
    pub isolated_after: Option<Duration>,
}

/// Between two attempts to reach NATS.
const CONNECT_AGAIN: Duration = Duration::from_millis(500);
/// How long the start waits for NATS.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// A leader that has lost its majority does not notice for some ten seconds, and what it says of the log may be old.
const OUTDATED: Duration = Duration::from_secs(15);

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("{0}; check nats.servers, and that JetStream is switched on and has a leader")]
    Nats(#[from] NatsError),
    #[error(
        "{0}; make the stream anew with the settings of this node, or set those that it was made with (nats.replicas, \
         nats.prefix)"
    )]
    Stream(EnsureError),
    #[error(
        "the NATS server {server} is version {found}, and {min} is the oldest that works",
        min = format!("{}.{}.{}", VERSION_MIN.0, VERSION_MIN.1, VERSION_MIN.2)
    )]
    OldServer { server: String, found: String },
    #[error("the start panicked; the log says over what")]
    Panicked,
    #[error("the file of nats.credentials cannot be used: {0}")]
    Credentials(std::io::Error),
    #[error(
        "cannot start the threads of the cluster: {0}; raise the limits of processes and memory (ulimit -u, ulimit -v)"
    )]
    Thread(std::io::Error),
    #[error(
        "the data folder is of a server that was alone, and its events are not in NATS; fill the streams from it with \
         stentor restore --engine nats, or start this node with an empty folder"
    )]
    NotACopy,
    #[error(
        "the data folder is a copy of another cluster's log (its id is {folder}, and NATS has {cluster}); start this node with an \
         empty folder, or set nats.servers and nats.prefix to those of that cluster"
    )]
    OtherCluster { folder: String, cluster: String },
    #[error(
        "NATS has lost messages that it had acknowledged: the copy in the data folder goes to message {expected}, and the log in \
         NATS ends at {found}; take a backup of this folder and fill the streams with stentor restore --engine nats"
    )]
    WentBack { expected: u64, found: u64 },
    #[error(
        "messages {from} to {through} of the log were taken out of NATS before this node had read them, and what stands for them \
         cannot be taken over: {reason}; the next start takes it over"
    )]
    Behind { from: u64, through: u64, reason: String },
    #[error(
        "message {sequence} of the log cannot be read: another version has written it; start this node with the version of the \
         other nodes"
    )]
    Unreadable { sequence: u64 },
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the documents of the cluster cannot be written into the data folder: {0}")]
    Copy(#[from] CommitError),
}

impl From<EnsureError> for ClusterError {
    fn from(e: EnsureError) -> ClusterError {
        match e {
            EnsureError::Nats(e) => e.into(),
            e => ClusterError::Stream(e),
        }
    }
}

/// Kept free of a message for its head and the requests that it answers: with a run of ids each, a thousand take less.
const MESSAGE_HEAD_BYTES: usize = 64 << 10;
/// A part of an entry has no less than this, however small the server's messages are.
const PART_BYTES_MIN: usize = 64 << 10;

/// Connects, makes or checks the streams, takes up the copy where it ends, and fills it. Blocks.
///
/// # Errors
/// Why this node cannot take part.
pub fn open(
    options: &Options,
    committer: Committer,
    journal: &Journal,
    queue: Queue,
    limits: JournalLimits,
    ownership: &Arc<Ownership>,
) -> Result<(Worker, Arc<Status>), ClusterError> {
    let (inbox, inbound) = Inbox::new(journal.waker());
    let link = Link::connect(options, inbox.clone())?;
    let info = link.jetstream.client().server_info();
    if version(&info.version) < VERSION_MIN {
        return Err(ClusterError::OldServer { server: info.server_name, found: info.version });
    }
    let mut position = link.wait(join(&link, options, &committer))?;
    let mut committer = committer;
    let snapshot = link.wait(patiently(|| async { Ok(snapshot::read(&link.jetstream, &link.names).await?) }))?;
    let newest = snapshot.as_ref().map(|(done, _)| done.clone());
    if let Some((done, changes)) = snapshot {
        link.set_taken_through(done.sequence);
        if done.sequence > position.sequence.max(position.documents_at) {
            taking::take_over(&mut committer, &mut position, &done, changes)?;
        }
    }
    let life = u64::from_le_bytes(committer.clock.random());
    let claims = Claims::load(&committer.documents)?;
    let peers = link.wait(Peers::listen(link.jetstream.client(), &link.names, &options.node))?;
    let about = About {
        version: options.version.clone(),
        address: options.address.clone(),
        started_ms: committer.clock.now_ms(),
        ..About::default()
    };
    let (node, isolated_after) = (options.node.clone(), options.isolated_after);
    let status = Arc::new(Status::new(node, ownership.clone(), peers, link.outgoing(), isolated_after, about));
    link.watch_leader(&status);
    link.watch_snapshots(&status);
    link.watch_servers(&status, &options.servers);
    if !options.monitors.is_empty() {
        link.watch_sync(&status, options.monitors.clone());
    }
    link.listen(&options.node)?;
    // behind the position it is not met again, and what comes is seen in the log
    let term = link.wait(patiently(|| newest_term(&link.jetstream, &link.names)))?;
    let term = term.filter(|term| term.number <= position.sequence);
    let opened =
        Opened { node: options.node.clone(), life, applied: position.sequence, last_id: committer.log.head(), term };
    let part_bytes = info.max_payload.saturating_sub(MESSAGE_HEAD_BYTES).max(PART_BYTES_MIN);
    let mut worker = Worker::new(Parts {
        queue,
        committer,
        owner_of: Box::new(|_| None),
        limits,
        link,
        inbox,
        inbound,
        position,
        opened,
        claims,
        newest,
        silent: options.silent,
        status: status.clone(),
        part_bytes,
    });
    worker.catch_up()?;
    Ok((worker, status))
}

/// Makes or checks the streams, and finds out where the copy stands in them.
async fn join(link: &Link, options: &Options, committer: &Committer) -> Result<Position, ClusterError> {
    let deadline = tokio::time::Instant::now() + OUTDATED;
    loop {
        let (state, cluster) = patiently(|| prepare(&link.jetstream, &link.names, options)).await?;
        match position_of(committer, cluster, &state) {
            Err(ClusterError::WentBack { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(CONNECT_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Tries again while NATS has no leader, as when all of its servers were just started.
async fn patiently<T, F: Future<Output = Result<T, ClusterError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, ClusterError> {
    let deadline = tokio::time::Instant::now() + CONNECT_PATIENCE;
    loop {
        match attempt().await {
            Err(ClusterError::Nats(e)) if e.may_pass() && tokio::time::Instant::now() < deadline => {
                ::log::info!("NATS is not ready yet: {e}");
                tokio::time::sleep(CONNECT_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Makes the streams where they are missing; answers with how the log is, and with the cluster's id.
async fn prepare(
    jetstream: &JetStream,
    names: &Names,
    options: &Options,
) -> Result<(StreamState, String), ClusterError> {
    let spec = |name: String, subjects: String, republish: Option<(String, String)>, one_per_subject: bool| {
        StreamSpec { name, subjects: vec![subjects], republish, one_per_subject, replicas: options.replicas }
    };
    let tail = (names.all_of_log(), names.tail_of_log());
    let state = jetstream.ensure(&spec(names.log(), names.all_of_log(), Some(tail), false)).await?;
    jetstream.ensure(&spec(names.configuration(), names.all_of_configuration(), None, true)).await?;
    let id = names.cluster_id();
    let fresh = format!("{:032x}", u128::from_le_bytes(crate::clock::random()));
    let none = Conditions { last: None, last_on: Some((id.clone(), 0)) };
    let cluster = match jetstream.at_leader(&names.configuration(), Find::Last(&id)).await? {
        Some(stored) => String::from_utf8_lossy(&stored.payload).into_owned(),
        None => match jetstream.publish(&id, fresh.clone().into(), &none).await {
            Ok(_) => fresh,
            // another node was first, or the answer was lost
            Err(_) => {
                let stored = jetstream.at_leader(&names.configuration(), Find::Last(&id)).await?;
                let stored = stored.ok_or(NatsError::NoAnswer)?;
                String::from_utf8_lossy(&stored.payload).into_owned()
            }
        },
    };
    Ok((state, cluster))
}

/// Who was the last one to claim the log; none: nobody ever has.
async fn newest_term(jetstream: &JetStream, names: &Names) -> Result<Option<Term>, ClusterError> {
    let Some(stored) = jetstream.at_leader(&names.log(), Find::Last(&names.term())).await? else { return Ok(None) };
    let claim = entry::decode_claim(stored.payload).map_err(|e| NatsError::Unreadable(e.to_string()))?;
    Ok(Some(Term { number: stored.sequence, claim }))
}

/// Where the copy stands, once it is certain that it is one of this log.
fn position_of(committer: &Committer, cluster: String, state: &StreamState) -> Result<Position, ClusterError> {
    let position = match Position::load(&committer.documents)? {
        Some(position) if position.cluster != cluster => {
            return Err(ClusterError::OtherCluster { folder: position.cluster, cluster });
        }
        Some(position) => position,
        None if committer.log.head() > EventId::ZERO || committer.documents.sequence() > 0 => {
            return Err(ClusterError::NotACopy);
        }
        None => Position { cluster, ..Position::default() },
    };
    if position.sequence > state.last {
        return Err(ClusterError::WentBack { expected: position.sequence, found: state.last });
    }
    Ok(position)
}
