//! `stentor connection`: who is connected, and how one connection is ended.

use clap::{Args, Subcommand};

use super::arguments;
use super::table::Column;
use super::{Api, ManageArgs};
use crate::cli::channel::Channel;
use crate::cli::remote::Request;
use crate::cli::{Failure, complete};

const PATH: &str = "/api/v1/connections";
const COLUMNS: [Column; 8] = [
    Column("id", &["id"]),
    Column("kind", &["kind"]),
    Column("channel", &["channel", "channels"]),
    Column("since", &["since"]),
    Column("behind", &["behind_events"]),
    Column("token", &["token_id"]),
    Column("address", &["client_address"]),
    Column("program", &["user_agent"]),
];

/// The flags of `stentor connection`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor connection list map:home
  stentor connection delete ID")]
pub struct ConnectionArgs {
    #[command(flatten)]
    manage: ManageArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the open streams, the oldest first
    List {
        /// Only those of this channel: map:ID or organization:ID
        #[arg(value_parser = arguments::channel, add = complete::owners())]
        channel: Option<Channel>,
    },
    /// End a stream; its client may connect again
    #[command(visible_alias = "end")]
    Delete {
        /// Id of the connection, as `list` shows it
        #[arg(value_parser = arguments::id)]
        id: String,
    },
}

/// Does what was asked and prints the outcome.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn run(args: ConnectionArgs) -> Result<(), Failure> {
    super::run(&args.manage, |api| execute(api, args.action))
}

async fn execute(api: Api, action: Action) -> Result<(), Failure> {
    match action {
        Action::List { channel } => {
            let request = Request::get(PATH).query(channel.as_ref().and_then(Channel::parameter));
            api.show_list(request, channel.as_ref(), &COLUMNS).await
        }
        Action::Delete { id } => {
            api.show_done(Request::delete(&format!("{PATH}/{id}")), None, &format!("ended {id}")).await
        }
    }
}
