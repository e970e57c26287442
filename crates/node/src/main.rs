//! `memorygate`: the server, and offline work on what it needs.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A write makes some hundred allocations that another thread frees, which is what the C library's
/// allocator is slowest at: it took a fifth of the processor time of a loaded node.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    give_back_lazily();
    memorygate_node::cli::main()
}

/// What is freed stays usable for a while, and is then offered to the system, which takes it when it
/// needs it. Taking it away within a second, as is the default, costs a loaded node more than a tenth of
/// its time: the same pages are needed again soon, and the system clears each before it hands it out.
#[expect(
    unsafe_code,
    reason = "the allocator's options are set through its C interface"
)]
fn give_back_lazily() {
    /// `mi_option_purge_decommits` of mimalloc.h, which the bindings do not name.
    const PURGE_DECOMMITS: libmimalloc_sys::mi_option_t = 5;
    /// `mi_option_purge_delay`, likewise.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    /// Large areas are given back after ten times as long.
    const PURGE_DELAY_MS: std::ffi::c_long = 10_000;
    // SAFETY: it stores numbers in the allocator's table of options, which has places for these and is
    // made to be changed at any time.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DECOMMITS, 0);
        libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS);
    }
}
