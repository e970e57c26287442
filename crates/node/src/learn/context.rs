//! What the model reads before an experience: the two before it in the same session and scope.

use memorygate_core::{memory::Memory, name::Namespace, state::ReadError, time::TimeMs};
use memorygate_raft::StateSnapshot;

use super::Draft;

/// Experiences that are read before one (late chunking; measured on LoCoMo, see `ARCHITECTURE.md`).
pub const BEFORE: usize = 2;

/// Contents of the last [`BEFORE`] experiences before `drafts[at]` in its session, oldest first.
///
/// `fresh` are the places of the drafts that are not stored yet; those of the same session that
/// happened before count like what is stored. At equal times what is stored came first, then the
/// batch in its order.
pub(super) fn before(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    drafts: &[Draft],
    fresh: &[usize],
    at: usize,
    now: TimeMs,
) -> Result<Vec<String>, ReadError> {
    let draft = &drafts[at];
    let Some(session) = &draft.session else {
        return Ok(Vec::new());
    };
    let time = |draft: &Draft| draft.occurred_at.unwrap_or(now);
    let until = time(draft);
    let stored = snapshot.previous_in_session(namespace, &draft.scope, session, until, BEFORE)?;
    let stored = stored
        .into_iter()
        .filter(|(_, memory)| !memory.is_expired(now))
        .map(
            |(
                _,
                Memory {
                    occurred_at,
                    content,
                    ..
                },
            )| ((occurred_at, 0), content),
        );
    let of_batch = fresh
        .iter()
        .filter(|other| {
            let d = &drafts[**other];
            d.session == draft.session && d.scope == draft.scope && (time(d), **other) < (until, at)
        })
        .map(|other| {
            (
                (time(&drafts[*other]), other + 1),
                drafts[*other].content.clone(),
            )
        });
    let mut all: Vec<_> = stored.chain(of_batch).collect();
    all.sort();
    let skipped = all.len().saturating_sub(BEFORE);
    Ok(all
        .into_iter()
        .skip(skipped)
        .map(|(_, content)| content)
        .collect())
}
