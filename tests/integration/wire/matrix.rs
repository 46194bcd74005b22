//! Every operation of the API document, asked with every kind of credential, judged against the access that the document
//! promises. The document is made of the route table, so an operation that is new is in here by itself.

use std::fmt;

use serde_json::{Value, json};

use super::access::{hs256, install_cryptography, now_s};
use crate::support::document::kept;
use crate::support::server::ADMIN;
use crate::support::{Request, TestServer, eventually};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Who may, as the document says it.
#[derive(Clone, PartialEq, Debug)]
enum Access {
    Anyone,
    /// Whoever has a credential.
    Caller,
    Admin,
    Scope(String),
    /// All of these.
    Scopes(Vec<String>),
}

struct Operation {
    method: String,
    path: String,
    access: Access,
    /// Names its channel by `?channel=`.
    takes_channel: bool,
    takes_body: bool,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

fn operations() -> Vec<Operation> {
    let document = kept("openapi.json");
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let security = operation["security"].as_array().expect("every operation says it");
            let roles = security.first().map(|first| first["bearer"].as_array().expect("roles"));
            let access = match roles.map(|roles| roles.iter().filter_map(Value::as_str).collect::<Vec<_>>()).as_deref()
            {
                None => Access::Anyone,
                Some([]) => Access::Caller,
                Some(["admin"]) => Access::Admin,
                Some([scope]) => Access::Scope(scope.to_string()),
                Some(scopes) => Access::Scopes(scopes.iter().map(|scope| scope.to_string()).collect()),
            };
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            all.push(Operation {
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                access,
                takes_channel: parameters.iter().any(|one| one["in"] == "query" && one["name"] == "channel"),
                takes_body: operation["requestBody"].is_object(),
            });
        }
    }
    all
}

/// A channel with something of everything that operations are about.
struct World {
    /// `map:<id>` or `organization:<id>`.
    channel: String,
    id: String,
    /// The credentials that are tried, with what they are.
    credentials: Vec<(Credential, Option<String>)>,
    webhook: String,
    source: String,
    spare_token: String,
    event: String,
}

