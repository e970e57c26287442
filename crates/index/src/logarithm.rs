//! The natural logarithm with the same bits on every machine.
//!
//! `f64::ln` calls the C library, which picks another routine for another CPU and differs between
//! versions in the last bit; that bit decides near-ties, and then two replicas answer differently.

/// `ln(x)`; computed by additions, multiplications and divisions alone (musl's algorithm).
pub(crate) fn ln(x: f64) -> f64 {
    libm::log(x)
}

#[cfg(test)]
mod tests {
    use super::ln;

    /// Frozen: a change of these bits changes the order of answers between versions.
    #[test]
    fn bits_are_frozen() {
        let bits: Vec<u64> = [2.0, 10.0, 1.5, 1e-3, 123_456.789]
            .map(|x| ln(x).to_bits())
            .into();
        assert_eq!(
            bits,
            [
                0x3fe6_2e42_fefa_39ef,
                0x4002_6bb1_bbb5_5516,
                0x3fd9_f323_ecbf_984c,
                0xc01b_a18a_998f_ffa0,
                0x4027_7281_cad8_a844,
            ],
            "{bits:#x?}"
        );
    }
}
