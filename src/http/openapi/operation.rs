//! An operation, from what it takes and answers. What is answered to those who may not, or who ask wrongly, follows from
//! that and is written here once.

use actors::model::access::Scope;
use serde_json::{Map, Value, json};

use super::names::operation_id;
use super::{Place, errors, parameters};
use crate::http::problem::Code;

/// Who may do it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anyone,
    /// Whoever has a credential; what is answered depends on whose.
    Caller,
    Admin,
    /// A token of the channel with this scope, or the admin.
    Scope(Scope),
    /// The same, where the body or an id says which channel it is about.
    ScopeOfNamed(Scope),
    /// With the scope manage, and subscribe as well, because it shows events.
    ManageAndRead,
    /// A stream: with the scope subscribe, by a credential or a ticket.
    Stream,
}

impl Access {
    /// For people.
    fn sentence(self) -> Option<String> {
        match self {
            Access::Anyone => None,
            Access::Caller => Some("Needs a credential.".into()),
            Access::Admin => Some("Needs the admin token.".into()),
            Access::Scope(scope) => Some(format!("Needs the scope `{scope}` on the channel, or the admin token.")),
            Access::ScopeOfNamed(scope) => {
                Some(format!("Needs the scope `{scope}` on the channel that it is about, or the admin token."))
            }
            Access::ManageAndRead => {
                Some("Needs the scopes `manage` and `subscribe` on the channel, or the admin token.".into())
            }
            Access::Stream => Some("Needs the scope `subscribe` on the channel, a ticket, or the admin token.".into()),
        }
    }

    /// What a credential must be or have, as names of roles (OpenAPI 3.1, Security Requirement Object). The admin has all.
    fn roles(self) -> Value {
        match self {
            Access::Anyone | Access::Caller => json!([]),
            Access::Admin => json!(["admin"]),
            Access::Scope(scope) | Access::ScopeOfNamed(scope) => json!([scope.as_str()]),
            Access::ManageAndRead => json!([Scope::Manage.as_str(), Scope::Subscribe.as_str()]),
            Access::Stream => json!([Scope::Subscribe.as_str()]),
        }
    }

    fn security(self) -> Value {
        let roles = self.roles();
        match self {
            Access::Anyone => json!([]),
            Access::Stream => json!([{ "bearer": roles }, { "apiKey": roles }, { "ticket": [] }, { "token": roles }]),
            _ => json!([{ "bearer": roles }, { "apiKey": roles }]),
        }
    }

    /// Whether requests count towards `limits.api_requests_per_minute`. Those of others are refused as too many only after wrong
    /// credentials.
    fn is_counted(self) -> bool {
        !matches!(self, Access::Anyone | Access::Stream | Access::Scope(Scope::Publish))
    }

    fn errors(self) -> &'static [Code] {
        match self {
            Access::Anyone => &[],
            Access::Caller => &[Code::Unauthorized, Code::RateLimited],
            Access::Admin => &[Code::Unauthorized, Code::Forbidden, Code::RateLimited],
            Access::Scope(_) | Access::ScopeOfNamed(_) | Access::ManageAndRead => {
                &[Code::Unauthorized, Code::Forbidden, Code::NotFound, Code::RateLimited]
            }
            Access::Stream => &[
                Code::InvalidFilter,
                Code::InvalidCursor,
                Code::Unauthorized,
                Code::Forbidden,
                Code::NotFound,
                Code::RateLimited,
                Code::ServerConnectionLimit,
                Code::ApiKeyConnectionLimit,
                Code::Unavailable,
            ],
        }
    }
}

pub fn security_schemes() -> Value {
    json!({
        "bearer": { "type": "http", "scheme": "bearer", "description": "The admin token, a token of a channel, or a JWT (`auth.jwt`)." },
        "apiKey": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same in another header." },
        "ticket": { "type": "apiKey", "in": "query", "name": "ticket", "description": "Opens one stream, once, within 30 s." },
        "token": { "type": "apiKey", "in": "query", "name": "token", "description": "A token, on streams only, where `auth.allow_query_token` is on." },
    })
}

/// The credentials among those of an operation that stand in the query.
pub fn query_credentials(security: &Value) -> impl Iterator<Item = &'static str> {
    let among = |name: &&str| security.as_array().into_iter().flatten().any(|one| one.get(*name).is_some());
    ["ticket", "token"].into_iter().filter(among)
}

/// A body that an operation takes.
struct Body {
    required: bool,
    /// By media type: schema and example.
    content: Map<String, Value>,
}

pub struct Operation {
    tag: &'static str,
    summary: String,
    description: Vec<String>,
    access: Access,
    parameters: Vec<Value>,
    body: Option<Body>,
    answers: Map<String, Value>,
    errors: Vec<Code>,
    stores_nothing: bool,
}

impl Operation {
    pub fn new(tag: &'static str, summary: impl Into<String>, access: Access) -> Operation {
        Operation {
            tag,
            summary: summary.into(),
            description: access.sentence().into_iter().collect(),
            access,
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
            errors: access.errors().to_vec(),
            stores_nothing: false,
        }
    }

