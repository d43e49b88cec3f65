//! What is printed: tables for people, one JSON object for programs.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::engine::size::Size;
use crate::record::PartitionId;
use crate::repository::Gap;

use super::{CliError, Global};

/// Prints a report as JSON on standard output.
pub fn json<T: Serialize>(report: &T) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let json = serde_json::to_string_pretty(report);
    let json = json.map_err(|error| CliError::Output(error.into()))?;
    // In JSON these can only stand inside of strings, as they are.
    let json = escape(
        &json,
        |c| matches!(c, '\u{7f}'..='\u{9f}'),
        |c| format!("\\u{:04x}", u32::from(c)),
    );
    writeln!(out, "{json}").map_err(CliError::Output)
}

/// `text` with every control character written out. A repository or a broker may hold any text where people see it: none
/// of it is a command to their terminal.
pub fn plain(text: &str) -> String {
    escape(text, char::is_control, |c| c.escape_default().to_string()).into_owned()
}

/// The same for a text of several lines.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| c.is_control() && c != '\n';
    escape(text, is_command, |c| c.escape_default().to_string())
}

fn escape(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escaped: impl Fn(char) -> String,
) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            plain.push_str(&escaped(c));
        } else {
            plain.push(c);
        }
    }
    plain.into()
}

/// Prints a report: as JSON where that is wanted, else as `print` does for people.
pub fn report<T: Serialize>(
    report: &T,
    global: &Global,
    print: impl FnOnce(&T) -> Result<(), CliError>,
) -> Result<(), CliError> {
    if global.json {
        json(report)
    } else {
        print(report)
    }
}

/// Prints one line on standard output.
pub fn line(text: impl Display) -> Result<(), CliError> {
    let text = text.to_string();
    writeln!(std::io::stdout().lock(), "{}", plain_lines(&text)).map_err(CliError::Output)
}

/// Prints what a backup lacks of a partition.
pub fn gap(topic: &str, partition: PartitionId, gap: &Gap) -> Result<(), CliError> {
    line(format_args!(
        "gap: {topic}-{partition} offsets {} to {}: {}",
        gap.start_offset,
        gap.end_offset.0 - 1,
        gap.reason
    ))
}

/// Prints an error on standard error, and with `--json` as an object on standard output too.
pub fn error(error: &CliError, json: bool) {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    let mut advice = None;
    while let Some(cause) = source {
        advice = advice.or_else(|| descriptors_used_up(cause));
        let cause_text = cause.to_string();
        // Some say their cause themselves, perhaps without the lines that only repeat where it lies.
        let said = cause_text.lines().next().unwrap_or_default();
        if !message.contains(said) {
            message = format!("{message}: {cause_text}");
        }
        source = cause.source();
    }
    if let Some(advice) = advice {
        message = format!("{message}; {advice}");
    }
    // Nothing more can be done when even this cannot be written.
    writeln!(
        std::io::stderr().lock(),
        "kafkeep: {}",
        plain_lines(&message)
    )
    .unwrap_or_default();
    if json {
        let report = serde_json::json!({ "status": "failed", "error": message, "exit_code": error.exit() as u8 });
        writeln!(std::io::stdout().lock(), "{report:#}").unwrap_or_default();
    }
}

/// What to do about an error that says that no more files can be opened.
fn descriptors_used_up(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    match Errno::from_io_error(error.downcast_ref()?)? {
        Errno::MFILE => {
            let limit = getrlimit(Resource::Nofile).current;
            let limit = limit.map_or_else(|| "so many".to_owned(), |limit| limit.to_string());
            Some(format!(
                "this process may have {limit} files open: raise the limit (ulimit -n, LimitNOFILE= of systemd)"
            ))
        }
        Errno::NFILE => {
            Some("the system's limit of open files is reached: raise fs.file-max".to_owned())
        }
        _ => None,
    }
}

/// Prints what is wrong on standard error.
pub fn complaint(text: impl Display) {
    // Nothing more can be done when even this cannot be written.
    let text = text.to_string();
    writeln!(std::io::stderr().lock(), "{}", plain_lines(&text)).unwrap_or_default();
}

/// A table with a header; columns named in `right` are aligned to the right.
pub fn table<const N: usize>(header: [&str; N], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.map(|name| Cell::new(name.to_uppercase())));
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

/// Bytes for people: `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    Size(bytes).to_string()
}

/// A number for people: `1 234 567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds for people: `850 ms`, `12.3 s`, `4 min 5 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// A time for people, in UTC.
pub fn time(time: chrono::DateTime<chrono::Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(plain("a\u{1b}[31m\n\u{9b}ä"), "a\\u{1b}[31m\\n\\u{9b}ä");
        assert_eq!(plain_lines("a\r\nb"), "a\\r\nb");
        assert!(matches!(plain_lines("orders.ä"), Cow::Borrowed(_)));
    }

    #[test]
    fn amounts_are_readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1 << 20), "1.0 MiB");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(12), "12");
        assert_eq!(duration(61_500), "1 min 1 s");
    }
}
