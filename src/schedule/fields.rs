//! The fields of a cron expression, checked one by one, so that an error names its field and what may stand there.

use std::ops::RangeInclusive;

use super::error::ScheduleError;

/// What may stand in one field.
struct Field {
    name: &'static str,
    range: RangeInclusive<u16>,
    /// Of the values from `first_name` on.
    names: &'static [&'static str],
    first_name: u16,
    special: Special,
}

/// The forms that only the fields of days have, besides `?` for `*`.
#[derive(PartialEq)]
enum Special {
    None,
    /// `L` the last day, `LW` the last workday, `15W` the workday nearest to the 15th.
    DayOfMonth,
    /// `5L` the last Friday, `5#2` the second.
    DayOfWeek,
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const fn field(name: &'static str, range: RangeInclusive<u16>, special: Special) -> Field {
    Field {
        name,
        range,
        names: &[],
        first_name: 0,
        special,
    }
}

const FIELDS: [Field; 6] = [
    field("second", 0..=59, Special::None),
    field("minute", 0..=59, Special::None),
    field("hour", 0..=23, Special::None),
    field("day of month", 1..=31, Special::DayOfMonth),
    Field {
        names: &MONTHS,
        first_name: 1,
        ..field("month", 1..=12, Special::None)
    },
    Field {
        names: &DAYS,
        ..field("day of week", 0..=7, Special::DayOfWeek)
    },
];

/// The six fields of an expression of five or six, each right on its own, with numbers for names.
pub(super) fn numbers(expression: &str) -> Result<String, ScheduleError> {
    let mut texts: Vec<&str> = expression.split_whitespace().collect();
    match texts.len() {
        5 => texts.insert(0, "0"),
        6 => {}
        count => {
            return Err(ScheduleError::FieldCount {
                expression: expression.to_owned(),
                count,
            });
        }
    }
    let fields = FIELDS
        .iter()
        .zip(texts)
        .map(|(field, text)| field.numbers(text));
    Ok(fields.collect::<Result<Vec<_>, _>>()?.join(" "))
}

impl Field {
    fn numbers(&self, text: &str) -> Result<String, ScheduleError> {
        let items = text.split(',').map(|item| self.item(item));
        let items =
            items
                .collect::<Result<Vec<_>, _>>()
                .map_err(|problem| ScheduleError::Field {
                    field: self.name,
                    text: text.to_owned(),
                    problem,
                })?;
        // A list that names everything is everything.
        Ok(match items.iter().any(|item| item == "*") {
            true => "*".to_owned(),
            false => items.join(","),
        })
    }

    /// One item of a list; the error is the problem in words.
    fn item(&self, item: &str) -> Result<String, String> {
        if let Some(special) = self.special_item(item) {
            return special;
        }
        let Some((values, step)) = item.split_once('/') else {
            return self.values(item);
        };
        let values = self.values(values)?;
        if values != "*" && !values.contains('-') {
            return Err(format!(
                "a step needs a range: `{values}-{}/{step}` or `*/{step}`",
                self.range.end()
            ));
        }
        match number(step) {
            Some(step) if step >= 1 && self.range.contains(&step) => Ok(format!("{values}/{step}")),
            _ => Err(format!(
                "a step of {} is no number from 1 to {}",
                quoted(step),
                self.range.end()
            )),
        }
    }

    /// The forms of the fields of days; none when the item has no such form.
    fn special_item(&self, item: &str) -> Option<Result<String, String>> {
        let upper = item.to_ascii_uppercase();
        match self.special {
            Special::None => None,
            _ if item == "?" => Some(Ok("*".to_owned())),
            Special::DayOfMonth if upper == "L" || upper == "LW" => Some(Ok(upper)),
            Special::DayOfMonth => {
                let day = upper.strip_suffix('W')?;
                Some(self.value(day).map(|day| format!("{day}W")))
            }
            Special::DayOfWeek => {
                let (day, which) = match upper.split_once('#') {
                    Some((day, which)) => (day, which),
                    None => (upper.strip_suffix('L')?, "L"),
                };
                let which_is_known = matches!(which, "1" | "2" | "3" | "4" | "5" | "L");
                Some(match self.value(day) {
                    Ok(day) if which_is_known => Ok(format!("{day}#{which}")),
                    Ok(_) => Err(format!(
                        "after `#` stands which one of the month, 1-5 or L, not {}",
                        quoted(which)
                    )),
                    Err(_) if day.is_empty() => {
                        Err("`L` needs a day, as in `5L` for the last Friday".to_owned())
                    }
                    Err(problem) => Err(problem),
                })
            }
        }
    }

    /// `*`, a value or a range.
    fn values(&self, text: &str) -> Result<String, String> {
        if text == "*" {
            return Ok(text.to_owned());
        }
        let Some((first, last)) = text.split_once('-') else {
            return self.value(text).map(|value| value.to_string());
        };
        let (first, mut last) = (self.value(first)?, self.value(last)?);
        // A week may end with its Sunday.
        if self.special == Special::DayOfWeek && last == 0 && first > 0 {
            last = 7;
        }
        if first > last {
            let (low, high) = (self.range.start(), self.range.end());
            return Err(format!(
                "a range ends after it begins; write `{first}-{high},{low}-{last}`"
            ));
        }
        Ok(format!("{first}-{last}"))
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        let by_name = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        if let Some(position) = by_name {
            return Ok(self.first_name + position as u16);
        }
        match number(text) {
            Some(value) if self.range.contains(&value) => Ok(value),
            _ => Err(format!("{} is not {}", quoted(text), self.allowed())),
        }
    }

    fn allowed(&self) -> String {
        let (low, high) = (self.range.start(), self.range.end());
        match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => {
                format!("in the range {low}-{high}, nor a name from {first} to {last}")
            }
            _ => format!("in the range {low}-{high}"),
        }
    }
}

/// Digits alone: a sign is a number to Rust, not to cron.
fn number(text: &str) -> Option<u16> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

fn quoted(text: &str) -> String {
    match text {
        "" => "nothing".to_owned(),
        _ => format!("`{text}`"),
    }
}
