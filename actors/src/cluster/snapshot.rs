//! All documents as they were after one message of the log, in the stream of the configuration. Who has them needs no older
//! changes, so these are taken out of the log, and a node that starts with an empty folder begins here.
//!
//! `conf.s.<sequence>.<part>` holds the entries in parts, and `conf.done` says which sequence is whole. It is written last, on
//! the condition that nobody has written another one, and what it makes superfluous is taken away after that.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::names::Names;
use super::nats::{Conditions, Find, JetStream, NatsError};
use crate::documents::{Change, Frozen, Table, decode_changes, encode_changes};
use crate::log::LossDocument;

/// Bytes of the changes in one part. NATS servers take 1 MiB unless they are told to take more.
const PART_BYTES: usize = 512 << 10;
/// How often a snapshot is read again because a newer one has taken its place meanwhile.
const READS_MAX: usize = 3;

/// Which snapshot is whole, and what it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The documents are as they were after this message.
    pub sequence: u64,
    pub parts: u32,
    pub crc: u32,
    pub configured_at: u64,
    pub events_at: u64,
    /// Retention has taken messages with events before this one.
    pub retained_from: u64,
}

/// A snapshot that is to be written.
pub struct Snapshot {
    pub done: Done,
    pub documents: Frozen,
}

/// Whether a document is the same on all nodes.
fn is_shared(change: &Change) -> bool {
    match change.table() {
        Table::Copy => false,
        // of segments every node has its own
        Table::Losses => !matches!(change.document::<LossDocument>(), Ok(Some(LossDocument::Dropped { .. }))),
        _ => true,
    }
}

/// What of these documents goes into a snapshot.
pub fn shared(documents: &Frozen) -> impl Iterator<Item = Change> {
    // what is held was checked when it was put
    documents.entries().filter_map(|(key, text)| Change::stored(key, text).ok()).filter(is_shared)
}

fn parts(changes: impl Iterator<Item = Change>) -> Vec<Bytes> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for change in changes {
        if bytes > 0 && bytes + change.encoded_bytes() > PART_BYTES {
            parts.push(Bytes::from(encode_changes(&std::mem::take(&mut part))));
            bytes = 0;
        }
        bytes += change.encoded_bytes();
        part.push(change);
    }
    parts.push(Bytes::from(encode_changes(&part)));
    parts
}

fn crc(parts: &[Bytes]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Writes a snapshot behind the newest one, whoever has written that, and takes away what it makes superfluous. Answers with
/// what counts now: this one, or one that stands for as much already.
///
/// # Errors
/// What NATS says; then the one before counts.
pub async fn write(jetstream: &JetStream, names: &Names, snapshot: Snapshot) -> Result<Done, NatsError> {
    let Snapshot { mut done, documents } = snapshot;
    let newest = newest(jetstream, names).await?;
    let previous = newest.as_ref().map_or(0, |(place, _)| *place);
    if let Some((_, newest)) = newest {
        let is_as_much = newest.sequence == done.sequence && newest.retained_from >= done.retained_from;
        if newest.sequence > done.sequence || is_as_much {
            return Ok(newest);
        }
        // what was taken stays taken
        done.retained_from = done.retained_from.max(newest.retained_from);
    }
    let changes: Vec<Change> = shared(&documents).collect();
    let done = write_all(jetstream, names, done, changes.into_iter(), previous).await?;
    // what is in the way of nobody may stay; the next snapshot tries again
    let first = names.snapshot_part(done.sequence, 0);
    let of_this = jetstream.at_leader(&names.configuration(), Find::Last(&first)).await?;
    if let Some(first) = of_this {
        jetstream.purge(&names.configuration(), &names.snapshot_parts(), first.sequence).await?;
    }
    jetstream.purge(&names.log(), names.of_entry(super::entry::Kind::Changes), done.sequence + 1).await?;
    if done.retained_from > 0 {
        jetstream.purge(&names.log(), names.of_entry(super::entry::Kind::Events), done.retained_from).await?;
    }
    Ok(done)
}

/// Writes these documents as a snapshot, and takes nothing away. `previous`: the last message on the subject of [`Done`].
///
/// # Errors
/// What NATS says; then the one before counts.
pub async fn write_all(
    jetstream: &JetStream,
    names: &Names,
    mut done: Done,
    changes: impl Iterator<Item = Change>,
    previous: u64,
) -> Result<Done, NatsError> {
    let parts = parts(changes);
    (done.parts, done.crc) = (parts.len() as u32, crc(&parts));
    for (n, part) in parts.into_iter().enumerate() {
        jetstream.publish(&names.snapshot_part(done.sequence, n as u32), part, &Conditions::default()).await?;
    }
    let conditions = Conditions { last: None, last_on: Some((names.snapshot_done(), previous)) };
    let text = serde_json::to_vec(&done).map_err(|e| NatsError::Unreadable(e.to_string()))?;
    jetstream.publish(&names.snapshot_done(), text.into(), &conditions).await?;
    Ok(done)
}

/// Which snapshot is whole, with the place where that is said; none: there is none.
///
/// # Errors
/// What NATS says.
pub async fn newest(jetstream: &JetStream, names: &Names) -> Result<Option<(u64, Done)>, NatsError> {
    let Some(stored) = jetstream.at_leader(&names.configuration(), Find::Last(&names.snapshot_done())).await? else {
        return Ok(None);
    };
    let done = serde_json::from_slice(&stored.payload).map_err(|e| NatsError::Unreadable(e.to_string()))?;
    Ok(Some((stored.sequence, done)))
}

/// The newest snapshot.
///
/// # Errors
/// What NATS says, or that it is not whole.
pub async fn read(jetstream: &JetStream, names: &Names) -> Result<Option<(Done, Vec<Change>)>, NatsError> {
    for _ in 0..READS_MAX {
        let Some((_, done)) = newest(jetstream, names).await? else { return Ok(None) };
        let mut parts = Vec::new();
        for n in 0..done.parts {
            let subject = names.snapshot_part(done.sequence, n);
            match jetstream.at_leader(&names.configuration(), Find::Last(&subject)).await? {
                Some(part) => parts.push(part.payload),
                None => break,
            }
        }
        if parts.len() == done.parts as usize && crc(&parts) == done.crc {
            let mut changes = Vec::new();
            for part in parts {
                changes.extend(decode_changes(&part).map_err(|e| NatsError::Unreadable(e.to_string()))?);
            }
            return Ok(Some((done, changes)));
        }
    }
    Err(NatsError::Unreadable("the documents in the stream of the configuration are not whole".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Documents;

    #[test]
    fn a_snapshot_holds_what_all_nodes_share_in_parts_that_every_server_takes() {
        let big = "x".repeat(300 << 10);
        let put = |table, key: &str| Change::put(table, key, &big).expect("a document");
        let changes =
            [put(Table::Tokens, "a"), put(Table::Webhooks, "b"), put(Table::Copy, "position"), put(Table::Rows, "c")];
        let documents = Documents::of(changes, 1).freeze();
        let parts = parts(shared(&documents));
        assert!(parts.len() == 3 && parts.iter().all(|part| part.len() <= PART_BYTES));
        let tables: Vec<Table> =
            parts.iter().flat_map(|part| decode_changes(part).expect("changes")).map(|change| change.table()).collect();
        assert_eq!(tables, [Table::Rows, Table::Tokens, Table::Webhooks]);
    }
}
