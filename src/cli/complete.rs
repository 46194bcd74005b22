//! Completion of names that only a server knows: channels, maps, organizations. Asked for when a shell completes, so it says
//! nothing, waits briefly, and offers nothing where no server answers.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;

use super::remote::{self, Remote, Request};

/// Longest wait for the names; whoever pressed the key waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Answers a shell that asks for completions, and ends the process then. Does nothing else.
pub fn answer_shell() {
    CompleteEnv::with_factory(super::command).complete();
}

/// Completes `map:SLUG`, `organization:ID` and `feed`.
pub fn channels() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let names = named("map:", maps_known()).into_iter().chain(named("organization:", organizations_known()));
        beginning_with(typed, names.chain(["feed".to_owned()]))
    })
}

/// Completes `map:SLUG` and `organization:ID`.
pub fn owners() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        beginning_with(
            typed,
            named("map:", maps_known()).into_iter().chain(named("organization:", organizations_known())),
        )
    })
}

/// Completes slugs of maps.
pub fn maps() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| beginning_with(typed, maps_known()))
}

/// Completes ids of organizations.
pub fn organizations() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| beginning_with(typed, organizations_known()))
}

/// Completes the types of the catalogue.
pub fn types() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        beginning_with(typed, actors::model::catalogue::types().iter().map(|info| info.name.to_owned()))
    })
}

fn beginning_with(typed: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

fn named(kind: &str, names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| format!("{kind}{name}")).collect()
}

fn maps_known() -> Vec<String> {
    names("/api/maps", "slug")
}

fn organizations_known() -> Vec<String> {
    names("/api/v1/organizations", "id")
}

/// The names in a list of the server that the typed line means; none where there is no answer.
fn names(path: &str, field: &str) -> Vec<String> {
    let answer = actix_web::rt::System::new().block_on(async {
        let remote = Remote::new(&remote::RemoteArgs::of_words(std::env::args().skip(1))).ok()?;
        let request = Request::get(path);
        actix_web::rt::time::timeout(PATIENCE, remote.json(&request)).await.ok()?.ok()
    });
    let rows = answer.as_ref().and_then(|answer| answer["data"].as_array()).map_or(&[][..], Vec::as_slice);
    rows.iter().filter_map(|row| row[field].as_str()).map(str::to_owned).collect::<Vec<String>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_as_it_was_typed_is_offered() {
        let names = ["map:home".to_owned(), "map:jita".to_owned(), "feed".to_owned()];
        let offered = beginning_with(OsStr::new("map:h"), names);
        assert_eq!(offered.iter().map(|one| one.get_value()).collect::<Vec<_>>(), ["map:home"]);
    }
}
