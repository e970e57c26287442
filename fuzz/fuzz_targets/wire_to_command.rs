//! Any bytes as any request: decoded and converted as a server does it, before it does anything
//! else. The first byte chooses the method. Nothing may panic, whatever the bytes are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memorygate_core::time::TimeMs;

/// 2025-06-01T00:00:00Z: a fixed clock, so that a finding stays one.
const NOW: TimeMs = TimeMs(1_748_736_000_000);

fuzz_target!(|bytes: &[u8]| {
    if let Some((method, request)) = bytes.split_first() {
        memorygate_node::wire::fuzz(*method, request, NOW);
    }
});
