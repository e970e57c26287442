//! The fixed rotation before a state or a dense vector is cut down to its signs.
//!
//! A model's dimensions are unequal: some carry much, some are almost constant. A random rotation
//! spreads what they say over all dimensions, so that each sign bit tells about as much as any
//! other. It must be the same on every node for ever, as the bits are stored.

use std::sync::{Arc, LazyLock};

use memorygate_core::embedding::{DIMENSION, STATE_BYTES};
use pulp::Arch;

use super::product::{PANEL, Weights, multiply};

/// An orthogonal matrix of [`DIMENSION`] rows and columns.
pub struct Rotation {
    arch: Arch,
    /// Row-major; row `i` gives dimension `i` of the result.
    matrix: Vec<f32>,
    packed: Weights,
}

impl Rotation {
    /// The one rotation of this program. The first call computes it (some 50 ms).
    pub fn shared() -> &'static Arc<Self> {
        static SHARED: LazyLock<Arc<Rotation>> = LazyLock::new(|| {
            let (arch, matrix) = (Arch::new(), orthogonal_matrix());
            let packed = Weights::pack(arch, &matrix, &[0.0; DIMENSION]);
            Arc::new(Rotation {
                arch,
                matrix,
                packed,
            })
        });
        &SHARED
    }

    /// The vector rotated: the same bits on every processor. Lengths and angles stay.
    ///
    /// # Panics
    /// If the vector has not [`DIMENSION`] dimensions.
    pub fn rotate(&self, vector: &[f32]) -> [f32; DIMENSION] {
        assert_eq!(vector.len(), DIMENSION);
        let mut rotated = [0.0; DIMENSION];
        self.rotate_rows(1, vector, &mut rotated);
        rotated
    }

    /// The vectors rotated, each with the bits of [`Self::rotate`]. The matrix is read once for all
    /// of them.
    pub fn rotate_all(&self, vectors: &[&[f32; DIMENSION]]) -> Vec<[f32; DIMENSION]> {
        let rows = vectors.len();
        let mut panels = vec![0.0; rows * DIMENSION];
        for (row, vector) in vectors.iter().enumerate() {
            for (panel, part) in vector.as_chunks::<PANEL>().0.iter().enumerate() {
                panels[(panel * rows + row) * PANEL..][..PANEL].copy_from_slice(part);
            }
        }
        let mut rotated = vec![0.0; rows * DIMENSION];
        self.rotate_rows(rows, &panels, &mut rotated);
        let parts = rotated.as_chunks::<PANEL>().0;
        (0..rows)
            .map(|row| {
                let mut vector = [0.0; DIMENSION];
                let parts = parts[row..].iter().step_by(rows);
                for (part, from) in vector.as_chunks_mut().0.iter_mut().zip(parts) {
                    *part = *from;
                }
                vector
            })
            .collect()
    }

    /// Rotates rows in panels (see `product`).
    fn rotate_rows(&self, rows: usize, panels: &[f32], out: &mut [f32]) {
        if rows == 0 {
            return;
        }
        for (panel, out) in out.chunks_exact_mut(rows * PANEL).enumerate() {
            multiply(self.arch, rows, panels, self.packed.panel(panel), out);
        }
    }

    /// The matrix as little-endian bytes, which is what names it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.matrix.iter().flat_map(|x| x.to_le_bytes()).collect()
    }
}

/// Bit `d % 8` of byte `d / 8` is set where dimension `d` is `>= 0`.
///
/// # Panics
/// If the vector has not [`DIMENSION`] dimensions.
pub fn sign_bits(rotated: &[f32]) -> [u8; STATE_BYTES] {
    assert_eq!(rotated.len(), DIMENSION);
    let mut bits = [0; STATE_BYTES];
    for (byte, numbers) in bits.iter_mut().zip(rotated.as_chunks::<8>().0) {
        *byte = numbers
            .iter()
            .rev()
            .fold(0, |byte, x| byte << 1 | u8::from(*x >= 0.0));
    }
    bits
}

