//! Between the wire and the domain: what a request means, checked, and how an answer is written.
//!
//! ```text
//! v1::LearnRequest … ──▶ read ──▶ request id, core commands, recall::Query …   or a Violation
//! core records, positions ──▶ write ──▶ v1::Memory, v1::Position …
//! ```
//!
//! Nothing here needs a server, a state or a model, so all of it can be fuzzed ([`fuzz`]). Every
//! bound that the API states is checked here and named by the field that breaks it.

pub mod read;
pub mod write;

use memorygate_core::time::TimeMs;
use memorygate_proto::{strict, v1};
use prost::bytes::Bytes;

/// Decodes `bytes` as the request that `method` chooses and converts it, as the server does before
/// it does anything else. `true` if both succeed; it must never panic.
pub fn fuzz(method: u8, bytes: &[u8], now: TimeMs) -> bool {
    fn run<M, T>(bytes: &[u8], read: impl FnOnce(M) -> Result<T, crate::error::Violation>) -> bool
    where
        M: prost::Message + prost::Name + Default,
    {
        strict::decode::<M>(Bytes::copy_from_slice(bytes))
            .is_ok_and(|request| read(request).is_ok())
    }
    match method % 9 {
        0 => run::<v1::LearnRequest, _>(bytes, |request| read::learn(request, now)),
        1 => {
            run::<v1::RecallRequest, _>(bytes, |request| read::recall(request, &Default::default()))
        }
        2 => run::<v1::GetRequest, _>(bytes, read::get),
        3 => run::<v1::ListRequest, _>(bytes, read::list),
        4 => run::<v1::UpdateRequest, _>(bytes, read::update),
        5 => run::<v1::FeedbackRequest, _>(bytes, read::feedback),
        6 => run::<v1::ForgetRequest, _>(bytes, read::forget),
        7 => run::<v1::LinkRequest, _>(bytes, read::link),
        _ => run::<v1::StatsRequest, _>(bytes, read::stats),
    }
}
