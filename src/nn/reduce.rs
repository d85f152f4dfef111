//! Reductions over axes.

use super::binary::{Walk, arity, sums};
use super::{Needs, Operator, Tape, Tensor, Value};

/// How elements are reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Mean; NaN of nothing.
    Mean,
    /// Sum; 0 of nothing.
    Sum,
    /// Greatest; NaN where there is one, −∞ of nothing.
    Max,
    /// Least; NaN where there is one, ∞ of nothing.
    Min,
}

/// Reduces over axes. GlobalAveragePool is the mean over all spatial axes, kept.
///
/// Where several elements are the greatest (or the least), the cotangent is divided among them evenly: neither ONNX nor the order of
/// elements prefers one, and so the derivative is that of the mean over all ways to break the tie.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduce {
    /// How.
    pub reduction: Reduction,
    /// The axes, rising, counted from the start; may be none.
    pub axes: Vec<usize>,
    /// Whether the axes stay, with length 1.
    pub keep: bool,
}

impl Reduce {
    /// The output's shape with the axes kept.
    fn kept(&self, shape: &[usize]) -> Vec<usize> {
        shape.iter().enumerate().map(|(axis, &n)| if self.axes.contains(&axis) { 1 } else { n }).collect()
    }

    /// Elements reduced to one.
    fn count(&self, shape: &[usize]) -> usize {
        self.axes.iter().map(|&axis| shape[axis]).product()
    }

    fn output(&self, shape: &[usize]) -> Vec<usize> {
        let axes = shape.iter().enumerate();
        axes.filter(|(axis, _)| self.keep || !self.axes.contains(axis))
            .map(|(axis, &n)| if self.axes.contains(&axis) { 1 } else { n })
            .collect()
    }
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        match self.reduction {
            Reduction::Mean => "ReduceMean",
            Reduction::Sum => "ReduceSum",
            Reduction::Max => "ReduceMax",
            Reduction::Min => "ReduceMin",
        }
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 1..=1)?;
        let rises = self.axes.windows(2).all(|w| w[0] < w[1]);
        if !rises || self.axes.last().is_some_and(|axis| *axis >= inputs[0].len()) {
            return Err(format!("its axes {:?} are not axes of its input of shape {:?}", self.axes, inputs[0]));
        }
        Ok(vec![self.output(inputs[0])])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = inputs.pop().expect("shapes() saw an input");
        let (shape, count) = (self.output(&x.shape), self.count(&x.shape));
        if count == 1 {
            return vec![x.into_owned().reshaped(shape)];
        }
        let kept = self.kept(&x.shape);
        let data = match self.reduction {
            Reduction::Sum => sums(&x, &kept).iter().map(|s| *s as f32).collect(),
            Reduction::Mean => sums(&x, &kept).iter().map(|s| (s / count as f64) as f32).collect(),
            Reduction::Max => extremes(&x, &kept, f32::NEG_INFINITY, |m, x| if m >= x || m.is_nan() { m } else { x }),
            Reduction::Min => extremes(&x, &kept, f32::INFINITY, |m, x| if m <= x || m.is_nan() { m } else { x }),
        };
        vec![Tensor::new(shape, data)]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        let extreme = wanted[0] && matches!(self.reduction, Reduction::Max | Reduction::Min);
        Needs { inputs: vec![extreme], outputs: vec![extreme] }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(mut g) = cotangents[0].take().filter(|_| wanted[0]) else { return vec![None] };
        let shape = tape.input_shapes[0];
        let (kept, count) = (self.kept(shape), self.count(shape));
        let n: usize = shape.iter().product();
        let walk = Walk::new(shape, [&kept, &[]]);
        let (run, moves) = (walk.run, walk.moves[0]);
        match self.reduction {
            Reduction::Sum | Reduction::Mean => {
                if count == 1 {
                    return vec![Some(g.reshaped(shape))];
                }
                if self.reduction == Reduction::Mean {
                    g.data.iter_mut().for_each(|g| *g /= count as f32);
                }
                let mut data = Vec::with_capacity(n);
                walk.each(|_, [j, _]| match moves {
                    true => data.extend_from_slice(&g.data[j..j + run]),
                    false => data.resize(data.len() + run, g.data[j]),
                });
                vec![Some(Tensor::new(shape, data))]
            }
            Reduction::Max | Reduction::Min => {
                let (x, y) = (tape.input(0), tape.output(0));
                let mut ties = vec![0f32; g.len()];
                walk.each(|start, [j, _]| {
                    for (k, x) in x.data[start..start + run].iter().enumerate() {
                        let j = if moves { j + k } else { j };
                        ties[j] += f32::from(u8::from(*x == y.data[j]));
                    }
                });
                g.data.iter_mut().zip(&ties).for_each(|(g, ties)| *g /= ties.max(1.0));
                let mut data = Vec::with_capacity(n);
                walk.each(|start, [j, _]| {
                    data.extend(x.data[start..start + run].iter().enumerate().map(|(k, x)| {
                        let j = if moves { j + k } else { j };
                        if *x == y.data[j] { g.data[j] } else { 0.0 }
                    }));
                });
                vec![Some(Tensor::new(shape, data))]
            }
        }
    }
}

