//! From a body that is believed to drafts: our own form of events, or whatever a provider sends as one event each.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::auth::{Authentication, Headers};
use super::pointer;
use super::rule::Rule;
use super::schema::Schema;
use super::strict;
use crate::model::draft::{self, BodyForm, DraftError, FieldError, Limits, Shape, Sorted};
use crate::model::event::Draft;
use crate::model::json::{self, Canonical, JsonError};

/// What a source does with a body.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    /// Its id, which every event names.
    pub id: &'a str,
    pub authentication: Authentication,
    /// Where the type of an event is; none: the body is in our own form.
    pub rules: &'a [Rule],
    pub schema: Option<&'a Schema>,
    pub limits: Limits,
    /// Whether the good events of a batch are taken without the bad ones.
    pub partial: bool,
}

/// What the content type says about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    Json,
    /// `application/x-www-form-urlencoded`, in which GitHub can wrap its JSON and in which Slack sends commands.
    Form,
}

/// What a body comes to.
#[derive(Debug, PartialEq)]
pub enum Read {
    Events(Taken),
    /// Slack asks whether somebody is there; this text is the answer.
    Challenge(String),
}

/// The events of a body.
#[derive(Debug, PartialEq)]
pub struct Taken {
    /// At least one, each marked by the schema.
    pub drafts: Vec<Draft>,
    /// What is wrong with the events that were left out of a partial batch, and their JSON texts.
    pub errors: Vec<FieldError>,
    pub refused: Vec<String>,
    /// The provider's own id of this delivery, if it gave one.
    pub delivery: Option<String>,
}

/// Why a body cannot be taken.
pub type Refused = DraftError;

/// Whether a body may be a form: where a provider sends one, and the whole of it is an event.
pub fn takes_forms(authentication: Authentication, rules: &[Rule]) -> bool {
    !rules.is_empty() && matches!(authentication, Authentication::Github | Authentication::Slack)
}

impl Config<'_> {
    /// Reads a body of this content.
    pub fn read(&self, headers: &dyn Headers, body: &[u8], content: Content) -> Result<Read, Refused> {
        if !self.rules.is_empty() {
            return self.whole(headers, body, content);
        }
        strict::check(&text(body)?).map_err(malformed)?;
        let shape = Shape::TakenIn(self.id);
        let Sorted { mut drafts, errors, refused } = match self.partial {
            true => draft::sort(body, &self.limits, shape)?,
            false => {
                let drafts = draft::parse_as(body, BodyForm::Json, &self.limits, shape)?.drafts;
                Sorted { drafts, errors: Vec::new(), refused: Vec::new() }
            }
        };
        drafts.iter_mut().for_each(|draft| self.mark(draft));
        Ok(Read::Events(Taken { drafts, errors, refused, delivery: None }))
    }

    /// The whole body as the properties of one event.
    fn whole(&self, headers: &dyn Headers, body: &[u8], content: Content) -> Result<Read, Refused> {
        let text = match content {
            Content::Json => text(body)?,
            Content::Form => json_of_form(body)?.into(),
        };
        let json = text.trim_matches([' ', '\t', '\r', '\n']);
        strict::check(json).map_err(malformed)?;
        let (bytes, limit) = (json.len(), self.limits.event_bytes);
        if bytes > limit {
            return Err(DraftError::EventTooLarge { index: 0, bytes, limit });
        }
        if !json.starts_with('{') {
            return Err(wrong("", "the body must be a JSON object"));
        }
        let found = |pointer| Some(pointer::scalar(pointer::at(json, pointer)?)?.into_owned());
        if self.authentication == Authentication::Slack && found("/type").as_deref() == Some("url_verification") {
            let challenge = found("/challenge");
            return challenge.map(Read::Challenge).ok_or_else(|| wrong("challenge", "is missing"));
        }
        let Some(kind) = Rule::first(self.rules, headers, json) else {
            return Err(wrong(&Rule::described(self.rules), "names no event type"));
        };
        let properties = Canonical::parse(json).map_err(malformed)?;
        let payload = draft::payload_of(None, &properties, self.id);
        let mut draft = Draft { kind, ts_ms: None, session: None, payload, dedupe_id: None, validated: None };
        self.mark(&mut draft);
        let delivery = self.delivery(headers, json);
        Ok(Read::Events(Taken { drafts: vec![draft], errors: Vec::new(), refused: Vec::new(), delivery }))
    }

    /// The provider's own id of a delivery, which is the same when it is sent again; none where it gives none.
    pub fn delivery(&self, headers: &dyn Headers, json: &str) -> Option<String> {
        let header = |name| headers.get(name).map(str::to_owned);
        let found = |pointer| Some(pointer::scalar(pointer::at(json, pointer)?)?.into_owned());
        match self.authentication {
            Authentication::Standard => header("webhook-id").or_else(|| header("svix-id")),
            Authentication::Github => header("X-GitHub-Delivery"),
            Authentication::Stripe => found("/id"),
            Authentication::Slack => found("/event_id"),
            _ => None,
        }
    }

    /// Notes whether the event is as the schema says.
    fn mark(&self, draft: &mut Draft) {
        let payload = draft.payload.as_str();
        let fits = |schema: &Schema| {
            let user_id = pointer::member(payload, "user_id");
            schema.fits(&draft.kind, user_id, super::properties(payload).unwrap_or("{}"))
        };
        draft.validated = Some(self.schema.is_none_or(fits));
    }
}

/// The JSON that a form stands for: its field `payload`, or an object of all its fields.
fn json_of_form(body: &[u8]) -> Result<String, Refused> {
    let fields: Vec<_> = url::form_urlencoded::parse(body).collect();
    let mut names = HashSet::new();
    let twice = fields.iter().find(|(name, _)| !names.insert(name));
    if let Some((name, _)) = twice {
        return Err(wrong(name, "is in the form more than once"));
    }
    // what stands here was no UTF-8
    if fields.iter().any(|(name, value)| name.contains('\u{fffd}') || value.contains('\u{fffd}')) {
        return Err(wrong("", "the form is not UTF-8"));
    }
    if let Some((_, payload)) = fields.iter().find(|(name, _)| name == "payload") {
        return Ok(json::without_lone_surrogates(payload).into_owned());
    }
    let member = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| {
        format!("{}:{}", Canonical::of_text(name).as_str(), Canonical::of_text(value).as_str())
    };
    Ok(format!("{{{}}}", fields.iter().map(member).collect::<Vec<_>>().join(",")))
}

fn text(body: &[u8]) -> Result<Cow<'_, str>, Refused> {
    json::text(body).map_err(malformed)
}

fn malformed(error: JsonError) -> Refused {
    let JsonError { line, column, message } = error;
    DraftError::Malformed { line, column, message }
}

fn wrong(field: &str, message: &str) -> Refused {
    DraftError::Invalid(vec![FieldError { index: 0, field: field.into(), message: message.into() }])
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
