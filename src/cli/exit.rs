//! How a command ends: exit codes, and the errors that lead to them.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::auth::CertificateError;
use crate::daemon::DaemonError;
use crate::engine::EngineError;
use crate::kafka::KafkaError;
use crate::policy::PolicyError;
use crate::repository::{Completion, RepositoryError};

use super::demo::DemoError;

/// Exit codes; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Done, but incomplete: gaps, damage, something not drained.
    Incomplete = 2,
    /// The command line is wrong (sysexits: EX_USAGE).
    Usage = 64,
    /// Failed in passing: trying again may succeed (EX_TEMPFAIL).
    TryAgain = 75,
    /// A file that the operator wrote is wrong (EX_CONFIG).
    Configuration = 78,
}

impl Exit {
    /// Of a plan that is only shown: it fails where it would be refused.
    pub fn of_plan<T>(refused: &[T]) -> Self {
        if refused.is_empty() {
            Self::Done
        } else {
            Self::Failed
        }
    }
}

impl From<Completion> for Exit {
    fn from(status: Completion) -> Self {
        match status {
            Completion::Completed => Self::Done,
            Completion::Incomplete => Self::Incomplete,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The verb itself.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was to be verified cannot even be opened.
    #[error("damaged: {0}")]
    Damaged(RepositoryError),
    /// The configuration.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Arguments that contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The process could not be set up.
    #[error("the process could not be set up: {0}")]
    Runtime(#[source] std::io::Error),
    /// The demonstration.
    #[error("the demonstration failed: {0}")]
    Demo(#[from] DemoError),
    /// The report could not be written.
    #[error("the report could not be written: {0}")]
    Output(std::io::Error),
    /// The daemon could not be started.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// No daemon answers.
    #[error(
        "no kafkeep daemon answers at {url}: {why}; is it running (systemctl status kafkeep), and is this its port?"
    )]
    NoDaemon {
        /// Where it was asked.
        url: String,
        /// Why it is none.
        why: String,
    },
    /// The daemon's port could not prove who it is.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The daemon's port could not be opened.
    #[error("cannot listen on {listen}: {source}; set another address with [http] listen")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
}

impl CliError {
    /// The exit code that it leads to.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Engine(error) if error.is_transient() => Exit::TryAgain,
            Self::NoDaemon { .. } => Exit::TryAgain,
            Self::Engine(EngineError::Kafka(
                KafkaError::Configuration(_) | KafkaError::File { .. },
            )) => Exit::Configuration,
            Self::Daemon(DaemonError::Configuration(_)) => Exit::Configuration,
            Self::Engine(_)
            | Self::Demo(_)
            | Self::Runtime(_)
            | Self::Output(_)
            | Self::Listen { .. } => Exit::Failed,
            Self::Certificate(_) => Exit::Configuration,
            Self::Damaged(_) => Exit::Incomplete,
            Self::Policy(_) => Exit::Configuration,
            Self::Usage(_) => Exit::Usage,
        }
    }
}

impl From<RepositoryError> for CliError {
    fn from(error: RepositoryError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<KafkaError> for CliError {
    fn from(error: KafkaError) -> Self {
        Self::Engine(error.into())
    }
}

/// Prints what clap has to say: help and version are not errors.
pub fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() || printed.is_err() {
        Exit::Usage.into()
    } else {
        Exit::Done.into()
    }
}
