//! The layers and their complaints, and that `settings.toml`, the types and the checks name the same keys.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use actors::model::jwt::JwtAlgorithm;

use super::*;

/// Loads with the given file (when not empty), environment and flags.
fn load(file: &str, environment: &[(&str, &str)], mut flags: Flags) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().expect("the folder for temporary files is writable");
    if !file.is_empty() {
        let path = folder.path().join("stentor.toml");
        fs::write(&path, file).expect("the folder is ours");
        flags.config = Some(path);
    }
    let variables: HashMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let source = Environment::with_prefix(ENVIRONMENT_PREFIX).source(Some(variables.into_iter().collect()));
    Settings::load_from(&flags, source)
}

fn complaint(file: &str, environment: &[(&str, &str)]) -> String {
    match load(file, environment, Flags::default()) {
        Ok(_) => panic!("accepted: {file} {environment:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn settings_toml_and_the_types_name_the_same_keys_with_the_same_values() {
    let defaults = Settings::defaults().expect("the defaults fit the types");
    let of_types: BTreeSet<String> = defaults.entries().into_iter().map(|(key, _)| key).collect();
    let mut of_file = BTreeSet::new();
    let mut section = String::new();
    for line in DEFAULTS.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = line.split_once(" = ") {
            let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            assert!(of_file.insert(key), "{section}.{name} stands there twice");
        }
    }
    assert_eq!(of_types, of_file);
}

#[test]
fn every_number_has_a_range_and_every_range_and_choice_a_key() {
    let stack = layers::Stack::defaults().expect("the defaults are TOML");
    let numbers: BTreeSet<&str> = stack.integers().map(|(key, _)| key).collect();
    let ranges: BTreeSet<&str> = check::RANGES.iter().map(|(key, ..)| *key).collect();
    assert_eq!(numbers, ranges);
    for (key, words) in check::CHOICES {
        assert!(words.contains(&stack.text(key)), "{key}");
        for word in words.iter().filter(|word| cfg!(feature = "nats") || (*key, **word) != ("engine", "nats")) {
            // without a server nobody chooses NATS
            let file = format!("{key} = \"{word}\"\nnats.servers = [\"nats://127.0.0.1:4222\"]");
            load(&file, &[], Flags::default()).expect("each choice is a variant");
        }
    }
}

#[test]
fn every_key_of_the_defaults_has_a_reason_above_it_or_above_its_group() {
    let mut explained = false;
    for line in DEFAULTS.lines() {
        match line {
            "" => explained = false,
            line if line.starts_with('#') => explained = true,
            line if line.contains(" = ") => assert!(explained, "{line}"),
            _ => {}
        }
    }
}

#[test]
fn the_defaults_are_what_the_documents_promise() {
    let settings = load("", &[], Flags::default()).expect("the defaults are valid");
    assert_eq!(settings, Settings::defaults().expect("the defaults fit the types"));
    assert_eq!(settings.server.listen, "127.0.0.1:8080");
    assert_eq!(settings.storage.data_dir, PathBuf::from("./data"));
    assert_eq!(settings.storage.durability, Durability::Fsync);
    assert_eq!(settings.limits.event_bytes, 256 * 1024);
    assert_eq!(settings.limits.batch_bytes, 4 * 1024 * 1024);
    assert_eq!((settings.limits.streams_total, settings.limits.streams_per_channel), (1000, 50));
    assert_eq!((settings.limits.streams_per_token, settings.limits.api_requests_per_minute), (10, 100));
    assert_eq!((settings.tickets.ttl_s, settings.streams.heartbeat_s, settings.sse.keepalive_s), (30, 20, 30));
    assert_eq!((settings.streams.stall_timeout_s, settings.server.shutdown_timeout_s), (30, 10));
    assert_eq!(settings.cors.allowed_origins, ["*"]);
    assert!(settings.auth.allow_query_token && !settings.auth.jwt.is_on() && !settings.sse.event_names);
    assert_eq!(settings.server.public_url, None);
}

#[test]
fn each_layer_wins_over_the_one_below_it() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\n[limits]\nevent_bytes = 1000\nbatch_events = 5\n";
    let environment = [("STENTOR__SERVER__LISTEN", "127.0.0.1:2"), ("STENTOR__LIMITS__EVENT_BYTES", "2000")];
    let flags = Flags { listen: Some("127.0.0.1:3".to_owned()), data: Some("d".into()), ..Flags::default() };
    let settings = load(file, &environment, flags).expect("all layers are valid");
    assert_eq!(settings.server.listen, "127.0.0.1:3");
    assert_eq!(settings.limits.event_bytes, 2000);
    assert_eq!(settings.limits.batch_events, 5);
    assert_eq!(settings.limits.batch_bytes, 4 * 1024 * 1024);
    assert_eq!(settings.storage.data_dir, PathBuf::from("d"));
}

