//! An event in the envelope of any family, as far as the command line looks into it.

use actors::model::id::EventId;
use actors::model::timestamp;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

/// The names that the families have for the same things.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(alias = "event_id")]
    id: EventId,
    #[serde(rename = "type", alias = "event", alias = "event_type", alias = "eventType")]
    kind: String,
    ts: Option<Json>,
    timestamp: Option<Json>,
    session: Option<String>,
    map_id: Option<String>,
    organization: Option<String>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// What an envelope says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub id: EventId,
    pub kind: String,
    /// When it happened, in Unix milliseconds.
    pub ts_ms: i64,
    pub session: Option<String>,
    /// The id of the map or organization, where the envelope names it.
    pub owner: Option<String>,
    /// JSON.
    pub payload: &'a str,
}

impl<'a> Envelope<'a> {
    /// Reads the JSON of an envelope.
    ///
    /// # Errors
    /// A sentence about what is missing or wrong.
    pub fn read(json: &'a str) -> Result<Envelope<'a>, String> {
        let wire: Wire<'a> = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let ts_ms = match wire.ts.or(wire.timestamp) {
            Some(Json::Number(ms)) => ms.as_i64(),
            Some(Json::String(iso)) => timestamp::from_iso(&iso),
            _ => None,
        };
        Ok(Envelope {
            id: wire.id,
            kind: wire.kind,
            ts_ms: ts_ms.ok_or("the event has no time")?,
            session: wire.session,
            owner: wire.map_id.or(wire.organization),
            payload: wire.payload.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelopes_of_all_families_say_the_same() {
        let id = "01J0YYYYYYYYYYYYYYYYYYYYYY";
        let iso = "2025-06-21T12:34:56.789Z";
        for (json, session, owner) in [
            (
                format!(
                    r#"{{"id":"{id}","type":"a","map_id":"m","ts":"{iso}","timestamp":"{iso}","payload":{{"n":1}}}}"#
                ),
                None,
                Some("m"),
            ),
            (
                format!(
                    r#"{{"schema":"v1","id":"evt_{id}","event":"a","session":"s","organization":"o","timestamp":1750509296789,"payload":{{"n":1}}}}"#
                ),
                Some("s"),
                Some("o"),
            ),
            (
                format!(r#"{{"event_id":"evt_{id}","event_type":"a","timestamp":1750509296789,"payload":{{"n":1}}}}"#),
                None,
                None,
            ),
        ] {
            let expected = Envelope {
                id: id.parse().expect("an id"),
                kind: "a".into(),
                ts_ms: 1_750_509_296_789,
                session: session.map(str::to_owned),
                owner: owner.map(str::to_owned),
                payload: r#"{"n":1}"#,
            };
            assert_eq!(Envelope::read(&json), Ok(expected), "{json}");
        }
        assert!(Envelope::read(r#"{"id":"x","type":"a","ts":1,"payload":{}}"#).is_err());
        assert!(Envelope::read(r#"{"id":"01J0YYYYYYYYYYYYYYYYYYYYYY","type":"a","payload":{}}"#).is_err());
    }
}
