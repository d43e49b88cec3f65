//! The signals of the process. signal-hook hears them on threads of their own, so they are heard whatever the runtime is stuck in.

use std::ffi::c_int;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tokio::sync::Notify;

use crate::engine::Stop;

use super::CliError;

/// Signals that follow the first one within this time are the same request: coreutils' `timeout` sends SIGTERM twice, to the
/// command and to its process group.
const SAME_REQUEST: Duration = Duration::from_millis(100);

/// Cancelled by the first SIGINT or SIGTERM. The second one ends the process at once with exit code 130 or 143, as shells tell
/// of a process that it killed; that loses no more than a crash does.
pub fn stop() -> Result<Stop, CliError> {
    let stop = Stop::new();
    let quit = Arc::new(AtomicBool::new(false));
    let (first, second) = (stop.clone(), Arc::clone(&quit));
    on_each(&[SIGINT, SIGTERM], move || {
        first.cancel();
        thread::sleep(SAME_REQUEST);
        second.store(true, Ordering::SeqCst);
    })?;
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&quit))
            .map_err(CliError::Runtime)?;
    }
    Ok(stop)
}

/// As [`stop`], for a command: a line in the log says that `work` begins, and how to end at once.
pub fn stop_after(work: &'static str) -> Result<Stop, CliError> {
    let stop = stop()?;
    let stopping = stop.clone();
    tokio::spawn(async move {
        stopping.cancelled().await;
        tracing::warn!("{work}; press Ctrl-C again to quit immediately");
    });
    Ok(stop)
}

/// Notified by each SIGHUP.
pub fn reload() -> Result<Arc<Notify>, CliError> {
    let reload = Arc::new(Notify::new());
    let asked = Arc::clone(&reload);
    on_each(&[SIGHUP], move || asked.notify_one())?;
    Ok(reload)
}

/// Acts on each signal, one after another, on a thread that lives as long as the process.
fn on_each(signals: &[c_int], act: impl Fn() + Send + 'static) -> Result<(), CliError> {
    let hear = || -> io::Result<()> {
        let mut signals = Signals::new(signals)?;
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || signals.forever().for_each(|_| act()))?;
        Ok(())
    };
    hear().map_err(CliError::Runtime)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{BufRead, BufReader, Lines};
    use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
    use std::time::Instant;

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Set in a child process, which is then the program that gets the signals: what its runtime does.
    const RUNTIME: &str = "KAFKEEP_TEST_RUNTIME";

    /// Longer than anything takes here on a busy machine.
    const LIMIT: Duration = Duration::from_secs(30);

    /// This test, run in a process of its own.
    struct Program {
        child: Child,
        printed: Lines<BufReader<ChildStdout>>,
    }

    impl Program {
        /// Ready for signals; its runtime is `stuck` or `free`.
        fn start(runtime: &str) -> Self {
            let test = "cli::signals::tests::the_program_that_gets_the_signals";
            let mut command = Command::new(env::current_exe().unwrap());
            let command = command
                .args(["--exact", test, "--nocapture"])
                .env(RUNTIME, runtime);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let printed = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut program = Self { child, printed };
            program.wait_for("ready");
            program
        }

        fn wait_for(&mut self, word: &str) {
            let mut lines = self.printed.by_ref().map(Result::unwrap);
            assert!(lines.any(|line| line.ends_with(word)), "never {word}");
        }

        fn send(&self, signal: Signal) {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }

        /// How it ended, if it did within [`LIMIT`], with `meanwhile` again and again.
        fn ended(&mut self, meanwhile: impl Fn(&Self)) -> ExitStatus {
            let began = Instant::now();
            while began.elapsed() < LIMIT {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                meanwhile(self);
                thread::sleep(SAME_REQUEST / 4);
            }
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            panic!("it did not end within {LIMIT:?}");
        }
    }

    #[test]
    fn the_program_that_gets_the_signals() {
        let Ok(runtime) = env::var(RUNTIME) else {
            return;
        };
        let current_thread = || {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
        };
        let (stop, reload) = (stop().unwrap(), reload().unwrap());
        println!("\nready");
        let stopping = stop.clone();
        let beside = thread::spawn(move || {
            current_thread().block_on(stopping.cancelled());
            println!("\nstopping");
        });
        current_thread().block_on(async {
            match runtime.as_str() {
                "stuck" => thread::sleep(2 * LIMIT),
                "reloads" => {
                    reload.notified().await;
                    println!("\nreloading");
                    reload.notified().await;
                    println!("\nreloading");
                }
                _ => {}
            }
            stop.cancelled().await;
        });
        beside.join().unwrap();
    }

    #[test]
    fn a_second_signal_ends_a_process_whose_runtime_is_stuck() {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let mut program = Program::start("stuck");
            program.send(signal);
            program.wait_for("stopping");
            assert_eq!(program.child.try_wait().unwrap(), None);
            let status = program.ended(|program| program.send(signal));
            assert_eq!(status.code(), Some(code));
        }
    }

    #[test]
    fn a_first_signal_lets_a_process_end_in_good_order() {
        for signal in [Signal::TERM, Signal::INT] {
            let mut program = Program::start("free");
            program.send(signal);
            assert_eq!(program.ended(|_| {}).code(), Some(0));
        }
    }

    /// As coreutils' `timeout` sends them.
    #[test]
    fn signals_that_come_together_are_one() {
        let mut program = Program::start("free");
        program.send(Signal::STOP);
        // The same one twice would be delivered once.
        program.send(Signal::INT);
        program.send(Signal::TERM);
        program.send(Signal::CONT);
        assert_eq!(program.ended(|_| {}).code(), Some(0));
    }

    #[test]
    fn each_hangup_reloads_and_ends_nothing() {
        let mut program = Program::start("reloads");
        for _ in 0..2 {
            program.send(Signal::HUP);
            program.wait_for("reloading");
        }
        program.send(Signal::TERM);
        assert_eq!(program.ended(|_| {}).code(), Some(0));
    }
}
