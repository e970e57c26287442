//! Remembers the stems of words that were met lately: a few thousand words make up most of what
//! people and machines write, and stemming one takes longer than all else that is done to it.
//!
//! Each thread remembers by itself, in a table of fixed size in which a word has one place; whoever
//! comes to a place that is taken replaces what is there. It changes no result.

use std::cell::RefCell;

use super::WORD_BYTES_MAX;

/// Places of one thread's table: 256 KiB when it is in use.
const PLACES: usize = 4096;

/// Bytes of a word and its stem that fit into a place. Longer ones are stemmed each time.
const KNOWN_BYTES: usize = 62;

thread_local! {
    static STEMS: RefCell<Stems> = RefCell::new(Stems::default());
}

#[derive(Debug, Default)]
pub(super) struct Stems {
    /// Empty until the first word.
    places: Vec<Known>,
}

/// A word and its stem, in one line of the processor's cache: a table of pointers to them would be
/// waited for three times.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Known {
    word: u8,
    stem: u8,
    /// The word, then the stem.
    bytes: [u8; KNOWN_BYTES],
}

impl Known {
    /// The empty word is its own stem.
    const NONE: Self = Self {
        word: 0,
        stem: 0,
        bytes: [0; KNOWN_BYTES],
    };

    fn new(word: &str, stem: &str) -> Option<Self> {
        let mut known = Self {
            word: word.len().try_into().ok()?,
            stem: stem.len().try_into().ok()?,
            ..Self::NONE
        };
        let (words, rest) = known.bytes.split_at_mut_checked(word.len())?;
        words.copy_from_slice(word.as_bytes());
        rest.get_mut(..stem.len())?.copy_from_slice(stem.as_bytes());
        Some(known)
    }

    fn stem_of(&self, word: &str) -> Option<&str> {
        let (known, rest) = self.bytes.split_at(usize::from(self.word));
        (known == word.as_bytes()).then(|| {
            let stem = &rest[..usize::from(self.stem)];
            str::from_utf8(stem).expect("it was text when it was put here")
        })
    }
}

impl Stems {
    /// Appends the stem of an ASCII word of at most [`WORD_BYTES_MAX`] bytes in any case; `stem` makes
    /// it of the word in lower case.
    pub(super) fn of_this_thread(word: &str, stem: impl FnOnce(&str) -> String, into: &mut String) {
        let mut lower = [0; WORD_BYTES_MAX];
        let lower = &mut lower[..word.len()];
        lower.copy_from_slice(word.as_bytes());
        lower.make_ascii_lowercase();
        let lower = str::from_utf8(lower).expect("ASCII stays ASCII in lower case");
        STEMS.with_borrow_mut(|stems| stems.append(lower, stem, into));
    }

    fn append(&mut self, word: &str, stem: impl FnOnce(&str) -> String, into: &mut String) {
        if self.places.is_empty() {
            self.places.resize(PLACES, Known::NONE);
        }
        let place = &mut self.places[place(word)];
        if let Some(stem) = place.stem_of(word) {
            into.push_str(stem);
            return;
        }
        let stem = stem(word);
        into.push_str(&stem);
        if let Some(known) = Known::new(word, &stem) {
            *place = known;
        }
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
                let mut into = "before ".to_owned();
                let stem = |word: &str| {
                    made += 1;
                    format!("{word}!")
                };
                stems.append(&word, stem, &mut into);
                assert_eq!(into, format!("before {word}!"));
            }
        }
        assert_eq!(made, 3 * PLACES);
    }

    #[test]
    fn case_does_not_matter_and_the_longest_word_fits() {
        let longest = "X".repeat(WORD_BYTES_MAX);
        let stem = |word: &str| {
            let mut into = String::new();
            Stems::of_this_thread(word, str::to_owned, &mut into);
            into
        };
        for _ in 0..2 {
            assert_eq!(stem(&longest), longest.to_lowercase());
        }
        assert_eq!(stem("Pods"), "pods");
        assert_eq!(stem(""), "");
    }
}
