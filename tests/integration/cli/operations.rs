//! Every operation of the API reference, done by the command line alone.
//!
//! A new operation needs a step here: by its own command, or by `stentor api`.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::support::document::kept;
use crate::support::program::{Ended, Program, command};
use crate::support::recorder::Recorder;
use crate::support::server::ADMIN;
use crate::support::{Receiver, TestServer, eventually};

/// Operations that are no task of their own, and why.
const NO_TASKS: [(&str, &str); 22] = [
    ("GET /api/maps/{map}/events/ws", "follows the same events as the stream does, over WebSocket"),
    ("GET /api/v1/organizations/{org}/events/ws", "the same"),
    ("GET /events/ws", "the same"),
    ("GET /api/v1/realtime", "the same"),
    ("GET /api/webhooks/{source}/events/ws", "the same"),
    ("GET /api/webhooks/{source}/events/stream", "another name of /api/webhooks/{source}/events"),
    ("GET /api/v1/realtime/stream", "the same events as the stream of the organization"),
    ("GET /system/events", "another name of /events/stream"),
    ("POST /webhook/{source}", "another name of /webhooks/{source}"),
    ("GET /webhooks/{source}", "what providers ask before they send"),
    ("GET /webhook/{source}", "the same"),
    ("PUT /api/maps/{map}/webhooks/{webhook}", "the same as PATCH"),
    ("POST /webhooks/{source}/{below}", "a sender's own path below /webhooks/{source}"),
    ("POST /webhook/{source}/{below}", "the same"),
    ("POST /api/v1/login", "exchanges the link that a start prints, for browsers"),
    ("GET /", "a page for browsers"),
    ("GET /docs", "a page for browsers"),
    ("GET /docs/search", "a page for browsers"),
    ("GET /docs/{page}", "a page for browsers"),
    ("GET /docs/{folder}/{page}", "a page for browsers"),
    ("GET /{file}", "a part of a page"),
    ("GET /{folder}/{file}", "a part of a page"),
];

/// Types commands at a server behind a wire tap, and notes which operations they did.
struct Script {
    recorder: Recorder,
    operations: BTreeSet<String>,
    done: BTreeSet<String>,
    /// What `{name}` stands for in a line.
    names: HashMap<&'static str, String>,
}

