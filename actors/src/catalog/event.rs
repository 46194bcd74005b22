//! What happens when a change of the configuration is applied, for those on higher floors who have to do something about it.

use std::sync::Arc;

use crate::catalog::source::Source;
use crate::catalog::webhook::Webhook;
use crate::model::access::TokenRecord;
use crate::model::channel::Channel;

/// Something that has just become true. By then every reader of the catalog sees it.
#[derive(Clone)]
pub enum CatalogEvent {
    ChannelChanged { old: Arc<Channel>, new: Arc<Channel> },
    ChannelRemoved { channel: Arc<Channel> },
    TokenChanged { old: Arc<TokenRecord>, new: Arc<TokenRecord> },
    TokenRevoked { token: Arc<TokenRecord> },
    WebhookMade { webhook: Arc<Webhook> },
    WebhookChanged { old: Arc<Webhook>, new: Arc<Webhook> },
    WebhookRemoved { webhook: Arc<Webhook> },
    SourceMade { source: Arc<Source> },
    SourceChanged { old: Arc<Source>, new: Arc<Source> },
    SourceRemoved { source: Arc<Source> },
}

/// Told of every event, in the order of commits, on the thread of the journal: it must not block.
pub type Sink = Box<dyn Fn(CatalogEvent) + Send + Sync>;
