//! How a node reaches NATS: the options of the client, and what is to be said of a network that others may read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};

use super::addresses::{is_open, parsed, user_of};
use super::inbox::{Inbound, Inbox};
use super::nats::NatsError;
use super::{CONNECT_AGAIN, CONNECT_PATIENCE, ClusterError, Options};
use crate::model::relay::Input;

/// Messages of one subscription that wait to be taken from it, which is done at once; beyond it they are lost. More than one
/// read of the log has, see [`reading`].
const SUBSCRIBED: usize = 4_096;

/// Says which servers are reached over a network that may be read by others.
pub fn warn_of_open(options: &Options) {
    if options.tls_ca.is_some() {
        return;
    }
    for server in parsed(&options.servers).filter(is_open) {
        let host = server.host();
        log::warn!(host; "NATS is reached without TLS: whoever reads that network sees all tokens and events; use tls://");
    }
}

/// Connects, which is tried until [`CONNECT_PATIENCE`] is over.
///
/// # Errors
/// No server can be reached, or it lets us not in.
pub async fn connect(options: &Options, inbox: &Inbox, is_connected: &Arc<AtomicBool>) -> Result<Client, ClusterError> {
    let deadline = tokio::time::Instant::now() + CONNECT_PATIENCE;
    loop {
        let (inbox, flag) = (inbox.clone(), is_connected.clone());
        let mut with = ConnectOptions::new()
            .name(format!("stentor {}", options.node))
            .ping_interval(Duration::from_secs(1))
            .connection_timeout(Duration::from_secs(2))
            .max_reconnects(None)
            .subscription_capacity(SUBSCRIBED)
            .reconnect_delay_callback(|attempts| Duration::from_millis((50 << attempts.min(5)) as u64))
            .event_callback(move |event| {
                let (inbox, flag) = (inbox.clone(), flag.clone());
                async move {
                    match event {
                        Event::Connected => {
                            flag.store(true, Ordering::Relaxed);
                            inbox.put(Inbound::Relay(Input::Reconnected));
                        }
                        Event::Disconnected => {
                            flag.store(false, Ordering::Relaxed);
                            log::warn!("the connection to NATS is lost and is made again");
                        }
                        Event::SlowConsumer(_) => log::debug!("messages of NATS come faster than they are taken"),
                        other => log::debug!("NATS: {other}"),
                    }
                }
            });
        if let Some(path) = &options.tls_ca {
            with = with.add_root_certificates(path.clone()).require_tls(true);
        }
        if let Some(path) = &options.credentials {
            let credentials = std::fs::read_to_string(path).map_err(ClusterError::Credentials)?;
            with = with.credentials(&credentials).map_err(ClusterError::Credentials)?;
        }
        // the client leaves the user in an address out, and knows servers that it hears of without one
        if let Some((user, password)) = user_of(&options.servers) {
            with = with.user_and_password(user, password);
        }
        match with.connect(options.servers.clone()).await {
            Ok(client) => {
                is_connected.store(true, Ordering::Relaxed);
                return Ok(client);
            }
            Err(e) if tokio::time::Instant::now() >= deadline => {
                return Err(NatsError::Connection(e.to_string()).into());
            }
            Err(e) => log::info!("NATS cannot be reached yet: {e}"),
        }
        tokio::time::sleep(CONNECT_AGAIN).await;
    }
}
