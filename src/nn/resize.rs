//! Resampling of spatial axes: Resize and Upsample.
//!
//! Both ways of interpolating are separable: axis by axis, every element of the result is a mean of two neighbours (or is one element),
//! by a table that is made once per axis. Coordinates beyond the first and last element are clamped to them.

use super::{
    Needs, Operator, Tape, Tensor, Value,
    arrange::{around, bounded, cotangent, only, take},
};

/// Which input element is nearest to a coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearest {
    /// Half goes down.
    RoundPreferFloor,
    /// Half goes up.
    RoundPreferCeil,
    /// The one before.
    Floor,
    /// The one after.
    Ceil,
}

/// Where an output element lies in the input (ONNX, `coordinate_transformation_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// `(x + ½)/scale − ½`.
    HalfPixel,
    /// The same, with an offset that keeps the image centred when the output size was rounded.
    HalfPixelSymmetric,
    /// The same, but 0 for an output of length 1.
    PytorchHalfPixel,
    /// First and last elements coincide.
    AlignCorners,
    /// `x/scale`.
    Asymmetric,
}

/// How values between elements are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest element.
    Nearest(Nearest),
    /// Linear in every axis.
    Linear,
}

/// Resize of any axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// Shape of the result.
    pub shape: Vec<usize>,
    /// Output length over input length as the coordinates take it, per axis; exactly 1 leaves the axis alone.
    pub scales: Vec<f32>,
    /// How values are found.
    pub interpolation: Interpolation,
    /// Where elements lie.
    pub coordinates: Coordinates,
}

/// Longest axis: beyond it `f32` coordinates, which everybody computes with, cannot tell neighbours apart.
const LONGEST: usize = 1 << 24;

/// An axis that is resampled: how many elements are before it, its lengths in input and result, the distance of neighbours on it, and
/// for every element of the result the element of the input at or before it and the weight of the one after.
struct Pass {
    outer: usize,
    from: usize,
    to: usize,
    inner: usize,
    table: Vec<(u32, f32)>,
}

impl Pass {
    /// Elements before and after the pass.
    fn sizes(&self) -> (usize, usize) {
        (self.outer * self.from * self.inner, self.outer * self.to * self.inner)
    }

    /// Calls for all pieces of `inner` elements of the result: the piece's number, the numbers of the two pieces of the input it is made
    /// of, and the weight of the second.
    fn pieces(&self, mut f: impl FnMut(usize, usize, usize, f32)) {
        for outer in 0..self.outer {
            for (i, &(low, weight)) in self.table.iter().enumerate() {
                let low = low as usize;
                let high = if weight > 0.0 { low + 1 } else { low };
                f(outer * self.to + i, outer * self.from + low, outer * self.from + high, weight);
            }
        }
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let (inner, mut out) = (self.inner, vec![0.0; self.sizes().1]);
        if inner == 1 {
            for (out, x) in out.chunks_exact_mut(self.to).zip(x.chunks_exact(self.from)) {
                for (out, &(low, weight)) in out.iter_mut().zip(&self.table) {
                    let low = low as usize;
                    *out = if weight > 0.0 { x[low] * (1.0 - weight) + x[low + 1] * weight } else { x[low] };
                }
            }
            return out;
        }
        self.pieces(|i, low, high, weight| {
            let out = &mut out[i * inner..][..inner];
            let (low, high) = (&x[low * inner..][..inner], &x[high * inner..][..inner]);
            if weight > 0.0 {
                out.iter_mut().zip(low.iter().zip(high)).for_each(|(out, (a, b))| *out = a * (1.0 - weight) + b * weight);
            } else {
                out.copy_from_slice(low);
            }
        });
        out
    }

