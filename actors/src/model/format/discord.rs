//! Format `discord`: the message of an incoming webhook, ready to be posted to the URL that Discord gives out.
//!
//! Discord refuses a message as a whole when one limit is passed, so every embed gets a share of the 6,000 characters
//! and every text is cut to what is left of it. Limits: Discord's documentation, "Embed Limits" and "Execute Webhook".

use serde::Serialize;

use super::card::{Card, Piece, Text, one_line};
use super::text::{code, fit, markdown, plain, units};
use super::{Rendered, Subject};
use crate::model::timestamp::to_iso;

/// Embeds in a message.
pub(super) const EMBEDS_MAX: usize = 10;
/// Characters in all texts of all embeds of a message.
const TOTAL_MAX: usize = 6_000;
const TITLE_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 4_096;
const FIELDS_MAX: usize = 25;
const FIELD_VALUE_MAX: usize = 1_024;
/// Characters of a channel's name that the footer shows; Discord would take 2,048.
const FOOTER_MAX: usize = 100;
/// Below this a field is left out rather than cut to nothing.
const FIELD_VALUE_MIN: usize = 8;

#[derive(Serialize)]
struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    embeds: Vec<Embed>,
    allowed_mentions: Mentions,
}

/// Which kinds of mention may ping: none.
#[derive(Serialize)]
struct Mentions {
    parse: [&'static str; 0],
}

#[derive(Serialize)]
struct Embed {
    title: String,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    color: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
    #[serde(skip_serializing_if = "Option::is_none")]
    footer: Option<Footer>,
    timestamp: String,
}

#[derive(Serialize)]
struct Field {
    name: &'static str,
    value: String,
    inline: bool,
}

#[derive(Serialize)]
struct Footer {
    text: String,
}

/// One embed per event. Beyond [`EMBEDS_MAX`] events the message says how many are left out.
pub(super) fn render(subjects: &[Subject<'_>]) -> Rendered {
    let shown = &subjects[..subjects.len().min(EMBEDS_MAX)];
    let share = TOTAL_MAX / shown.len().max(1);
    let left_out = subjects.len() - shown.len();
    Rendered::of(&Message {
        content: (left_out > 0).then(|| format!("… and {left_out} more events")),
        embeds: shown.iter().map(|subject| embed(subject, share)).collect(),
        allowed_mentions: Mentions { parse: [] },
    })
}

/// An embed whose texts have at most `share` characters together; `share` is at least 600.
fn embed(subject: &Subject<'_>, share: usize) -> Embed {
    let card = Card::of(subject);
    let title = fit(&card.title, TITLE_MAX, markdown);
    let footer = fit(&one_line(subject.channel.name), FOOTER_MAX, plain);
    let mut left = share - units(&title) - units(&footer);

    // a description next to fields leaves half of the room to them
    let room = if card.facts.is_empty() { left } else { left / 2 };
    let description = description(&card.text, room.min(DESCRIPTION_MAX));
    left -= units(&description);

    let mut fields = Vec::with_capacity(card.facts.len());
    let mut to_come = card.facts.len().min(FIELDS_MAX);
    for (name, value) in card.facts.into_iter().take(FIELDS_MAX) {
        let room = (left / to_come).saturating_sub(units(name)).min(FIELD_VALUE_MAX);
        to_come -= 1;
        if room < FIELD_VALUE_MIN {
            continue;
        }
        let value = fit(&value, room, markdown);
        left -= units(name) + units(&value);
        fields.push(Field { name, value, inline: true });
    }
    Embed {
        title,
        description,
        url: card.link,
        color: card.colour,
        fields,
        footer: (!footer.is_empty()).then_some(Footer { text: footer }),
        timestamp: to_iso(subject.event.ts_ms),
    }
}

fn description(text: &Text, max: usize) -> String {
    match text {
        Text::Code(json) => {
            let (open, close) = ("```json\n", "\n```");
            format!("{open}{}{close}", fit(json, max - open.len() - close.len(), code))
        }
        Text::Sentence(pieces) => {
            let names = pieces.iter().filter(|piece| matches!(piece, Piece::Name(_))).count();
            let words: usize =
                pieces.iter().map(|piece| if let Piece::Words(words) = piece { units(words) } else { 0 }).sum();
            let each = max.saturating_sub(words) / names.max(1);
            let mut out = String::new();
            for piece in pieces {
                match piece {
                    Piece::Words(words) => out.push_str(words),
                    Piece::Name(name) => {
                        out.push_str("**");
                        out.push_str(&fit(name, each.saturating_sub(4), markdown));
                        out.push_str("**");
                    }
                }
            }
            out
        }
    }
}