/// The most extreme elements, as `pick` picks from two, over the axes along which `shape` is broadcast to the tensor.
fn extremes(x: &Tensor, shape: &[usize], none: f32, pick: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let walk = Walk::new(&x.shape, [shape, &[]]);
    let mut out = vec![none; shape.iter().product()];
    walk.each(|start, [j, _]| {
        let x = &x.data[start..start + walk.run];
        if walk.moves[0] {
            out[j..j + walk.run].iter_mut().zip(x).for_each(|(m, x)| *m = pick(*m, *x));
        } else {
            out[j] = x.iter().fold(out[j], |m, x| pick(m, *x));
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{any, distinct, gradients};

    const ALL: [Reduction; 4] = [Reduction::Mean, Reduction::Sum, Reduction::Max, Reduction::Min];

    fn run(reduction: Reduction, axes: &[usize], keep: bool, x: &Tensor) -> Tensor {
        Reduce { reduction, axes: axes.to_vec(), keep }.forward(vec![Value::Borrowed(x)], None).remove(0)
    }

    #[test]
    fn derivatives() {
        let shapes: [(&[usize], &[usize]); 14] = [
            (&[], &[]),
            (&[1], &[0]),
            (&[1], &[]),
            (&[3, 4], &[]),
            (&[3, 4], &[0, 1]),
            (&[3, 4], &[0]),
            (&[3, 4], &[1]),
            (&[2, 3, 3, 3], &[2, 3]),
            (&[2, 3, 3, 2], &[0, 2]),
            (&[2, 3, 2, 2], &[1, 3]),
            (&[2, 1, 2, 1, 2, 3], &[0, 1, 4]),
            (&[0, 3], &[0]),
            (&[0, 3], &[1]),
            (&[2, 0, 3], &[0, 2]),
        ];
        for reduction in ALL {
            for (shape, axes) in shapes {
                for keep in [false, true] {
                    let extreme = matches!(reduction, Reduction::Max | Reduction::Min);
                    let x = if extreme { distinct(shape, 5) } else { any(shape, 5) };
                    gradients(&Reduce { reduction, axes: axes.to_vec(), keep }, &[x]);
                }
            }
        }
    }

    #[test]
    fn known_values() {
        let x = Tensor::new([2, 3], vec![1.0, -2.0, 4.0, 3.0, 5.0, -f32::INFINITY]);
        assert_eq!(run(Reduction::Max, &[1], false, &x), Tensor::new([2], vec![4.0, 5.0]));
        assert_eq!(run(Reduction::Min, &[1], true, &x), Tensor::new([2, 1], vec![-2.0, -f32::INFINITY]));
        assert_eq!(run(Reduction::Sum, &[0], false, &x), Tensor::new([3], vec![4.0, 3.0, -f32::INFINITY]));
        assert_eq!(run(Reduction::Mean, &[1], false, &x), Tensor::new([2], vec![1.0, -f32::INFINITY]));
        assert_eq!(run(Reduction::Sum, &[0, 1], false, &Tensor::new([1, 4], vec![1.0, 2.0, 3.0, 4.5])), Tensor::new([], vec![10.5]));
        let nan = Tensor::new([3, 2], vec![1.0, f32::NAN, f32::NAN, 1.0, 0.0, 2.0]);
        for reduction in ALL {
            assert!(run(reduction, &[0], false, &nan).data.iter().all(|x| x.is_nan()));
            assert!(run(reduction, &[0, 1], false, &nan).data[0].is_nan());
            assert_eq!(run(reduction, &[], false, &x), x);
        }
    }

    #[test]
    fn of_nothing() {
        let x = Tensor::zeros([0, 2]);
        assert_eq!(run(Reduction::Sum, &[0], false, &x).data, [0.0; 2]);
        assert_eq!(run(Reduction::Max, &[0], true, &x), Tensor::new([1, 2], vec![-f32::INFINITY; 2]));
        assert_eq!(run(Reduction::Min, &[0, 1], false, &x), Tensor::new([], vec![f32::INFINITY]));
        assert!(run(Reduction::Mean, &[0], false, &x).data.iter().all(|x| x.is_nan()));
        assert_eq!(run(Reduction::Mean, &[1], false, &x), Tensor::zeros([0]));
    }

    /// A plain f32 sum of these is off by hundreds.
    #[test]
    fn long_sums_are_exact() {
        let x = Tensor::new([1 << 22], vec![16_777_217.0 / 16_777_216.0 + 0.1; 1 << 22]);
        let expected = f64::from(x.data[0]) * f64::from(1 << 22);
        assert_eq!(run(Reduction::Sum, &[0], false, &x).data, [expected as f32]);
        assert_eq!(run(Reduction::Mean, &[0], false, &x).data, [x.data[0]]);
    }

    #[test]
    fn ties_share() {
        let x = Tensor::new([2, 3], vec![2.0, 2.0, 1.0, 5.0, 5.0, 5.0]);
        let op = Reduce { reduction: Reduction::Max, axes: vec![1], keep: false };
        let y = op.forward(vec![Value::Borrowed(&x)], None).remove(0);
        let tape = Tape { inputs: &[Some(&x)], outputs: &[Some(&y)], input_shapes: &[&[2, 3]], output_shapes: &[&[2]], aux: &[] };
        let g = op.vjp(&tape, vec![Some(Tensor::new([2], vec![1.0, 3.0]))], &[true]).remove(0);
        assert_eq!(g, Some(Tensor::new([2, 3], vec![0.5, 0.5, 0.0, 1.0, 1.0, 1.0])));
    }

    #[test]
    fn wrong_axes_are_told() {
        let shapes = |axes: &[usize]| Reduce { reduction: Reduction::Sum, axes: axes.to_vec(), keep: false }.shapes(&[&[2, 3]]);
        assert_eq!(shapes(&[2]).unwrap_err(), "its axes [2] are not axes of its input of shape [2, 3]");
        assert!(shapes(&[1, 0]).is_err() && shapes(&[0, 0]).is_err());
        assert_eq!(shapes(&[0, 1]), Ok(vec![vec![]]));
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::{any, *};

        use super::*;

        proptest! {
            /// Every element goes to the output whose index is its own without the reduced axes.
            #[test]
            fn as_index_by_index(axes in prop::collection::vec((0usize..4, any::<bool>()), 0..=6), keep in any::<bool>()) {
                let shape: Vec<usize> = axes.iter().map(|(n, _)| *n).collect();
                let reduced: Vec<usize> = (0..axes.len()).filter(|&i| axes[i].1).collect();
                let x = super::any(&shape, 7);
                let out: Vec<usize> = axes.iter().filter(|(_, r)| keep || !r).map(|(n, r)| if *r { 1 } else { *n }).collect();
                let len = out.iter().product();
                let (mut sums, mut max) = (vec![0f64; len], vec![f32::NEG_INFINITY; len]);
                for (k, x) in x.data.iter().enumerate() {
                    let (mut rest, mut index, mut stride) = (k, 0, 1);
                    for (n, r) in axes.iter().rev() {
                        if !r {
                            index += rest % n * stride;
                            stride *= n;
                        }
                        rest /= n;
                    }
                    sums[index] += f64::from(*x);
                    max[index] = max[index].max(*x);
                }
                let y = run(Reduction::Sum, &reduced, keep, &x);
                prop_assert_eq!(&y.shape, &out);
                for (y, s) in y.data.iter().zip(&sums) {
                    prop_assert!((f64::from(*y) - s).abs() < 1e-5);
                }
                prop_assert_eq!(run(Reduction::Max, &reduced, keep, &x), Tensor::new(out, max));
            }
        }
    }
}
