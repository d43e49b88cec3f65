//! Closed sets of words: what TOML, the command line, the API and reports may say in one of a few words.
//!
//! [`words!`] declares such a set once, as an enum whose values have a word and a meaning each. All that reads, writes or
//! documents the set is made from that one list: serde (JSON, state files), `Display` and `FromStr`, clap's values with their
//! help, the API's schema, and, with [`Words`], the policies' TOML and its schema.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Visitor};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// A closed set of words. Declared with [`words!`], and implemented by nothing else.
pub trait Words: Copy + 'static {
    /// All of them, in the order in which they are listed to people.
    const VALUES: &'static [Self];
    /// Their words, in the same order.
    const WORDS: &'static [&'static str];
    /// The words as one phrase: `one of a, b, c`.
    const ONE_OF: &'static str;

    /// The value of a word; an alias counts on the command line alone.
    fn from_word(word: &str) -> Option<Self> {
        let at = Self::WORDS.iter().position(|known| *known == word)?;
        Self::VALUES.get(at).copied()
    }
}

/// Text that is none of a set's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {one_of}")]
pub struct UnknownWord {
    pub(crate) text: String,
    pub(crate) one_of: &'static str,
}

/// Reads a word as serde's derived enums are read.
pub(crate) fn deserialize<'de, W: Words, D: Deserializer<'de>>(from: D) -> Result<W, D::Error> {
    struct Word<W>(PhantomData<W>);

    impl<W: Words> Visitor<'_> for Word<W> {
        type Value = W;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(W::ONE_OF)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<W, E> {
            W::from_word(text).ok_or_else(|| E::unknown_variant(text, W::WORDS))
        }
    }

    from.deserialize_str(Word(PhantomData))
}

/// The words in the API's document.
pub(crate) fn schema<W: Words>(description: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .description(Some(description))
        .enum_values(Some(W::WORDS.iter().copied()))
        .into()
}

/// A doc comment as clap shows a meaning: without the leading space and the full stop.
pub(crate) fn sentence(doc: &str) -> &str {
    let doc = doc.trim();
    doc.strip_suffix('.').unwrap_or(doc)
}

/// Declares an enum of words, each with its meaning as its doc comment. An alias, behind `|`, is taken on the command line alone.
/// A word behind the braces is the default.
///
/// ```text
/// words! {
///     /// What to do where a target topic exists.
///     pub enum IfExists {
///         /// Refuse the restore before anything is created.
///         Fail = "fail",
///         /// Write behind what is there.
///         Append = "append",
///     }
///     default Fail
/// }
/// ```
macro_rules! words {
    (
        $(#[doc = $about:literal])+
        $visible:vis enum $name:ident {
            $(
                $(#[doc = $meaning:literal])+
                $value:ident = $word:literal $(| $alias:literal)?
            ),+ $(,)?
        }
        $(default $default:ident)?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visible enum $name {
            $($(#[doc = $meaning])+ $value),+
        }

        #[allow(dead_code, reason = "not every set is listed or named")]
        impl $name {
            /// All of them, in the order in which they are listed to people.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$value),+];

            /// The word that stands for it in TOML, on the command line, in the API and in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }

        $(
            impl Default for $name {
                fn default() -> Self {
                    Self::$default
                }
            }
        )?

        impl $crate::words::Words for $name {
            const VALUES: &'static [Self] = &Self::ALL;
            const WORDS: &'static [&'static str] = &[$($word),+];
            const ONE_OF: &'static str = $crate::words::words!(@phrase $($word),+);
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                use $crate::words::{UnknownWord, Words};
                Self::from_word(text).ok_or_else(|| UnknownWord {
                    text: text.to_owned(),
                    one_of: Self::ONE_OF,
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
                into.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::words::deserialize(from)
            }
        }

        impl clap::ValueEnum for $name {
            fn value_variants<'a>() -> &'a [Self] {
                &Self::ALL
            }

            fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
                use clap::builder::PossibleValue;
                let value = match self {
                    $(Self::$value => {
                        PossibleValue::new($word)
                            .help($crate::words::sentence(concat!($($meaning),+)))
                            $(.alias($alias))?
                    }),+
                };
                Some(value)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::words::schema::<Self>(concat!($($about),+).trim())
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
    (@phrase $first:literal $(, $rest:literal)*) => {
        concat!("one of ", $first $(, ", ", $rest)*)
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use utoipa::PartialSchema;

    use super::*;

    words! {
        /// How an egg is.
        pub enum Egg {
            /// A minute
            /// or five.
            Boiled = "boiled",
            /// Never.
            DevilledTwice = "devilled_twice" | "devilled-twice",
        }
        default Boiled
    }

    #[test]
    fn a_word_is_read_and_written_alike_everywhere() {
        for egg in Egg::ALL {
            let json = serde_json::to_string(&egg).unwrap();
            assert_eq!(json, format!("\"{egg}\""));
            assert_eq!(serde_json::from_str::<Egg>(&json).unwrap(), egg);
            assert_eq!(egg.name().parse::<Egg>().unwrap(), egg);
            assert_eq!(Egg::from_str(egg.name(), false).unwrap(), egg);
            assert_eq!(Egg::from_word(egg.name()), Some(egg));
        }
        assert_eq!(Egg::default(), Egg::Boiled);
    }

    #[test]
    fn another_word_is_refused_with_those_there_are() {
        let error = "raw".parse::<Egg>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`raw` is not one of boiled, devilled_twice"
        );
        let error = serde_json::from_str::<Egg>("\"raw\"").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("unknown variant `raw`, expected `boiled` or `devilled_twice`")
        );
        let error = serde_json::from_str::<Egg>("7").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("expected one of boiled, devilled_twice"),
            "{error}"
        );
    }

    #[test]
    fn an_alias_is_for_the_command_line_alone() {
        assert_eq!(
            Egg::from_str("devilled-twice", false).unwrap(),
            Egg::DevilledTwice
        );
        assert_eq!(Egg::from_word("devilled-twice"), None);
        let help = Egg::Boiled.to_possible_value().unwrap();
        assert_eq!(help.get_help().unwrap().to_string(), "A minute or five");
    }

    #[test]
    fn the_schema_lists_the_words() {
        let schema = serde_json::to_value(Egg::schema()).unwrap();
        assert_eq!(
            schema,
            serde_json::json!({
                "type": "string", "description": "How an egg is.", "enum": ["boiled", "devilled_twice"],
            })
        );
    }
}
