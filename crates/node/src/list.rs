//! List: the memories that pass a filter in key order, in pages.

mod token;

use memorygate_core::{
    embedding::ModelId, filter::Filter, key::Key, memory::Memory, moment::Moment, name::Namespace,
    scope::Reader, shown::Shown,
};
use memorygate_raft::StateSnapshot;

pub use self::token::{Asks, PageToken};
use crate::{
    backend::Backend,
    deadline::Deadline,
    error::Error,
    past::{self, Look},
    position::Position,
    stored,
};

/// Memories read from the state at once.
const CHUNK: usize = 256;

/// Contents and metadata in one page: it fits into the 4 MiB that gRPC clients accept by default.
const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Memories looked at for one page. A filter that few pass gives short pages, even empty ones,
/// with a token for the rest.
const SCANNED_MAX: usize = 50_000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub namespace: Namespace,
    pub reader: Reader,
    pub filter: Filter,
    pub size: usize,
    /// Absent for the first page.
    pub token: Option<PageToken>,
    /// Stands for namespace, reader, filter and moment in the token of the next page.
    pub asks: Asks,
    pub at_least: Option<Position>,
    pub linearizable: bool,
    pub as_of: Option<Moment>,
}

pub struct Answer {
    pub memories: Memories,
    /// Absent after the last page.
    pub next: Option<PageToken>,
    pub position: Position,
}

pub async fn list(backend: &Backend, page: Page, deadline: Deadline) -> Result<Answer, Error> {
    let of_token = page.token.as_ref().map(|t| backend.position(t.index));
    backend.snapshot_at_least(of_token, deadline).await?;
    let (as_of, at_least) = (page.as_of, page.at_least);
    let from = past::read_from(backend, as_of, at_least, page.linearizable, deadline);
    let snapshot = backend.snapshot_at_least(from.await?, deadline).await?;
    let position = backend.position(snapshot.position());
    let read = move || read(&snapshot, &page);
    let (memories, next) = backend.reads.run(deadline, read).await??;
    Ok(Answer {
        memories,
        next,
        position,
    })
}

type Memories = Vec<(Key, Shown, ModelId)>;

fn read(snapshot: &StateSnapshot, page: &Page) -> Result<(Memories, Option<PageToken>), Error> {
    let mut look = Look::new(snapshot, &page.namespace, page.as_of)?;
    let index = page.token.as_ref().map_or(snapshot.position(), |t| t.index);
    let mut after = page.token.as_ref().map(|t| t.last);
    let mut memories = Vec::new();
    let (mut bytes, mut scanned) = (0, 0);
    loop {
        let chunk = snapshot.list(&page.namespace, after, CHUNK)?;
        let is_last = chunk.len() < CHUNK;
        for (key, memory) in chunk {
            scanned += 1;
            if let Some(memory) = look.passing(key, memory, &page.filter, &page.reader)? {
                bytes += size(&memory);
                let is_full = memories.len() >= page.size || bytes > PAGE_BYTES_MAX;
                // The first of a page always fits: one memory is far smaller than a page.
                if is_full && let Some(last) = after {
                    look.finish()?;
                    return Ok((
                        memories,
                        Some(PageToken {
                            last,
                            asks: page.asks,
                            index,
                        }),
                    ));
                }
                let model = stored::model(snapshot, &page.namespace, key)?;
                let shown = Shown::to(&page.reader, snapshot, &page.namespace, memory)?;
                memories.push((key, shown, model));
            }
            after = Some(key);
        }
        match after {
            Some(last) if !is_last && scanned >= SCANNED_MAX => {
                look.finish()?;
                return Ok((
                    memories,
                    Some(PageToken {
                        last,
                        asks: page.asks,
                        index,
                    }),
                ));
            }
            Some(_) if !is_last => {}
            Some(_) | None => {
                look.finish()?;
                return Ok((memories, None));
            }
        }
    }
}

fn size(memory: &Memory) -> usize {
    let metadata: usize = memory.metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
    // Names, keys, times and links beside the text.
    memory.content.len() + metadata + 1024 + memory.links.len() * 64
}
