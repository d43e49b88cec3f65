//! Logs: text or JSON on standard error, fields in the journal where systemd has connected standard error to it.
//!
//! A message says all that people need, and behind it stands the id of the request that it belongs to; other fields (`policy`,
//! `run_id`, `backup_id`, …) are for programs, and shown as text only with `--verbose`.

use std::io::IsTerminal;

use clap::ValueEnum;
use rustix::fs::fstat;
use tracing::Subscriber;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// What logs look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// The journal's where standard error goes there, else text
    Auto,
    /// A line a message
    Text,
    /// A JSON object a line
    Json,
    /// To the journal, with fields
    Journal,
}

/// Starts logging: warnings by default, and what a daemon does; `RUST_LOG` overrides.
pub fn start(format: LogFormat, quiet: bool, verbose: u8, is_daemon: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) if is_daemon => "warn,kafkeep=info",
        (false, 0) => "warn",
        (false, 1) => "info,kafkeep=debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let layer = match format {
        LogFormat::Auto if is_connected_to_journal() => journal(verbose > 0),
        LogFormat::Journal => journal(verbose > 0),
        LogFormat::Auto | LogFormat::Text => text(verbose > 0),
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    registry().with(filter).with(layer).init();
}

/// `JOURNAL_STREAM` names the journal's end of a stream, as device and inode: other streams may have taken its place since
/// (systemd.exec(5)).
fn is_connected_to_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(std::io::stderr()).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn journal<S: Subscriber + for<'a> LookupSpan<'a>>(
    verbose: bool,
) -> Box<dyn Layer<S> + Send + Sync> {
    match tracing_journald::layer() {
        Ok(layer) => layer.with_field_prefix(None).boxed(),
        // A journal that cannot be reached: whoever reads standard error has them.
        Err(_) => text(verbose),
    }
}

fn text<S: Subscriber + for<'a> LookupSpan<'a>>(verbose: bool) -> Box<dyn Layer<S> + Send + Sync> {
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose)
        .compact();
    if verbose {
        return layer.boxed();
    }
    let message = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        "request_id" => write!(writer, "request_id={value:?}"),
        _ => Ok(()),
    });
    layer.fmt_fields(message).boxed()
}
