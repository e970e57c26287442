//! The words section of a checkpoint: lengths of the documents, then each term with its postings.

use std::sync::Arc;

use super::{Ids, Lexical, Term};
use crate::{
    checkpoint::sections::{Fields, put_number},
    postings::{Posting, Postings},
};

impl Lexical {
    /// The index as bytes. `slots` are those of all documents, ascending; they are numbered anew.
    pub(crate) fn to_bytes(&self, slots: &[u32]) -> Vec<u8> {
        let mut numbers = vec![0; self.documents.len()];
        let mut out = Vec::new();
        for (number, slot) in (0..).zip(slots) {
            numbers[*slot as usize] = number;
            put_number(&mut out, self.lengths[*slot as usize]);
        }
        put_number(&mut out, self.ids.len() as u32);
        for term in self.terms.iter().filter(|term| term.postings.len() > 0) {
            put_number(&mut out, term.text.len() as u32);
            out.extend(term.text.as_bytes());
            put_number(&mut out, term.postings.len());
            // Gaps are smaller numbers than slots.
            let mut next = 0;
            for posting in term.postings.blocks().flatten() {
                let number = numbers[posting.slot as usize];
                put_number(&mut out, number - next);
                put_number(&mut out, posting.count);
                next = number + 1;
            }
        }
        out
    }

    /// An index of as many documents, in slots from 0. `None` if the bytes are not what
    /// [`Lexical::to_bytes`] gives.
    pub(crate) fn from_bytes(bytes: &[u8], documents: usize) -> Option<Self> {
        let mut fields = Fields::of(bytes);
        let lengths: Vec<u32> = (0..documents)
            .map(|_| fields.number())
            .collect::<Option<_>>()?;
        let count = fields.number()?;
        let mut ids = Ids::default();
        let mut terms = Vec::new();
        let mut held = vec![Vec::new(); documents];
        for id in 0..count {
            let length = fields.number()? as usize;
            let text: Arc<str> = std::str::from_utf8(fields.bytes(length)?).ok()?.into();
            let mut postings = Vec::new();
            let mut next = 0_u32;
            for _ in 0..fields.number()? {
                let slot = next.checked_add(fields.number()?)?;
                held.get_mut(slot as usize)?.push(id);
                postings.push(Posting {
                    slot,
                    count: fields.number()?,
                });
                next = slot + 1;
            }
            if ids.insert(Arc::clone(&text), id).is_some() || postings.is_empty() {
                return None;
            }
            terms.push(Term {
                text,
                postings: Postings::from_sorted(postings),
            });
        }
        fields.is_empty().then(|| Self {
            ids,
            terms,
            free: Vec::new(),
            words: lengths.iter().map(|words| u64::from(*words)).sum(),
            live: documents as u32,
            documents: held.into_iter().map(|terms| Some(terms.into())).collect(),
            lengths,
        })
    }
}
