//! Requests from node to node that are not about the log: what only the owner of a webhook can answer.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Request, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::names::Names;
use super::nats::NatsError;
use super::vital::vital;

/// Requests of other nodes that wait here. Beyond it they are refused, and those who ask are told so at once.
const WAITING_MAX: usize = 256;

/// Why another node has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It did not get the request.
    #[error("the node is not there")]
    Absent,
    /// It may have done what it was asked.
    #[error("the node does not answer in time")]
    NoAnswer,
    /// It has too much to do, or cannot read the request; it has done nothing.
    #[error("the node cannot take the request at the moment")]
    Refused,
    #[error("the request is too large to be passed to another node")]
    TooLarge,
}

/// A request of another node.
pub struct PeerRequest {
    pub payload: Bytes,
    client: Client,
    reply: async_nats::Subject,
}

impl PeerRequest {
    /// Answers it.
    pub async fn answer(self, payload: Bytes) {
        if let Err(e) = self.client.publish(self.reply, payload).await {
            log::warn!("another node does not get its answer: {e}");
        }
    }

    /// Says that it is not taken: an answer without anything in it.
    pub async fn refuse(self) {
        self.answer(Bytes::new()).await;
    }
}

/// The other nodes, for whoever has to ask one of them.
pub struct Peers {
    client: Client,
    names: Arc<Names>,
    requests: Mutex<Option<mpsc::Receiver<PeerRequest>>>,
}

impl Peers {
    /// Begins to listen for the node of this name.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn listen(client: &Client, names: &Arc<Names>, node: &str) -> Result<Peers, NatsError> {
        let subscription = client.subscribe(names.requests_to(node)).await;
        let mut messages = subscription.map_err(|e| NatsError::Connection(e.to_string()))?;
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        let answering = client.clone();
        tokio::spawn(vital("what listens to requests of other nodes", async move {
            while let Some(message) = messages.next().await {
                let Some(reply) = message.reply else { continue };
                let request = PeerRequest { payload: message.payload, client: answering.clone(), reply };
                if let Err(refused) = sender.try_send(request) {
                    log::warn!("too many requests of other nodes wait; one is refused");
                    refused.into_inner().refuse().await;
                }
            }
        }));
        Ok(Peers { client: client.clone(), names: names.clone(), requests: Mutex::new(Some(requests)) })
    }

    /// What other nodes ask. Some once.
    pub fn take_requests(&self) -> Option<mpsc::Receiver<PeerRequest>> {
        self.requests.lock().take()
    }

    /// Asks a node and waits for its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(&self, node: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, PeerError> {
        let request = Request::new().payload(payload).timeout(Some(timeout));
        let answer = self.client.send_request(self.names.requests_to(node), request).await;
        let answer = answer.map_err(|e| match e.kind() {
            RequestErrorKind::NoResponders => PeerError::Absent,
            RequestErrorKind::MaxPayloadExceeded => PeerError::TooLarge,
            RequestErrorKind::TimedOut | RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                PeerError::NoAnswer
            }
        })?;
        if answer.payload.is_empty() { Err(PeerError::Refused) } else { Ok(answer.payload) }
    }

    /// What an answer may have in bytes.
    pub fn answer_bytes_max(&self) -> usize {
        self.client.max_payload()
    }
}