#[test]
fn the_environment_reaches_nested_keys_lists_and_every_kind() {
    let environment = [
        ("STENTOR__AUTH__JWT__ALGORITHM", "EdDSA"),
        ("STENTOR__AUTH__JWT__KEY", "-----BEGIN PUBLIC KEY-----\nx, y\n"),
        ("STENTOR__SERVER__TLS__CERT", "c.pem"),
        ("STENTOR__SERVER__TLS__KEY", "k.pem"),
        ("STENTOR__CORS__ALLOWED_ORIGINS", "https://a.example, http://localhost:3000"),
        ("STENTOR__SSE__EVENT_NAMES", "TRUE"),
        ("STENTOR__STORAGE__DURABILITY", "interval"),
        ("STENTOR__LIMITS__STREAMS_TOTAL", "0"),
        ("STENTOR__SERVER__PUBLIC_URL", "https://events.example.org"),
        ("STENTOR_ADMIN_TOKEN", "not a setting"),
        ("STENTOR_SERVER", "not a setting"),
    ];
    let settings = load("", &environment, Flags::default()).expect("all are valid");
    assert_eq!(settings.auth.jwt.algorithm, JwtAlgorithm::EdDsa);
    assert_eq!(settings.auth.jwt.key.as_ref().map(Secret::expose), Some("-----BEGIN PUBLIC KEY-----\nx, y\n"));
    assert_eq!(settings.server.tls.cert, Some("c.pem".into()));
    assert_eq!(settings.cors.allowed_origins, ["https://a.example", "http://localhost:3000"]);
    assert!(settings.sse.event_names);
    assert_eq!(settings.storage.durability, Durability::Interval);
    assert_eq!(settings.limits.streams_total, 0);
    assert_eq!(settings.server.public_url.as_deref(), Some("https://events.example.org"));
}

#[test]
fn an_empty_variable_unsets_a_text() {
    let file = "[server]\npublic_url = \"https://events.example.org\"";
    let settings = load(file, &[("STENTOR__SERVER__PUBLIC_URL", "")], Flags::default()).expect("empty is valid");
    assert_eq!(settings.server.public_url, None);
}

#[test]
fn unknown_keys_name_themselves_their_origin_and_the_nearest_key() {
    for (file, environment, parts) in [
        ("[limits]\nevent_byte = 1", vec![], ["limits.event_byte", "stentor.toml", "did you mean limits.event_bytes?"]),
        (
            "[sources]\nbody_timeout_s = 9",
            vec![],
            ["sources.body_timeout_s", "stentor.toml", "it is server.body_timeout_s now"],
        ),
        ("[limits]\nkeepalive_s = 1", vec![], ["limits.keepalive_s", "stentor.toml", "did you mean sse.keepalive_s?"]),
        (
            "",
            vec![("STENTOR__SERVER__LISTN", "x")],
            ["server.listn", "variable STENTOR__SERVER__LISTN", "did you mean server.listen?"],
        ),
        ("[zebra]\nx = 1", vec![], ["zebra.x", "stentor.toml", "settings.toml in the repository lists them all"]),
        ("server = 1", vec![], ["unknown setting server ", "stentor.toml", "it is a section"]),
        ("", vec![("STENTOR__AUTH__JWT", "x")], ["auth.jwt", "STENTOR__AUTH__JWT", "for example auth.jwt.algorithm"]),
        ("[log.level]\nx = 1", vec![], ["log.level.x", "stentor.toml", "log.level?"]),
        ("", vec![("STENTOR__", "x")], ["unknown setting", "STENTOR__", "lists them all"]),
    ] {
        let text = complaint(file, &environment);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}\nlacks one of {parts:?}");
    }
}

