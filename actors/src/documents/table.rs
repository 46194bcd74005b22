//! The tables of documents, and how a document's key is written and shown.

use std::fmt;
use std::sync::Arc;

/// A table by its letter. Letters are never used again for something else; `d`, `k`, `l` and `p` were those of tables that
/// are now in [`notes`](super::notes).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// Channels by number.
    Channels = b'c',
    /// Tokens by id.
    Tokens = b't',
    /// Counters by name. A counter never goes back, see [`Documents::apply`](super::Documents::apply).
    Numbers = b'n',
    /// Webhooks by id.
    Webhooks = b'w',
    /// The state of a webhook's deliveries, with the cursor, by the webhook's id.
    Endpoints = b'e',
    /// Deliveries in trouble by webhook and delivery.
    Rows = b'r',
    /// Replays by webhook and number.
    Replays = b'j',
    /// Sources by id.
    Sources = b's',
    /// What retention or damage took from the log, by channel.
    Losses = b'x',
    /// Which node of a cluster delivers for which part of the webhooks, by the number of the part.
    Slots = b'o',
    /// Tickets that all nodes of a cluster share, by their hashes.
    Tickets = b'i',
    /// How far this node's copy of a cluster's log goes. Of this folder alone.
    Copy = b'y',
}

impl Table {
    pub const ALL: [Table; 12] = [
        Table::Channels,
        Table::Tokens,
        Table::Numbers,
        Table::Webhooks,
        Table::Endpoints,
        Table::Rows,
        Table::Replays,
        Table::Sources,
        Table::Losses,
        Table::Slots,
        Table::Tickets,
        Table::Copy,
    ];

    pub fn letter(self) -> u8 {
        self as u8
    }

    pub fn of_letter(letter: u8) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.letter() == letter)
    }

    pub fn name(self) -> &'static str {
        match self {
            Table::Channels => "channels",
            Table::Tokens => "tokens",
            Table::Numbers => "numbers",
            Table::Webhooks => "webhooks",
            Table::Endpoints => "endpoints",
            Table::Rows => "rows",
            Table::Replays => "replays",
            Table::Sources => "sources",
            Table::Losses => "losses",
            Table::Slots => "slots",
            Table::Tickets => "tickets",
            Table::Copy => "copy",
        }
    }
}

/// The key of a document among all: the table's letter and the document's own key.
pub(super) fn full_key(table: Table, own: &[u8]) -> Arc<[u8]> {
    [&[table.letter()], own].concat().into()
}

/// A document's own key for people. Keys are ids and numbers, never secrets.
pub(super) struct ShownKey<'a>(pub &'a [u8]);

impl fmt::Display for ShownKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [a @ 0..b' ', b, c, d] = *self.0 {
            return write!(f, "{}", u32::from_be_bytes([a, b, c, d]));
        }
        // rows and replays: the webhook's id, and a number after it
        let text = self.0.iter().take_while(|byte| byte.is_ascii_graphic()).count();
        f.write_str(str::from_utf8(&self.0[..text]).unwrap_or_default())?;
        self.0[text..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
