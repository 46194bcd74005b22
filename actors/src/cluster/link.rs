//! What goes over the network for the worker: a runtime of its own with two threads, subscriptions whose messages become
//! inputs of the worker, and requests whose answers do.
//!
//! What is sent beside requests (forwards, replies, beats) may be lost, and whoever sends it sends it again. What is taken from a
//! subscription goes into the worker's [`inbox`](super::inbox) at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::{ServerAddr, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::{Handle, Runtime};

use super::addresses::{hosts_and_ports, parsed};
use super::connecting::{connect, warn_of_open};
use super::entry::{self, Part};
use super::inbox::{Inbound, Inbox, RelayInput};
use super::names::Names;
use super::nats::{Conditions, Find, JetStream, NatsError, code, stored};
use super::picture::Server;
use super::request::Packed;
use super::snapshot::{self, Snapshot};
use super::status::Status;
use super::vital::vital;
use super::{ClusterError, Options, monitor, reading, wire};
use crate::model::relay::{Claim, ClaimAnswer, Commit, CommitAnswer, Effect, Input, Nonce};

/// Messages that wait to be sent; beyond it they are lost.
const OUTGOING: usize = 16_384;
/// An answer that took longer does not tell what time it is there.
const PROMPT: Duration = Duration::from_secs(1);
/// Between two looks whether the leader of the log is reached.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks on which servers the stream of snapshots is.
const SNAPSHOTS_LOOK_EVERY: Duration = Duration::from_secs(5);
/// NATS servers that are asked for their version, at most.
const SERVERS_LOOKED_AT: usize = 16;
/// Between two looks at the monitoring of NATS, and at the versions of its servers.
const SYNC_LOOK_EVERY: Duration = Duration::from_secs(30);

/// A runtime that may be dropped anywhere: a start that fails drops it within another one, where waiting is not allowed.
struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let (Some(runtime), Ok(_)) = (self.runtime.take(), Handle::try_current()) {
            runtime.shutdown_background();
        }
    }
}

/// The connection, as the worker's thread uses it. Nothing here blocks.
pub struct Link {
    threads: Threads,
    pub jetstream: JetStream,
    pub names: Arc<Names>,
    inbox: Inbox,
    outgoing: tokio::sync::mpsc::Sender<Outgoing>,
    /// Replies to forwards that nobody listens to come here.
    echo: String,
    is_connected: Arc<AtomicBool>,
    /// Messages up to this one may have been taken out of the log: a snapshot has their changes, and retention their events.
    taken_through: Arc<AtomicU64>,
}

struct Outgoing {
    subject: String,
    reply: Option<String>,
    payload: Bytes,
}

/// Says to all nodes how many streams this one has.
#[derive(Clone)]
pub struct Out {
    outgoing: tokio::sync::mpsc::Sender<Outgoing>,
    names: Arc<Names>,
}

impl Out {
    pub fn counts(&self, counts: &wire::NodeCounts) {
        let message = Outgoing { subject: self.names.counts(), reply: None, payload: wire::encode_counts(counts) };
        // what is lost is said again with all counts, and a count that is over is not: then it is forgotten
        let _ = self.outgoing.try_send(message);
    }
}

