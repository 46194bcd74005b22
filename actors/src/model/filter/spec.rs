//! A filter as people write it: in a query string, in a JSON body, in the stored configuration.

use serde::{Deserialize, Deserializer, Serialize};

use super::FilterError;

/// The four conditions of a filter; an event must meet all that are given. Checked by [`super::Filter::compile`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterSpec {
    /// Wanted event types. `None`, or `*` among them: all; an empty list: none.
    #[serde(deserialize_with = "optional_names", skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Plain prefixes of `payload.path` or of any `payload.entries[].path`; one of them must fit. An empty list, or an
    /// empty prefix among them: no condition.
    #[serde(deserialize_with = "prefixes", skip_serializing_if = "Vec::is_empty")]
    pub path_prefix: Vec<String>,
    /// The session of an organization that the event must belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A CEL expression over `event`; blank: no condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The id of the source that took the event in. Set by the server, never read from what a client writes.
    #[serde(skip)]
    pub source: Option<String>,
}

impl FilterSpec {
    /// Reads the parameters `events`, `path_prefix`, `session` and `filter` of a decoded query string and passes over
    /// all others. `events` and `path_prefix` may be repeated; a second `session` or `filter` is an error.
    ///
    /// # Errors
    /// [`FilterError::Repeated`] names the parameter that is there twice.
    pub fn from_query<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, FilterError> {
        let mut spec = FilterSpec::default();
        for (key, value) in pairs {
            let once = match key {
                "events" => {
                    spec.events.get_or_insert_default().extend(comma_list(value));
                    continue;
                }
                "path_prefix" => {
                    spec.path_prefix.push(value.to_owned());
                    continue;
                }
                "session" => (&mut spec.session, "session"),
                "filter" => (&mut spec.filter, "filter"),
                _ => continue,
            };
            if once.0.replace(value.to_owned()).is_some() {
                return Err(FilterError::Repeated { parameter: once.1 });
            }
        }
        Ok(spec)
    }

    /// How much text it holds.
    pub fn bytes(&self) -> usize {
        let listed = self.events.iter().flatten().chain(&self.path_prefix);
        let single = [&self.session, &self.filter, &self.source].into_iter().flatten();
        listed.chain(single).map(String::len).sum()
    }

    /// Whether every event type is wanted.
    pub fn wants_all_events(&self) -> bool {
        self.events.as_ref().is_none_or(|names| names.iter().any(|name| name.trim() == "*"))
    }

    /// The wanted types that `is_known` does not know, in the order given, each once: accepted, and told to the client.
    pub fn unknown_events(&self, is_known: impl Fn(&str) -> bool) -> Vec<String> {
        let mut unknown: Vec<String> = Vec::new();
        for name in self.events.iter().flatten().map(|name| name.trim()) {
            if name != "*" && !is_known(name) && !unknown.iter().any(|seen| seen == name) {
                unknown.push(name.to_owned());
            }
        }
        unknown
    }
}

/// The names between the commas. Nothing between two commas, or behind the last one, is no name.
fn comma_list(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Reads event types as a list, or as one text with commas between them.
///
/// # Errors
/// The value is neither a text nor a list of texts.
pub fn optional_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(Option::<OneOrMany>::deserialize(deserializer)?.map(|given| match given {
        OneOrMany::One(text) => comma_list(&text).collect(),
        OneOrMany::Many(names) => names,
    }))
}

/// Reads path prefixes from one text or a list, or `null` for none.
///
/// # Errors
/// The value is neither a text nor a list of texts.
pub fn prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match Option::<OneOrMany>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(OneOrMany::One(prefix)) => vec![prefix],
        Some(OneOrMany::Many(prefixes)) => prefixes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn from_query(pairs: &[(&str, &str)]) -> FilterSpec {
        FilterSpec::from_query(pairs.iter().copied()).expect("a good query")
    }

    #[rstest]
    #[case(&[], None)]
    #[case(&[("events", "")], Some(vec![]))]
    #[case(&[("events", " , ")], Some(vec![]))]
    #[case(&[("events", "*")], Some(vec!["*"]))]
    #[case(&[("events", "a, b ,c")], Some(vec!["a", "b", "c"]))]
    #[case(&[("events", "a"), ("other", "x"), ("events", "b,")], Some(vec!["a", "b"]))]
    fn events_are_a_comma_list_that_may_be_repeated(#[case] query: &[(&str, &str)], #[case] names: Option<Vec<&str>>) {
        let expected = names.map(|names| names.into_iter().map(str::to_owned).collect());
        assert_eq!(from_query(query).events, expected);
    }

    #[test]
    fn all_four_conditions_are_read_from_a_query() {
        let spec = from_query(&[("path_prefix", "/a,b"), ("session", "s"), ("filter", "true"), ("path_prefix", "/c")]);
        assert_eq!(spec.path_prefix, ["/a,b", "/c"]);
        assert_eq!((spec.session.as_deref(), spec.filter.as_deref()), (Some("s"), Some("true")));
    }

    #[test]
    fn a_condition_that_can_only_be_given_once_is_not_given_twice() {
        let twice = [("session", "a"), ("session", "b")];
        assert_eq!(FilterSpec::from_query(twice.into_iter()), Err(FilterError::Repeated { parameter: "session" }));
    }

    #[rstest]
    #[case(r#"{}"#, r#"{}"#)]
    #[case(r#"{"events":null,"path_prefix":null,"session":null,"filter":null}"#, r#"{}"#)]
    #[case(r#"{"events":[]}"#, r#"{"events":[]}"#)]
    #[case(r#"{"events":"a, b"}"#, r#"{"events":["a","b"]}"#)]
    #[case(r#"{"path_prefix":"/a"}"#, r#"{"path_prefix":["/a"]}"#)]
    #[case(r#"{"path_prefix":["/a","/b"],"filter":"true"}"#, r#"{"path_prefix":["/a","/b"],"filter":"true"}"#)]
    fn json_is_read_leniently_and_written_in_one_form(#[case] given: &str, #[case] written: &str) {
        let spec: FilterSpec = serde_json::from_str(given).expect("a good spec");
        assert_eq!(serde_json::to_string(&spec).expect("it serialises"), written);
        assert_eq!(serde_json::from_str::<FilterSpec>(written).expect("its own form"), spec);
    }

    #[test]
    fn a_wrong_json_type_is_named() {
        let fault = serde_json::from_str::<FilterSpec>(r#"{"path_prefix":7}"#).expect_err("7 is no prefix");
        assert!(fault.to_string().contains("a string or a list of strings"), "{fault}");
    }

    #[test]
    fn unknown_types_are_reported_once_and_never_the_star() {
        let spec = from_query(&[("events", "b,*,a,b,c")]);
        assert_eq!(spec.unknown_events(|name| name == "a"), ["b", "c"]);
        assert_eq!(FilterSpec::default().unknown_events(|_| false), Vec::<String>::new());
    }
}
