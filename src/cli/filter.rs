//! The flags that choose events, the same on every command that reads.

use actors::model::filter::{Filter, FilterSpec};
use clap::Args;

use super::Failure;

/// Which events are wanted; all when nothing is given.
#[derive(Debug, Default, Args)]
pub struct FilterArgs {
    /// Only events of these types; repeat it or separate by commas
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    events: Vec<String>,
    /// Only events with a payload.path (or payload.entries[].path) that begins like this; may be repeated
    #[arg(long, value_name = "PATH")]
    path_prefix: Vec<String>,
    /// Only events for which this is true: a CEL expression over `event`
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// Only events of this session
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
}

impl FilterArgs {
    /// The parameters of a query that ask for these events. The server will take them: they are checked here first, so that a
    /// bad one is told before anything is sent.
    ///
    /// # Errors
    /// Wrong usage, with the place in the expression.
    pub fn query(&self) -> Result<Vec<(&'static str, String)>, Failure> {
        let spec = FilterSpec {
            events: (!self.events.is_empty()).then(|| self.events.clone()),
            path_prefix: self.path_prefix.clone(),
            session: self.session.clone(),
            filter: self.filter.clone(),
            source: None,
        };
        Filter::compile(&spec).map_err(|error| {
            let flag = error.parameter().replace('_', "-");
            Failure::Usage(format!("--{flag}: {error}"))
        })?;
        let mut query = Vec::new();
        if let Some(events) = &spec.events {
            query.push(("events", events.join(",")));
        }
        query.extend(spec.path_prefix.into_iter().map(|prefix| ("path_prefix", prefix)));
        query.extend(spec.filter.map(|filter| ("filter", filter)));
        query.extend(spec.session.map(|session| ("session", session)));
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_becomes_a_query_and_a_bad_expression_is_wrong_usage() {
        let mut args = FilterArgs {
            events: vec!["a".into(), "b".into()],
            path_prefix: vec!["/x".into(), "/y".into()],
            filter: Some("event.type == \"a\"".into()),
            session: Some("s".into()),
        };
        let query = args.query().expect("it can be asked for");
        let expected = [
            ("events", "a,b"),
            ("path_prefix", "/x"),
            ("path_prefix", "/y"),
            ("filter", "event.type == \"a\""),
            ("session", "s"),
        ];
        assert_eq!(query.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
        args.filter = Some("event.type ==".into());
        let error = args.query().expect_err("half an expression");
        assert!(
            matches!(&error, Failure::Usage(text) if text.contains("--filter") && text.contains("column")),
            "{error}"
        );
        assert_eq!(FilterArgs::default().query().expect("nothing is fine"), []);
    }
}
