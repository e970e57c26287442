//! What is stored in both: an experience of about 2 KiB with its own vector, in the bytes in which it
//! goes over the wire.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use memorygate_proto::v1;
use prost::Message as _;

use crate::lessons::Lessons;

/// Bytes of an encoded experience, about: 1,536 of its vector and a text.
pub(crate) const VALUE_BYTES: usize = 2_048;

/// Experiences that are drawn before the clock runs; each is used again under another number.
const DRAWN: usize = 512;

/// A value and the number that makes it the only one of its kind.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) number: u64,
    pub(crate) experience: v1::Experience,
}

impl Value {
    pub(crate) fn encoded(&self) -> Vec<u8> {
        self.experience.encode_to_vec()
    }
}

/// Makes values, no two alike. Clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    drawn: Arc<Vec<v1::Experience>>,
    next: Arc<AtomicU64>,
}

impl Values {
    pub(crate) fn new(seed: u64) -> Self {
        let mut lessons = Lessons::new(seed);
        Self {
            drawn: Arc::new((0..DRAWN).map(|_| experience(&mut lessons)).collect()),
            next: Arc::default(),
        }
    }

    pub(crate) fn next(&self) -> Value {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(number % DRAWN as u64).expect("it is below the number drawn");
        let mut experience = self.drawn[at].clone();
        experience.content.push_str(&format!("{number:012}"));
        Value { number, experience }
    }
}

fn experience(lessons: &mut Lessons) -> v1::Experience {
    let lesson = lessons.lesson();
    let mut experience = v1::Experience {
        content: lesson.content,
        domain: lesson.domain,
        vector: lessons.vector(),
        importance: lesson.importance,
        ..v1::Experience::default()
    };
    while experience.encoded_len() < VALUE_BYTES {
        experience.content.push(' ');
        experience.content.push_str(&lessons.lesson().content);
    }
    // Cut to size at a character, less the number that comes behind.
    let above = experience.encoded_len() + 13 - VALUE_BYTES;
    let mut end = experience.content.len().saturating_sub(above);
    while !experience.content.is_char_boundary(end) {
        end -= 1;
    }
    experience.content.truncate(end);
    experience.content.push(' ');
    experience
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_and_are_of_one_size() {
        let values = Values::new(1);
        let made: Vec<Value> = (0..2 * DRAWN).map(|_| values.next()).collect();
        let mut contents: Vec<&str> = made.iter().map(|v| &*v.experience.content).collect();
        contents.sort_unstable();
        contents.dedup();
        assert_eq!(contents.len(), made.len());
        for value in &made {
            let bytes = value.encoded().len();
            assert!(
                (VALUE_BYTES - 4..=VALUE_BYTES + 4).contains(&bytes),
                "{bytes}"
            );
            assert_eq!(value.experience.vector.len(), 384);
        }
    }
}
