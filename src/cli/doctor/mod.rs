//! `stentor doctor`: looks at a running server from outside, or at a data folder, and says what is not as it should be
//! and what to do about it.

mod cluster;
mod data;
mod server;

use std::path::PathBuf;

use actors::hub::backup::{Finding, Verdict};
use clap::Args;

use super::output::{BAD, DIM, DOUBTFUL, GOOD, tame};
use super::remote::RemoteArgs;
use super::{Failure, output};

/// The flags of `stentor doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor doctor --server https://events.example.org
  stentor doctor --data /var/lib/stentor --config /etc/stentor/stentor.toml
  stentor doctor --data /var/lib/stentor --deep

It changes nothing. It ends with 1 when a check failed; a warning is no failure.")]
pub struct DoctorArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Look at this data folder instead of a server; nothing is opened that a running server holds
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// TOML file with the settings of that server
    #[arg(long, value_name = "FILE", requires = "data")]
    config: Option<PathBuf>,
    /// Read everything that is stored through and compare it with its checksums, which takes as long as the disk needs for that
    #[arg(long, requires = "data")]
    deep: bool,
    /// Also wait for a sign of life on a quiet stream, which takes up to a minute and shows proxies that cut it
    #[arg(long, conflicts_with = "data")]
    keepalive: bool,
}

/// What the checks come to; each is shown as soon as it is done.
#[derive(Default)]
struct Report {
    doubtful: u32,
    bad: u32,
}

impl Report {
    fn add(&mut self, finding: Finding) -> Result<(), Failure> {
        match finding.verdict {
            Verdict::Fine => {}
            Verdict::Doubtful => self.doubtful += 1,
            Verdict::Bad => self.bad += 1,
        }
        output::text(&shown(&finding))
    }
}

/// A finding as people read it: its verdict first, details below.
fn shown(finding: &Finding) -> String {
    let (style, word) = match finding.verdict {
        Verdict::Fine => (GOOD, "ok"),
        Verdict::Doubtful => (DOUBTFUL, "warn"),
        Verdict::Bad => (BAD, "fail"),
    };
    let mut text = format!("{style}{word:<4}{style:#}  {:<11}  {}\n", finding.subject, tame(&finding.text));
    for detail in &finding.details {
        text.push_str(&format!("{:19}{DIM}{}{DIM:#}\n", "", tame(detail)));
    }
    text
}

/// Runs every check and shows each on standard output.
///
/// # Errors
/// When one of them failed.
pub fn run(args: DoctorArgs) -> Result<(), Failure> {
    let mut report = Report::default();
    match &args.data {
        Some(folder) => data::examine(folder, args.config.as_deref(), args.deep, &mut report)?,
        None => {
            let examined = server::examine(&args.remote, args.keepalive, &mut report);
            actix_web::rt::System::new().block_on(examined)?;
        }
    }
    match report.bad {
        0 => Ok(()),
        bad => {
            let failed = output::count(bad.into(), "check", "checks");
            Err(Failure::Failed(format!("{failed} failed, {} gave a warning; see above", report.doubtful)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_verdict_first_and_details_below() {
        let finding = Finding::doubtful("clock", "it is late\u{1b}").with_details(vec!["by a lot".into()]);
        assert_eq!(
            anstream::adapter::strip_str(&shown(&finding)).to_string(),
            "warn  clock        it is late\\u001b\n                   by a lot\n"
        );
    }
}
