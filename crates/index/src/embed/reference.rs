//! The same forward pass in candle's own operations, one sequence at a time: slow and plain. The
//! fast path is tested against it.

use std::collections::HashMap;

use candle_core::{D, Device, Result, Tensor};

use super::encoder::{HIDDEN, LAYERS};
use super::product::PANEL;

/// The last layer's states, one row a piece.
pub(super) fn states(tensors: &HashMap<String, Tensor>, pieces: &[u16]) -> Result<Vec<Vec<f32>>> {
    let of = |name: &str| &tensors[name];
    let norm = |x: Tensor, name: &str| -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(variance + 1e-12)?.sqrt()?)?
            .broadcast_mul(of(&format!("{name}.weight")))?
            .broadcast_add(of(&format!("{name}.bias")))
    };
    let linear = |x: &Tensor, name: String| -> Result<Tensor> {
        x.matmul(&of(&format!("{name}.weight")).t()?)?
            .broadcast_add(of(&format!("{name}.bias")))
    };
    let count = pieces.len();
    let ids: Vec<u32> = pieces.iter().map(|id| u32::from(*id)).collect();
    let words = of("embeddings.word_embeddings.weight")
        .index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
    let positions = of("embeddings.position_embeddings.weight").narrow(0, 0, count)?;
    let types = of("embeddings.token_type_embeddings.weight").narrow(0, 0, 1)?;
    let mut x = norm(
        (words + positions)?.broadcast_add(&types)?,
        "embeddings.LayerNorm",
    )?;
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let heads = |part: &str| -> Result<Tensor> {
            let y = linear(&x, name(&format!("attention.self.{part}")))?;
            y.reshape((count, HIDDEN / PANEL, PANEL))?
                .transpose(0, 1)?
                .contiguous()
        };
        let (queries, keys, values) = (heads("query")?, heads("key")?, heads("value")?);
        let scores = (queries.matmul(&keys.t()?)? / (PANEL as f64).sqrt())?;
        let weights = scores
            .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
            .exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        let attended = weights
            .matmul(&values)?
            .transpose(0, 1)?
            .reshape((count, HIDDEN))?;
        let attended = linear(&attended, name("attention.output.dense"))?;
        x = norm((x + attended)?, &name("attention.output.LayerNorm"))?;
        let wide = linear(&x, name("intermediate.dense"))?.gelu_erf()?;
        let narrow = linear(&wide, name("output.dense"))?;
        x = norm((x + narrow)?, &name("output.LayerNorm"))?;
    }
    x.to_vec2()
}
