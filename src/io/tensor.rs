//! From a stored tensor to the arrays the method works on, and back: element types, channel layout, axis permutations.

use half::{bf16, f16};

use super::{Dtype, Format, LayerShape, Model, Order, Role, TensorInfo};
use crate::error::{Error, Result, bad};
use crate::report::{LayerSummary, ModelSummary};

/// Little-endian elements of a float type, widened to f32. f64 is rounded to nearest, ties to even.
/// Empty for [`Dtype::Other`], whose values are never decoded.
pub fn to_f32(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::Bf16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        Dtype::Other(_) => Vec::new(),
    }
}

/// Little-endian elements of a float type from f32, rounded to nearest, ties to even. A finite value beyond the type's range
/// becomes its largest finite value: a quantized weight may lie slightly outside of the range the original filled.
/// Empty for [`Dtype::Other`].
pub fn from_f32(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => {
            values.iter().flat_map(|&v| saturate(v, f16::from_f32(v), f16::is_infinite, f16::MIN, f16::MAX).to_le_bytes()).collect()
        }
        Dtype::Bf16 => {
            values.iter().flat_map(|&v| saturate(v, bf16::from_f32(v), bf16::is_infinite, bf16::MIN, bf16::MAX).to_le_bytes()).collect()
        }
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::F64 => values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect(),
        Dtype::Other(_) => Vec::new(),
    }
}

fn saturate<T>(value: f32, rounded: T, is_infinite: impl Fn(T) -> bool, min: T, max: T) -> T
where
    T: Copy,
{
    match value.is_finite() && is_infinite(rounded) {
        true if value < 0.0 => min,
        true => max,
        false => rounded,
    }
}

/// From the order of the file to `groups × outputs × inputs × taps`. `data` has [`LayerShape::weights`] elements.
pub fn canonical(shape: &LayerShape, data: &[f32]) -> Vec<f32> {
    match shape.order {
        Order::OutIn => data.to_vec(),
        Order::InOut => swap_channels(data, shape.inputs, shape.outputs, shape.taps),
    }
}

/// From `groups × outputs × inputs × taps` to the order of the file: the inverse of [`canonical`].
pub fn stored(shape: &LayerShape, data: &[f32]) -> Vec<f32> {
    match shape.order {
        Order::OutIn => data.to_vec(),
        Order::InOut => swap_channels(data, shape.outputs, shape.inputs, shape.taps),
    }
}

/// `… × rows × columns × taps` to `… × columns × rows × taps`.
pub fn swap_channels(data: &[f32], rows: usize, columns: usize, taps: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for group in data.chunks_exact((rows * columns * taps).max(1)) {
        if taps == 1 {
            out.append(&mut transpose(group, rows, columns));
            continue;
        }
        for c in 0..columns {
            for r in 0..rows {
                let at = (r * columns + c) * taps;
                out.extend_from_slice(&group[at..at + taps]);
            }
        }
    }
    out
}

/// The transpose of a `rows×cols` row-major matrix.
pub fn transpose(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    assert_eq!(x.len(), rows * cols);
    const TILE: usize = 32;
    let mut t = vec![0.0; x.len()];
    for i0 in (0..rows).step_by(TILE) {
        for j0 in (0..cols).step_by(TILE) {
            for i in i0..(i0 + TILE).min(rows) {
                for j in j0..(j0 + TILE).min(cols) {
                    t[j * rows + i] = x[i * cols + j];
                }
            }
        }
    }
    t
}

/// Which way [`permute`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the file's order to C order.
    ToC,
    /// From C order to the file's order.
    FromC,
}

