//! How a text of many word pieces is cut into windows, and which of its states are kept.
//!
//! Pure arithmetic over numbers of pieces; it knows neither the tokenizer nor the model.
//!
//! ```text
//! pieces   0        118  150        236  268             len
//! window 0 ├──────────────┤
//! window 1          ├──────────────┤          32 pieces are in both, so whatever straddles an end
//! window 2                         …          is whole in one of them
//! last                          ├──────────────────────────┤   ends with the text, always full
//! ```

use std::collections::BTreeSet;
use std::ops::Range;

use memorygate_core::limits;

/// Word pieces of one forward pass, \[CLS\] and \[SEP\] aside: the length that the model was made for.
pub(super) const PIECES_MAX: usize = 250;

/// Of these, at most so many of the text itself; the rest is what was learned before it.
pub(super) const OWN_MAX: usize = 150;

/// Pieces that two windows of a text share at least.
const OVERLAP: usize = 32;

/// The windows of a memory's text of `len` pieces. Together they cover all of it: [`OWN_MAX`] pieces
/// each, or [`PIECES_MAX`] each where that would be more than [`limits::WINDOWS_MAX`].
pub(super) fn of_memory(len: usize) -> Vec<Range<usize>> {
    let windows = overlapping(len, OWN_MAX);
    if windows.len() <= limits::WINDOWS_MAX {
        return windows;
    }
    let mut windows = overlapping(len, PIECES_MAX);
    if windows.len() > limits::WINDOWS_MAX {
        // Only a text beyond the content bound comes here. Its windows no longer overlap, or leave
        // gaps, but are spread over all of it.
        let last = len - PIECES_MAX;
        windows = (0..limits::WINDOWS_MAX)
            .map(|i| last * i / (limits::WINDOWS_MAX - 1))
            .map(|start| start..start + PIECES_MAX)
            .collect();
    }
    windows
}

/// The windows of a query of `len` pieces.
pub(super) fn of_query(len: usize) -> Vec<Range<usize>> {
    overlapping(len, PIECES_MAX)
}

/// Windows of `size` pieces that cover `0..len`, each sharing [`OVERLAP`] pieces or more with the
/// one before it; at least one window, which is empty if `len` is 0.
fn overlapping(len: usize, size: usize) -> Vec<Range<usize>> {
    let mut windows = Vec::from([Range {
        start: 0,
        end: len.min(size),
    }]);
    while let Some(last) = windows.last()
        && last.end < len
    {
        let end = (last.end + size - OVERLAP).min(len);
        windows.push(end - size..end);
    }
    windows
}

/// Which pieces of each window keep their states, so that at most [`limits::STATES_MAX`] are kept.
///
/// `pieces` are the whole text's, `windows` ranges of them; the result holds indexes into `pieces`,
/// ascending. As long as there are too many, states go in this order: those of pieces that the
/// window before has as well; then every window keeps an even share, for which pieces that occur
/// earlier in the same window go first; what is still too much is thinned evenly.
pub(super) fn kept_states(pieces: &[u16], windows: &[Range<usize>]) -> Vec<Vec<usize>> {
    let mut kept: Vec<Vec<usize>> = windows.iter().map(|w| w.clone().collect()).collect();
    let count = |kept: &[Vec<usize>]| kept.iter().map(Vec::len).sum::<usize>();
    if count(&kept) <= limits::STATES_MAX {
        return kept;
    }
    for (kept, before) in kept.iter_mut().skip(1).zip(windows) {
        kept.retain(|at| *at >= before.end);
    }
    if count(&kept) <= limits::STATES_MAX {
        return kept;
    }
    // Small windows first: what one leaves of its share goes to the larger ones after it.
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by_key(|i| kept[*i].len());
    let mut left = limits::STATES_MAX;
    for (done, i) in order.into_iter().enumerate() {
        let share = left / (windows.len() - done);
        if kept[i].len() > share {
            kept[i] = thinned(pieces, &kept[i], share);
        }
        left -= kept[i].len();
    }
    kept
}

