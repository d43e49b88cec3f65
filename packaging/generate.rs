//! What packages hold beside the binary: man pages and completions, written into the directory that is given.

#![allow(missing_docs, reason = "a program for packaging")]

use std::io;
use std::path::PathBuf;

use clap_complete::Shell;

fn main() -> io::Result<()> {
    let usage = || io::Error::other("give the directory to write into");
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or_else(usage)?);
    std::fs::create_dir_all(&directory)?;
    clap_mangen::generate_to(kafkeep::cli::command(), &directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut kafkeep::cli::command(), "kafkeep", &directory)?;
    }
    Ok(())
}
