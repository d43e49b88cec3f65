//! Why a verb refuses, which part of the request it refuses, and what can be done about it.
//!
//! A refusal carries its advice as a value: operators and callers of the API have different means, so each gets its own words, here.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::repository::{LostBackup, RepositoryError};

/// Why something that was asked for is refused, or is not as it should be: warnings, findings and verdicts are told so, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    why: Box<str>,
    /// Where callers of the API may not read the same.
    why_for_callers: Option<Box<str>>,
    part: Option<(Part, Box<str>)>,
    advice: Option<Advice>,
    /// What else is refused.
    others: Vec<Refusal>,
}

/// The part of a request that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A topic that is read.
    Topic,
    /// Which partitions are read.
    Partitions,
    /// The backup.
    Backup,
    /// The topic that is written.
    TargetTopic,
    /// The number of partitions of the topic that is written.
    TargetPartitions,
    /// The replication factor of the topic that is written.
    ReplicationFactor,
    /// That records keep their offsets.
    PreserveOffsets,
    /// The consumer group.
    Group,
}

/// What can be done about a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// A name is close to the one that was given. Only operators may see every name.
    DidYouMean(String),
    /// Another backup holds what this one lacks: which, in words. Only operators may see every backup.
    OtherBackup(String),
    /// A choice may be empty, where that is said.
    AllowEmpty,
    /// The target topic exists, and records may be written behind those in it.
    RenameOrAppend,
    /// The target topic holds records of others, and records may be written behind them.
    EmptyOrAppend,
    /// There are only so many brokers.
    FewerReplicas(usize),
    /// The backup of a topic is damaged: another backup may be chosen, or the topic left out.
    LeaveOut {
        /// The topic.
        topic: String,
        /// Whether sound records may be restored without what is damaged.
        or_what_is_damaged: bool,
    },
    /// An interrupted restore left a part: the same restore goes on with it.
    GoOnOrForget {
        /// Whether that restore created the topic.
        created: bool,
    },
    /// An interrupted restore left a part, and nothing can go on with it.
    Forget {
        /// Whether that restore created the topic.
        created: bool,
    },
    /// A part of the repository is damaged: what, and what an operator does about it. Only operators may see its paths.
    Repair(String),
    /// The backup is gone.
    ChooseBackup,
    /// The group is a mirror's own.
    LookAtMirrors,
}

/// Who reads an advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// An operator, who has the command line and policies.
    Operator,
    /// A caller of the API, who has the fields of its requests.
    Caller,
}

impl Refusal {
    /// For this reason; of no single part, and without an advice.
    pub fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into().into(),
            ..Self::default()
        }
    }

    /// The same, with other words for callers of the API: theirs name no paths and no commands.
    #[must_use]
    pub fn for_callers(mut self, why: impl Into<String>) -> Self {
        self.why_for_callers = Some(why.into().into());
        self
    }

    /// What `say` makes of a repository's error.
    pub fn by(error: &RepositoryError, say: impl Fn(&str) -> String) -> Self {
        Self::new(say(&error.to_string())).for_callers(say(&error.without_path()))
    }

    /// The same, of a part of the request and what stood there.
    #[must_use]
    pub fn of(mut self, part: Part, value: impl fmt::Display) -> Self {
        self.part = Some((part, value.to_string().into()));
        self
    }

    /// The same, with an advice.
    #[must_use]
    pub fn advise(mut self, advice: Advice) -> Self {
        self.advice = Some(advice);
        self
    }

    /// All of them as one, which is of the first one's part; none of none.
    pub fn all(refusals: &[Self]) -> Option<Self> {
        let (first, others) = refusals.split_first()?;
        let mut all = first.clone();
        all.others.extend_from_slice(others);
        Some(all)
    }

    /// The part that is refused, and what stood there; none where no single part is at fault.
    pub fn part(&self) -> Option<(Part, &str)> {
        let (part, value) = self.part.as_ref()?;
        Some((*part, value))
    }

    /// The reasons, each with what this reader can do.
    pub fn text_for(&self, reader: Reader) -> String {
        let for_callers = self.why_for_callers.as_ref();
        let for_callers = for_callers.filter(|_| reader == Reader::Caller);
        let why = for_callers.unwrap_or(&self.why);
        let advice = self.advice.as_ref();
        let mut text = match advice.and_then(|advice| advice.text_for(reader)) {
            Some(advice) => format!("{why}; {advice}"),
            None => why.to_string(),
        };
        for other in &self.others {
            text.push_str("; ");
            text.push_str(&other.text_for(reader));
        }
        text
    }
}

impl Advice {
    /// None where this reader can do nothing, or may not know.
    fn text_for(&self, reader: Reader) -> Option<String> {
        match reader {
            Reader::Operator => Some(self.for_operators()),
            Reader::Caller => self.for_callers().map(str::to_owned),
        }
    }

