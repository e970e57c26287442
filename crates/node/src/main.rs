//! `memorygate`: the server, and offline work on what it needs.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A write makes some hundred allocations that another thread frees, which is what the C library's
/// allocator is slowest at: it took a fifth of the processor time of a loaded node.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    memorygate_node::cli::main()
}
