//! Remembers the stems of words that were met lately: a few thousand words make up most of what
//! people and machines write, and stemming one takes longer than all else that is done to it.
//!
//! Each thread remembers by itself, in a table of fixed size in which a word has one place; whoever
//! comes to a place that is taken replaces what is there. It changes no result.

use std::cell::RefCell;

use super::WORD_BYTES_MAX;

/// Places of one thread's table: some 300 KiB when all are taken.
const PLACES: usize = 4096;

thread_local! {
    static STEMS: RefCell<Stems> = RefCell::new(Stems::default());
}

#[derive(Debug, Default)]
pub(super) struct Stems {
    /// Empty until the first word.
    places: Vec<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    word: Box<str>,
    stem: Box<str>,
}

impl Stems {
    /// The stem of an ASCII word of at most [`WORD_BYTES_MAX`] bytes in any case; `stem` makes it of
    /// the word in lower case.
    pub(super) fn of_this_thread(word: &str, stem: impl FnOnce(&str) -> String) -> String {
        let mut lower = [0; WORD_BYTES_MAX];
        let lower = &mut lower[..word.len()];
        lower.copy_from_slice(word.as_bytes());
        lower.make_ascii_lowercase();
        let lower = str::from_utf8(lower).expect("ASCII stays ASCII in lower case");
        STEMS.with_borrow_mut(|stems| stems.get(lower, stem))
    }

    fn get(&mut self, word: &str, stem: impl FnOnce(&str) -> String) -> String {
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        let place = &mut self.places[place(word)];
        if let Some(known) = place
            && *known.word == *word
        {
            return known.stem.to_string();
        }
        let stem = stem(word);
        *place = Some(Known {
            word: word.into(),
            stem: stem.as_str().into(),
        });
        stem
    }
}

/// FNV-1a, folded: it only has to spread words.
fn place(word: &str) -> usize {
    let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_stemmed_once_and_another_takes_no_part_of_it() {
        let mut stems = Stems::default();
        let mut made = 0;
        // More words than places, so that some share one; each twice in a row.
        for number in 0..3 * PLACES {
            let word = format!("word{number}");
            for _ in 0..2 {
                let stem = stems.get(&word, |word| {
                    made += 1;
                    format!("{word}!")
                });
                assert_eq!(stem, format!("{word}!"));
            }
        }
        assert_eq!(made, 3 * PLACES);
    }

    #[test]
    fn case_does_not_matter_and_the_longest_word_fits() {
        let longest = "X".repeat(WORD_BYTES_MAX);
        let stem = |word: &str| Stems::of_this_thread(word, str::to_owned);
        assert_eq!(stem(&longest), longest.to_lowercase());
        assert_eq!(stem("Pods"), "pods");
        assert_eq!(stem(""), "");
    }
}
