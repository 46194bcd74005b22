//! The reference of metrics, `docs/metrics.md`, is made of the registry, so that it cannot say anything else.
//! `STENTOR_REWRITE=1 cargo test reference` writes it anew. Other pages name no metric that is not there.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::{ErrorLabels, Metrics, OutcomeLabels, WebhookLabels};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
const COMMAND: &str = "STENTOR_REWRITE=1 cargo test reference";

const INTRO: &str = "\
# Metrics

`GET /metrics` needs no token, unless `metrics.token` is set, and answers in OpenMetrics 1.0, which Prometheus reads. Counters and histograms begin at zero when the server
starts. [Operations](operations.md#metrics-and-alerts) says which of them are worth an alert.

| metric | type | labels | |
| --- | --- | --- | --- |
";

/// Text of the registry with a series in each family, since labels show only in series.
fn text() -> String {
    let metrics = Metrics::default();
    metrics.errors.get_or_create(&ErrorLabels { family: "maps", code: "NOT_FOUND" }).inc();
    metrics.webhook_attempts.get_or_create(&OutcomeLabels { outcome: "success" }).inc();
    metrics.source_requests.get_or_create(&OutcomeLabels { outcome: "accepted" }).inc();
    metrics.webhook_lag_seconds.get_or_create(&WebhookLabels { webhook: "w".into() }).set(0);
    metrics.text()
}

/// Each metric: its name, type, help, and labels.
fn metrics() -> Vec<(String, String, String, String)> {
    let text = text();
    let of = |line: &str, kind: &str| {
        let (name, rest) = line.strip_prefix(kind)?.split_once(' ')?;
        Some((name.to_owned(), rest.to_owned()))
    };
    let types: Vec<_> = text.lines().filter_map(|line| of(line, "# TYPE ")).collect();
    let helps: Vec<_> = text.lines().filter_map(|line| of(line, "# HELP ")).collect();
    assert_eq!(types.len(), helps.len());
    let row = |((name, kind), (_, help)): ((String, String), (String, String))| {
        let series = text.lines().find(|line| line.starts_with(&name)).unwrap_or_default();
        let labels = series.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        let labels = names.filter(|name| *name != "le").map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ");
        (name, kind, help.trim_end_matches('.').to_owned(), labels)
    };
    types.into_iter().zip(helps).map(row).collect()
}

/// The names under which a metric is scraped.
fn series(name: &str, kind: &str) -> Vec<String> {
    let endings: &[&str] = match kind {
        "counter" => &["_total"],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    endings.iter().map(|ending| format!("{name}{ending}")).collect()
}

fn rendered() -> String {
    let mut page = INTRO.to_owned();
    for (name, kind, help, labels) in metrics() {
        let names = if kind == "histogram" { vec![name] } else { series(&name, &kind) };
        writeln!(page, "| `{}` | {kind} | {labels} | {help} |", names[0]).expect("a text grows");
    }
    page
}

#[test]
fn the_reference_of_metrics_says_what_the_registry_says() {
    let (rendered, path) = (rendered(), Path::new(DOCS).join("metrics.md"));
    if std::env::var_os("STENTOR_REWRITE").is_some() {
        std::fs::write(&path, &rendered).expect("the page can be written");
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == rendered, "docs/metrics.md is another; write it anew by: {COMMAND}");
}

#[test]
fn no_page_names_a_metric_that_is_not_there() {
    let mut known: BTreeSet<String> = metrics().iter().flat_map(|(name, kind, ..)| series(name, kind)).collect();
    known.extend(metrics().into_iter().map(|(name, ..)| name));
    for entry in std::fs::read_dir(DOCS).expect("the folder of the documentation") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a page");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words.filter(|word| word.starts_with("stentor_") && !word.ends_with('_')) {
            assert!(known.contains(word), "{} names {word}", path.display());
        }
    }
}
