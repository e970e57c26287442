//! The bits and vectors sections of a checkpoint.

use std::io::{self, Read, Write};

use memorygate_core::embedding::{DIMENSION, STATE_BYTES};

use super::{Dense, NONE, Rows, Span};
use crate::{
    checkpoint::{
        LoadError,
        sections::{self, Fields, Kind, put_number},
    },
    dot::Vector,
    faiss::{BinaryFlat, Bits},
};

/// Rows in one section of vectors: 1.5 MiB.
const SECTION_ROWS: usize = 1024;

/// The rows that live, at one moment. The vectors are shared with the index.
pub(crate) struct Image {
    bits: Vec<u8>,
    vectors: Rows,
    rows: Vec<u32>,
}

impl Image {
    /// `slots` are those of all memories, ascending; they are numbered anew.
    pub(crate) fn of(dense: &Dense, slots: &[u32]) -> Self {
        let mut numbers = vec![NONE; dense.spans.len()];
        (0..)
            .zip(slots)
            .for_each(|(number, slot)| numbers[*slot as usize] = number);
        let live = |(row, slot): (u32, &u32)| (*slot != NONE).then_some(row);
        let rows: Vec<u32> = (0..).zip(&dense.slots).filter_map(live).collect();
        let mut bits = Vec::with_capacity(rows.len() * (STATE_BYTES + 3) + 5);
        put_number(&mut bits, rows.len() as u32);
        for row in &rows {
            put_number(&mut bits, numbers[dense.slots[*row as usize] as usize]);
        }
        rows.iter()
            .for_each(|row| bits.extend(dense.bits[*row as usize]));
        Self {
            bits,
            vectors: dense.vectors.clone(),
            rows,
        }
    }

    pub(crate) fn write(&self, file: &mut impl Write) -> io::Result<()> {
        sections::write(file, Kind::Bits, &self.bits)?;
        for rows in self.rows.chunks(SECTION_ROWS) {
            let numbers = rows.iter().flat_map(|row| self.vectors.get(*row));
            let bytes: Vec<u8> = numbers.flat_map(|x| x.to_le_bytes()).collect();
            sections::write(file, Kind::Vectors, &bytes)?;
        }
        Ok(())
    }
}

/// The vectors of as many memories, in slots from 0.
pub(crate) fn read(file: &mut impl Read, memories: usize) -> Result<Dense, LoadError> {
    let bytes = sections::read(file, Kind::Bits)?;
    let of_bits = || Kind::Bits.damaged("it does not hold rows of its memories");
    let (slots, bits) = rows(&bytes).ok_or_else(of_bits)?;
    let spans = spans(&slots, memories).ok_or_else(of_bits)?;
    let mut vectors = Rows::default();
    let mut left = slots.len();
    while left > 0 {
        let rows = left.min(SECTION_ROWS);
        let bytes = sections::read(file, Kind::Vectors)?;
        if bytes.len() != rows * DIMENSION * 4 {
            return Err(Kind::Vectors.damaged(format!("{} bytes for {rows} rows", bytes.len())));
        }
        for row in bytes.as_chunks::<4>().0.as_chunks::<DIMENSION>().0 {
            vectors.push(&row.map(f32::from_le_bytes));
        }
        left -= rows;
    }
    let mut coarse = BinaryFlat::new()?;
    coarse.add(&bits)?;
    Ok(Dense {
        coarse,
        vectors,
        bits,
        slots,
        spans,
        memories,
        tombstones: 0,
    })
}

/// The memory and the sign bits of each row.
fn rows(bytes: &[u8]) -> Option<(Vec<u32>, Vec<Bits>)> {
    let mut fields = Fields::of(bytes);
    let count = fields.number()?;
    let slots = (0..count).map(|_| fields.number()).collect::<Option<_>>()?;
    let bits = (0..count).map(|_| fields.take()).collect::<Option<_>>()?;
    fields.is_empty().then_some((slots, bits))
}

/// The rows of each memory, which lie together and are at least one.
fn spans(slots: &[u32], memories: usize) -> Option<Vec<Span>> {
    let mut spans = vec![Span::default(); memories];
    let mut first = 0;
    for rows in slots.chunk_by(|a, b| a == b) {
        let span = spans
            .get_mut(rows[0] as usize)
            .filter(|span| span.count == 0)?;
        *span = Span {
            first,
            count: rows.len() as u32,
        };
        first += span.count;
    }
    spans.iter().all(|span| span.count > 0).then_some(spans)
}

/// A vector is read as it lies in the file.
const _: () = assert!(size_of::<Vector>() == DIMENSION * 4);
