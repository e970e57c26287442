//! FAISS, as far as MemoryGate uses it: a flat index of sign bits, searched by Hamming distance.
//!
//! This is the only place that knows of pointers into C++. FAISS is built as C with exceptions
//! turned into error codes; each call's code is checked, and its text is fetched at once, on the
//! same thread, since FAISS keeps it per thread.
//!
//! What FAISS decides is only which rows are worth an exact look. Between rows of equal distance it
//! prefers the earlier, which is history, so callers must never let its order reach an answer.

#![expect(unsafe_code, reason = "calls FAISS through its C interface")]

use std::{
    ffi::{CStr, c_int},
    ptr::NonNull,
};

use faiss_sys::{
    FaissIndexBinary, faiss_IndexBinary_add, faiss_IndexBinary_free, faiss_IndexBinary_ntotal,
    faiss_IndexBinary_search, faiss_get_last_error, faiss_index_binary_factory, idx_t,
};
use memorygate_core::embedding::{DIMENSION, STATE_BYTES};

/// The sign bits of one rotated vector.
pub(crate) type Bits = [u8; STATE_BYTES];

unsafe extern "C" {
    /// Of the OpenMP runtime that FAISS is linked with.
    safe fn omp_set_num_threads(threads: c_int);
}

/// FAISS refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("faiss {call} failed with code {code}: {text}")]
    Failed {
        call: &'static str,
        code: i32,
        text: String,
    },
    #[error("this processor lacks AVX2, for which FAISS was built")]
    Processor,
}

/// One row that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Rows are numbered from 0 in the order in which they were added.
    pub(crate) row: u32,
    /// Bits that differ from the query's.
    pub(crate) distance: u32,
}

/// An exhaustive index over rows of 384 bits.
#[derive(Debug)]
pub(crate) struct BinaryFlat {
    /// Owned, never null, freed on drop.
    index: NonNull<FaissIndexBinary>,
}

// SAFETY: the index is a plain C++ object without ties to the thread that made it; moving it moves
// the only handle to it.
unsafe impl Send for BinaryFlat {}

// SAFETY: through a shared reference only `ntotal` and `search` are called. Both are const, and
// `IndexBinaryFlat::search` of FAISS 1.12 (hammings_knn_hc) reads the rows and writes only to the
// caller's buffers. It takes no search parameters, so nothing of those is shared either.
unsafe impl Sync for BinaryFlat {}

impl BinaryFlat {
    pub(crate) fn new() -> Result<Self, Error> {
        #[cfg(target_arch = "x86_64")]
        if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("popcnt") {
            return Err(Error::Processor);
        }
        let mut index = std::ptr::null_mut();
        // SAFETY: `index` is a place for one pointer, the description ends with a zero byte; FAISS
        // keeps neither.
        let code = unsafe {
            faiss_index_binary_factory(&raw mut index, DIMENSION as c_int, c"BFlat".as_ptr())
        };
        check("factory", code)?;
        let index = NonNull::new(index).expect("FAISS gives an index where it reports success");
        Ok(Self { index })
    }

