//! `stentor overview`: what needs attention, and the figures of the last hour, day or week.

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::table::Column;
use super::{Api, ManageArgs, arguments};
use crate::cli::channel::Channel;
use crate::cli::remote::Request;
use crate::cli::{Failure, complete, output};

const ATTENTION: [Column; 4] = [
    Column("severity", &["severity"]),
    Column("what", &["title"]),
    Column("why", &["cause"]),
    Column("since", &["since"]),
];
const FIGURES: [Column; 3] = [Column("figure", &["figure"]), Column("now", &["now"]), Column("most", &["most"])];

/// The flags of `stentor overview`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor overview
  stentor overview map:home --window 7d")]
pub struct OverviewArgs {
    #[command(flatten)]
    manage: ManageArgs,
    /// Only what concerns this channel: map:ID or organization:ID
    #[arg(value_parser = arguments::channel, add = complete::owners())]
    channel: Option<Channel>,
    /// How far back the figures go
    #[arg(long, value_enum, default_value = "1h")]
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Window {
    #[value(name = "1h")]
    Hour,
    #[value(name = "24h")]
    Day,
    #[value(name = "7d")]
    Week,
}

impl Window {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }
}

/// Prints what needs attention, and below it each figure as it is and the most that it was.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn run(args: OverviewArgs) -> Result<(), Failure> {
    super::run(&args.manage, async |api: Api| {
        let request = Request::get("/api/v1/overview")
            .query([("window", args.window.as_str().to_owned())])
            .query(args.channel.as_ref().and_then(Channel::parameter));
        let answer = api.ask(request, args.channel.as_ref()).await?;
        if api.is_json() {
            return api.print_json(&answer);
        }
        let data = &answer["data"];
        match data["attention"].as_array() {
            Some(rows) if !rows.is_empty() => api.print_list(rows.clone(), &ATTENTION).await?,
            _ => output::text("nothing needs attention\n")?,
        }
        output::text("\n")?;
        api.print_list(figures(&data["series"]), &FIGURES).await
    })
}

/// Each series by its newest value that is known, and by the largest one. The last step is under way, so the one before it is the
/// newest that is whole.
fn figures(series: &Json) -> Vec<Json> {
    let Some(series) = series.as_object() else { return Vec::new() };
    let row = |(name, points): (&String, &Json)| {
        let values: Vec<f64> = points.as_array()?.iter().filter_map(|point| point[1].as_f64()).collect();
        let now = values.iter().rev().nth(usize::from(values.len() > 1))?;
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        Some(json!({"figure": name, "now": plain(*now), "most": plain(most)}))
    };
    series.iter().filter_map(row).collect()
}

/// A number without a fraction that is no news.
fn plain(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_newest_whole_step_and_the_most_that_was_and_unknown_ones_are_left_out() {
        let series = json!({
            "delivered": [[0, 4], [10, null], [20, 9], [30, 2.5], [40, 1]],
            "latency_p50_ms": [[0, null], [10, null]],
            "published": [[0, 7]],
        });
        let expected = [
            json!({"figure": "delivered", "now": "2.5", "most": "9"}),
            json!({"figure": "published", "now": "7", "most": "7"}),
        ];
        assert_eq!(figures(&series), expected);
        assert_eq!(figures(&Json::Null), [] as [Json; 0]);
    }
}
