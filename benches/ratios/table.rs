//! Figures side by side, with the bounds that they must keep.

use crate::measure::Figures;

/// What a work must keep, against the limits named, one run after the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bound {
    /// Places of the limits in the table.
    pub against: &'static [usize],
    /// Times the limit's wall time.
    pub wall: Option<f64>,
    /// Times the limit's CPU.
    pub cpu: Option<f64>,
    /// Times the limit's peak memory.
    pub memory: Option<f64>,
    /// MiB.
    pub peak: Option<f64>,
}

/// A line of the table.
pub struct Row {
    pub work: String,
    pub figures: Figures,
    pub bound: Option<Bound>,
}

fn mib(figures: &Figures) -> f64 {
    figures.peak_kib as f64 / 1024.0
}

/// Prints the rows; returns how many bounds were missed.
pub fn print(rows: &[Row], bytes: u64) -> usize {
    println!(
        "{:<34}{:>8}{:>8}{:>9}{:>9}{:>8}  ratios to the limit (bound)",
        "work", "wall s", "MB/s", "CPU s", "broker", "MiB"
    );
    let mut missed = 0;
    for row in rows {
        let Figures {
            wall,
            cpu,
            broker_cpu,
            ..
        } = row.figures;
        let rate = bytes as f64 / wall / 1e6;
        let (text, failures) = row
            .bound
            .map_or_else(Default::default, |bound| check(rows, row, bound));
        missed += failures;
        println!(
            "{:<34}{wall:>8.2}{rate:>8.0}{cpu:>9.2}{broker_cpu:>9.2}{:>8.0}  {text}",
            row.work,
            mib(&row.figures)
        );
    }
    missed
}

fn check(rows: &[Row], row: &Row, bound: Bound) -> (String, usize) {
    let sum = |of: fn(&Figures) -> f64| -> f64 {
        let limits = bound.against.iter();
        limits.map(|limit| of(&rows[*limit].figures)).sum()
    };
    let checks = [
        (
            "wall",
            row.figures.wall / sum(|limit| limit.wall),
            bound.wall,
        ),
        ("CPU", row.figures.cpu / sum(|limit| limit.cpu), bound.cpu),
        ("memory", mib(&row.figures) / sum(mib), bound.memory),
        ("MiB", mib(&row.figures), bound.peak),
    ];
    let mut text = String::new();
    let mut missed = 0;
    for (name, found, wanted) in checks {
        let Some(wanted) = wanted else { continue };
        let kept = found <= wanted;
        missed += usize::from(!kept);
        let mark = if kept { "" } else { " MISSED" };
        let digits = if name == "MiB" { 0 } else { 2 };
        text += &format!("{name} {found:.digits$} (≤ {wanted}){mark}  ");
    }
    (text, missed)
}
