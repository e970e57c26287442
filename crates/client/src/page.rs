//! Pages: how many entries one has, how a page leads to the next, and all of them as one stream.

use std::future::Future;

use futures::{Stream, TryStreamExt as _, stream};

use crate::error::{Error, Violations};

/// Entries on one page of what does not say how many.
pub const PAGE_SIZE_DEFAULT: usize = 100;

/// What is wrong with how many are asked for at once.
pub(crate) fn check_size(page_size: usize) -> Violations {
    Violations::of_limit("page_size", page_size)
}

pub(crate) fn size_to_wire(page_size: usize) -> u32 {
    u32::try_from(page_size).expect("the page size was checked")
}

/// The token of the next page, which an empty text says there is not.
pub(crate) fn next_from_wire(token: String) -> Option<String> {
    Some(token).filter(|token| !token.is_empty())
}

/// The entries of all pages, each page asked for once the one before was read: `ask` answers with a page's
/// entries and the request for the next.
pub(crate) fn entries<Q, T, A>(
    first: Q,
    ask: impl Fn(Q) -> A + Send,
) -> impl Stream<Item = Result<T, Error>> + Send
where
    Q: Send,
    T: Send,
    A: Future<Output = Result<(Vec<T>, Option<Q>), Error>> + Send,
{
    let pages = stream::try_unfold(Some(first), move |asked| {
        let answer = asked.map(&ask);
        async move {
            let Some(answer) = answer else {
                return Ok(None);
            };
            let (entries, next) = answer.await?;
            Ok(Some((stream::iter(entries.into_iter().map(Ok)), next)))
        }
    });
    pages.try_flatten()
}
