//! The wire: generated code of `memorygate/v1` and `memorygate/peer/v1`, descriptors, and the strict codec that refuses
//! what it does not know.
//!
//! Nothing here knows what the messages mean.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod fitted;
pub mod strict;

/// The public API, generated from `memorygate/v1/memorygate.proto`.
#[allow(
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("memorygate.v1");
    include!(concat!(env!("OUT_DIR"), "/clients/memorygate.v1.rs"));
}

/// What members say to each other, generated from `memorygate/peer/v1/peer.proto`.
#[allow(
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod peer {
    tonic::include_proto!("memorygate.peer.v1");
}

/// Encoded `FileDescriptorSet` of the public API, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