    fn adjoint(&self, g: &[f32]) -> Vec<f32> {
        let (inner, mut dx) = (self.inner, vec![0.0; self.sizes().0]);
        self.pieces(|i, low, high, weight| {
            let g = &g[i * inner..][..inner];
            dx[low * inner..][..inner].iter_mut().zip(g).for_each(|(dx, g)| *dx += g * (1.0 - weight));
            if weight > 0.0 {
                dx[high * inner..][..inner].iter_mut().zip(g).for_each(|(dx, g)| *dx += g * weight);
            }
        });
        dx
    }
}

impl Resize {
    /// Where element `i` of an axis of the result lies in the input. With the roundings of onnxruntime, which computes in `f32` but for
    /// one sum: which element is nearest may hang on the last bit.
    fn coordinate(&self, i: usize, from: usize, to: usize, scale: f32) -> f32 {
        let (x, from, to) = (i as f32, from as f32, to as f32);
        let half_pixel = (x + 0.5) / scale - 0.5;
        match self.coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::PytorchHalfPixel if to > 1.0 => half_pixel,
            Coordinates::HalfPixelSymmetric => {
                let offset = from / 2.0 * (1.0 - to / (scale * from));
                (f64::from(offset) + (f64::from(x) + 0.5) / f64::from(scale) - 0.5) as f32
            }
            Coordinates::AlignCorners if to > 1.0 => x * (from - 1.0) / (to - 1.0),
            Coordinates::AlignCorners | Coordinates::PytorchHalfPixel => 0.0,
            Coordinates::Asymmetric => x / scale,
        }
    }

    fn table(&self, from: usize, to: usize, scale: f32) -> Vec<(u32, f32)> {
        let last = from - 1;
        let entry = |i| {
            let x = self.coordinate(i, from, to, scale);
            match self.interpolation {
                Interpolation::Nearest(rounding) => {
                    let nearest = match rounding {
                        Nearest::Floor => x.floor(),
                        Nearest::Ceil => x.ceil(),
                        Nearest::RoundPreferFloor => (x - 0.5).ceil(),
                        Nearest::RoundPreferCeil => x.round(),
                    };
                    // The conversion saturates, and makes 0 of NaN.
                    ((nearest as usize).min(last) as u32, 0.0)
                }
                Interpolation::Linear => {
                    let x = x.max(0.0).min(last as f32);
                    let low = (x as usize).min(last);
                    (low as u32, if low < last { x - low as f32 } else { 0.0 })
                }
            }
        };
        (0..to).map(entry).collect()
    }

    /// One pass per axis that changes, in the order they are done: axes that shrink, then those that grow, the last of them first, so
    /// that nothing between is larger than input or result, and long rows are mixed rather than single elements. There are elements.
    fn passes(&self, shape: &[usize]) -> Vec<Pass> {
        let changes = |&axis: &usize| shape[axis] != self.shape[axis] || self.scales[axis] != 1.0;
        let (shrinking, growing): (Vec<usize>, Vec<usize>) =
            (0..shape.len()).filter(changes).partition(|&axis| self.shape[axis] < shape[axis]);
        let mut shape = shape.to_vec();
        let pass = |axis: usize| {
            let (outer, from, inner) = around(&shape, axis).expect("there are elements");
            let to = self.shape[axis];
            shape[axis] = to;
            Pass { outer, from, to, inner, table: self.table(from, to, self.scales[axis]) }
        };
        shrinking.into_iter().chain(growing.into_iter().rev()).map(pass).collect()
    }
}