impl Link {
    /// Connects, which is tried until `patience` is over. Blocks.
    ///
    /// # Errors
    /// No server can be reached, or it lets us not in.
    pub fn connect(options: &Options, inbox: Inbox) -> Result<Link, ClusterError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("nats")
            .enable_all()
            .build()
            .map_err(ClusterError::Thread)?;
        warn_of_open(options);
        let is_connected = Arc::new(AtomicBool::new(false));
        let client = runtime.block_on(connect(options, &inbox, &is_connected))?;
        let (outgoing, mut to_send) = tokio::sync::mpsc::channel::<Outgoing>(OUTGOING);
        let sender = client.clone();
        runtime.spawn(vital("what sends to the cluster", async move {
            while let Some(Outgoing { subject, reply, payload }) = to_send.recv().await {
                let sent = match reply {
                    Some(reply) => sender.publish_with_reply(subject, reply, payload).await,
                    None => sender.publish(subject, payload).await,
                };
                if let Err(e) = sent {
                    log::debug!("a message to the cluster is not sent: {e}");
                }
            }
        }));
        let echo = client.new_inbox();
        Ok(Link {
            jetstream: JetStream::new(client),
            names: Arc::new(Names::new(&options.prefix)),
            threads: Threads { handle: runtime.handle().clone(), runtime: Some(runtime) },
            inbox,
            outgoing,
            echo,
            is_connected,
            taken_through: Arc::default(),
        })
    }

    /// Without what these tasks do the worker would wait for ever.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.threads.handle.spawn(vital("a task of the cluster", task));
    }

    pub fn handle(&self) -> &Handle {
        &self.threads.handle
    }

    /// A snapshot stands for what was in the log up to this message.
    pub fn set_taken_through(&self, sequence: u64) {
        self.taken_through.fetch_max(sequence, Ordering::Relaxed);
    }

    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Waits for something of NATS. Not to be called on a thread of an actor.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.threads.handle.block_on(future)
    }

    /// Begins to listen for the node of this name. Blocks.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn listen(&self, node: &str) -> Result<(), ClusterError> {
        let names = &self.names;
        let subjects = [
            (names.tail_of_log(), Heard::Tail),
            (names.forwards_to(node), Heard::Forward),
            (names.asks_of(node), Heard::Ask),
            (names.replies_to(node), Heard::Reply),
            (names.beats(), Heard::Beat),
            (format!("{}.>", self.echo), Heard::Echo),
            (names.nodes(), Heard::Node),
            (names.counts(), Heard::Counts),
        ];
        self.wait(async {
            for (subject, heard) in subjects {
                let client = self.jetstream.client();
                let subscription = client.subscribe(subject).await;
                let mut messages = subscription.map_err(|e| NatsError::Connection(e.to_string()))?;
                let (inbox, names) = (self.inbox.clone(), names.clone());
                tokio::spawn(vital("what listens to the cluster", async move {
                    while let Some(message) = messages.next().await {
                        heard.take(message, &inbox, &names);
                    }
                }));
            }
            // so that they are there before anything is said
            let flushed = self.jetstream.client().flush().await;
            flushed.map_err(|e| NatsError::Connection(e.to_string()))
        })?;
        Ok(())
    }

    /// Writes a snapshot.
    pub fn write_snapshot(&self, snapshot: Snapshot) {
        let (jetstream, names, inbox) = (self.jetstream.clone(), self.names.clone(), self.inbox.clone());
        self.spawn(async move {
            let written = snapshot::write(&jetstream, &names, snapshot).await;
            let written =
                written.inspect_err(|e| log::warn!("the documents are not written to NATS, which is tried again: {e}"));
            inbox.put(Inbound::Snapshot(written.ok()));
        });
    }

    /// Looks now and then whether the leader of the log can be reached.
    pub fn watch_leader(&self, status: &Arc<Status>) {
        let (jetstream, names, status) = (self.jetstream.clone(), self.names.clone(), Arc::downgrade(status));
        let clock_off_ms = self.inbox.clock_off_ms.clone();
        self.spawn(async move {
            loop {
                let asked = Instant::now();
                let state = jetstream.state(&names.log()).await;
                let is_prompt = asked.elapsed() < PROMPT;
                // a leader that has lost its majority goes on saying how the stream is, but gives no message of it
                let newest = jetstream.at_leader(&names.log(), Find::Last(&names.term())).await;
                let reached = state.and_then(|state| newest.map(|_| state));
                let Some(status) = status.upgrade() else { return };
                match reached {
                    Ok(state) => {
                        status.note_reached();
                        status.show_stream(state.stream);
                        if let Some(theirs_ms) = state.answered_ms.filter(|_| is_prompt) {
                            let off_ms = crate::clock::now_ms() - theirs_ms as i64;
                            clock_off_ms.store(off_ms, Ordering::Relaxed);
                        }
                    }
                    Err(e) => log::debug!("the leader of the log is not reached: {e}"),
                }
                drop(status);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    /// Looks now and then on which servers the stream of snapshots is.
    pub fn watch_snapshots(&self, status: &Arc<Status>) {
        let (jetstream, names, status) = (self.jetstream.clone(), self.names.clone(), Arc::downgrade(status));
        self.spawn(async move {
            loop {
                let state = jetstream.state(&names.configuration()).await;
                let Some(status) = status.upgrade() else { return };
                match state {
                    Ok(state) => status.show_stream(state.stream),
                    Err(e) => log::debug!("the leader of the stream of snapshots is not reached: {e}"),
                }
                drop(status);
                tokio::time::sleep(SNAPSHOTS_LOOK_EVERY).await;
            }
        });
    }

    /// Looks now and then of which version NATS servers are: those of the settings, and those that they name.
    pub fn watch_servers(&self, status: &Arc<Status>, servers: &[String]) {
        let (client, status) = (self.jetstream.client().clone(), Arc::downgrade(status));
        let configured: Vec<ServerAddr> = parsed(servers).collect();
        self.spawn(async move {
            loop {
                let told = client.server_info().connect_urls;
                let mut addresses = hosts_and_ports(configured.iter().cloned().chain(parsed(&told)));
                addresses.truncate(SERVERS_LOOKED_AT);
                let looks = addresses.into_iter().map(|address| async move {
                    let greeting = monitor::greeting(&address).await;
                    Server { address, greeting }
                });
                let servers = futures_util::future::join_all(looks).await;
                let Some(status) = status.upgrade() else { return };
                status.show_servers(servers);
                drop(status);
                tokio::time::sleep(SYNC_LOOK_EVERY).await;
            }
        });
    }

    /// Looks now and then whether the NATS servers sync before they answer. What one of them said last counts until it says
    /// something else: while it is down it changes nothing.
    pub fn watch_sync(&self, status: &Arc<Status>, monitors: Vec<String>) {
        let status = Arc::downgrade(status);
        self.spawn(async move {
            let mut said = vec![None; monitors.len()];
            loop {
                let looks = monitors.iter().map(|monitor| monitor::syncs_always(monitor));
                for (said, syncs) in said.iter_mut().zip(futures_util::future::join_all(looks).await) {
                    *said = syncs.or(*said);
                }
                let syncs = monitor::all_sync(&said);
                let Some(status) = status.upgrade() else { return };
                status.note_sync(syncs);
                drop(status);
                tokio::time::sleep(SYNC_LOOK_EVERY).await;
            }
        });
    }

    /// For whoever has something to say to all nodes without waiting.
    pub fn outgoing(&self) -> Out {
        Out { outgoing: self.outgoing.clone(), names: self.names.clone() }
    }

    pub fn send(&self, subject: String, payload: Bytes) {
        self.send_out(subject, None, payload);
    }

    fn send_out(&self, subject: String, reply: Option<String>, payload: Bytes) {
        if self.outgoing.try_send(Outgoing { subject, reply, payload }).is_err() {
            log::debug!("too much waits to be sent to the cluster; it is sent again");
        }
    }

    /// Performs what a relay asks of the network; gives back what is not of the network.
    pub fn perform(&self, effect: Effect<Packed, Part>) -> Option<Effect<Packed, Part>> {
        match effect {
            Effect::Forward { to, forward } => {
                let reply = self.echo_of(forward.term, forward.nonce);
                self.send_out(self.names.forwards_to(&to), Some(reply), wire::encode_forward(&forward));
            }
            Effect::Ask { to, ask } => {
                let reply = self.echo_of(ask.term, ask.nonce);
                self.send_out(self.names.asks_of(&to), Some(reply), wire::encode_ask(&ask));
            }
            Effect::Reply { to, reply } => self.send(self.names.replies_to(&to), wire::encode_reply(&reply)),
            Effect::Beat(beat) => self.send(self.names.beats(), wire::encode_beat(&beat)),
            Effect::Fetch { from, at_leader } => self.fetch(from, at_leader),
            Effect::Commit(commit) => self.commit(commit),
            Effect::Claim { previous, claim } => self.claim(previous, &claim),
            other => return Some(other),
        }
        None
    }

    /// Where NATS says that nobody listens to what is said about a request.
    fn echo_of(&self, term: u64, Nonce { life, number }: Nonce) -> String {
        format!("{}.{term}.{life}.{number}", self.echo)
    }

    fn commit(&self, commit: Commit<Part>) {
        let (jetstream, names, inbox) = (self.jetstream.clone(), self.names.clone(), self.inbox.clone());
        self.spawn(async move {
            let conditions = Conditions { last: Some(commit.head), last_on: Some((names.term(), commit.term)) };
            let messages: VecDeque<_> = commit
                .messages
                .iter()
                .map(|message| (names.of_entry(message.content.kind).to_owned(), entry::encode(message)))
                .collect();
            // each attempt is a batch of its own: only one of them can be stored
            let attempt = u64::from_le_bytes(crate::clock::random());
            let id = format!("{}-{attempt:x}", commit.number);
            let answer = match jetstream.publish_all(&id, messages, &conditions).await {
                Ok(last) => CommitAnswer::Stored { last },
                Err(e) => commit_answer(&e),
            };
            inbox.put(Inbound::Relay(Input::Committed { number: commit.number, answer }));
        });
    }

    fn claim(&self, previous: u64, claim: &Claim) {
        let (jetstream, names, inbox) = (self.jetstream.clone(), self.names.clone(), self.inbox.clone());
        let (number, payload) = (claim.number, entry::encode_claim(claim));
        self.spawn(async move {
            let term = names.term();
            let conditions = Conditions { last: None, last_on: Some((term.clone(), previous)) };
            let answer = match jetstream.publish(&term, payload, &conditions).await {
                Ok(sequence) => ClaimAnswer::Stored { sequence },
                Err(NatsError::Refused { code: code::WRONG_LAST_SEQUENCE, description }) => {
                    ClaimAnswer::Conflict { last: last_in(&description) }
                }
                Err(e) => {
                    log::debug!("the right to write is not claimed: {e}");
                    ClaimAnswer::Failed
                }
            };
            inbox.put(Inbound::Relay(Input::Claimed { number, answer }));
        });
    }

    fn fetch(&self, from: u64, at_leader: bool) {
        let (jetstream, names, inbox) = (self.jetstream.clone(), self.names.clone(), self.inbox.clone());
        let taken_through = self.taken_through.load(Ordering::Relaxed);
        self.spawn(async move {
            let fetched = match at_leader {
                true => reading::read_at_leader(&jetstream, &names, from, taken_through).await,
                false => reading::read(&jetstream, &names, from, taken_through).await,
            };
            let input = fetched.unwrap_or_else(|e| {
                log::debug!(from; "a part of the log cannot be read from NATS, which is tried again: {e}");
                Input::FetchFailed { from }
            });
            inbox.put(Inbound::Relay(input));
        });
    }
}

/// `wrong last sequence: 7` names the sequence that is there.
fn last_in(description: &str) -> Option<u64> {
    description.rsplit(' ').next()?.parse().ok()
}

fn commit_answer(e: &NatsError) -> CommitAnswer {
    match e {
        NatsError::Refused { code: code::WRONG_LAST_SEQUENCE, .. } => CommitAnswer::Conflict,
        NatsError::Refused { code: code::IN_FLIGHT, .. } => CommitAnswer::Busy,
        NatsError::Refused { code: code::MAX_BYTES, .. } => CommitAnswer::Full,
        NatsError::Refused { code: code::MESSAGE_TOO_LARGE, .. } | NatsError::TooLarge => {
            log::error!("NATS refuses a commit: {e}");
            CommitAnswer::Refused
        }
        e => {
            log::debug!("a commit is not answered by NATS: {e}");
            CommitAnswer::Failed
        }
    }
}

/// What a subscription is for.
#[derive(Clone, Copy)]
enum Heard {
    Tail,
    Forward,
    Ask,
    Reply,
    Beat,
    /// That nobody listens where a forward was sent.
    Echo,
    Node,
    Counts,
}

impl Heard {
    fn take(self, message: async_nats::Message, inbox: &Inbox, names: &Names) {
        let input = match self {
            Heard::Tail => {
                let message = stored(&message).and_then(|stored| reading::tail_message(stored, names));
                message.map_err(|e| e.to_string()).map(|mut message| {
                    // one that comes late would make this machine's clock look fast
                    let now_ms = crate::clock::now_ms() - inbox.clock_off_ms.load(Ordering::Relaxed);
                    message.time_ms = u64::try_from(now_ms).unwrap_or(0);
                    Input::Live(vec![message])
                })
            }
            Heard::Forward => wire::decode_forward(message.payload).map(Input::Forwarded).map_err(|e| e.to_string()),
            Heard::Ask => wire::decode_ask(message.payload).map(Input::Asked).map_err(|e| e.to_string()),
            Heard::Reply => wire::decode_reply(message.payload).map(Input::Replied).map_err(|e| e.to_string()),
            Heard::Beat => wire::decode_beat(message.payload).map(Input::Beat).map_err(|e| e.to_string()),
            Heard::Echo if message.status == Some(StatusCode::NO_RESPONDERS) => {
                nobody(&message.subject).ok_or_else(|| "an answer of NATS to no forward".to_owned())
            }
            Heard::Echo => return,
            Heard::Counts => match wire::decode_counts(message.payload) {
                Ok(counts) => return inbox.put(Inbound::Counts(counts)),
                Err(e) => Err(e.to_string()),
            },
            Heard::Node => match wire::decode_node_beat(message.payload) {
                Ok(beat) => return inbox.put(Inbound::Node(beat)),
                Err(e) => Err(e.to_string()),
            },
        };
        match input {
            Ok(input) => inbox.put_bounded(input),
            Err(e) => log::error!("{e}"),
        }
    }
}

/// The forward to which nobody listened, by the subject of its echo.
fn nobody(subject: &str) -> Option<RelayInput> {
    let mut parts = subject.rsplit('.').map(|part| part.parse().ok());
    let mut next = || parts.next().flatten();
    let (number, life, term) = (next()?, next()?, next()?);
    Some(Input::NoResponders { term, nonce: Nonce { life, number } })
}