#[test]
fn wrong_values_name_the_key_the_value_and_what_is_allowed() {
    for (file, key, value, allowed) in [
        ("[limits]\nevent_bytes = \"5\"", "limits.event_bytes", "\"5\"", "a whole number"),
        ("[limits]\nevent_bytes = 1.5", "limits.event_bytes", "1.5", "a whole number"),
        ("[limits]\nevent_bytes = -1", "limits.event_bytes", "-1", "a whole number from 64 to 16777216"),
        ("[limits]\nevent_bytes = 99999999999", "limits.event_bytes", "99999999999", "from 64 to 16777216"),
        ("[streams]\nstall_timeout_s = 0", "streams.stall_timeout_s", "0", "from 1 to 3600"),
        ("[sse]\nevent_names = 1", "sse.event_names", "1", "true or false"),
        ("[sse]\nevent_names = \"yes\"", "sse.event_names", "\"yes\"", "true or false"),
        ("[storage]\ndurability = \"none\"", "storage.durability", "\"none\"", "one of fsync, flush, interval"),
        ("[storage]\ndata_dir = \"\"", "storage.data_dir", "\"\"", "the path of a folder"),
        ("[log]\nlevel = \"loud\"", "log.level", "\"loud\"", "one of off, error"),
        ("[cors]\nallowed_origins = \"*\"", "cors.allowed_origins", "\"*\"", "a list of texts"),
        ("[cors]\nallowed_origins = [1]", "cors.allowed_origins", "[\"1\"]", "a list of texts"),
        ("[cors]\nallowed_origins = [\"a.example\"]", "cors.allowed_origins", "[\"a.example\"]", "\"*\" or origins"),
        ("[cors]\nallowed_origins = [\"https://a/b\"]", "cors.allowed_origins", "[\"https://a/b\"]", "origins"),
        ("[server]\nlisten = \"8080\"", "server.listen", "\"8080\"", "ADDRESS:PORT"),
        ("[server]\nlisten = \"127.0.0.1\"", "server.listen", "\"127.0.0.1\"", "ADDRESS:PORT"),
        ("[server]\nlisten = \"127.0.0.1:99999\"", "server.listen", "\"127.0.0.1:99999\"", "ADDRESS:PORT"),
        ("[server]\nlisten = \"300.0.0.1:80\"", "server.listen", "\"300.0.0.1:80\"", "ADDRESS:PORT"),
        ("[server]\npublic_url = \"example.org\"", "server.public_url", "\"example.org\"", "http:// or https://"),
        ("[server]\npublic_url = \"https://a/\"", "server.public_url", "\"https://a/\"", "without a / at the end"),
        ("[auth.jwt]\nalgorithm = \"none\"", "auth.jwt.algorithm", "\"none\"", "one of HS256"),
    ] {
        let text = complaint(file, &[]);
        let parts = [key, value, allowed, "stentor.toml"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}\nlacks one of {parts:?}");
    }
    let text = complaint("", &[("STENTOR__LIMITS__EVENT_BYTES", "many")]);
    assert_eq!(
        text,
        "limits.event_bytes is \"many\" from the environment variable STENTOR__LIMITS__EVENT_BYTES; give a whole number"
    );
    let flags = Flags { listen: Some("here".to_owned()), ..Flags::default() };
    let text = load("", &[], flags).expect_err("not an address").to_string();
    assert!(text.starts_with("server.listen is \"here\" from the flag --listen; give"), "{text}");
}

#[test]
fn names_and_addresses_of_both_families_can_be_listened_on() {
    for listen in ["localhost:8080", "0.0.0.0:0", "[::1]:80", "my-host.example:65535"] {
        let flags = Flags { listen: Some(listen.to_owned()), ..Flags::default() };
        load("", &[], flags).expect(listen);
    }
}

#[test]
fn a_default_gives_way_to_a_limit_that_was_set() {
    let file = "[limits]\nstreams_total = 5\nbatch_bytes = 1000\n[journal]\nqueue_events = 7";
    let limits = load(file, &[], Flags::default()).expect("the defaults are lowered").limits;
    assert_eq!((limits.streams_per_channel, limits.event_bytes, limits.batch_events), (5, 1000, 7));
    let file = "[limits]\nstreams_total = 0\nstreams_per_channel = 5000";
    let limits = load(file, &[], Flags::default()).expect("0 is no limit").limits;
    assert_eq!((limits.streams_total, limits.streams_per_channel), (0, 5000));
}

