//! Reading a part of the log that has not come by itself: from any replica, or from the leader, whose word is the last.

use std::sync::Arc;

use super::entry::{self, Part};
use super::inbox::RelayInput;
use super::names::Names;
use super::nats::{Find, JetStream, NatsError, Read, Stored};
use crate::model::relay::{Body, Input, TailMessage};

/// What is read of the stream at once.
const READ_MESSAGES: usize = 2_000;
const READ_BYTES: usize = 4 << 20;
pub async fn read(
    jetstream: &JetStream,
    names: &Names,
    from: u64,
    taken_through: u64,
) -> Result<RelayInput, NatsError> {
    let subject = names.all_of_log();
    let read = Read { from, messages: READ_MESSAGES, bytes: READ_BYTES, subject: &subject };
    let (found, pending) = jetstream.read(&names.log(), &read).await?;
    let end = found.last().map_or(from - 1, |last| last.sequence) + pending;
    let messages = with_what_was_taken(messages_of(found, names)?, from, taken_through.min(end));
    Ok(Input::Fetched { from, at_leader: false, messages, end })
}

pub async fn read_at_leader(
    jetstream: &JetStream,
    names: &Names,
    from: u64,
    taken_through: u64,
) -> Result<RelayInput, NatsError> {
    // the end first: a message that comes in between is then not beyond it
    let end = jetstream.state(&names.log()).await?.last;
    let found = jetstream.at_leader(&names.log(), Find::Next(from, &names.all_of_log())).await?;
    let end = found.as_ref().map_or(end, |found| end.max(found.sequence));
    let messages = messages_of(found.into_iter().collect(), names)?;
    let messages = with_what_was_taken(messages, from, taken_through.min(end));
    Ok(Input::Fetched { from, at_leader: true, messages, end })
}

fn messages_of(found: Vec<Stored>, names: &Names) -> Result<Vec<TailMessage<Part>>, NatsError> {
    found.into_iter().map(|stored| tail_message(stored, names)).collect()
}

/// Puts something in the place of messages that are not there because they were taken away: before those that were found, and up
/// to `taken_through` only where none was. Behind the last one of a page there are those of the next page.
fn with_what_was_taken(messages: Vec<TailMessage<Part>>, from: u64, taken_through: u64) -> Vec<TailMessage<Part>> {
    let taken_through = messages.last().map_or(taken_through, |last| taken_through.min(last.sequence));
    let last = messages.last().map_or(from - 1, |last| last.sequence);
    if taken_through < from || messages.len() as u64 == last + 1 - from && last >= taken_through {
        return messages;
    }
    let nothing = Arc::new(entry::nothing());
    let (mut all, mut next, mut time_ms) = (Vec::new(), from, 0);
    // a page of what was taken is bounded like one of what is there
    let until = taken_through.min(from + READ_MESSAGES as u64);
    for message in messages {
        while next < message.sequence && next <= until {
            all.push(TailMessage { sequence: next, time_ms: message.time_ms, body: Body::Events(nothing.clone()) });
            next += 1;
        }
        if next < message.sequence && next > until && next <= taken_through {
            return all;
        }
        (next, time_ms) = (message.sequence + 1, message.time_ms);
        all.push(message);
    }
    while next <= until {
        all.push(TailMessage { sequence: next, time_ms, body: Body::Events(nothing.clone()) });
        next += 1;
    }
    all
}

pub fn tail_message(stored: Stored, names: &Names) -> Result<TailMessage<Part>, NatsError> {
    let Stored { subject, sequence, time_ms, payload } = stored;
    let body = match subject == names.term() {
        true => entry::decode_claim(payload).map(Body::Term),
        false => entry::decode(payload).map(|message| Body::Events(Arc::new(message))),
    };
    let body = body.map_err(|e| NatsError::Unreadable(format!("message {sequence}: {e}")))?;
    Ok(TailMessage { sequence, time_ms, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(sequences: &[u64]) -> Vec<TailMessage<Part>> {
        let something = Arc::new(entry::nothing());
        let message =
            |sequence: &u64| TailMessage { sequence: *sequence, time_ms: 7, body: Body::Events(something.clone()) };
        sequences.iter().map(message).collect()
    }

    /// The sequences of a page in which holes are filled, and which of them were found.
    fn filled(found: &[u64], from: u64, taken_through: u64) -> Vec<u64> {
        let all = with_what_was_taken(page(found), from, taken_through);
        all.iter().map(|message| message.sequence).collect()
    }

    #[test]
    fn holes_before_what_was_found_are_filled_and_what_the_next_page_has_is_not() {
        assert_eq!(filled(&[1, 2, 3], 1, 100), [1, 2, 3], "a page that was cut by its size");
        assert_eq!(filled(&[3, 6], 1, 100), [1, 2, 3, 4, 5, 6]);
        assert_eq!(filled(&[3, 6], 1, 4), [1, 2, 3, 4, 6], "what is missing behind the snapshot is lost");
        assert_eq!(filled(&[2, 3], 2, 0), [2, 3]);
        assert_eq!(filled(&[], 4, 6), [4, 5, 6], "all of it was taken");
        assert!(filled(&[], 4, 3).is_empty());
    }

    #[test]
    fn a_page_of_what_was_taken_is_bounded_and_goes_on_with_the_next_one() {
        let first = filled(&[10_000], 1, 9_999);
        assert_eq!(first.len() as u64, READ_MESSAGES as u64 + 1);
        assert_eq!(first.last(), Some(&(READ_MESSAGES as u64 + 1)));
        let second = filled(&[10_000], 9_000, 9_999);
        assert_eq!((second.len(), second.last()), (1_001, Some(&10_000)));
    }
}
