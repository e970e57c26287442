//! `mgctl`: what an operator or a shell script does with MemoryGate, over the public API alone.

fn main() {}