#[test]
fn limits_that_contradict_each_other_are_refused_with_both_names() {
    for (file, parts) in [
        (
            "[limits]\nevent_bytes = 5000\nbatch_bytes = 4000",
            ["limits.event_bytes is 5000", "set limits.batch_bytes to at"],
        ),
        ("[limits]\nstreams_per_channel = 5000", ["limits.streams_total, which is 1000", "or to 0 for no limit"]),
        (
            "[limits]\nbatch_events = 20\n[journal]\nqueue_events = 10",
            ["limits.batch_events is 20", "journal.queue_events"],
        ),
        (
            "[limits]\nbatch_bytes = 5000\n[journal]\nqueue_bytes = 1024",
            ["limits.batch_bytes is 5000", "journal.queue_bytes"],
        ),
        ("[server.tls]\ncert = \"c.pem\"", ["only one of server.tls.cert and server.tls.key", "set both"]),
        (
            "engine = \"nats\"\n[nats]\nservers = [\"nats://127.0.0.1\"]\n[journal]\nbatch_events = 5000",
            ["journal.batch_events is 5000, and a commit to NATS has at most 1024", "leave it out"],
        ),
        ("[auth.jwt]\nkey = \"k\"\njwks_file = \"f\"", ["auth.jwt.key and auth.jwt.jwks_file are set", "set one"]),
    ] {
        let text = complaint(file, &[]);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}\nlacks one of {parts:?}");
    }
}

#[test]
fn a_file_that_is_missing_or_broken_is_named_on_one_line() {
    let flags = Flags { config: Some("/nowhere/stentor.toml".into()), ..Flags::default() };
    let text = load("", &[], flags).expect_err("no such file").to_string();
    assert_eq!(text, "cannot read the settings file /nowhere/stentor.toml; check the path given by --config");
    for file in ["[limits\nx = 1", "[limits]\nevent_bytes = ", "[limits]\nevent_bytes = 1\nevent_bytes = 2"] {
        let text = complaint(file, &[]);
        assert!(text.contains("is not valid TOML: ") && text.contains("line ") && !text.contains('\n'), "{text}");
    }
}

#[test]
fn the_key_of_jwts_is_never_shown() {
    let settings = load("[auth.jwt]\nkey = \"hunter2\"", &[], Flags::default()).expect("a key is valid");
    assert_eq!(settings.auth.jwt.key.as_ref().map(Secret::expose), Some("hunter2"));
    assert!(settings.auth.jwt.is_on());
    let shown = format!("{settings} {settings:?} {:?}", settings.entries());
    assert!(!shown.contains("hunter2") && shown.contains("auth.jwt.key=\"(set, not shown)\""), "{shown}");
    let text = complaint("[auth.jwt]\nkey = 123456", &[]);
    assert!(!text.contains("123456"), "{text}");
}

#[test]
fn the_fingerprint_tells_settings_apart_and_says_nothing_of_secrets() {
    let of = |file: &str| load(file, &[], Flags::default()).expect(file).fingerprint();
    let defaults = of("");
    assert!(defaults.len() == 16 && defaults.bytes().all(|b| b.is_ascii_hexdigit()), "{defaults}");
    assert_eq!(of("[limits]\nbatch_events = 1000"), defaults, "a default that is written down changes nothing");
    assert_ne!(of("[limits]\nbatch_events = 999"), defaults);
    let [one, other] = ["one", "other"].map(|key| of(&format!("[auth.jwt]\nkey = \"{key}\"")));
    assert!(one == other && one != defaults, "only whether there is a key counts");
}

#[test]
fn the_schedule_of_webhooks_is_a_list_of_numbers_in_files_and_in_the_environment() {
    let file = load("[webhooks]\nschedule_s = [1, 2]", &[], Flags::default()).expect("a list of numbers");
    assert_eq!(file.webhooks.schedule_s, [1, 2]);
    let variable = [("STENTOR__WEBHOOKS__SCHEDULE_S", "3, 4")];
    let environment = load("", &variable, Flags::default()).expect("numbers with commas");
    assert_eq!(environment.webhooks.schedule_s, [3, 4]);
    assert!(complaint("[webhooks]\nschedule_s = [\"1\"]", &[]).contains("a list of whole numbers"));
    assert!(complaint("[webhooks]\nschedule_s = [0]", &[]).contains("waits from 1 to 86400"));
    assert!(complaint("", &[("STENTOR__WEBHOOKS__SCHEDULE_S", "soon")]).contains("a list of whole numbers"));
    assert!(complaint("[webhooks]\nallow_networks = [\"10/8\"]", &[]).contains("webhooks.allow_networks"));
}
