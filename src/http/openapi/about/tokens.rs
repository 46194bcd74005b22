//! Tokens.

use actors::model::access::Scope;
use serde_json::{Value, json};

use super::super::parameters;
use super::super::schemas::{data, list, object};
use super::super::{Access, Operation, Place};
use crate::http::problem::Code;
use crate::http::{login, tokens};

const TAG: &str = "Tokens";

fn token() -> Value {
    json!({
        "id": "tok_01JY9WXVB0000000000000T0KN", "channel": "map:c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11", "scopes": ["subscribe"],
        "name": "the dashboard", "expires_at": null, "inserted_at": "2025-06-21T12:35:00.123Z",
        "last_used_at": "2025-06-21T13:00:00.000Z", "created_by": "admin",
    })
}

pub fn create(place: &Place<'_>) -> Operation {
    let mut made = token();
    made["token"] = "st_oWm1mXb1yQ0O5r8Jc6dV7u2t3s4r5q6p7o8n9m0l1k2".into();
    let asked = json!({ "channel": "map:home", "scopes": ["subscribe"], "name": "the dashboard" });
    Operation::new(TAG, "Create a token", Access::ScopeOfNamed(Scope::Manage))
        .says(
            "The own channel need not be named. A JWT gives no scope that it lacks. The text of the token is shown only here.",
        )
        .takes([parameters::channel()])
        .body(place.body::<tokens::CreateToken>(), asked)
        .answers(201, "The token.", data(place.answer::<tokens::TokenView>()), json!({ "data": made }))
        .fails(&[Code::Forbidden, Code::NotFound, Code::Conflict])
}

pub fn list_tokens(place: &Place<'_>) -> Operation {
    let all = object(json!({ "data": list(place.answer::<tokens::TokenView>()), "nextCursor": { "type": "null" } }));
    Operation::new(TAG, "List tokens", Access::Scope(Scope::Manage))
        .says("All of them for the admin who names no channel; with the scope `manage` those of the own channel.")
        .answers(200, "The tokens, without their texts.", all, json!({ "data": [token()], "nextCursor": null }))
        .fails(&[Code::Forbidden, Code::NotFound])
}

pub fn get_token(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "One token", Access::ScopeOfNamed(Scope::Manage))
        .answers(
            200,
            "The token, without its text.",
            data(place.answer::<tokens::TokenView>()),
            json!({ "data": token() }),
        )
        .fails(&[Code::Forbidden, Code::NotFound])
}

pub fn change(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "Rename a token, or give it another end", Access::ScopeOfNamed(Scope::Manage))
        .says("Its open streams go by the new end.")
        .body(place.body::<tokens::ChangeToken>(), json!({ "name": "the dashboard", "expires_at": null }))
        .answers(200, "The token.", data(place.answer::<tokens::TokenView>()), json!({ "data": token() }))
        .fails(&[Code::Forbidden, Code::NotFound])
}

pub fn revoke(_: &Place<'_>) -> Operation {
    Operation::new(TAG, "Revoke a token", Access::ScopeOfNamed(Scope::Manage))
        .says("Its streams end within a second.")
        .answers_nothing(204, "It is void.")
        .fails(&[Code::Forbidden, Code::NotFound])
}

pub fn login(place: &Place<'_>) -> Operation {
    let answer = json!({ "data": { "token": "sta_oWm1mXb1yQ0O5r8Jc6dV7u2t3s4r5q6p7o8n9m0l1k2" } });
    Operation::new(TAG, "Log in by a link", Access::Anyone)
        .says("What the dashboard does with the link that `stentor serve` prints on a terminal. It is good once, for ten minutes.")
        .body(place.body::<login::Login>(), json!({ "secret": "stl_oWm1mXb1yQ0O5r8Jc6dV7u2t3s4r5q6p7o8n9m0l1k2" }))
        .answers(200, "The admin token.", data(place.answer::<login::LoggedIn>()), answer)
        .fails(&[Code::Unauthorized, Code::RateLimited])
        .stores_nothing()
}

pub fn current(place: &Place<'_>) -> Operation {
    let example = json!({
        "id": "tok_01JY9WXVB0000000000000T0KN", "admin": false, "channel": "map:c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11",
        "scopes": ["subscribe"], "name": "the dashboard", "expires_at": null,
    });
    Operation::new(TAG, "What the own credential allows", Access::Caller).says("Whatever its scopes are.").answers(
        200,
        "The credential.",
        data(place.answer::<tokens::CredentialView>()),
        json!({ "data": example }),
    )
}
