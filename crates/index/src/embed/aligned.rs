//! A growing buffer of `f32` whose contents start on a cache line.
//!
//! A vector register as wide as a cache line that is loaded from between two lines costs two
//! accesses. `Vec` aligns to the element only, so the buffer starts at the first line in it.

/// Bytes of a cache line, and of the widest vector register.
const LINE_BYTES: usize = 64;

/// Elements of a line.
const LINE: usize = LINE_BYTES / size_of::<f32>();

#[derive(Default)]
pub(super) struct Aligned {
    data: Vec<f32>,
    /// Index of the first element that starts a cache line.
    start: usize,
    len: usize,
}

impl Aligned {
    pub(super) fn zeros(len: usize) -> Self {
        let mut buffer = Self::default();
        buffer.of_len(len);
        buffer
    }

    /// The first `len` elements, with whatever was left in them. Grows, never shrinks.
    pub(super) fn of_len(&mut self, len: usize) -> &mut [f32] {
        if self.data.len() < len + LINE {
            self.data = vec![0.0; len + LINE];
            // `align_offset` may say that it does not know, which costs speed only.
            self.start = self.data.as_ptr().align_offset(LINE_BYTES).min(LINE);
        }
        self.len = len;
        &mut self.data[self.start..][..len]
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        &self.data[self.start..][..self.len]
    }
}
