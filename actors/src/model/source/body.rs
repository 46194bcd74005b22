//! From the body of a verified sender to drafts: our own form of events, or whatever a provider sends as one event each.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::auth::{Headers, Incoming};
use super::handshake::{self, Reply};
use super::preset::Preset;
use super::raw::{Keeping, RAW_BODY_BYTES_MAX, REQUEST_TYPE, TooMuch};
use super::recipe::Recipe;
use super::rule::Rule;
use super::schema::Schema;
use super::strict;
use super::{form, pointer};
use crate::model::cloudevents::{self, CloudEvent, Mode};
use crate::model::draft::{
    self, BodyForm, DEDUPE_ID_BYTES_MAX, DraftError, DraftLimits, FIELD_ERRORS_MAX, FieldError, Shape, Sorted,
};
use crate::model::event::{Draft, EventType};
use crate::model::json::{self, Canonical, JsonError};

/// What a source does with a body.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    /// Its id, which every event names.
    pub id: &'a str,
    /// The provider, if it is one that is known.
    pub preset: Option<&'static Preset>,
    /// The recipe that its owner wrote.
    pub recipe: Option<&'a Recipe>,
    /// JSON pointers to what nobody but the sender may know.
    pub secrets: &'a [&'a str],
    /// Where the type of an event is; none: the body is in our own form.
    pub rules: &'a [Rule],
    pub schema: Option<&'a Schema>,
    pub limits: DraftLimits,
    /// Whether the good events of a batch are taken without the bad ones.
    pub partial: bool,
}

/// What the content type says about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// What a body comes to.
#[derive(Debug, PartialEq)]
pub enum Read {
    Events(Taken),
    /// The provider asks whether somebody is there.
    Question(Reply),
}

/// The events of a body.
#[derive(Debug, PartialEq)]
pub struct Taken {
    /// At least one, each marked by the schema.
    pub drafts: Vec<Draft>,
    /// What is wrong with the events that were left out of a partial batch, and their JSON texts.
    pub errors: Vec<FieldError>,
    pub refused: Vec<Box<str>>,
    /// The provider's own id of this delivery, if it gave one.
    pub delivery: Option<String>,
}

/// Why a body cannot be taken.
pub type Refused = DraftError;

/// Why the headers of a request say that its body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("The body is packed in a way that is not known, or damaged; send it again without a Content-Encoding")]
    Packed,
    #[error("Send application/json or application/x-www-form-urlencoded")]
    Type,
}

impl Content {
    /// What the headers say about a body. The signature was checked before, over whatever it is. Some senders say
    /// `text/plain` of JSON; they are understood where something proves who they are (`is_verified`), because a browser sends
    /// such a body for any page.
    ///
    /// # Errors
    /// Nothing here can read it.
    pub fn of(headers: &dyn Headers, is_verified: bool) -> Result<Content, Unreadable> {
        let Some(value) = headers.get("content-type") else { return Ok(Content::Json) };
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/json" => Ok(Content::Json),
            "text/plain" | "text/json" if is_verified => Ok(Content::Json),
            kind if kind.starts_with("application/") && kind.ends_with("+json") => Ok(Content::Json),
            "application/x-www-form-urlencoded" => Ok(Content::Form),
            _ => Err(Unreadable::Type),
        }
    }
}

