//! A request that a provider signed, judged by the code with which a source judges it.

use std::borrow::Cow;

use actors::model::source::{Authentication, Headers, Incoming, Recipe, Scheme, Step, Verifier};

use super::VerifyArgs;
use super::request::Request;
use crate::cli::output::{BAD, GOOD, tame};
use crate::cli::{Failure, output};
use crate::http::now_ms;

impl Headers for Request {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.pairs().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    fn all(&self) -> Vec<(&str, Cow<'_, str>)> {
        self.pairs().map(|(name, value)| (name, value.into())).collect()
    }
}

/// The scheme that was asked for; none where a format is to be judged.
///
/// # Errors
/// Wrong usage: there is no such preset, or the recipe is none.
pub fn scheme(args: &VerifyArgs) -> Result<Option<Scheme>, Failure> {
    if let Some(name) = &args.preset {
        let names = Authentication::names();
        let known = Authentication::from_name(name)
            .filter(|known| !matches!(known, Authentication::None | Authentication::Jwt));
        let unknown = || {
            let hint = crate::cli::suggest::did_you_mean(name, names.iter().copied());
            Failure::Usage(format!("--preset: there is no preset {}{hint}", tame(name)))
        };
        return known.map(|known| Some(Scheme::of(known))).ok_or_else(unknown);
    }
    let Some(text) = &args.recipe else { return Ok(None) };
    let usage = |e: String| Failure::Usage(format!("--recipe: {e}"));
    let value = serde_json::from_str(text).map_err(|e| usage(format!("this is no JSON: {e}")))?;
    let recipe = Recipe::read(value).map_err(|e| usage(e.to_string()))?;
    Ok(Some(Scheme { recipe: Some(Box::new(recipe)), ..Scheme::of(Authentication::Recipe) }))
}

/// Says step by step what was compared.
///
/// # Errors
/// Wrong usage when the secret is none of this scheme; failed when the request is not believed.
pub fn run(args: &VerifyArgs, scheme: Scheme, request: &Request) -> Result<(), Failure> {
    let bad = |e| Failure::Usage(format!("--secret: the key {e}"));
    let verifier = Verifier::new(scheme, Some(&args.secret), None).map_err(bad)?;
    let incoming = Incoming { method: &args.method, url: &args.url, headers: request, body: &request.body };
    let at_ms = if args.no_age { verifier.time_of(&incoming) } else { None };
    let explained = verifier.explain(&incoming, at_ms.unwrap_or_else(now_ms));
    for Step { name, is_right, message } in &explained.steps {
        let style = if *is_right { GOOD } else { BAD };
        output::text(&format!("{style}{name}{style:#}: {}\n", tame(message)))?;
    }
    match explained.is_believed {
        true => output::text(&format!("{GOOD}valid{GOOD:#}\n")),
        false => Err(Failure::Failed("not valid: see the steps above".to_owned())),
    }
}
