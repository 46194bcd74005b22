//! The command against a small server that speaks the API of tokens.

use std::sync::{Arc, Mutex};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    token: TokenArgs,
}

/// What the server saw: method, path with query, and body.
type Seen = Arc<Mutex<Vec<(String, String, Json)>>>;

struct FakeServer {
    url: String,
    seen: Seen,
    handle: ServerHandle,
}

async fn fake_server() -> FakeServer {
    let seen = Seen::default();
    let shared = seen.clone();
    let server =
        HttpServer::new(move || App::new().app_data(web::Data::new(shared.clone())).default_service(web::to(answer)))
            .workers(1)
            .bind("127.0.0.1:0")
            .expect("loopback has a free port");
    let url = format!("http://{}/", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    FakeServer { url, seen, handle }
}

async fn answer(request: HttpRequest, body: web::Bytes, seen: web::Data<Seen>) -> HttpResponse {
    let bearer = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if bearer != Some("Bearer sesame") {
        return HttpResponse::Unauthorized()
            .json(json!({"error": {"code": "unauthorized", "message": "unknown token"}}));
    }
    let path = request.uri().to_string();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    seen.lock().expect("no test panics with the lock").push((request.method().to_string(), path.clone(), body));
    match (request.method().as_str(), path.as_str()) {
        ("POST", "/api/v1/tokens") => HttpResponse::Created().json(json!({"data": {
            "id": "tok_1", "token": "st_abc", "channel": "map:jita", "scopes": ["subscribe", "publish"],
            "name": null, "expires_at": null,
        }})),
        ("GET", "/api/v1/tokens") => HttpResponse::Ok().json(json!({
            "data": [{"id": "tok_1", "channel": "map:jita", "scopes": ["subscribe"], "name": "bot\u{1b}[2J"}],
            "nextCursor": "tok_1",
        })),
        ("GET", "/api/v1/tokens?after=tok_1") => HttpResponse::Ok().json(json!({
            "data": [{"id": "tok_22", "channel": "organization:default", "scopes": ["manage"], "name": null}],
            "nextCursor": null,
        })),
        ("DELETE", "/api/v1/tokens/tok_1") => HttpResponse::NoContent().finish(),
        _ => HttpResponse::NotFound().json(json!({"error": {"code": "not_found", "message": "no such token"}})),
    }
}

async fn type_in(server: &FakeServer, token: &str, words: &[&str]) -> Result<String, Failure> {
    let flags = ["stentor", "--server", &server.url, "--token", token];
    let line = Line::try_parse_from(flags.iter().chain(words)).expect("the tests type valid lines");
    let mut out = Vec::new();
    execute(line.token, &mut out).await?;
    Ok(String::from_utf8(out).expect("output is UTF-8"))
}

#[actix_web::test]
async fn create_sends_what_was_typed_and_shows_the_token() {
    let server = fake_server().await;
    let words = ["create", "--channel", "map:jita", "--scope", "subscribe,publish", "--name", "bot"];
    let text = type_in(&server, "sesame", &words).await.expect("the server answers 201");
    assert_eq!(
        text,
        "id          tok_1\ntoken       st_abc\nchannel     map:jita\nscopes      subscribe,publish\n\
         The token is shown only now; keep it.\n"
    );
    let expected = json!({"channel": "map:jita", "scopes": ["subscribe", "publish"], "name": "bot"});
    let seen = server.seen.lock().expect("no test panics with the lock").clone();
    assert_eq!(seen, [("POST".to_owned(), "/api/v1/tokens".to_owned(), expected)]);
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn list_shows_every_page_as_a_table_without_control_characters() {
    let server = fake_server().await;
    let text = type_in(&server, "sesame", &["list"]).await.expect("the server answers 200");
    assert_eq!(
        text,
        "ID      CHANNEL               SCOPES     NAME     EXPIRES_AT\n\
         tok_1   map:jita              subscribe  bot [2J\n\
         tok_22  organization:default  manage\n"
    );
    let text = type_in(&server, "sesame", &["list", "--json"]).await.expect("the server answers 200");
    let json: Json = serde_json::from_str(&text).expect("--json prints JSON");
    assert_eq!(json["data"].as_array().map(Vec::len), Some(2));
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn revoke_names_the_token_and_a_refusal_is_repeated() {
    let server = fake_server().await;
    assert_eq!(type_in(&server, "sesame", &["revoke", "tok_1"]).await.expect("204"), "revoked tok_1\n");
    let error = type_in(&server, "sesame", &["revoke", "tok_9"]).await.expect_err("404");
    assert!(error.to_string().contains("404: no such token; "), "{error}");
    let error = type_in(&server, "wrong", &["revoke", "tok_1"]).await.expect_err("401");
    assert_eq!(error.to_string(), "the server answered 401: unknown token; check the token");
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn a_server_that_is_not_there_is_named_and_no_token_is_wrong_usage() {
    let server = fake_server().await;
    server.handle.stop(false).await;
    let error = type_in(&server, "sesame", &["list"]).await.expect_err("nobody listens");
    assert!(matches!(&error, Failure::Failed(_)) && error.to_string().contains("http://127.0.0.1:"), "{error}");
    assert!(matches!(type_in(&server, "", &["list"]).await, Err(Failure::Usage(_))));
}

#[test]
fn an_id_that_would_change_the_path_is_refused() {
    for wrong in ["", "../maps", "a/b", "a?b", "a%2fb"] {
        assert!(token_id(wrong).is_err(), "{wrong:?}");
    }
}