impl Config<'_> {
    /// Reads a body of this content.
    ///
    /// # Errors
    /// What of it cannot be taken; nothing of it is.
    pub fn read(&self, headers: &dyn Headers, body: &[u8], content: Content) -> Result<Read, Refused> {
        let json: Cow<'_, str> = match content {
            Content::Json => text(body)?,
            Content::Form => match self.rules.is_empty() {
                true => form::event(body)?.into(),
                false => form::json(body, self.wraps_json())?.into(),
            },
        };
        let json = json.trim_matches([' ', '\t', '\r', '\n']);
        strict::check(json).map_err(malformed)?;
        if !self.rules.is_empty() {
            return self.by_rules(headers, json);
        }
        let shape = Shape::TakenIn(self.id);
        let Sorted { mut drafts, errors, refused } = match self.partial {
            true => draft::sort(json.as_bytes(), &self.limits, shape)?,
            false => {
                let drafts = draft::parse_as(json.as_bytes(), BodyForm::Json, &self.limits, shape)?.drafts;
                Sorted { drafts, errors: Vec::new(), refused: Vec::new() }
            }
        };
        drafts.iter_mut().for_each(|draft| self.mark(draft));
        let refused = refused.into_iter().map(Into::into).collect();
        Ok(Read::Events(Taken { drafts, errors, refused, delivery: self.delivery(headers, json) }))
    }

    /// CloudEvents: the data as properties, with the attributes beside them.
    ///
    /// # Errors
    /// What of the body cannot be taken; nothing of it is.
    pub fn read_cloudevents(&self, mode: Mode, headers: &dyn Headers, body: &[u8]) -> Result<Read, Refused> {
        let events = cloudevents::read(mode, headers, body, &self.limits, self.partial)?;
        let delivery = self.recipe.and_then(|_| self.delivery(headers, "{}"));
        let mut taken =
            Taken { drafts: Vec::with_capacity(events.len()), errors: Vec::new(), refused: Vec::new(), delivery };
        for (index, event) in events.into_iter().enumerate() {
            let (error, text) = match event {
                Ok(event) => {
                    strict::check(&event.text).map_err(malformed)?;
                    match self.cloudevent(headers, index, &event) {
                        Ok(draft) => {
                            taken.drafts.push(draft);
                            continue;
                        }
                        Err(error) => (error, event.text.into()),
                    }
                }
                Err(bad) => (bad.error, bad.text),
            };
            self.leave_out(&mut taken, error, text);
        }
        self.judged(taken)
    }

    /// Puts an event aside that cannot be taken.
    fn leave_out(&self, taken: &mut Taken, error: FieldError, text: Box<str>) {
        if taken.errors.len() < FIELD_ERRORS_MAX || self.partial {
            taken.errors.push(error);
        }
        taken.refused.push(text);
    }

    /// What of a batch is taken when some of it cannot be.
    ///
    /// # Errors
    /// Nothing of it: all has to be good, or in a partial batch something.
    fn judged(&self, taken: Taken) -> Result<Read, Refused> {
        match !taken.errors.is_empty() && (!self.partial || taken.drafts.is_empty()) {
            true => Err(DraftError::Invalid(taken.errors)),
            false => Ok(Read::Events(taken)),
        }
    }

    fn cloudevent(&self, headers: &dyn Headers, index: usize, event: &CloudEvent) -> Result<Draft, FieldError> {
        let error = |message: String| FieldError { index, field: "type".into(), message: message.into() };
        let mapped = Rule::first(self.rules, headers, &event.text).map_err(|e| error(e.to_string()))?;
        let kind = match mapped {
            Some(kind) => kind,
            None => EventType::new(&event.kind).map_err(|e| error(format!("is not well-formed: {e}")))?,
        };
        let payload = draft::payload_of(None, &event.data, self.id, &[("cloudevent", &event.attributes)]);
        let dedupe_id = Some(event.dedupe_id());
        let mut draft = Draft { kind, ts_ms: event.ts_ms, session: None, payload, dedupe_id, validated: None };
        self.mark(&mut draft);
        Ok(draft)
    }

    /// A request as it came: one event, whatever it is.
    ///
    /// # Errors
    /// It is larger than one may be, or its type is too long.
    pub fn read_request(
        &self,
        keeping: &Keeping<'_>,
        request: &Incoming<'_>,
        path: &str,
        query: &str,
    ) -> Result<Read, Refused> {
        let text = json::text(request.body).unwrap_or_default();
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let form = match Content::of(request.headers, true) {
            Ok(Content::Form) => form::json(request.body, self.wraps_json()).ok(),
            _ => None,
        };
        let json = form.as_deref().unwrap_or(text);
        let asked = self.preset.and_then(|preset| handshake::signed(preset.handshake?, request.headers, json));
        if let Some(asked) = asked {
            return asked.map(Read::Question).map_err(|(field, e)| wrong(0, field, &e.to_string()));
        }
        let kind = Rule::first(self.rules, request.headers, json);
        let kind = kind.map_err(|e| wrong(0, &Rule::described(self.rules), &e.to_string()))?;
        // the name of the default is a type
        let kind = kind.or_else(|| EventType::new(REQUEST_TYPE).ok()).ok_or(DraftError::Empty)?;
        let payload = keeping.payload(request, path, query).map_err(|e| match e {
            TooMuch::Body => {
                DraftError::EventTooLarge { index: 0, bytes: request.body.len(), limit: RAW_BODY_BYTES_MAX }
            }
            other => wrong(0, "", &other.to_string()),
        })?;
        let draft = Draft { kind, ts_ms: None, session: None, payload, dedupe_id: None, validated: None };
        let delivery = self.delivery(request.headers, json);
        Ok(Read::Events(Taken { drafts: vec![draft], errors: Vec::new(), refused: Vec::new(), delivery }))
    }

    /// A body in the provider's own form: an object is one event, each element of an array is one.
    fn by_rules(&self, headers: &dyn Headers, json: &str) -> Result<Read, Refused> {
        let asked = self.preset.and_then(|preset| handshake::signed(preset.handshake?, headers, json));
        if let Some(asked) = asked {
            return asked.map(Read::Question).map_err(|(field, e)| wrong(0, field, &e.to_string()));
        }
        let public = match self.secrets {
            [] => Cow::Borrowed(json),
            secrets => pointer::redacted(json, secrets).into(),
        };
        let inner = self.preset.and_then(|preset| pointer::at(&public, preset.elements.as_deref()?));
        let events = inner.unwrap_or(&public);
        let limit = self.limits.batch_events;
        let elements = match events.as_bytes().first() {
            Some(b'{') => vec![events],
            // strict checked that it is one array
            Some(b'[') => match pointer::elements(events, limit).unwrap_or_default() {
                (_, 0) => return Err(DraftError::Empty),
                (_, count) if count > limit => return Err(DraftError::TooManyEvents { count, limit }),
                (elements, _) => elements,
            },
            None => return Err(DraftError::Empty),
            _ => {
                return Err(wrong(0, "", "the body must be a JSON object, or an array with one event in each element"));
            }
        };
        let mut taken = Taken { drafts: Vec::new(), errors: Vec::new(), refused: Vec::new(), delivery: None };
        // one of several is left out of a partial batch
        let leaves_out = self.partial && elements.len() > 1;
        for (index, text) in elements.into_iter().enumerate() {
            let (bytes, limit) = (text.len(), self.limits.event_bytes);
            if bytes > limit {
                if !leaves_out {
                    return Err(DraftError::EventTooLarge { index, bytes, limit });
                }
                let error = FieldError { index, field: "".into(), message: draft::too_large(bytes, limit).into() };
                self.leave_out(&mut taken, error, text.into());
                continue;
            }
            match self.event(headers, index, text) {
                Ok(draft) => taken.drafts.push(draft),
                Err(error) => self.leave_out(&mut taken, error, text.into()),
            }
        }
        taken.delivery = self.delivery(headers, json);
        self.judged(taken)
    }

    /// The whole of a JSON text as the properties of one event.
    fn event(&self, headers: &dyn Headers, index: usize, text: &str) -> Result<Draft, FieldError> {
        let error = |field: &str, message: &str| FieldError { index, field: field.into(), message: message.into() };
        let kind = match Rule::first(self.rules, headers, text) {
            Ok(Some(kind)) => kind,
            Ok(None) => return Err(error(&Rule::described(self.rules), "names no event type")),
            Err(too_long) => return Err(error(&Rule::described(self.rules), &too_long.to_string())),
        };
        let read = match text.starts_with('{') {
            true => Canonical::parse(text),
            false => Canonical::parse(&format!("{{\"value\":{text}}}")),
        };
        let properties = read.map_err(|e| error("", &e.to_string()))?;
        let payload = draft::payload_of(None, &properties, self.id, &[]);
        let mut draft =
            Draft { kind, ts_ms: None, session: None, payload, dedupe_id: self.event_id(text), validated: None };
        self.mark(&mut draft);
        Ok(draft)
    }

    /// Whether the provider can wrap its JSON in the field `payload` of a form.
    fn wraps_json(&self) -> bool {
        self.preset.is_some_and(|preset| preset.wraps_json)
    }

    /// The provider's own id of a delivery, which is the same when it is sent again; none where it gives none.
    pub fn delivery(&self, headers: &dyn Headers, json: &str) -> Option<String> {
        let found = |pointer: &str| Some(pointer::scalar(pointer::at(json, pointer)?)?.into_owned());
        if let Some(recipe) = self.recipe {
            let header = recipe.id_header.as_deref().and_then(|name| headers.get(name)).map(str::to_owned);
            return header.or_else(|| found(recipe.id_field.as_deref()?));
        }
        let id = &self.preset?.id;
        let header = id.header.iter().find_map(|name| headers.get(name)).map(str::to_owned);
        header.or_else(|| found(id.field.as_deref()?))
    }

    /// The provider's own id of one event, of all the parts that it has.
    fn event_id(&self, text: &str) -> Option<Box<str>> {
        let parts = &self.preset?.id.event;
        let part = |pointer: &String| pointer::at(text, pointer).and_then(pointer::scalar);
        let id = parts.iter().map(part).collect::<Option<Vec<_>>>().filter(|parts| !parts.is_empty())?.join(" ");
        (id.len() <= DEDUPE_ID_BYTES_MAX).then(|| id.into())
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

fn text(body: &[u8]) -> Result<Cow<'_, str>, Refused> {
    json::text(body).map_err(malformed)
}

fn malformed(error: JsonError) -> Refused {
    let JsonError { line, column, message } = error;
    DraftError::Malformed { line, column, message }
}

fn wrong(index: usize, field: &str, message: &str) -> Refused {
    DraftError::Invalid(vec![FieldError { index, field: field.into(), message: message.into() }])
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