/// Random rows made orthogonal one after the other (Gram-Schmidt, each row twice, since once leaves
/// rounding errors that grow with the number of rows). Only additions, multiplications, divisions
/// and square roots in a fixed order, so the same bits everywhere.
fn orthogonal_matrix() -> Vec<f32> {
    let mut random = SplitMix64(0x4D65_6D6F_7279_4761); // "MemoryGa"
    let mut rows: Vec<[f64; DIMENSION]> = Vec::with_capacity(DIMENSION);
    for _ in 0..DIMENSION {
        let mut row = [0.0; DIMENSION];
        row.iter_mut().for_each(|x| *x = random.normal());
        for _ in 0..2 {
            for done in &rows {
                let along = dot(&row, done);
                row.iter_mut().zip(done).for_each(|(x, y)| *x -= along * y);
            }
        }
        let length = dot(&row, &row).sqrt();
        row.iter_mut().for_each(|x| *x /= length);
        rows.push(row);
    }
    rows.as_flattened().iter().map(|x| *x as f32).collect()
}

/// Sixteen partial sums, added up in order.
fn dot(a: &[f64; DIMENSION], b: &[f64; DIMENSION]) -> f64 {
    let mut lanes = [0.0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum()
}

/// Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (OOPSLA 2014). The `rand`
/// crate promises no stable numbers across its versions.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Nearly normally distributed: the sum of twelve uniform numbers has variance 1 and mean 6.
    fn normal(&mut self) -> f64 {
        /// 2^-53, as the upper 53 bits of a number are used.
        const UNIT: f64 = 1.0 / 9_007_199_254_740_992.0;
        (0..12)
            .map(|_| (self.next() >> 11) as f64 * UNIT)
            .sum::<f64>()
            - 6.0
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_matrix_is_frozen() {
        let hash = Sha256::digest(Rotation::shared().bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hash,
            "91da66724b8cbc6fc0d8b8bb1b7971c4eab6d9a55e850ed4aedbb0fc62e15219"
        );
    }

    #[test]
    fn the_matrix_is_orthogonal() {
        let matrix = &Rotation::shared().matrix;
        for (i, a) in matrix.chunks_exact(DIMENSION).enumerate() {
            for (j, b) in matrix.chunks_exact(DIMENSION).enumerate() {
                let dot: f64 = a
                    .iter()
                    .zip(b)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot - expected).abs() < 1e-6, "rows {i} and {j}: {dot}");
            }
        }
    }

    #[test]
    fn a_rotated_vector_is_the_matrix_times_it() {
        let rotation = Rotation::shared();
        let vector: Vec<f32> = (0..DIMENSION).map(|i| (i as f32 - 190.0) / 400.0).collect();
        let rotated = rotation.rotate(&vector);
        for (row, x) in rotation.matrix.chunks_exact(DIMENSION).zip(rotated) {
            let expected = row
                .iter()
                .zip(&vector)
                .fold(0.0_f32, |sum, (a, b)| b.mul_add(*a, sum));
            assert_eq!(x.to_bits(), expected.to_bits());
        }
    }

    #[test]
    fn vectors_rotated_together_have_the_bits_of_each_alone() {
        let rotation = Rotation::shared();
        let vectors: Vec<[f32; DIMENSION]> = (0..13)
            .map(|n| std::array::from_fn(|i| ((i * 31 + n * 7) % 101) as f32 / 50.0 - 1.0))
            .collect();
        for count in 0..=vectors.len() {
            let some: Vec<&[f32; DIMENSION]> = vectors[..count].iter().collect();
            let together = rotation.rotate_all(&some);
            assert_eq!(together.len(), count);
            for (vector, rotated) in some.iter().zip(together) {
                assert_eq!(rotation.rotate(*vector), rotated);
            }
        }
    }

    #[test]
    fn sign_bits_count_from_the_lowest_bit() {
        let mut vector = [-1.0; DIMENSION];
        (vector[0], vector[9], vector[383]) = (0.0, 2.0, 1.0);
        let bits = sign_bits(&vector);
        assert_eq!((bits[0], bits[1], bits[47]), (0b1, 0b10, 0b1000_0000));
        assert_eq!(bits.iter().map(|b| b.count_ones()).sum::<u32>(), 3);
    }
}