impl Script {
    fn start(&self, line: &str) -> Program {
        let filled = |word: &str| {
            self.names.iter().fold(word.to_owned(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
        };
        let words: Vec<String> = line.split_whitespace().map(|word| filled(&word.replace('~', " "))).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = command(&words);
        command.env("STENTOR_SERVER", format!("http://{}", self.recorder.addr)).env("STENTOR_TOKEN", ADMIN);
        Program::start(command)
    }

    fn ended(&self, line: &str) -> Ended {
        self.start(line).wait()
    }

    /// Runs a line, in which `~` stands for a blank inside of a word, and holds it to this operation.
    #[track_caller]
    fn step(&mut self, operation: &str, line: &str) -> String {
        let ended = self.ended(line);
        assert_eq!(ended.code, Some(0), "stentor {line}: {ended:?}");
        self.note(operation, line);
        ended.out
    }

    #[track_caller]
    fn note(&mut self, operation: &str, line: &str) {
        assert!(self.operations.contains(operation), "the API document has no {operation}");
        let requests = self.recorder.take();
        assert!(
            requests.iter().any(|(method, path)| is_of(operation, method, path)),
            "stentor {line} did not do {operation}, but {requests:?}"
        );
        self.done.insert(operation.to_owned());
    }

    /// Runs a line with `--json` and keeps a part of its answer under a name.
    #[track_caller]
    fn keep(&mut self, operation: &str, line: &str, parts: &[(&'static str, &str)]) {
        let out = self.step(operation, &format!("{line} --json"));
        let answer: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("stentor {line}: {e}: {out}"));
        for (name, pointer) in parts {
            let part = answer.pointer(pointer).unwrap_or_else(|| panic!("stentor {line}: no {pointer} in {out}"));
            self.names.insert(name, part.as_str().map_or_else(|| part.to_string(), str::to_owned));
        }
    }
}

fn is_of(operation: &str, method: &str, path: &str) -> bool {
    let (wanted, template) = operation.split_once(' ').expect("a method and a path");
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(want, part): (&&str, &&str)| want == part || (want.starts_with('{') && !part.is_empty());
    wanted == method && template.len() == path.len() && template.iter().zip(&path).all(fits)
}

fn operations() -> BTreeSet<String> {
    let document = kept("openapi.json");
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("operations").keys();
        let methods = methods.filter(|name| ["get", "put", "post", "patch", "delete"].contains(&name.as_str()));
        methods.map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn every_operation_of_the_api_reference_is_done_by_the_command_line_alone() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let receiver = Receiver::start(&[]);
    let recorder = Recorder::start(server.addr());
    let mut script = Script {
        recorder,
        operations: operations(),
        done: BTreeSet::new(),
        names: HashMap::from([("url", receiver.url())]),
    };
    channels(&mut script);
    events(&mut script);
    webhooks(&mut script);
    for (base, channel) in [("/api/maps/{map}/webhooks", "map:home"), ("/api/v1/webhooks", "organization:acme")] {
        deliveries(&mut script, base, channel);
    }
    sources(&mut script);
    rest(&mut script);
    for (operation, _) in NO_TASKS {
        assert!(script.operations.contains(operation), "the API document has no {operation}");
        script.done.insert(operation.to_owned());
    }
    let missing: Vec<_> = script.operations.difference(&script.done).collect();
    assert!(missing.is_empty(), "operations without a step in {}: {missing:#?}", file!());
}

fn channels(script: &mut Script) {
    script.step("POST /api/maps", "map create --name Home --slug home");
    script.step("GET /api/maps", "map list");
    script.step("GET /api/maps/{map}", "map show map:home");
    script.step("PATCH /api/maps/{map}", "map update home --name Our~home");
    script.step("PUT /api/maps/{map}/webhooks/toggle", "webhook toggle map:home on");
    script.step("POST /api/v1/organizations", "org create --name Acme --id acme");
    script.step("GET /api/v1/organizations", "org list");
    script.step("GET /api/v1/organizations/{org}", "org show acme");
    script.step("PATCH /api/v1/organizations/{org}", "org update organization:acme --name The~acme");
    script.keep("POST /api/v1/tokens", "token create map:home --scope subscribe,publish", &[("token", "/data/id")]);
    script.step("GET /api/v1/tokens", "token list map:home");
    script.step("GET /api/v1/tokens/current", "token show");
    script.step("GET /api/v1/tokens/{id}", "token show {token}");
    let renamed = script.step("PATCH /api/v1/tokens/{id}", "token update {token} --name reader~of~the~bot");
    assert!(renamed.contains("reader of the bot"), "{renamed}");
    script.step("DELETE /api/v1/tokens/{id}", "token delete {token}");
}

fn events(script: &mut Script) {
    for (base, channel) in [("/api/maps/{map}", "map:home"), ("/api/v1/organizations/{org}", "organization:acme")] {
        let id = script.step(&format!("POST {base}/events"), &format!("trigger {channel} map_kill"));
        script.names.insert("event", id.trim_end().to_owned());
        script.step(&format!("GET {base}/events"), &format!("export {channel}"));
        script.step(&format!("GET {base}/events/stream"), &format!("tail {channel} --since 1h --limit 1"));
        script.step(&format!("POST {base}/events/ticket"), &format!("ticket {channel} --events map_kill"));
        script.step(&format!("GET {base}/stats"), &format!("stats {channel} --window 1h"));
    }
    script.step("GET /events", "export feed");
    script.step("GET /events/stream", "tail feed --since 1h --limit 1");
    script.step("POST /events/ticket", "ticket feed");
    script.step("POST /events", "api POST /events --query channel=map:home --body {\"type\":\"add_system\"}");
    script.step("GET /events/stats", "stats feed");
    script.step("POST /api/v1/realtime/ticket", "ticket organization:acme --scope organization");
    script.step("GET /api/v1/events/{id}/trace", "trace {event}");
    script.step("GET /api/event-types", "types --family maps");
}

fn webhooks(script: &mut Script) {
    let fields = "--url {url} --events map_kill";
    script.keep(
        "POST /api/maps/{map}/webhooks",
        &format!("webhook create map:home {fields}"),
        &[("webhook", "/data/id")],
    );
    script.step("GET /api/maps/{map}/webhooks", "webhook list map:home");
    script.step("POST /api/maps/{map}/webhooks/preview", "webhook preview map:home --format slack");
    script.keep(
        "POST /api/v1/webhooks",
        &format!("webhook create organization:acme {fields}"),
        &[("hook", "/data/id")],
    );
    script.step("GET /api/v1/webhooks", "webhook list organization:acme");
    script.step("POST /api/v1/webhooks/preview", "webhook preview organization:acme --format discord");
    let document = "{\"webhooks\":[{\"id\":\"indexer\",\"url\":\"{url}feed\",\"events\":[\"*\"],\"secret\":\"s\"}]}";
    script.step("PUT /engine/.config/webhooks.json", &format!("webhook config map:home --apply {document}"));
    script.step("GET /engine/.config/webhooks.json", "webhook config map:home");
    script.step("DELETE /engine/.config/webhooks.json", "webhook config map:home --remove");
}

fn deliveries(script: &mut Script, base: &str, channel: &str) {
    let (kind, id) = if channel.starts_with("map:") { ("map", "{webhook}") } else { ("organization", "{hook}") };
    let one = format!("{base}/{{webhook}}");
    let line = |verb: &str, more: &str| format!("webhook {verb} {channel} {id}{more}");
    script.step(&format!("GET {one}"), &line("show", ""));
    script.step(&format!("PATCH {one}"), &line("update", " --ordered on"));
    script.step(&format!("PATCH {one}"), &line("disable", ""));
    script.step(&format!("PATCH {one}"), &line("enable", " --resume skip"));
    script.step(&format!("POST {one}/rotate-secret"), &line("rotate-secret", " --grace-seconds 60"));
    script.step(&format!("POST {one}/test"), &line("test", ""));
    script.ended(&format!("trigger {channel} map_kill")).expect(0);
    eventually(&format!("an event of the {kind} is delivered"), || {
        let ended = script.ended(&line("deliveries", " --status delivered --json"));
        let answer: Value = serde_json::from_str(ended.expect(0)).expect("JSON");
        let events =
            |row: &Value| row.get("event_ids").or_else(|| row.get("eventIds")).is_some_and(|ids| ids[0].is_string());
        answer["data"].as_array().expect("a list").iter().any(events)
    });
    script.keep(&format!("GET {one}/deliveries"), &line("deliveries", " --limit 1"), &[("delivery", "/data/0/id")]);
    script.step(&format!("GET {one}/deliveries/{{delivery}}"), &line("deliveries", " {delivery}"));
    script.step(&format!("POST {one}/deliveries/{{delivery}}/retry"), &line("retry", " {delivery}"));
    script.keep(
        &format!("POST {one}/replay"),
        &line("replay", " --since 2020-01-01T00:00:00Z"),
        &[("job", "/data/id")],
    );
    script.step(&format!("GET {one}/replays/{{job}}"), &line("replays", " {job} --wait"));
    let listed = script.step(&format!("GET {one}/replays"), &line("replays", ""));
    assert!(listed.lines().nth(1).is_some_and(|row| row.contains("done")), "{listed}");
    script.step(&format!("DELETE {one}"), &line("delete", ""));
}

fn sources(script: &mut Script) {
    let created = "source create map:home --name game --authentication api_key";
    script.keep("POST /api/webhooks", created, &[("source", "/endpoint/id"), ("key", "/secret")]);
    script.step("GET /api/webhooks", "source list map:home");
    assert!(script.step("GET /api/source-presets", "source presets").contains("github"));
    let one = "/api/webhooks/{source}";
    script.step(&format!("GET {one}"), "source show {source}");
    script.step(&format!("PATCH {one}"), "source update {source} --name game~server --rate-limit 600");
    script.step(
        "POST /webhooks/{source}",
        "api POST /webhooks/{source} --header X-API-Key:{key} --body {\"event_type\":\"level_up\"}",
    );
    script.step(&format!("GET {one}/status"), "source status {source}");
    let good = "source check {source} --header X-API-Key:{key} --body {\"event_type\":\"level_up\"}";
    script.step(&format!("POST {one}/check"), good);
    for body in ["{\"a\":1}", "{\"b\":1}", "{\"c\":1}"] {
        let refused = script.ended(&format!("api POST /webhooks/{{source}} --header X-API-Key:{{key}} --body {body}"));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains("event_type"), "{refused:?}");
    }
    let letters = format!("{one}/dead-letters");
    script.keep(&format!("GET {letters}"), "source dead-letters {source}", &[("a", "/data/0/n"), ("b", "/data/1/n")]);
    script.step(&format!("GET {letters}/{{letter}}"), "source dead-letters {source} {a}");
    // it is still no event: what matters is that it was tried
    let retried = script.ended("source dead-letters {source} {a} --retry");
    assert!(retried.code == Some(1) && retried.err.contains("event_type"), "{retried:?}");
    script.note(&format!("POST {letters}/{{letter}}/retry"), "source dead-letters --retry");
    script.step(&format!("DELETE {letters}/{{letter}}"), "source dead-letters {source} {b} --delete");
    script.step(&format!("DELETE {letters}"), "source dead-letters {source} --delete");
    let shown = script.step(&format!("GET {one}/events/history"), "source events {source}");
    assert!(shown.contains("level_up"), "{shown}");
    let line = "source events {source} --follow --since 1h";
    let follower = script.start(line);
    assert!(follower.expect_lines(1)[0].contains("level_up"));
    follower.interrupt();
    follower.wait().expect(0);
    script.note(&format!("GET {one}/events"), line);
}

fn rest(script: &mut Script) {
    script.step("GET /health/live", "api GET /health/live");
    script.step("GET /health/ready", "health");
    script.step("GET /metrics", "api GET /metrics");
    script.step("GET /api/v1/cluster", "doctor");
    let shown = script.step("GET /api/v1/overview", "overview --window 24h");
    assert!(shown.contains("published") && shown.contains("FIGURE"), "{shown}");
    let tail = script.start("tail map:home");
    let listed = |script: &Script| {
        let listed: Value = serde_json::from_str(&script.ended("connection list map:home --json").out).expect("JSON");
        listed["data"][0]["id"].as_str().map(str::to_owned)
    };
    eventually("the stream is listed", || listed(script).is_some());
    let connection = listed(script).expect("it is still open");
    script.names.insert("connection", connection);
    let shown = script.step("GET /api/v1/connections", "connection list");
    assert!(shown.lines().nth(1).is_some_and(|row| row.contains("map:home")), "{shown}");
    let ended = script.step("DELETE /api/v1/connections/{id}", "connection delete {connection}");
    assert!(ended.starts_with("ended "), "{ended}");
    drop(tail);
    script.step("GET /openapi.json", "api GET /openapi.json");
    script.step("GET /asyncapi.json", "api GET /asyncapi.json");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("backup.tar");
    script.names.insert("file", file.to_str().expect("UTF-8").to_owned());
    script.step("POST /api/v1/backup", "backup --output {file}");
    script.step("POST /api/webhooks/{source}/rotate-secret", "source rotate-secret {source} --grace-seconds 60");
    script.step("POST /api/webhooks/{source}/events/ticket", "api POST /api/webhooks/{source}/events/ticket");
    script.step("DELETE /api/webhooks/{source}", "source delete {source}");
    script.step("DELETE /api/maps/{map}", "map delete map:home");
    script.step("DELETE /api/v1/organizations/{org}", "org delete acme");
}
