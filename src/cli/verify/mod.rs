//! `stentor verify`: whether a request that was saved is what it says it is, and if not, what exactly is wrong with it.
//!
//! [`request`] reads the request, [`scheme`] knows what each format signs, [`diagnosis`] finds out why a signature does
//! not match.

mod diagnosis;
mod recipe;
mod request;
mod scheme;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use self::request::Request;
use self::scheme::{Fault, Format, Proof};
use super::output::GOOD;
use super::{Failure, output};
use crate::http::now_ms;

/// The flags of `stentor verify`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("request").args(["header", "delivery"]).required(true),
    after_help = "Examples:
  stentor verify --secret $SECRET --body body.json \\
    --header \"X-Wanderer-Timestamp: $TIMESTAMP\" --header \"X-Wanderer-Signature: $SIGNATURE\"
  stentor verify --preset github --secret $SECRET --header \"X-Hub-Signature-256: $SIGNATURE\" --body body.json
  curl $STENTOR_SERVER/api/maps/home/webhooks/$ID/deliveries/$DELIVERY -H \"Authorization: Bearer $TOKEN\" |
    stentor verify --secret $SECRET --delivery -

The body has to be the bytes that arrived, before anything parsed them."
)]
pub struct VerifyArgs {
    /// What was signed and how; without it, the headers tell
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Provider that signed, by the name of its preset, such as github: what a source would say
    #[arg(long, value_name = "NAME", conflicts_with = "format")]
    preset: Option<String>,
    /// Recipe by which a sender signed, as JSON: what a source with it would say
    #[arg(long, value_name = "JSON", conflicts_with_all = ["format", "preset"])]
    recipe: Option<String>,
    /// Address that the sender used, where it is signed
    #[arg(long, value_name = "URL", default_value = "")]
    url: String,
    /// Method of the request, where it is signed
    #[arg(long, default_value = "POST")]
    method: String,
    /// Secret of the webhook; better given by the environment, where other users of the machine do not see it
    #[arg(long, env = "STENTOR_WEBHOOK_SECRET", hide_env_values = true)]
    secret: String,
    /// Header of the request; repeat it for each
    #[arg(long, value_name = "NAME: VALUE", value_parser = request::header)]
    header: Vec<(String, String)>,
    /// Raw body of the request: a file, or standard input
    #[arg(long, value_name = "FILE|-", requires = "header", default_value = "-")]
    body: PathBuf,
    /// Instead of a request: a delivery as the server shows it, a file or standard input; its latest attempt is judged
    #[arg(long, value_name = "FILE|-")]
    delivery: Option<PathBuf>,
    /// How far the time of the signature may be from now, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    tolerance_s: u32,
    /// Do not look at the time; deliveries of --delivery are old by nature and never judged by it
    #[arg(long, conflicts_with = "tolerance_s")]
    no_age: bool,
}

/// Says on standard output that the signature is right, or fails with what is wrong.
///
/// # Errors
/// Wrong usage when the request cannot be read as one; failed when its signature is not right.
pub fn run(args: VerifyArgs) -> Result<(), Failure> {
    let request = match &args.delivery {
        Some(path) => Request::of_delivery(&request::read(path)?)?,
        None => Request::new(args.header.clone(), request::read(&args.body)?),
    };
    if let Some(scheme) = recipe::scheme(&args)? {
        return recipe::run(&args, scheme, &request);
    }
    let invalid = |reason: String| Failure::Failed(format!("not valid: {reason}"));
    let format = match args.format.or_else(|| Format::of(&request)) {
        Some(format) => format,
        None => return Err(invalid(no_signature(&request))),
    };
    let proof = format.verify(&args.secret, &request).map_err(|fault| match fault {
        Fault::Mismatch => invalid(diagnosis::of_mismatch(format, &args.secret, &request)),
        fault => invalid(format!("{fault}{}", diagnosis::of_headers(format, &fault, &request))),
    })?;
    let age = match (args.no_age || args.delivery.is_some(), proof.at_ms) {
        (false, Some(at_ms)) => scheme::judge_age(at_ms, now_ms(), args.tolerance_s).map_err(invalid)?,
        _ => String::new(),
    };
    output::text(&format!("{GOOD}valid{GOOD:#}: {}{age}\n", described(format, &proof, &request)))
}

fn described(format: Format, proof: &Proof, request: &Request) -> String {
    let by = if proof.by_previous { ", by the secret before the last rotation" } else { "" };
    format!("{} over {} bytes, in {}{by}", format.algorithm(request), request.body.len(), proof.header)
}

fn no_signature(request: &Request) -> String {
    let names: Vec<_> = request.names().map(output::tame).collect();
    let has = if names.is_empty() { "it has no headers".to_owned() } else { format!("it has {}", names.join(", ")) };
    format!(
        "the request has no header with a signature; {has}. Did something between sender and receiver take it away? \
         Headers of a webhook without a secret hold none"
    )
}