    fn for_operators(&self) -> String {
        let fixed = match self {
            Self::LeaveOut {
                topic,
                or_what_is_damaged,
            } => {
                let or_damage = match or_what_is_damaged {
                    true => ", or restore what is sound with --allow-damage",
                    false => "",
                };
                return format!(
                    "choose another backup, or leave the topic out (--topic '!{topic}'){or_damage}; verify tells what is touched"
                );
            }
            Self::Repair(advice) | Self::OtherBackup(advice) => return advice.clone(),
            Self::DidYouMean(name) => return format!("did you mean `{name}`?"),
            Self::FewerReplicas(brokers) => return format!("pass --replication-factor {brokers}"),
            Self::AllowEmpty => {
                "if that is fine, say so (--allow-empty; allow_empty = true in a policy)"
            }
            Self::RenameOrAppend => {
                "restore under another name with --rename, or behind what is there with --if-exists append"
            }
            Self::EmptyOrAppend => {
                "delete the topic there, or append to it (--if-exists append; if_exists = \"append\" in a policy)"
            }
            Self::GoOnOrForget { created: true } => {
                "to go on with it, give the same backup and options again; else delete the topic, or pass --forget-unfinished to take \
                 it as it is"
            }
            Self::GoOnOrForget { created: false } => {
                "to go on with it, give the same backup and options again; else pass --forget-unfinished to write behind what it left"
            }
            Self::Forget { created: true } => {
                "delete the topic, or pass --forget-unfinished to take it as it is"
            }
            Self::Forget { created: false } => {
                "pass --forget-unfinished to write behind what it left"
            }
            Self::ChooseBackup => "choose another one (kafkeep list)",
            Self::LookAtMirrors => {
                "`kafkeep mirror --dry-run` or the daemon's status tells how far a mirror is"
            }
        };
        fixed.to_owned()
    }

    fn for_callers(&self) -> Option<&'static str> {
        Some(match self {
            Self::DidYouMean(_) | Self::OtherBackup(_) | Self::AllowEmpty | Self::LookAtMirrors => {
                return None;
            }
            Self::RenameOrAppend => "choose another target_topic, or delete that topic first",
            Self::EmptyOrAppend => "choose another target_topic, or delete that topic first",
            Self::FewerReplicas(_) => "give a replication_factor that the brokers suffice for",
            Self::LeaveOut { .. } => {
                "choose another backup, or have an operator restore what is sound"
            }
            Self::GoOnOrForget { .. } => {
                "to go on with it, repeat that restore with the same values; else choose another target_topic, or delete the topic"
            }
            Self::Forget { .. } => "choose another target_topic, or delete the topic",
            Self::Repair(_) => "a part of the repository is damaged, which an operator must repair",
            Self::ChooseBackup => "choose another one: GET /api/kafka/backups lists them",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text_for(Reader::Operator))
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<LostBackup> for Refusal {
    fn from(lost: LostBackup) -> Self {
        Self::new(lost.to_string()).for_callers(lost.what())
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::new(why)
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self::new(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADVICES: [Advice; 14] = [
        Advice::Repair(String::new()),
        Advice::DidYouMean(String::new()),
        Advice::OtherBackup(String::new()),
        Advice::AllowEmpty,
        Advice::RenameOrAppend,
        Advice::EmptyOrAppend,
        Advice::FewerReplicas(1),
        Advice::LeaveOut {
            topic: String::new(),
            or_what_is_damaged: true,
        },
        Advice::GoOnOrForget { created: true },
        Advice::GoOnOrForget { created: false },
        Advice::Forget { created: true },
        Advice::Forget { created: false },
        Advice::ChooseBackup,
        Advice::LookAtMirrors,
    ];

    #[test]
    fn callers_of_the_api_are_told_of_no_flag_and_of_no_other_name() {
        for advice in ADVICES {
            let text = advice.text_for(Reader::Caller).unwrap_or_default();
            let names_a_flag = text.contains("--") || text.contains("kafkeep ");
            assert!(!names_a_flag, "{text}");
        }
        let refusal = Refusal::new("no topic `paymens`")
            .of(Part::Topic, "paymens")
            .advise(Advice::DidYouMean("payments".to_owned()));
        assert_eq!(refusal.text_for(Reader::Caller), "no topic `paymens`");
        assert_eq!(
            refusal.to_string(),
            "no topic `paymens`; did you mean `payments`?"
        );
    }

    #[test]
    fn callers_of_the_api_read_no_paths_and_no_commands() {
        let missing = RepositoryError::ObjectMissing {
            name: "indexes/1".to_owned(),
            location: "/srv/backups".to_owned(),
        };
        let told = Refusal::by(&missing, |error| format!("it is passed over: {error}"));
        assert!(told.to_string().contains("/srv/backups"), "{told}");
        let to_caller = told.text_for(Reader::Caller);
        assert_eq!(to_caller, "it is passed over: indexes/1 is missing");
    }

    #[test]
    fn several_refusals_are_one_of_the_first_ones_part() {
        let first = Refusal::new("a").of(Part::TargetTopic, "t");
        let all = Refusal::all(&[first, Refusal::new("b").advise(Advice::ChooseBackup)]).unwrap();
        assert_eq!(all.part(), Some((Part::TargetTopic, "t")));
        assert_eq!(all.to_string(), "a; b; choose another one (kafkeep list)");
        assert_eq!(Refusal::all(&[]), None);
    }
}
