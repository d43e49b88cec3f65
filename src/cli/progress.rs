//! A progress bar, on a terminal only.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::{NoProgress, Progress};

use super::Global;

struct Bar {
    bar: ProgressBar,
    bytes: std::sync::atomic::AtomicU64,
}

impl Progress for Bar {
    fn planned(&self, offsets: u64) {
        self.bar.set_length(offsets);
    }

    fn advanced(&self, offsets: u64, bytes: u64) {
        let total = self
            .bytes
            .fetch_add(bytes, std::sync::atomic::Ordering::Relaxed)
            + bytes;
        self.bar.inc(offsets);
        self.bar.set_message(super::output::bytes(total));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for `what` where somebody watches, nothing elsewhere.
pub fn progress(what: &'static str, global: &Global) -> Arc<dyn Progress> {
    if global.quiet || global.json || !std::io::stderr().is_terminal() {
        return Arc::new(NoProgress);
    }
    let template =
        "{prefix} {wide_bar} {human_pos}/{human_len} records, {msg}, {per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style).with_prefix(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    Arc::new(Bar {
        bar,
        bytes: 0.into(),
    })
}
