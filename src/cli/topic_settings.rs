//! The flags that say what becomes of topics' settings, as `restore` and `mirror` have them.

use clap::{Args, ValueEnum};

use crate::engine::settings::{ExistingConfig, SettingsChoice, UnsupportedConfig};

#[derive(Debug, Args)]
pub struct TopicSettingsArgs {
    /// Give topics this setting, whatever the source has; may be repeated
    #[arg(long = "topic-config-override", value_name = "KEY=VALUE", value_parser = setting)]
    config_overrides: Vec<(String, String)>,
    /// What to do with settings that the target does not take
    #[arg(long, value_enum, default_value_t = Unsupported::Skip)]
    unsupported_config: Unsupported,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unsupported {
    /// Leave them out, and name them
    Skip,
    /// Refuse the topic before anything is written to it
    Fail,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ExistingSettings {
    /// The target's settings stay
    Keep,
    /// Set the source's
    Apply,
    /// Refuse the topic before anything is written to it
    Fail,
}

/// A setting as `key=value`.
fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or_default();
    match (name.trim(), value.trim()) {
        ("", _) => Err("write KEY=VALUE, such as min.insync.replicas=1".to_owned()),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    }
}

impl TopicSettingsArgs {
    /// What the flags say together.
    pub fn choice(&self, existing: ExistingSettings) -> SettingsChoice {
        SettingsChoice {
            overrides: self.config_overrides.iter().cloned().collect(),
            unsupported: match self.unsupported_config {
                Unsupported::Skip => UnsupportedConfig::Skip,
                Unsupported::Fail => UnsupportedConfig::Fail,
            },
            existing: match existing {
                ExistingSettings::Keep => ExistingConfig::Keep,
                ExistingSettings::Apply => ExistingConfig::Apply,
                ExistingSettings::Fail => ExistingConfig::Fail,
            },
        }
    }
}
