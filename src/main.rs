//! The `kafkeep` command: parses and dispatches.

fn main() -> std::process::ExitCode {
    kafkeep::cli::main()
}
