//! `kafkeep token`

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use crate::auth::{Authority, Grant, Scope};
use crate::engine::topics::TopicPattern;
use crate::policy::DaemonConfiguration;

use super::{CliError, Exit, Global, output};

/// Mint a token for the API, by a configured key with algorithm HS256
#[derive(Debug, Args)]
#[command(after_help = "\
For development and first steps: in production, tokens come from who knows who people are, by RS256, ES256 or EdDSA. \
Without --cluster and --topic a token allows its scopes everywhere. A PATTERN is a name, a glob (orders.*) or a regular expression \
between slashes; ! excludes.

Examples:
  kafkeep token --subject alice --scope read
  kafkeep token --key ops --subject ci --scope backup --scope read --cluster prod --topic 'orders.*' --expires 15m
  curl -H \"Authorization: Bearer $(kafkeep token --subject alice --scope read)\" http://127.0.0.1:9644/api/kafka/backups")]
pub struct TokenArgs {
    /// The key, as it is called under [api.keys]; needless where there is one
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Whom the token is for: audit lines and limits go by it
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// What it allows; may be repeated
    #[arg(long = "scope", value_enum, value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// Only with these clusters; may be repeated
    #[arg(long = "cluster", value_name = "PATTERN")]
    clusters: Vec<TopicPattern>,
    /// Only with these topics; may be repeated
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
    /// For how long, 366 days at most
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    expires: Duration,
}

#[derive(Serialize)]
struct Report {
    token: String,
    expires_at: DateTime<Utc>,
}

pub fn run(args: &TokenArgs, global: &Global) -> Result<Exit, CliError> {
    let keys = match DaemonConfiguration::keys(&global.config) {
        Ok(keys) => keys,
        Err(wrong) => {
            output::complaint(&wrong);
            return Ok(Exit::Configuration);
        }
    };
    let Some(api) = keys.api else {
        let directory = global.config.display();
        return Err(CliError::Usage(format!(
            "no key is configured under [api.keys] in {directory}/kafkeep.toml"
        )));
    };
    let now = Utc::now();
    let expires_at = chrono::TimeDelta::from_std(args.expires)
        .ok()
        .and_then(|expires| now.checked_add_signed(expires));
    let expires_at =
        expires_at.ok_or_else(|| CliError::Usage("--expires: that is too far away".to_owned()))?;
    let key = key(args, &api.authority, &keys.out_of_reach)?;
    let texts = |patterns: &[TopicPattern]| patterns.iter().map(ToString::to_string).collect();
    let grant = Grant {
        subject: args.subject.clone(),
        scopes: args.scopes.clone(),
        clusters: texts(&args.clusters),
        topics: texts(&args.topics),
        expires_at,
    };
    let token = api
        .authority
        .mint(key, &grant, now)
        .map_err(|error| CliError::Usage(error.to_string()))?;
    // A subject that is no name, topics without end: what the daemon would refuse is of no use.
    api.authority
        .verify(Some(&format!("Bearer {token}")))
        .map_err(|error| CliError::Usage(error.to_string()))?;
    output::report(&Report { token, expires_at }, global, |report| {
        output::line(&report.token)
    })?;
    Ok(Exit::Done)
}

/// The key that is meant.
fn key<'a>(
    args: &'a TokenArgs,
    authority: &'a Authority,
    out_of_reach: &'a [String],
) -> Result<&'a String, CliError> {
    let usable = authority.keys.iter().map(|key| &key.name);
    let known: Vec<&String> = usable.chain(out_of_reach).collect();
    let key = match (&args.key, known.as_slice()) {
        (Some(key), _) => key,
        (None, [only]) => only,
        (None, _) => {
            let several = "several keys are configured: name one with --key";
            return Err(CliError::Usage(several.to_owned()));
        }
    };
    match out_of_reach.contains(key) {
        true => Err(CliError::Usage(format!(
            "the secret of key {key} is a credential that only the service has: put it into a file to mint tokens by it"
        ))),
        false => Ok(key),
    }
}
