//! `--groups`, of backups and of restores, and what is printed about groups.

use std::str::FromStr;

use crate::engine::EngineError;
use crate::engine::groups::GroupSelection;
use crate::engine::restore::{
    GroupChoice, GroupRestore, OffsetAction, OffsetOutcome, RestoredGroup,
};
use crate::engine::topics::{TopicPattern, TopicPatterns};

use super::{CliError, output};

/// One `--groups` of a backup.
#[derive(Debug, Clone)]
pub enum GroupPatterns {
    /// `all`
    All,
    /// `none`
    None,
    /// What a pattern chooses.
    Matching(TopicPattern),
}

impl FromStr for GroupPatterns {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            pattern => pattern.parse().map(Self::Matching),
        }
    }
}

const ALONE: &str = "--groups: `all` and `none` stand alone; a group of that name is /^all$/";

/// What all `--groups` of a backup choose together.
pub fn selection(arguments: &[GroupPatterns]) -> Result<GroupSelection, CliError> {
    match arguments {
        [] => return Ok(GroupSelection::Readable),
        [GroupPatterns::All] => return Ok(GroupSelection::All),
        [GroupPatterns::None] => return Ok(GroupSelection::None),
        _ => {}
    }
    let patterns = arguments.iter().map(|argument| match argument {
        GroupPatterns::Matching(pattern) => Ok(pattern.clone()),
        GroupPatterns::All | GroupPatterns::None => Err(CliError::Usage(ALONE.into())),
    });
    Ok(GroupSelection::Matching(TopicPatterns::new(
        patterns.collect::<Result<_, _>>()?,
    )))
}

/// What all `--groups` of a restore choose together.
pub fn choice(names: &[String]) -> Result<GroupChoice, CliError> {
    match names {
        [] => Ok(GroupChoice::None),
        [one] if one == "none" => Ok(GroupChoice::None),
        [one] if one == "all" => Ok(GroupChoice::All),
        names if names.iter().any(|name| name == "all" || name == "none") => Err(CliError::Usage(
            "--groups: `all` and `none` stand alone".into(),
        )),
        names => Ok(GroupChoice::Named(names.to_vec())),
    }
}

/// What would be committed.
pub fn print_plan(groups: &[GroupRestore]) -> Result<(), CliError> {
    if groups.is_empty() {
        return Ok(());
    }
    let mut table = output::table(
        ["group", "into", "partition", "source offset", "", "why"],
        &[2, 3],
    );
    for group in groups {
        for offset in &group.offsets {
            let (what, why) = match (&offset.action, &group.refused) {
                (OffsetAction::Skip { reason }, _) => ("skip", reason.as_str()),
                (OffsetAction::Refuse { reason }, _) => ("refuse", reason.as_str()),
                (OffsetAction::Translate { .. }, Some(_)) => ("refuse", "see below"),
                (OffsetAction::Translate { clamped, .. }, None) => match clamped {
                    Some(reason) => ("commit, clamped", reason.as_str()),
                    None => ("commit, translated", ""),
                },
            };
            table.add_row([
                output::plain(&group.group),
                output::plain(&offset.target_topic),
                offset.partition.to_string(),
                offset.source_offset.to_string(),
                what.to_owned(),
                output::plain(why),
            ]);
        }
    }
    output::line(format_args!("\n{table}"))?;
    for group in groups {
        if let Some(refused) = &group.refused {
            refused_group(&group.group, refused)?;
        }
    }
    Ok(())
}

/// What became of groups' offsets.
pub fn print_report(groups: &[RestoredGroup]) -> Result<(), CliError> {
    if groups.is_empty() {
        return Ok(());
    }
    let mut table = output::table(
        ["group", "into", "partition", "source", "target", "", "why"],
        &[2, 3, 4],
    );
    for group in groups {
        for offset in &group.offsets {
            let own_reason = group
                .reason
                .is_none()
                .then(|| offset.reason.clone())
                .flatten();
            let reason = match (&own_reason, offset.outcome) {
                (None, OffsetOutcome::Refused) => "see below".to_owned(),
                _ => own_reason.unwrap_or_default(),
            };
            table.add_row([
                output::plain(&group.group),
                output::plain(&offset.target_topic),
                offset.partition.to_string(),
                offset.source_offset.to_string(),
                offset
                    .target_offset
                    .map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
                offset.outcome.to_string(),
                output::plain(&reason),
            ]);
        }
    }
    output::line(format_args!("\n{table}"))?;
    for group in groups {
        if let Some(reason) = &group.reason {
            refused_group(&group.group, reason)?;
        }
    }
    Ok(())
}

fn refused_group(group: &str, reason: &str) -> Result<(), CliError> {
    output::line(format_args!(
        "group {} is refused: {}",
        output::plain(group),
        output::plain(reason)
    ))
}