/// Reorders elements of `size` bytes between C order of `shape` and the order in which `axes` run from slowest to fastest.
pub(crate) fn permute(data: &[u8], shape: &[usize], size: usize, axes: &[u8], direction: Direction) -> Vec<u8> {
    let mut out = vec![0; data.len()];
    if data.is_empty() || size == 0 {
        return out;
    }
    // Strides in C order, listed in the order of the file's axes.
    let mut c_strides = vec![1usize; shape.len()];
    for d in (1..shape.len()).rev() {
        c_strides[d - 1] = c_strides[d] * shape[d];
    }
    let dims: Vec<usize> = axes.iter().map(|&a| shape[a as usize]).collect();
    let strides: Vec<usize> = axes.iter().map(|&a| c_strides[a as usize]).collect();
    let mut index = vec![0usize; dims.len()];
    let mut c_at = 0usize;
    for file_at in 0..data.len() / size {
        let (from, to) = if direction == Direction::ToC { (file_at, c_at) } else { (c_at, file_at) };
        out[to * size..(to + 1) * size].copy_from_slice(&data[from * size..(from + 1) * size]);
        for d in (0..dims.len()).rev() {
            index[d] += 1;
            c_at += strides[d];
            if index[d] < dims[d] {
                break;
            }
            c_at -= strides[d] * dims[d];
            index[d] = 0;
        }
    }
    out
}

impl Model {
    /// Positions in [`Model::tensors`] of the layers, in file order: the `i`-th is layer `i` of reports and settings.
    pub fn layers(&self) -> Vec<usize> {
        (0..self.tensors.len()).filter(|&i| matches!(self.tensors[i].role, Role::Layer(_))).collect()
    }

    /// Reads tensor `index` of the table, a layer, as f32 in the order `groups × outputs × inputs × taps`.
    /// An error when it holds NaN, infinity, or an f64 beyond the range of f32.
    pub fn read_layer(&self, index: usize) -> Result<Vec<f32>> {
        let fail = |reason: String, advice: &str| Err::<Vec<f32>, Error>(bad(&self.name, reason, advice));
        let Some(info) = self.tensors.get(index) else {
            return fail(format!("it has no tensor {index}"), "choose one of its layers");
        };
        let Role::Layer(shape) = info.role else {
            return fail("it is not the weight of a layer".into(), "choose one of the layers").map_err(|e| e.tensor(&info.name));
        };
        let bytes = self.reader.read(index)?;
        let values = to_f32(&bytes, info.dtype);
        if values.len() != shape.weights() {
            return fail(format!("{} values were read instead of {}", values.len(), shape.weights()), "export the model again")
                .map_err(|e| e.tensor(&info.name));
        }
        let wrong = values.iter().filter(|v| !v.is_finite()).count();
        if wrong > 0 {
            let (reason, advice) = match info.dtype {
                Dtype::F64 if bytes.as_chunks().0.iter().all(|&b| f64::from_le_bytes(b).is_finite()) => {
                    ("are beyond the range of 32-bit floats", "rescale the layer or save a checkpoint from before training diverged")
                }
                _ => ("are NaN or infinite", "save the model again from a checkpoint from before training diverged"),
            };
            return fail(format!("{wrong} of its {} weights {reason}", values.len()), advice).map_err(|e| e.tensor(&info.name));
        }
        Ok(canonical(&shape, &values))
    }

    /// The table as it is shown.
    pub fn summary(&self) -> ModelSummary {
        summary(&self.name, self.format, self.file_bytes, &self.tensors, self.notes.clone())
    }
}

