//! The names that the query of an address may hold: those that the API document lists, so that what is checked and what is
//! documented cannot drift. A misspelt name is an error, because a filter or a cursor that is ignored costs events.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use actix_web::http::Method;

use super::openapi::{self, parameters::SPELLINGS};
use super::problem::{Code, Problem};

/// Under this name a stream's cursor is found, whatever the client called it.
pub const CURSOR: &str = "last_event_id";

/// Names that caches, polyfills and tools put into queries, and that mean nothing here.
const MEANINGLESS: [&str; 6] = ["t", "r", "v", "ts", "cb", "padding"];

/// Names that may stand in a query more than once, and then mean all their values; of cursors, the newest.
const REPEATABLE: [&str; 4] = ["events", "path_prefix", "channel", CURSOR];

/// How much of an unknown name is repeated.
const NAME_BYTES_MAX: usize = 40;

/// What the queries of an address may hold, by method.
#[derive(Debug, Default)]
pub struct QueryNames(Vec<(Method, Vec<String>)>);

/// The names for an address of the route table.
pub fn of_pattern(pattern: &str) -> Option<Arc<QueryNames>> {
    static ALL: LazyLock<HashMap<String, Arc<QueryNames>>> = LazyLock::new(|| {
        let of_address = |(pattern, names)| (pattern, Arc::new(QueryNames(names)));
        openapi::query_names(&super::table()).into_iter().map(of_address).collect()
    });
    ALL.get(pattern).cloned()
}

impl QueryNames {
    fn of(&self, method: &Method) -> &[String] {
        // HEAD asks what GET would answer
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0.iter().find(|(other, _)| other == method).map_or(&[], |(_, names)| names)
    }

    /// The pairs that mean something, each under its own name.
    ///
    /// # Errors
    /// A name is not known, or stands there twice and would have one of its values ignored.
    pub fn understand(&self, method: &Method, pairs: Vec<(String, String)>) -> Result<Vec<(String, String)>, Problem> {
        let names = self.of(method);
        let has_cursor = names.iter().any(|name| name == CURSOR);
        let mut understood: Vec<(String, String)> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            if !names.contains(&name) {
                if is_meaningless(&name, &value) {
                    continue;
                }
                return Err(unknown(&name, names));
            }
            let own = own_name(&name, has_cursor);
            if !REPEATABLE.contains(&own) && understood.iter().any(|(seen, _)| seen == own) {
                return Err(Problem::parameter(own, "it stands in the query more than once; give it once"));
            }
            understood.push((own.to_owned(), value));
        }
        Ok(understood)
    }
}

fn is_meaningless(name: &str, value: &str) -> bool {
    name.starts_with('_') || MEANINGLESS.contains(&name) || (name, value) == ("format", "legacy")
}

/// What a name is called inside. `since` and `after` are cursors only where there is one.
fn own_name(name: &str, has_cursor: bool) -> &str {
    let spelling = SPELLINGS.iter().find(|(own, others)| (has_cursor || *own != CURSOR) && others.contains(&name));
    spelling.map_or(name, |(own, _)| own)
}

fn unknown(name: &str, names: &[String]) -> Problem {
    // what looks like a credential is not repeated, nor is anything long
    let shown = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.[]".contains(&b))
        && !["st_", "rt_", "eyJ"].iter().any(|prefix| name.starts_with(prefix));
    let what = match shown && !name.is_empty() {
        true => format!("'{name}' is not a parameter of this address"),
        false => "The query holds a name that is not a parameter of this address".into(),
    };
    let cure = match nearest(name, names) {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => "it takes none".into(),
    };
    Problem::new(Code::UnknownParameter, format!("{what}; {cure}"))
}

/// The known name that is most like this one.
fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let is_cursor = SPELLINGS.iter().any(|(own, others)| *own == CURSOR && (name == *own || others.contains(&name)));
    if let Some(after) = names.iter().find(|known| is_cursor && *known == "after") {
        return Some(after);
    }
    let wanted = plain(name);
    let likeness = |known: &&String| strsim::jaro_winkler(&wanted, &plain(known));
    // of several spellings the first is the one that is best known
    names.iter().rev().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).map(String::as_str)
}

/// Without what spellings differ in.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str) -> Arc<QueryNames> {
        of_pattern(pattern).expect("an address that reads its query")
    }

    fn pairs(query: &str) -> Vec<(String, String)> {
        actix_web::web::Query::<Vec<(String, String)>>::from_query(query).expect("a query").into_inner()
    }

    fn said(pattern: &str, query: &str) -> String {
        let refused = names(pattern).understand(&Method::GET, pairs(query));
        refused.expect_err("a name that is not known").to_string()
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest_one_and_never_with_its_value() {
        let stream = "/api/maps/{map}/events/stream";
        for (query, nearest) in [
            ("lastEvenId=secret", "last_event_id"),
            ("last_eventid=secret", "last_event_id"),
            ("event=secret", "events"),
            ("evnts=secret", "events"),
            ("Events=secret", "events"),
            ("pathprefix=secret", "path_prefix"),
            ("sesion=secret", "session"),
            ("fliter=secret", "filter"),
            ("eventNames=secret", "event_names"),
            ("tikcet=secret", "ticket"),
        ] {
            let said = said(stream, query);
            assert!(said.contains(&format!("'{nearest}'")) && !said.contains("secret"), "{query}: {said}");
        }
        assert!(said("/api/maps/{map}/events", "last_event_id=x").contains("'after'"));
        assert!(said("/api/maps", "x=y").contains("it takes none"));
        for hidden in ["st_abc", "rt_abc", "eyJhbGciOi", "a b", &"x".repeat(100)] {
            let said = said(stream, &format!("{hidden}=secret"));
            assert!(!said.contains(hidden) && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn every_spelling_of_a_name_is_read_as_the_same_one() {
        let read =
            |pattern, query| names(pattern).understand(&Method::HEAD, pairs(query)).expect("names that are known");
        let stream = read(
            "/events/stream",
            "events[]=a&events[]=b&pathPrefix=/c&sessionId=s&lastEventId=1&after=2&cursor=3&since=4&Last-Event-ID=5",
        );
        let own: Vec<_> = stream.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(own, ["events", "events", "path_prefix", "session", CURSOR, CURSOR, CURSOR, CURSOR, CURSOR]);
        let history = read("/events", "after=1&since=2");
        assert_eq!(history, pairs("after=1&since=2"));
    }

    #[test]
    fn what_caches_and_polyfills_add_means_nothing() {
        let read = |query| names("/events/stream").understand(&Method::GET, pairs(query));
        let added = "_=1&_cb=2&t=3&t=4&r=5&v=6&ts=7&cb=8&padding=true&format=legacy";
        assert!(read(added).expect("nothing that is unknown").is_empty());
        assert!(read("format=json").is_err() && read("T=1").is_err() && read("=x").is_err());
    }

    #[test]
    fn a_name_that_means_one_value_stands_there_once_in_whatever_spelling() {
        let read = |query| names("/events/stream").understand(&Method::GET, pairs(query));
        for twice in ["session=a&session=a", "session=a&sessionId=b", "filter=true&filter=true"] {
            assert!(read(twice).is_err(), "{twice}");
        }
    }

    #[test]
    fn pages_and_what_others_send_to_take_any_name() {
        for pattern in
            ["/", "/docs", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/webhooks/{source}"]
        {
            assert!(of_pattern(pattern).is_none(), "{pattern}");
        }
    }
}
