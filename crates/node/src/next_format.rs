//! `memorygate-next-format`: the server as a version to come, which reads one format of the log more.
//!
//! It has a name of its own so that it lies beside the server that it is installed over in tests.
//! Nothing is measured on it, so it does with the system's allocator.

use std::process::ExitCode;

fn main() -> ExitCode {
    memorygate_node::cli::main()
}
