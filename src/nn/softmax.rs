//! Softmax and its logarithm.

use std::ops::Range;

use super::binary::{arity, sum, sum2};
use super::{Needs, Operator, Tape, Tensor, Value};

/// `e^x / Σ e^x` over the axes of `axes` together.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax {
    /// Normalized axes, a contiguous range counted from the start: one since opset 13, all from `axis` on before. No axis at all
    /// stands for one of length 1.
    pub axes: Range<usize>,
    /// Whether the result is the logarithm.
    pub log: bool,
}

impl Softmax {
    /// Elements normalized together, and how far apart they are.
    fn extent(&self, shape: &[usize]) -> (usize, usize) {
        (shape[self.axes.clone()].iter().product(), shape[self.axes.end..].iter().product())
    }
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "LogSoftmax" } else { "Softmax" }
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 1..=1)?;
        let Range { start, end } = self.axes;
        if start > end || end > inputs[0].len() {
            return Err(format!("its axes {start} to {end} are not in its input of shape {:?}", inputs[0]));
        }
        Ok(vec![inputs[0].to_vec()])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let mut x = inputs.pop().expect("shapes() saw an input").into_owned();
        let (count, apart) = self.extent(&x.shape);
        if x.is_empty() {
            return vec![x];
        }
        // The greatest becomes 0: no exponential overflows, and no sum is below 1.
        if apart == 1 {
            for row in x.data.chunks_exact_mut(count) {
                let greatest = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
                row.iter_mut().for_each(|x| *x -= greatest);
                if self.log {
                    let log = sum(row, |x| f64::from(x.exp())).ln() as f32;
                    row.iter_mut().for_each(|x| *x -= log);
                } else {
                    row.iter_mut().for_each(|x| *x = x.exp());
                    let factor = sum(row, f64::from).recip() as f32;
                    row.iter_mut().for_each(|x| *x *= factor);
                }
            }
            return vec![x];
        }
        let (mut greatest, mut sums, mut last) = (vec![0.0; apart], vec![0.0; apart], vec![0.0; apart]);
        for block in x.data.chunks_exact_mut(count * apart) {
            greatest.fill(f32::NEG_INFINITY);
            for row in block.chunks_exact(apart) {
                greatest.iter_mut().zip(row).for_each(|(m, x)| *m = m.max(*x));
            }
            sums.fill(0.0);
            for row in block.chunks_exact_mut(apart) {
                for ((x, m), s) in row.iter_mut().zip(&greatest).zip(&mut sums) {
                    *x -= m;
                    let e = x.exp();
                    *s += f64::from(e);
                    *x = if self.log { *x } else { e };
                }
            }
            let finish = |(l, s): (&mut f32, &f64)| *l = if self.log { s.ln() } else { s.recip() } as f32;
            last.iter_mut().zip(&sums).for_each(finish);
            for row in block.chunks_exact_mut(apart) {
                if self.log {
                    row.iter_mut().zip(&last).for_each(|(x, l)| *x -= l);
                } else {
                    row.iter_mut().zip(&last).for_each(|(x, l)| *x *= l);
                }
            }
        }
        vec![x]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![], outputs: vec![wanted[0]] }
    }

    /// `y·(g − Σ g·y)`, and `g − eʸ·Σ g` of the logarithm.
    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(mut g) = cotangents[0].take().filter(|_| wanted[0]) else { return vec![None] };
        let y = tape.output(0);
        let (count, apart) = self.extent(&y.shape);
        if g.is_empty() {
            return vec![Some(g)];
        }
        let log = self.log;
        let slope = |g: f32, y: f32, sum: f32| if log { g - y.exp() * sum } else { y * (g - sum) };
        if apart == 1 {
            for (g, y) in g.data.chunks_exact_mut(count).zip(y.data.chunks_exact(count)) {
                let s = sum2(g, y, |g, y| f64::from(g) * if log { 1.0 } else { f64::from(y) }) as f32;
                g.iter_mut().zip(y).for_each(|(g, y)| *g = slope(*g, *y, s));
            }
            return vec![Some(g)];
        }
        let mut sums = vec![0.0; apart];
        for (g, y) in g.data.chunks_exact_mut(count * apart).zip(y.data.chunks_exact(count * apart)) {
            sums.fill(0.0);
            for (g, y) in g.chunks_exact(apart).zip(y.chunks_exact(apart)) {
                let add = |(s, (g, y)): (&mut f64, (&f32, &f32))| *s += f64::from(*g) * if log { 1.0 } else { f64::from(*y) };
                sums.iter_mut().zip(g.iter().zip(y)).for_each(add);
            }
            for (g, y) in g.chunks_exact_mut(apart).zip(y.chunks_exact(apart)) {
                g.iter_mut().zip(y.iter().zip(&sums)).for_each(|(g, (y, s))| *g = slope(*g, *y, *s as f32));
            }
        }
        vec![Some(g)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{any, gradients};

    fn run(axes: Range<usize>, log: bool, x: &Tensor) -> Tensor {
        Softmax { axes, log }.forward(vec![Value::Borrowed(x)], None).remove(0)
    }

    #[test]
    fn derivatives() {
        for log in [false, true] {
            for (shape, axes) in [
                (&[3, 5][..], 1..2),
                (&[3, 5], 0..1),
                (&[2, 3, 4], 1..3),
                (&[2, 3, 2, 2], 1..2),
                (&[2, 1], 1..2),
                (&[0, 3], 1..2),
                (&[2, 0], 1..2),
            ] {
                gradients(&Softmax { axes, log }, &[any(shape, 1)]);
            }
            gradients(&Softmax { axes: 0..0, log }, &[any(&[], 1)]);
            gradients(&Softmax { axes: 0..3, log }, &[any(&[2, 3, 2], 1)]);
            gradients(&Softmax { axes: 2..2, log }, &[any(&[2, 3], 1)]);
        }
    }

    #[test]
    fn known_values() {
        let x = Tensor::new([2, 3], vec![0.0, 2f32.ln(), 5f32.ln(), 1000.0, 1000.0, -f32::INFINITY]);
        let y = run(1..2, false, &x);
        let expected = [0.125, 0.25, 0.625, 0.5, 0.5, 0.0];
        assert!(y.data.iter().zip(&expected).all(|(y, e): (&f32, &f32)| (y - e).abs() < 1e-7), "{y:?}");
        let log = run(1..2, true, &x);
        assert!(log.data[..5].iter().zip(&expected).all(|(y, e)| (y - e.ln()).abs() < 1e-6), "{log:?}");
        assert_eq!(log.data[5], -f32::INFINITY);
        // Far from the greatest the logarithm is still there, where the softmax has long been 0.
        let far = Tensor::new([2], vec![1e4, -1e4]);
        assert_eq!((run(0..1, false, &far).data, run(0..1, true, &far).data), (vec![1.0, 0.0], vec![0.0, -2e4]));
    }

    #[test]
    fn what_is_undefined_is_nan_in_its_row_only() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for x in [[nan, 1.0], [1.0, nan], [inf, 1.0], [-inf, -inf]] {
            let rows = Tensor::new([2, 2], vec![x[0], x[1], 0.0, 0.0]);
            let columns = Tensor::new([2, 2], vec![x[0], 0.0, x[1], 0.0]);
            for log in [false, true] {
                let (y, z) = (run(1..2, log, &rows).data, run(0..1, log, &columns).data);
                assert!(y[0].is_nan() || y[1].is_nan());
                let other = if log { -std::f32::consts::LN_2 } else { 0.5 };
                assert_eq!((y[2], y[3], z[1], z[3]), (other, other, other, other));
            }
        }
    }

    /// Over any axes it is the softmax of rows after a transposition.
    #[test]
    fn over_columns_as_over_rows() {
        let x = any(&[3, 7, 5], 9);
        for log in [false, true] {
            let y = run(1..2, log, &x);
            for (i, k) in (0..3).flat_map(|i| (0..5).map(move |k| (i, k))) {
                let row: Vec<f32> = (0..7).map(|j| x.data[(i * 7 + j) * 5 + k]).collect();
                let row = run(0..1, log, &Tensor::new([7], row)).data;
                assert!((0..7).all(|j| (y.data[(i * 7 + j) * 5 + k] - row[j]).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn axes_beyond_the_input_are_told() {
        let e = Softmax { axes: 1..3, log: false }.shapes(&[&[2, 3]]).unwrap_err();
        assert_eq!(e, "its axes 1 to 3 are not in its input of shape [2, 3]");
    }
}
