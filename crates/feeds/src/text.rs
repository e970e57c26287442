//! Texts of strangers, cut to size.

use memorygate_core::limits::NAME_BYTES_MAX;

/// At most `bytes_max` of the beginning; an ellipsis says that something was left out.
pub(crate) fn head(text: &str, bytes_max: usize) -> String {
    let text = text.trim();
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .expect("0 is a boundary");
    format!("{}…", &text[..end])
}

/// At most `bytes_max` of the end, from the start of a line where there is one.
pub(crate) fn tail(text: &str, bytes_max: usize) -> String {
    let text = text.trim();
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let start = (text.len() - bytes_max..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .expect("the end is a boundary");
    let kept = &text[start..];
    let line = kept.find('\n').map_or(0, |at| at + 1);
    let kept = if line < kept.len() {
        &kept[line..]
    } else {
        kept
    };
    format!("…\n{kept}")
}

/// Fit to be a name: no control characters, within the bound of names.
pub(crate) fn name(text: &str) -> String {
    let visible: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    // The ellipsis has three bytes.
    head(&visible, NAME_BYTES_MAX - 3)
}

/// FNV-1a of 64 bits: Prometheus makes its fingerprints with it.
pub(crate) fn fnv(parts: &[&[u8]]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(OFFSET, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(head("  fine\n", 4), "fine");
        assert_eq!(head("größer", 3), "gr…");
        assert_eq!(tail("one\ntwo\nthree", 8), "…\nthree");
        assert_eq!(tail("one\ntwo", 9), "one\ntwo");
        assert_eq!(tail("größer", 4), "…\nßer");
        assert_eq!(name("a\nb"), "a b");
    }

    #[test]
    fn fingerprints_are_those_of_the_published_function() {
        assert_eq!(fnv(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(&[b"a"]), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv(&[b"foo", b"bar"]), 0x8594_4171_f739_67e8);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_bounds(text in "\\PC{0,400}", bytes_max in 1..300_usize) {
            prop_assert!(head(&text, bytes_max).len() <= bytes_max + 3);
            prop_assert!(tail(&text, bytes_max).len() <= bytes_max + 4);
            prop_assert!(name(&text).len() <= NAME_BYTES_MAX);
        }
    }
}
