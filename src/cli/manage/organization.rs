//! `stentor org`: lists, makes, changes and deletes organizations.

use actix_web::http::Method;
use clap::{Args, Subcommand};

use super::arguments::{self, put};
use super::table::Column;
use super::{Api, ManageArgs, with_body};
use crate::cli::Failure;
use crate::cli::channel::Channel;
use crate::cli::complete;
use crate::cli::remote::Request;

const PATH: &str = "/api/v1/organizations";
const COLUMNS: [Column; 3] = [Column("id", &["id"]), Column("name", &["name"]), Column("made", &["createdAt"])];

/// The flags of `stentor org`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor org create --name Acme --id acme
  stentor org show acme")]
pub struct OrganizationArgs {
    #[command(flatten)]
    manage: ManageArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the organizations that the token may know of
    List,
    /// Show one organization
    Show {
        #[command(flatten)]
        organization: OrganizationArg,
    },
    /// Make an organization with a first token, which is shown this once (admin)
    Create {
        /// Name for people
        #[arg(long)]
        name: String,
        /// Id of your own; without it, one is made
        #[arg(long)]
        id: Option<String>,
        /// Name of its first token; without it, made of the name
        #[arg(long, value_name = "NAME")]
        token_name: Option<String>,
    },
    /// Change an organization
    Update {
        #[command(flatten)]
        organization: OrganizationArg,
        /// Name for people
        #[arg(long)]
        name: Option<String>,
    },
    /// Delete an organization with its events, tokens and webhooks
    Delete {
        #[command(flatten)]
        organization: OrganizationArg,
    },
}

#[derive(Debug, Args)]
struct OrganizationArg {
    /// Organization: its id; organization:ID is fine too
    #[arg(value_name = "ORGANIZATION", value_parser = arguments::organization, add = complete::organizations())]
    organization: Channel,
}

/// Does what was asked and prints the outcome.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn run(args: OrganizationArgs) -> Result<(), Failure> {
    super::run(&args.manage, |api| execute(api, args.action))
}

async fn execute(api: Api, action: Action) -> Result<(), Failure> {
    match action {
        Action::List => api.show_list(Request::get(PATH), None, &COLUMNS).await,
        Action::Show { organization: OrganizationArg { organization } } => {
            api.show_one(Request::get(&path(&organization)), Some(&organization)).await
        }
        Action::Create { name, id, token_name } => {
            let mut body = serde_json::Map::new();
            put(&mut body, "name", Some(name));
            put(&mut body, "id", id);
            put(&mut body, "tokenName", token_name);
            let answer = api.ask(with_body(Method::POST, PATH, &body.into()), None).await?;
            api.print_one(&answer, "The token is shown only now; keep it.\n").await
        }
        Action::Update { organization: OrganizationArg { organization }, name } => {
            let mut body = serde_json::Map::new();
            put(&mut body, "name", name);
            let body = arguments::something(body, "--name")?;
            api.show_one(with_body(Method::PATCH, &path(&organization), &body), Some(&organization)).await
        }
        Action::Delete { organization: OrganizationArg { organization } } => {
            api.show_done(
                Request::delete(&path(&organization)),
                Some(&organization),
                &format!("deleted {organization}"),
            )
            .await
        }
    }
}

fn path(organization: &Channel) -> String {
    // the parser of the argument makes nothing but organizations
    organization.resource().unwrap_or_else(|| PATH.to_owned())
}