/// `count` of the indexes: first occurrences of a piece before repeated ones, evenly.
fn thinned(pieces: &[u16], indexes: &[usize], count: usize) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let (first, repeated): (Vec<usize>, Vec<usize>) =
        indexes.iter().partition(|at| seen.insert(pieces[**at]));
    if first.len() >= count {
        return evenly(&first, count);
    }
    let mut kept = evenly(&repeated, count - first.len());
    kept.extend(first);
    kept.sort_unstable();
    kept
}

/// `count` of the items, evenly spread, in order.
fn evenly(items: &[usize], count: usize) -> Vec<usize> {
    (0..count).map(|i| items[i * items.len() / count]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_texts_have_one_window() {
        for (windows, end) in [
            (of_memory(0), 0),
            (of_memory(1), 1),
            (of_memory(150), 150),
            (of_query(250), 250),
        ] {
            assert_eq!(windows.len(), 1);
            assert_eq!(windows[0], 0..end);
        }
    }

    #[test]
    fn long_texts_have_overlapping_windows() {
        assert_eq!(of_memory(151), [0..150, 1..151]);
        assert_eq!(of_memory(300), [0..150, 118..268, 150..300]);
        assert_eq!(of_query(251), [0..250, 1..251]);
    }

    #[test]
    fn the_longest_content_is_covered_even_if_every_byte_is_a_piece() {
        let windows = of_memory(limits::CONTENT_BYTES_MAX);
        assert_eq!(windows.len(), limits::WINDOWS_MAX);
        assert_eq!(windows[0], 0..250);
        assert_eq!(windows[1], 218..468);
    }

    #[test]
    fn all_states_are_kept_while_there_is_room() {
        let pieces: Vec<u16> = (0..300).collect();
        let windows = of_memory(300);
        let kept = kept_states(&pieces, &windows);
        assert_eq!(
            kept.iter().map(Vec::len).collect::<Vec<_>>(),
            [150, 150, 150]
        );
    }

    #[test]
    fn doubled_states_go_first_then_repeated_pieces() {
        // 900 pieces in eight windows are 1,182 states, without those of the overlaps 900.
        let pieces: Vec<u16> = (0..900).collect();
        let kept = kept_states(&pieces, &of_memory(900));
        assert_eq!(kept.concat(), (0..900).collect::<Vec<usize>>());
        // Every third piece is the same one. 1,200 pieces: the share of most windows is 93 of 118.
        let pieces: Vec<u16> = (0..1200).map(|i| if i % 3 == 0 { 0 } else { i }).collect();
        let windows = of_memory(1200);
        let kept = kept_states(&pieces, &windows);
        assert_eq!(kept.concat().len(), limits::STATES_MAX);
        assert!(
            (0..1200)
                .filter(|i| i % 3 != 0)
                .all(|i| kept.concat().contains(&i))
        );
    }

    proptest! {
        #[test]
        fn windows_cover_every_piece_and_overlap(len in 0..limits::CONTENT_BYTES_MAX) {
            let windows = of_memory(len);
            prop_assert!(windows.len() <= limits::WINDOWS_MAX);
            prop_assert_eq!(windows[0].start, 0);
            prop_assert_eq!(windows[windows.len() - 1].end, len);
            for pair in windows.windows(2) {
                prop_assert!(pair[0].start < pair[1].start);
                prop_assert!(pair[1].start + OVERLAP <= pair[0].end);
                prop_assert!(pair[1].len() <= PIECES_MAX);
            }
        }

        #[test]
        fn kept_states_are_bounded_ordered_and_of_their_window(
            pieces in prop::collection::vec(0..300_u16, 0..6000)
        ) {
            let windows = of_memory(pieces.len());
            let kept = kept_states(&pieces, &windows);
            let total: usize = kept.iter().map(Vec::len).sum();
            prop_assert!(total <= limits::STATES_MAX);
            prop_assert!(total >= pieces.len().min(limits::STATES_MAX));
            for (kept, window) in kept.iter().zip(&windows) {
                prop_assert!(kept.is_sorted_by(|a, b| a < b));
                prop_assert!(kept.iter().all(|at| window.contains(at)));
            }
        }
    }
}