/// A table of tensors as it is shown: sizes per kind of tensor, the layers, and notes.
pub fn summary(name: &str, format: Format, file_bytes: u64, tensors: &[TensorInfo], notes: Vec<String>) -> ModelSummary {
    let mut summary = ModelSummary {
        name: name.into(),
        format: format.name().into(),
        bytes: file_bytes,
        tensors: tensors.len(),
        layer_weights: 0,
        layer_bytes: 0,
        small_values: 0,
        exact_bytes: 0,
        layers: Vec::new(),
        notes,
    };
    for info in tensors {
        match info.role {
            Role::Layer(_) => {
                summary.layer_weights += info.elements() as u64;
                summary.layer_bytes += info.bytes() as u64;
                let index = summary.layers.len();
                let (name, shape, weights) = (info.name.clone(), info.shape.clone(), info.elements() as u64);
                summary.layers.push(LayerSummary { index, name, shape, weights });
            }
            Role::Small => summary.small_values += info.elements() as u64,
            Role::Exact => summary.exact_bytes += info.bytes() as u64,
        }
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounds_to_nearest_even_and_saturates() {
        // 2049 lies halfway between 2048 and 2050 in f16; 70000 is beyond it.
        let back = to_f32(&from_f32(&[2049.0, 2051.0, 70000.0, -70000.0, f32::INFINITY], Dtype::F16), Dtype::F16);
        assert_eq!(back, [2048.0, 2052.0, 65504.0, -65504.0, f32::INFINITY]);
        let back = to_f32(&from_f32(&[257.0, 259.0, f32::MAX], Dtype::Bf16), Dtype::Bf16);
        assert_eq!(back, [256.0, 260.0, bf16::MAX.to_f32()]);
        assert_eq!(to_f32(&1e300f64.to_le_bytes(), Dtype::F64), [f32::INFINITY]);
        assert!(to_f32(&from_f32(&[f32::NAN], Dtype::F16), Dtype::F16)[0].is_nan());
    }

    #[test]
    fn canonical_order_is_group_output_input_tap() {
        let shape = LayerShape { groups: 2, outputs: 2, inputs: 3, taps: 2, columns: 0, order: Order::InOut };
        // Stored: [group·input, output, tap]; the value spells its own position.
        let mut data = Vec::new();
        for g in 0..2 {
            for i in 0..3 {
                for o in 0..2 {
                    for t in 0..2 {
                        data.push((g * 1000 + o * 100 + i * 10 + t) as f32);
                    }
                }
            }
        }
        let sorted = canonical(&shape, &data);
        assert!(sorted.is_sorted());
        assert_eq!(stored(&shape, &sorted), data);
    }

    proptest! {
        #[test]
        fn every_16_bit_float_survives(bits in any::<u16>()) {
            for dtype in [Dtype::F16, Dtype::Bf16] {
                let bytes = bits.to_le_bytes();
                let wide = to_f32(&bytes, dtype);
                if !wide[0].is_nan() {
                    prop_assert_eq!(from_f32(&wide, dtype), bytes);
                }
            }
        }

        #[test]
        fn layout_roundtrip(groups in 1usize..4, outputs in 1usize..6, inputs in 1usize..6, taps in 1usize..5, in_out in any::<bool>()) {
            let order = if in_out { Order::InOut } else { Order::OutIn };
            let shape = LayerShape { groups, outputs, inputs, taps, columns: 0, order };
            let data: Vec<f32> = (0..shape.weights()).map(|i| i as f32).collect();
            prop_assert_eq!(stored(&shape, &canonical(&shape, &data)), data);
        }

        #[test]
        fn permutations_invert(shape in prop::collection::vec(1usize..5, 0..5), size in 1usize..5, seed in any::<u64>()) {
            let mut axes: Vec<u8> = (0..shape.len() as u8).collect();
            axes.sort_by_key(|&a| (seed >> (a * 8)) & 0xff);
            let bytes: Vec<u8> = (0..shape.iter().product::<usize>() * size).map(|i| i as u8).collect();
            let there = permute(&bytes, &shape, size, &axes, Direction::FromC);
            prop_assert_eq!(permute(&there, &shape, size, &axes, Direction::ToC), bytes);
        }
    }

    #[test]
    fn fortran_order_of_a_matrix() {
        // [[1, 2, 3], [4, 5, 6]] column by column.
        assert_eq!(permute(&[1, 2, 3, 4, 5, 6], &[2, 3], 1, &[1, 0], Direction::FromC), [1, 4, 2, 5, 3, 6]);
        assert_eq!(permute(&[1, 4, 2, 5, 3, 6], &[2, 3], 1, &[1, 0], Direction::ToC), [1, 2, 3, 4, 5, 6]);
    }
}
