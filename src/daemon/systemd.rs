//! What systemd is told, where there is one: ready, what is done, and that the supervisor is alive.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use super::status::Status;

/// So many messages wait for a systemd that does not read them; more are dropped.
const WAITING: usize = 64;

/// A thread of its own tells: a systemd that stands still must not hold up what serves and backs up.
fn tell(states: &[NotifyState<'_>]) {
    static TELLER: OnceLock<Option<SyncSender<String>>> = OnceLock::new();
    let teller = TELLER.get_or_init(|| {
        let (sender, messages) = sync_channel::<String>(WAITING);
        let tells = move || {
            for message in messages {
                // Without systemd there is nobody to be told.
                sd_notify::notify(&[NotifyState::Custom(&message)]).ok();
                UNTOLD.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let thread = std::thread::Builder::new().name("systemd".to_owned());
        thread.spawn(tells).ok().map(|_| sender)
    });
    let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
    if let Some(teller) = teller {
        UNTOLD.fetch_add(1, Ordering::SeqCst);
        if teller.try_send(lines.join("\n")).is_err() {
            UNTOLD.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Messages that the thread has not sent yet.
static UNTOLD: AtomicUsize = AtomicUsize::new(0);

/// Waits a little until all is told: the process is about to end.
pub(super) async fn all_told() {
    for _ in 0..50 {
        if UNTOLD.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// It serves, or serves again.
pub(super) fn ready(status: &Status) {
    tell(&[NotifyState::Ready, NotifyState::Status(&in_a_line(status))]);
}

/// A configuration is being read.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Runs still seal what they have: systemd is to wait for this much longer at least.
pub(super) fn still_stopping(at_least: Duration) {
    let microseconds = u32::try_from(at_least.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
}

/// How often systemd wants to hear that the supervisor is alive (`WatchdogSec=`).
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Tells what is done, and feeds the watchdog for as long as the supervisor looks at its timers.
pub(super) async fn report(mut status: watch::Receiver<Arc<Status>>) {
    let watchdog = watchdog();
    let mut said = String::new();
    while status.changed().await.is_ok() {
        let line = in_a_line(&status.borrow_and_update());
        if line != said {
            tell(&[NotifyState::Status(&line)]);
            said = line;
        }
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        // Not for every snapshot of a busy moment.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// As `systemctl status` shows it.
fn in_a_line(status: &Status) -> String {
    if !status.configuration.last_reload_success {
        let errors = status.configuration.errors.len();
        return format!("the configuration read last is wrong ({errors} errors), and not in force");
    }
    let running: Vec<&str> = status
        .policies
        .iter()
        .filter(|policy| !policy.running.is_empty())
        .map(|policy| policy.policy.as_str())
        .collect();
    if !running.is_empty() {
        return format!("running: {}", running.join(", "));
    }
    let loading = status.policies.iter().filter(|policy| policy.loading);
    let loading: Vec<&str> = loading.map(|policy| policy.policy.as_str()).collect();
    if !loading.is_empty() {
        return format!("loading the repositories of: {}", loading.join(", "));
    }
    let next = status
        .policies
        .iter()
        .filter_map(|policy| Some((policy.next_run_at?, &policy.policy)))
        .min();
    match next {
        Some((at, policy)) => format!("next: {policy} at {}", at.format("%F %T UTC")),
        None => "nothing is scheduled".to_owned(),
    }
}
