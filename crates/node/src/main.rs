//! `memorygate`: the server, and offline work on what it needs.

use std::process::ExitCode;

fn main() -> ExitCode {
    memorygate_node::cli::main()
}
