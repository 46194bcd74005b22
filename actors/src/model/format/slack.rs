//! Format `slack`: the message of an incoming webhook of Slack, as blocks with a text for where blocks are not shown.
//!
//! Limits: Slack's documentation, "Blocks" (50 in a message), "Header block", "Section block", "Text object". Text of a
//! payload is written with entities and is never parsed for names or links (`verbatim`), so nothing in it can mention.

use serde::Serialize;

use super::card::{Card, Piece, Text, one_line};
use super::text::{entities, entities_in_code, fit};
use super::{Rendered, Subject};
use crate::model::timestamp::to_iso;

const BLOCKS_MAX: usize = 50;
/// Each event takes three blocks, and the note on those left out one.
pub(super) const EVENTS_MAX: usize = 16;
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3_000;
const FIELDS_MAX: usize = 10;
const FIELD_MAX: usize = 2_000;
/// Characters of the text that stands for the blocks in notifications.
const FALLBACK_MAX: usize = 3_000;
/// Characters of sections in a whole message: a bound of ours, so that the message stays readable and is not refused.
const SECTIONS_TOTAL_MAX: usize = 12_000;
/// Characters of a value next to its label; our own bound, as a chat is no place for more.
const VALUE_MAX: usize = 500;
/// Characters of a channel's name in the line below an event.
const NAME_MAX: usize = 200;
/// More than the words of ours around the values of a field, a sentence or a link take.
const WORDS_MAX: usize = 120;

// a sentence of two names and its link fits into the share of an event however many there are, and a value into a field
const _: () = assert!(EVENTS_MAX * 3 < BLOCKS_MAX && VALUE_MAX + WORDS_MAX <= FIELD_MAX);
const _: () = assert!(VALUE_MAX + 2 * WORDS_MAX <= SECTIONS_TOTAL_MAX / EVENTS_MAX);

#[derive(Serialize)]
struct Message {
    text: String,
    blocks: Vec<Block>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Block {
    Header {
        text: Words,
    },
    Section {
        text: Words,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        fields: Vec<Words>,
    },
    Context {
        elements: [Words; 1],
    },
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Words {
    #[serde(rename = "plain_text")]
    Plain { text: String, emoji: bool },
    #[serde(rename = "mrkdwn")]
    Marked { text: String, verbatim: bool },
}

fn plain(text: String) -> Words {
    Words::Plain { text, emoji: false }
}

fn marked(text: String) -> Words {
    Words::Marked { text, verbatim: true }
}

/// A header, a section and a line of context per event. Beyond [`EVENTS_MAX`] events the message says how many are
/// left out.
pub(super) fn render(subjects: &[Subject<'_>]) -> Rendered {
    let shown = &subjects[..subjects.len().min(EVENTS_MAX)];
    let room = (SECTIONS_TOTAL_MAX / shown.len().max(1)).min(SECTION_MAX);
    let left_out = subjects.len() - shown.len();
    let (mut blocks, mut titles) = (Vec::with_capacity(shown.len() * 3 + 1), String::new());
    for subject in shown {
        let card = Card::of(subject);
        titles.push_str(if titles.is_empty() { "" } else { ", " });
        titles.push_str(&card.title);
        push(&mut blocks, card, subject, room);
    }
    if left_out > 0 {
        blocks.push(Block::Context { elements: [marked(format!("… and {left_out} more events"))] });
    }
    Rendered::of(&Message { text: fit(&titles, FALLBACK_MAX, entities), blocks })
}

fn push(blocks: &mut Vec<Block>, card: Card, subject: &Subject<'_>, room: usize) {
    blocks.push(Block::Header { text: plain(fit(&card.title, HEADER_MAX, entities)) });

    let link = card.link.map(|url| format!("\n<{url}|{url}>")).unwrap_or_default();
    let mut text = sentence(&card.text, room - link.len());
    text.push_str(&link);
    let field =
        |(name, value): (&'static str, String)| marked(format!("*{name}*\n{}", fit(&value, VALUE_MAX, entities)));
    let fields = card.facts.into_iter().take(FIELDS_MAX).map(field).collect();
    blocks.push(Block::Section { text: marked(text), fields });

    let at = to_iso(subject.event.ts_ms);
    let name = fit(&one_line(subject.channel.name), NAME_MAX, entities);
    let context = if name.is_empty() { at } else { format!("{name} · {at}") };
    blocks.push(Block::Context { elements: [marked(context)] });
}

/// At most `max` characters, never blank.
fn sentence(text: &Text, max: usize) -> String {
    match text {
        Text::Code(json) => format!("```\n{}\n```", fit(json, max - 8, entities_in_code)),
        Text::Sentence(pieces) => {
            let mut out = String::new();
            for piece in pieces {
                match piece {
                    Piece::Words(words) => out.push_str(words),
                    Piece::Name(name) => {
                        let name = fit(name, VALUE_MAX / 2, entities);
                        // Slack has no escape for its marks, so a name that holds some goes without emphasis
                        let mark = if name.contains(['*', '_', '~', '`']) { "" } else { "*" };
                        out.extend([mark, &name, mark]);
                    }
                }
            }
            out
        }
    }
}
