//! The `kafkeep` command: parses and dispatches.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    kafkeep::cli::main()
}