    /// Another sentence for people.
    pub fn says(mut self, text: impl Into<String>) -> Operation {
        self.description.push(text.into());
        self
    }

    pub fn takes(mut self, parameters: impl IntoIterator<Item = Value>) -> Operation {
        self.parameters.extend(parameters);
        self
    }

    /// A JSON body that must be there.
    pub fn body(self, schema: Value, example: Value) -> Operation {
        self.with_body(true, "application/json", json!({ "schema": schema, "example": example }))
    }

    /// A JSON body that may be left out.
    pub fn optional_body(self, schema: Value, example: Value) -> Operation {
        self.with_body(false, "application/json", json!({ "schema": schema, "example": example }))
    }

    /// The body in another form. The first one says whether it must be there.
    pub fn with_body(mut self, required: bool, media_type: &str, content: Value) -> Operation {
        let body = self.body.get_or_insert_with(|| {
            let codes = [
                Code::InvalidJson,
                Code::ValidationFailed,
                Code::RequestTimeout,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
                Code::Unavailable,
            ];
            self.errors.extend(codes);
            Body { required, content: Map::new() }
        });
        body.content.insert(media_type.into(), content);
        self
    }

    /// A JSON answer.
    pub fn answers(self, status: u16, description: &str, schema: Value, example: Value) -> Operation {
        self.answers_as(status, description, "application/json", json!({ "schema": schema, "example": example }))
    }

    /// An answer of another media type, beside others of the status.
    pub fn answers_as(mut self, status: u16, description: &str, media_type: &str, content: Value) -> Operation {
        let answer = self.answers.entry(status.to_string());
        let answer = answer.or_insert_with(|| json!({ "description": description, "content": {} }));
        answer["content"][media_type] = content;
        self
    }

    pub fn answers_nothing(mut self, status: u16, description: &str) -> Operation {
        self.answers.insert(status.to_string(), json!({ "description": description }));
        self
    }

    pub fn answer_header(mut self, status: u16, name: &str, description: &str, schema: Value) -> Operation {
        let header = json!({ "description": description, "schema": schema });
        if let Some(answer) = self.answers.get_mut(&status.to_string()) {
            answer["headers"][name] = header;
        }
        self
    }

    /// Errors beside those that follow from the access and the body.
    pub fn fails(mut self, codes: &[Code]) -> Operation {
        self.errors.extend_from_slice(codes);
        self
    }

    /// It changes nothing that lasts, although its method is not GET.
    pub fn stores_nothing(mut self) -> Operation {
        self.stores_nothing = true;
        self
    }

    pub fn document(mut self, place: &Place<'_>, method: &str) -> Value {
        let mut all: Vec<Value> = parameters::of_path(place.path);
        let by_query = matches!(self.access, Access::Scope(_) | Access::ManageAndRead | Access::Stream);
        if by_query && !place.names_channel() {
            all.push(if place.reads_several(method) { parameters::channels() } else { parameters::channel() });
            // whoever names no channel means its own, which may be gone; an admin has to name one
            self.errors.extend([Code::NotFound, Code::InvalidParameter, Code::BadRequest]);
        }
        all.append(&mut self.parameters);
        if all.iter().any(|parameter| parameter["in"] == "query") {
            self.errors.extend([Code::InvalidParameter, Code::BadRequest]);
        }
        if !place.any_query {
            self.errors.push(Code::UnknownParameter);
        }
        if method != "get" && !self.stores_nothing {
            self.errors.extend(errors::STORING);
        }
        if self.access != Access::Anyone {
            self.errors.push(Code::Internal);
        }
        if self.access.is_counted() {
            for (_, answer) in &mut self.answers {
                for (name, description) in RATE_LIMIT {
                    let schema = json!({ "type": "integer", "minimum": 0 });
                    answer["headers"][name] = json!({ "description": description, "schema": schema });
                }
            }
        }
        let mut answers = self.answers;
        for (status, answer) in errors::answers(&self.errors, place) {
            answers.entry(status).or_insert(answer);
        }
        let mut operation = json!({
            "tags": [self.tag],
            "operationId": operation_id(method, place.path),
            "summary": self.summary,
        });
        if !self.description.is_empty() {
            operation["description"] = self.description.join(" ").into();
        }
        if !all.is_empty() {
            operation["parameters"] = all.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = json!({ "required": body.required, "content": body.content });
        }
        operation["responses"] = answers.into();
        operation["security"] = self.access.security();
        operation
    }
}

const RATE_LIMIT: [(&str, &str); 3] = [
    ("RateLimit-Limit", "Requests that the token may make in a minute. Not sent to the admin."),
    ("RateLimit-Remaining", "Requests that are left in this minute. Not sent to the admin."),
    ("RateLimit-Reset", "Seconds until the minute ends. Not sent to the admin."),
];