impl Operator for Resize {
    fn name(&self) -> &'static str {
        "Resize"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        if self.shape.len() != shape.len() || self.scales.len() != shape.len() {
            return Err(format!("it resizes {} axes, but its input has {}", self.shape.len(), shape.len()));
        }
        for (axis, (&from, (&to, &scale))) in shape.iter().zip(self.shape.iter().zip(&self.scales)).enumerate() {
            if !scale.is_finite() || scale <= 0.0 {
                return Err(format!("its scale {scale} of axis {axis} is no positive number"));
            }
            if from == to && scale == 1.0 {
                continue;
            }
            if from == 0 && to > 0 {
                return Err(format!("it makes {to} elements of an empty axis {axis}"));
            }
            if from.max(to) > LONGEST {
                return Err(format!("it resizes axis {axis} with {} elements, more than {LONGEST}", from.max(to)));
            }
        }
        Ok(vec![bounded(self.shape.clone())?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        if self.shape.contains(&0) {
            return vec![Tensor::new(self.shape.clone(), Vec::new())];
        }
        let passes = self.passes(&x.shape);
        let Some((first, others)) = passes.split_first() else { return vec![x.into_owned()] };
        let data = others.iter().fold(first.forward(&x.data), |data, pass| pass.forward(&data));
        vec![Tensor::new(self.shape.clone(), data)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let back = |g: Tensor| {
            let shape = tape.input_shapes[0];
            if g.is_empty() {
                return Tensor::zeros(shape);
            }
            let data = self.passes(shape).iter().rev().fold(g.data, |data, pass| pass.adjoint(&data));
            Tensor::new(shape, data)
        };
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{
        arrange::tests::{adjoint, integers, run},
        check,
    };

    const ROUNDINGS: [Nearest; 4] = [Nearest::RoundPreferFloor, Nearest::RoundPreferCeil, Nearest::Floor, Nearest::Ceil];
    const COORDINATES: [Coordinates; 5] = [
        Coordinates::HalfPixel,
        Coordinates::HalfPixelSymmetric,
        Coordinates::PytorchHalfPixel,
        Coordinates::AlignCorners,
        Coordinates::Asymmetric,
    ];

    fn interpolations() -> Vec<Interpolation> {
        ROUNDINGS.map(Interpolation::Nearest).into_iter().chain([Interpolation::Linear]).collect()
    }

    /// To a shape, with the ratios of lengths as scales.
    fn to(from: &[usize], shape: &[usize], interpolation: Interpolation, coordinates: Coordinates) -> Resize {
        let scales = shape.iter().zip(from).map(|(&to, &from)| if from == to { 1.0 } else { to as f32 / from as f32 }).collect();
        Resize { shape: shape.to_vec(), scales, interpolation, coordinates }
    }

    fn close(op: &Resize, x: &Tensor, expected: &[f32]) {
        let y = run(op, std::slice::from_ref(x)).remove(0);
        assert_eq!(y.len(), expected.len(), "{op:?}");
        let far = y.data.iter().zip(expected).any(|(y, e)| (y - e).abs() > 1e-5 * (1.0 + e.abs()));
        assert!(!far, "{op:?}: {:?}, not {expected:?}", y.data);
    }

    #[test]
    fn examples_of_the_standard() {
        let x = Tensor::new([1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let op = |coordinates| to(&x.shape, &[1, 1, 4, 4], Interpolation::Linear, coordinates);
        let rows = [1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3.0, 3.25, 3.75, 4.0];
        close(&op(Coordinates::HalfPixel), &x, &rows);
        let thirds: Vec<f32> = (0..16).map(|i| 1.0 + (i / 4) as f32 * 2.0 / 3.0 + (i % 4) as f32 / 3.0).collect();
        close(&op(Coordinates::AlignCorners), &x, &thirds);
        let nearest = Interpolation::Nearest(Nearest::RoundPreferFloor);
        let op = to(&x.shape, &[1, 1, 4, 6], nearest, Coordinates::HalfPixel);
        let rows = [[1.0, 1.0, 1.0, 2.0, 2.0, 2.0], [3.0, 3.0, 3.0, 4.0, 4.0, 4.0]];
        close(&op, &x, &[rows[0], rows[0], rows[1], rows[1]].concat());
        let x = Tensor::new([1, 1, 2, 4], (1..9).map(|i| i as f32).collect());
        let down = |coordinates| Resize {
            shape: vec![1, 1, 1, 2],
            scales: vec![1.0, 1.0, 0.6, 0.6],
            interpolation: Interpolation::Linear,
            coordinates,
        };
        close(&down(Coordinates::HalfPixel), &x, &[2.666_666_5, 4.333_333]);
        let row = Tensor::new([1, 4], vec![1.0, 2.0, 3.0, 4.0]);
        let symmetric = Resize {
            shape: vec![1, 2],
            scales: vec![1.0, 0.6],
            coordinates: Coordinates::HalfPixelSymmetric,
            ..down(Coordinates::HalfPixel)
        };
        close(&symmetric, &row, &[1.666_666_7, 3.333_333_3]);
        close(&down(Coordinates::AlignCorners), &x, &[1.0, 4.0]);
    }

    /// Against onnxruntime 1.x.
    #[test]
    fn as_onnxruntime() {
        type Case<'a> = (Interpolation, Coordinates, [f32; 2], [usize; 2], &'a [f32]);
        let x = Tensor::new([1, 1, 3, 5], vec![1.0, 2.0, 4.0, 8.0, 3.0, 5.0, -1.0, 7.0, 0.0, 6.0, 2.0, 9.0, -4.0, 1.0, 10.0]);
        #[rustfmt::skip]
        let cases: &[Case] = &[
            (Interpolation::Nearest(Nearest::Floor), Coordinates::Asymmetric, [1.7, 2.0], [5, 10], &[1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0, 3.0, 3.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0, 3.0, 3.0, 5.0, 5.0, -1.0, -1.0, 7.0, 7.0, 0.0, 0.0, 6.0, 6.0, 5.0, 5.0, -1.0, -1.0, 7.0, 7.0, 0.0, 0.0, 6.0, 6.0, 2.0, 2.0, 9.0, 9.0, -4.0, -4.0, 1.0, 1.0, 10.0, 10.0]),
            (Interpolation::Nearest(Nearest::RoundPreferFloor), Coordinates::HalfPixel, [2.0, 0.6], [6, 3], &[1.0, 4.0, 3.0, 1.0, 4.0, 3.0, 5.0, 7.0, 6.0, 5.0, 7.0, 6.0, 2.0, -4.0, 10.0, 2.0, -4.0, 10.0]),
            (Interpolation::Nearest(Nearest::RoundPreferCeil), Coordinates::HalfPixel, [2.0, 0.6], [6, 3], &[1.0, 4.0, 3.0, 1.0, 4.0, 3.0, 5.0, 7.0, 6.0, 5.0, 7.0, 6.0, 2.0, -4.0, 10.0, 2.0, -4.0, 10.0]),
            (Interpolation::Nearest(Nearest::Ceil), Coordinates::AlignCorners, [1.0, 1.7], [3, 8], &[1.0, 2.0, 4.0, 4.0, 8.0, 8.0, 3.0, 3.0, 5.0, -1.0, 7.0, 7.0, 0.0, 0.0, 6.0, 6.0, 2.0, 9.0, -4.0, -4.0, 1.0, 1.0, 10.0, 10.0]),
            (Interpolation::Nearest(Nearest::RoundPreferFloor), Coordinates::HalfPixelSymmetric, [0.5, 1.3], [1, 6], &[5.0, -1.0, 7.0, 7.0, 0.0, 6.0]),
            (Interpolation::Linear, Coordinates::HalfPixel, [1.7, 0.6], [5, 3], &[1.33333, 4.0, 4.66667, 1.97059, 5.14706, 4.41177, 2.95098, 6.91176, 4.01961, 3.7451, 0.85294, 5.67647, 4.33333, -4.0, 7.0]),
            (Interpolation::Linear, Coordinates::HalfPixelSymmetric, [2.0, 0.7], [6, 3], &[1.57143, 4.0, 5.85714, 1.57143, 4.75, 5.03571, 1.57143, 6.25, 3.39286, 2.67857, 4.25, 3.14286, 4.89286, -1.25, 4.28571, 6.0, -4.0, 4.85714]),
            (Interpolation::Linear, Coordinates::PytorchHalfPixel, [0.4, 0.5], [1, 2], &[1.5, 6.0]),
            (Interpolation::Linear, Coordinates::Asymmetric, [1.5, 0.8], [4, 4], &[1.0, 2.5, 6.0, 4.25, 3.66667, 1.5, 4.33333, 4.41667, 4.0, 2.58333, 1.83333, 5.58333, 2.0, 5.75, -1.5, 7.75]),
            (Interpolation::Linear, Coordinates::AlignCorners, [0.7, 1.3], [2, 6], &[1.0, 1.8, 3.2, 5.6, 7.0, 3.0, 2.0, 7.6, 1.2, -2.0, 2.8, 10.0]),
        ];
        for &(interpolation, coordinates, [y, x_], [height, width], expected) in cases {
            let op = Resize { shape: vec![1, 1, height, width], scales: vec![1.0, 1.0, y, x_], interpolation, coordinates };
            close(&op, &x, expected);
        }
    }

    #[test]
    fn corners_on_corners() {
        for (from, shape) in [([1, 1, 3, 5], [1, 1, 8, 9]), ([1, 1, 9, 4], [1, 1, 2, 13]), ([2, 3, 2, 2], [5, 3, 7, 3])] {
            let x = integers(&from, 1);
            let y = run(&to(&from, &shape, Interpolation::Linear, Coordinates::AlignCorners), std::slice::from_ref(&x)).remove(0);
            for corner in 0..16 {
                let corner = |shape: &[usize]| (0..4).map(|i| if corner >> i & 1 == 1 { shape[i] - 1 } else { 0 }).collect::<Vec<_>>();
                use crate::nn::arrange::tests::at;
                assert_eq!(at(&y, &corner(&shape)), at(&x, &corner(&from)));
            }
        }
    }

    #[test]
    fn derivatives() {
        let x = check::any(&[1, 2, 3, 4], 1);
        for coordinates in COORDINATES {
            for interpolation in interpolations() {
                for shape in [[1, 2, 3, 4], [1, 2, 6, 8], [1, 2, 2, 3], [1, 2, 1, 7], [2, 3, 5, 1]] {
                    check::gradients(&to(&x.shape, &shape, interpolation, coordinates), std::slice::from_ref(&x));
                }
            }
        }
    }

    #[test]
    fn an_axis_left_alone_costs_nothing() {
        let x = integers(&[2, 3, 4], 1);
        let place = x.data.as_ptr();
        let op = to(&[2, 3, 4], &[2, 3, 4], Interpolation::Linear, Coordinates::HalfPixel);
        assert_eq!(op.forward(vec![Value::Owned(x)], None)[0].data.as_ptr(), place);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        const MANY: usize = usize::MAX;
        for (shape, scales, of) in [
            (vec![2, 2], vec![1.0, 1.0], vec![2]),
            (vec![2], vec![], vec![2]),
            (vec![2], vec![f32::NAN], vec![2]),
            (vec![2], vec![f32::INFINITY], vec![2]),
            (vec![2], vec![0.0], vec![2]),
            (vec![2], vec![-1.0], vec![2]),
            (vec![2], vec![2.0], vec![0]),
            (vec![MANY, MANY], vec![2.0, 2.0], vec![1, 1]),
            (vec![1 << 25], vec![2.0], vec![1 << 24]),
            (vec![1 << 15, 1 << 14], vec![2.0, 2.0], vec![1, 1]),
        ] {
            let op = Resize { shape, scales, interpolation: Interpolation::Linear, coordinates: Coordinates::HalfPixel };
            op.shapes(&[&of]).expect_err(&format!("{op:?} of {of:?}"));
        }
    }

    #[test]
    fn absurd_scales_stay_inside() {
        for scale in [f32::MIN_POSITIVE / 4.0, 1e-30, 1e30, f32::MAX] {
            for coordinates in COORDINATES {
                for interpolation in interpolations() {
                    let op = Resize { shape: vec![5, 3], scales: vec![scale, 1.0], interpolation, coordinates };
                    let y = run(&op, &[integers(&[4, 3], 1)]).remove(0);
                    assert!(y.data.iter().all(|y| y.abs() <= 8.0), "{op:?}: {y:?}");
                }
            }
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod any_shape {
        use proptest::prelude::*;

        use super::*;
        use crate::nn::arrange::tests::{at, indices};

        /// By the definition, in f64: a product of sums over the neighbours on each axis.
        fn element(x: &Tensor, op: &Resize, index: &[usize]) -> f64 {
            let neighbours = |axis: usize| -> Vec<(usize, f64)> {
                let (from, to) = (x.shape[axis], op.shape[axis]);
                if from == to && op.scales[axis] == 1.0 {
                    return vec![(index[axis], 1.0)];
                }
                let coordinate = op.coordinate(index[axis], from, to, op.scales[axis]);
                let inside = |i: f64| i.clamp(0.0, from as f64 - 1.0) as usize;
                match op.interpolation {
                    Interpolation::Nearest(rounding) => {
                        let (below, above) = (coordinate.floor(), coordinate.ceil());
                        let nearest = match rounding {
                            Nearest::Floor => below,
                            Nearest::Ceil => above,
                            _ if coordinate - below < above - coordinate => below,
                            _ if coordinate - below > above - coordinate => above,
                            Nearest::RoundPreferFloor => below,
                            Nearest::RoundPreferCeil => above,
                        };
                        vec![(inside(f64::from(nearest)), 1.0)]
                    }
                    Interpolation::Linear => {
                        let (below, part) = (f64::from(coordinate).floor(), f64::from(coordinate).rem_euclid(1.0));
                        vec![(inside(below), 1.0 - part), (inside(below + 1.0), part)]
                    }
                }
            };
            let mut places: Vec<(Vec<usize>, f64)> = vec![(Vec::new(), 1.0)];
            for axis in 0..x.shape.len() {
                let on_axis = neighbours(axis);
                let longer = |(place, weight): &(Vec<usize>, f64)| {
                    let (place, weight) = (place.clone(), *weight);
                    on_axis.clone().into_iter().map(move |(i, w)| ([&place[..], &[i]].concat(), weight * w)).collect::<Vec<_>>()
                };
                places = places.iter().flat_map(longer).collect();
            }
            places.iter().map(|(place, weight)| weight * f64::from(at(x, place))).sum()
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(200))]
            #[test]
            fn same_as_index_by_index(lengths in prop::collection::vec((1usize..6, 0usize..9), 1..5), kind in 0usize..25) {
                let (from, shape): (Vec<usize>, Vec<usize>) = lengths.into_iter().unzip();
                let x = integers(&from, 2);
                let op = to(&from, &shape, interpolations()[kind % 5], COORDINATES[kind / 5]);
                if shape.contains(&0) {
                    // The scale is 0 with the length.
                    let op = Resize { scales: vec![0.5; shape.len()], ..op };
                    prop_assert_eq!(&run(&op, std::slice::from_ref(&x))[0].shape, &shape);
                    adjoint(&op, &[x], 0.0);
                    return Ok(());
                }
                let y = run(&op, std::slice::from_ref(&x)).remove(0);
                for (index, &y) in indices(&shape).iter().zip(&y.data) {
                    let expected = element(&x, &op, index);
                    prop_assert!((f64::from(y) - expected).abs() < 1e-5, "{op:?} of {from:?} at {index:?}: {y}, not {expected}");
                }
                adjoint(&op, &[x], if op.interpolation == Interpolation::Linear { 1e-5 } else { 0.0 });
            }
        }
    }
}