/// Tokens whose time is over.
struct Expired {
    one: String,
    several: String,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Credential {
    None,
    Revoked,
    Expired,
    ExpiredJwt,
    /// All scopes on another channel.
    Foreign,
    Scope(&'static str),
    Jwt(&'static str),
    /// Subscribe and publish on this channel and another one.
    Several,
    /// The same by a pattern.
    Pattern,
    /// One scope on this channel and another one.
    SeveralWith(&'static str),
    /// Subscribe and publish on two other channels.
    SeveralElsewhere,
    RevokedSeveral,
    ExpiredSeveral,
    Admin,
}

const SCOPES: [&str; 3] = ["subscribe", "publish", "manage"];

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_string()
}

impl World {
    fn make(server: &TestServer, kind: &str, expired: &Expired) -> World {
        let collection = if kind == "map" { "/api/maps" } else { "/api/v1/organizations" };
        let new_channel = || {
            let made = server.admin("POST", collection).json(&json!({"name": "matrix"})).send().expect(201);
            (format!("{kind}:{}", text(&made["data"]["id"])), text(&made["data"]["token"]))
        };
        let ((channel, all), (other, foreign), (third, _)) = (new_channel(), new_channel(), new_channel());
        let id = channel.split_once(':').expect("a name").1.to_string();
        let token = |body: Value| {
            let made = server.admin("POST", "/api/v1/tokens").json(&body).send().expect(201);
            (text(&made["data"]["id"]), text(&made["data"]["token"]))
        };
        let of_scopes = |scopes: &[&str]| token(json!({"channel": channel, "scopes": scopes}));
        let (revoked, revoked_token) = of_scopes(&SCOPES);
        assert_eq!(server.admin("DELETE", &format!("/api/v1/tokens/{revoked}")).send().status, 204);
        let jwt = |scopes: &[&str], in_s: i64| {
            hs256(SECRET, &json!({"sub": "m", "exp": now_s() + in_s, "channel": channel, "scopes": scopes}))
        };
        let several = |channels: &[&str], scopes: &[&str]| token(json!({"channels": channels, "scopes": scopes}));
        let both = ["subscribe", "publish"];
        let (revoked_several, revoked_several_token) = several(&[&channel, &other], &both);
        assert_eq!(server.admin("DELETE", &format!("/api/v1/tokens/{revoked_several}")).send().status, 204);
        let mut credentials = vec![
            (Credential::None, None),
            (Credential::Revoked, Some(revoked_token)),
            (Credential::Expired, Some(expired.one.clone())),
            (Credential::RevokedSeveral, Some(revoked_several_token)),
            (Credential::ExpiredSeveral, Some(expired.several.clone())),
            (Credential::ExpiredJwt, Some(jwt(&SCOPES, -5))),
            (Credential::Foreign, Some(foreign)),
        ];
        credentials.extend(SCOPES.map(|scope| (Credential::Scope(scope), Some(of_scopes(&[scope]).1))));
        credentials.extend(SCOPES.map(|scope| (Credential::Jwt(scope), Some(jwt(&[scope], 600)))));
        let pattern = format!("{kind}:*");
        for (credential, channels, scopes) in [
            (Credential::Several, [&*channel, &other], &both[..]),
            (Credential::Pattern, [&pattern, &other], &both),
            (Credential::SeveralWith("subscribe"), [&channel, &other], &["subscribe"]),
            (Credential::SeveralWith("publish"), [&channel, &other], &["publish"]),
            (Credential::SeveralElsewhere, [&third, &other], &both),
        ] {
            credentials.push((credential, Some(several(&channels, scopes).1)));
        }
        credentials.push((Credential::Admin, Some(ADMIN.to_string())));

        let by_owner = |method: &str, path: &str| server.request(method, path).bearer(&all);
        let hook = json!({"url": "http://127.0.0.1:9/x"});
        let webhooks = if kind == "map" { format!("/api/maps/{id}/webhooks") } else { "/api/v1/webhooks".into() };
        let webhook = by_owner("POST", &webhooks).json(&hook).send().expect(201);
        let source = json!({"name": "open", "authentication": "none"});
        let source = by_owner("POST", "/api/webhooks").json(&source).send().expect(201);
        let event = by_owner("POST", "/events").json(&json!({"type": "add_system"})).send().expect(201);
        World {
            id,
            credentials,
            webhook: text(&webhook["data"]["id"]),
            source: text(&source["endpoint"]["id"]),
            spare_token: of_scopes(&["publish"]).0,
            event: text(&event["data"]["ids"][0]),
            channel,
        }
    }

    fn path(&self, operation: &Operation) -> String {
        let id_is_a_token = operation.path.starts_with("/api/v1/tokens");
        let path = operation
            .path
            .replace("{map}", &self.id)
            .replace("{org}", &self.id)
            .replace("{webhook}", &self.webhook)
            .replace("{source}", &self.source)
            .replace("{delivery}", "dlv_01JY9X2C7B4N8Q0R2S5T6V7W8X")
            .replace("{job}", "rpl_01JY9X2C7B4N8Q0R2S5T6V7W8X")
            .replace("{letter}", "1")
            .replace("{below}", "x")
            .replace("{page}", if operation.path.contains("{folder}") { "nginx" } else { "webhooks" })
            .replace("{folder}", if operation.path.contains("{page}") { "operations" } else { "app" })
            .replace("{file}", if operation.path.contains("{folder}") { "main.js" } else { "stentor.js" })
            .replace("{id}", if id_is_a_token { &self.spare_token } else { &self.event });
        assert!(!path.contains('{'), "{path}: this test does not know what to put there");
        path
    }

    /// The status that the operation is answered with; streams are not read.
    fn ask(&self, server: &TestServer, operation: &Operation, credential: Credential, names: bool) -> u16 {
        let mut path = self.path(operation);
        if operation.takes_channel && names {
            path = format!("{path}?channel={}", self.channel);
        }
        let mut request: Request = server.request(&operation.method, &path);
        let held = self.credentials.iter().find(|(kind, _)| *kind == credential).expect("every kind is there");
        if let Some(token) = &held.1 {
            request = request.bearer(token);
        }
        if operation.takes_body {
            // what is published or made is not the point, and an empty object changes nothing; a new token names its channel,
            // and gets no scope that a JWT lacks
            let of_tokens = operation.path == "/api/v1/tokens";
            let body = if of_tokens { json!({"channel": self.channel, "scopes": ["manage"]}) } else { json!({}) };
            request = request.json(&body);
        }
        request.open().unwrap_or_else(|e| panic!("{operation}: {e}")).0.status
    }
}

/// What a credential must be answered with; none: as the admin is.
fn refusal(operation: &Operation, credential: Credential) -> Option<u16> {
    let traces = operation.path.ends_with("/trace");
    match (&operation.access, credential) {
        (Access::Anyone, _) | (_, Credential::Admin) => None,
        (
            _,
            Credential::None
            | Credential::Revoked
            | Credential::Expired
            | Credential::ExpiredJwt
            | Credential::RevokedSeveral
            | Credential::ExpiredSeveral,
        ) => Some(401),
        // it asks for one of two scopes, and says nothing of what the caller may not read
        (
            Access::Caller,
            Credential::Foreign
            | Credential::SeveralElsewhere
            | Credential::Scope("publish")
            | Credential::SeveralWith("publish")
            | Credential::Jwt("publish"),
        ) if traces => Some(404),
        // what it shows is the channel's that is named
        (Access::Caller, Credential::Foreign | Credential::SeveralElsewhere)
            if operation.path.ends_with("/overview") =>
        {
            Some(404)
        }
        (Access::Caller, _) => None,
        (Access::Admin, _) => Some(403),
        (Access::Scope(_) | Access::Scopes(_), Credential::Foreign | Credential::SeveralElsewhere) => Some(404),
        (Access::Scope(scope), Credential::Scope(has) | Credential::SeveralWith(has) | Credential::Jwt(has)) => {
            (scope != has).then_some(403)
        }
        // each of them has one scope
        (Access::Scopes(_), Credential::Scope(_) | Credential::SeveralWith(_) | Credential::Jwt(_)) => Some(403),
        (Access::Scopes(scopes), Credential::Several | Credential::Pattern) => {
            scopes.iter().any(|scope| scope == "manage").then_some(403)
        }
        (Access::Scope(scope), Credential::Several | Credential::Pattern) => (scope == "manage").then_some(403),
    }
}

#[test]
fn every_operation_is_open_to_those_whom_the_document_names_and_to_nobody_else() {
    install_cryptography();
    let server = TestServer::start(&[
        ("auth.jwt.key", SECRET),
        ("webhooks.allow_http", "true"),
        ("webhooks.allow_networks", "127.0.0.1"),
        ("limits.api_requests_per_minute", "0"),
        ("limits.failed_logins_per_minute", "0"),
        ("limits.streams_total", "0"),
        ("limits.streams_per_channel", "0"),
        ("limits.streams_per_token", "0"),
    ]);
    let brief = server.new_map("brief");
    let at = time::OffsetDateTime::from_unix_timestamp(now_s() + 2).expect("a time");
    let at = at.format(&time::format_description::well_known::Rfc3339).expect("a text");
    let (_, one) = brief.new_token(json!({"scopes": SCOPES, "expires_at": at}));
    let several =
        json!({"channels": ["map:*", "organization:*"], "scopes": ["subscribe", "publish"], "expires_at": at});
    let several = text(&server.admin("POST", "/api/v1/tokens").json(&several).send().expect(201)["data"]["token"]);
    let expired = Expired { one, several };
    for token in [&expired.one, &expired.several] {
        let own = || server.request("GET", "/api/v1/tokens/current").bearer(token).send().status;
        eventually("the token expires", || own() == 401);
    }

    let (mut map, mut organization) =
        (World::make(&server, "map", &expired), World::make(&server, "organization", &expired));
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for operation in operations() {
        let kind = if operation.path.starts_with("/api/maps") { "map" } else { "organization" };
        let world = if kind == "map" { &mut map } else { &mut organization };
        let kinds: Vec<Credential> = world.credentials.iter().map(|(credential, _)| *credential).collect();
        // those who are refused must change nothing for those who are not, so they come first
        let (refused, allowed): (Vec<_>, Vec<_>) =
            kinds.into_iter().partition(|credential| refusal(&operation, *credential).is_some());
        for credential in refused {
            let status = world.ask(&server, &operation, credential, true);
            let expected = refusal(&operation, credential).expect("it is refused");
            asked += 1;
            if status != expected {
                wrong.push(format!("{operation} by {credential:?}: {status} and not {expected}"));
            }
            if credential == Credential::Foreign && operation.path.contains("{webhook}") {
                let status = world.ask(&server, &operation, credential, false);
                if status != 404 {
                    wrong.push(format!("{operation} by {credential:?} without the channel: {status} and not 404"));
                }
            }
        }
        let mut by_admin = None;
        // the admin first, for what the others are compared with
        for credential in allowed.into_iter().rev() {
            let status = world.ask(&server, &operation, credential, true);
            asked += 1;
            let by_admin = *by_admin.get_or_insert(status);
            let is_report = status == 503 && operation.path.starts_with("/health");
            let is_refused = matches!(status, 401 | 403) || (status == 404 && by_admin != 404) || status >= 500;
            if is_refused && !is_report {
                wrong.push(format!("{operation} by {credential:?}: {status}, the admin gets {by_admin}"));
            }
            if operation.method == "DELETE" && status < 300 {
                *world = World::make(&server, kind, &expired);
            }
        }
    }
    assert!(asked > 1_000, "{asked} requests");
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
}