    /// Rows in the index.
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: `self.index` is alive as long as `self`.
        let rows = unsafe { faiss_IndexBinary_ntotal(self.index.as_ptr()) };
        u32::try_from(rows).expect("add keeps the number of rows within 32 bits")
    }

    /// Appends rows. They are copied.
    pub(crate) fn add(&mut self, rows: &[Bits]) -> Result<(), Error> {
        let total = u32::try_from(rows.len())
            .ok()
            .and_then(|n| self.len().checked_add(n));
        assert!(
            total.is_some(),
            "an index of one namespace has at most 2^32 rows"
        );
        // SAFETY: the pointer is to `rows.len()` rows of 48 bytes each, which is what an index of
        // 384 bits reads; `self` is borrowed mutably, so nobody searches meanwhile.
        let code = unsafe {
            faiss_IndexBinary_add(
                self.index.as_ptr(),
                rows.len() as idx_t,
                rows.as_flattened().as_ptr(),
            )
        };
        check("add", code)
    }

    /// The `count` rows nearest to `query` by Hamming distance, nearest first; all if there are
    /// fewer. Of rows at the last distance some may be missing.
    pub(crate) fn search(&self, query: &Bits, count: u32) -> Result<Vec<Hit>, Error> {
        let count = count.min(self.len());
        if count == 0 {
            return Ok(Vec::new());
        }
        // Parallelism is across queries. The setting is the calling thread's own.
        omp_set_num_threads(1);
        let mut distances = vec![0_i32; count as usize];
        let mut rows = vec![0 as idx_t; count as usize];
        // SAFETY: `query` is one row of 48 bytes, and there is room for `count` answers in each of
        // the two buffers.
        let code = unsafe {
            faiss_IndexBinary_search(
                self.index.as_ptr(),
                1,
                query.as_ptr(),
                idx_t::from(count),
                distances.as_mut_ptr(),
                rows.as_mut_ptr(),
            )
        };
        check("search", code)?;
        let hit = |(row, distance): (idx_t, i32)| Hit {
            row: u32::try_from(row).expect("no more rows were asked for than there are"),
            distance: distance.cast_unsigned(),
        };
        Ok(rows.into_iter().zip(distances).map(hit).collect())
    }
}

impl Drop for BinaryFlat {
    fn drop(&mut self) {
        // SAFETY: the index was made by FAISS, is freed once, and is not used afterwards.
        unsafe { faiss_IndexBinary_free(self.index.as_ptr()) }
    }
}

fn check(call: &'static str, code: c_int) -> Result<(), Error> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the text belongs to this thread's last exception, which lives until the thread's next
    // failed call; it is copied here. It may be null.
    let text = unsafe {
        let text = faiss_get_last_error();
        if text.is_null() {
            c"no text".into()
        } else {
            CStr::from_ptr(text).to_owned()
        }
    };
    Err(Error::Failed {
        call,
        code,
        text: text.to_string_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits() -> impl Strategy<Value = Bits> {
        prop::collection::vec(any::<u8>(), STATE_BYTES).prop_map(|b| b.try_into().unwrap())
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        let mut index = BinaryFlat::new().unwrap();
        assert_eq!(index.search(&[0; STATE_BYTES], 3), Ok(vec![]));
        index.add(&[]).unwrap();
        assert_eq!(index.len(), 0);
        index.add(&[[1; STATE_BYTES]]).unwrap();
        assert_eq!(index.search(&[1; STATE_BYTES], 0), Ok(vec![]));
        assert_eq!(
            index.search(&[1; STATE_BYTES], 9),
            Ok(vec![Hit {
                row: 0,
                distance: 0
            }])
        );
    }

    #[test]
    fn an_error_of_faiss_says_what_faiss_says() {
        let mut index = std::ptr::null_mut();
        // SAFETY: as in `BinaryFlat::new`; on failure nothing is allocated.
        let code = unsafe { faiss_index_binary_factory(&raw mut index, 384, c"none".as_ptr()) };
        let error = check("factory", code).unwrap_err().to_string();
        assert!(
            error.starts_with("faiss factory failed with code -2: "),
            "{error}"
        );
        assert!(error.contains("description none"), "{error}");
    }

    proptest! {
        #[test]
        fn finds_the_nearest_rows(
            rows in prop::collection::vec(bits(), 1..50),
            query in bits(),
            count in 1_u32..60,
        ) {
            let mut index = BinaryFlat::new().unwrap();
            let (first, second) = rows.split_at(rows.len() / 2);
            index.add(first).unwrap();
            index.add(second).unwrap();
            let distance = |row: &Bits| -> u32 {
                row.iter().zip(&query).map(|(a, b)| (a ^ b).count_ones()).sum()
            };
            let mut expected: Vec<u32> = rows.iter().map(distance).collect();
            expected.sort_unstable();
            expected.truncate(count as usize);
            let hits = index.search(&query, count).unwrap();
            let distances: Vec<u32> = hits.iter().map(|h| h.distance).collect();
            prop_assert_eq!(distances, expected);
            prop_assert!(hits.iter().all(|h| distance(&rows[h.row as usize]) == h.distance));
        }
    }
}
