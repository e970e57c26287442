//! The place of the fault tests: real processes, real faults, recorded histories, checkers.
//!
//! Nothing is here yet. One node is killed and restarted by `memorygate-bench durability`; what is
//! tested here needs several nodes, and several nodes do not run yet. See `README.md`.
