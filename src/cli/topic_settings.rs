//! The flags that say what becomes of topics' settings, as `restore` and `mirror` have them.

use clap::Args;

use crate::engine::settings::{ExistingConfig, SettingsChoice, UnsupportedConfig};

#[derive(Debug, Args)]
pub struct TopicSettingsArgs {
    /// Give topics this setting, whatever the source has; may be repeated
    #[arg(long = "topic-config-override", value_name = "KEY=VALUE", value_parser = setting)]
    config_overrides: Vec<(String, String)>,
    /// What to do with settings that the target does not take
    #[arg(long, value_enum, default_value_t = UnsupportedConfig::Skip)]
    unsupported_config: UnsupportedConfig,
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
    pub fn choice(&self, existing: ExistingConfig) -> SettingsChoice {
        SettingsChoice {
            overrides: self.config_overrides.iter().cloned().collect(),
            unsupported: self.unsupported_config,
            existing,
        }
    }
}
