//! Elementwise functions of two inputs, broadcast as in NumPy; and the walk through broadcast arrays that other operators share.

use super::{Needs, Operator, Tape, Tensor, Value};

/// `a ∘ b`.
#[derive(Debug, Clone, PartialEq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a·b`.
    Mul,
    /// `a/b`.
    Div,
    /// `aᵇ`.
    Pow,
    /// The lesser; NaN where either is.
    Min,
    /// The greater; NaN where either is.
    Max,
}

/// Whether the first of two gives the minimum (ties go to it; NaN wins).
fn least(a: f32, b: f32) -> bool {
    a <= b || a.is_nan()
}

fn greatest(a: f32, b: f32) -> bool {
    a >= b || a.is_nan()
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
            Binary::Pow => "Pow",
            Binary::Min => "Min",
            Binary::Max => "Max",
        }
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 2..=2)?;
        Ok(vec![broadcast(inputs[0], inputs[1])?])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let b = inputs.pop().expect("shapes() saw two inputs");
        let a = inputs.pop().expect("shapes() saw two inputs");
        vec![match self {
            Binary::Add => zip(a, b, |a, b| a + b),
            Binary::Sub => zip(a, b, |a, b| a - b),
            Binary::Mul => zip(a, b, |a, b| a * b),
            Binary::Div => zip(a, b, |a, b| a / b),
            // The square of normalizations that are written out.
            Binary::Pow if b.data == [2.0] => zip(a, b, |a, _| a * a),
            Binary::Pow => zip(a, b, f32::powf),
            Binary::Min => zip(a, b, |a, b| if least(a, b) { a } else { b }),
            Binary::Max => zip(a, b, |a, b| if greatest(a, b) { a } else { b }),
        }]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        let any = wanted[0] || wanted[1];
        let inputs = match self {
            Binary::Add | Binary::Sub => vec![],
            Binary::Mul => vec![wanted[1], wanted[0]],
            Binary::Div => vec![wanted[1], any],
            Binary::Pow | Binary::Min | Binary::Max => vec![any, any],
        };
        Needs { inputs, outputs: vec![] }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangents[0].take() else { return vec![None, None] };
        let [a, b] = [tape.input_shapes[0], tape.input_shapes[1]];
        if !wanted[1] {
            return vec![wanted[0].then(|| self.by_first(tape, Value::Owned(g), a)), None];
        }
        let first = wanted[0].then(|| self.by_first(tape, Value::Borrowed(&g), a));
        vec![first, Some(self.by_second(tape, g, b))]
    }
}

impl Binary {
    fn by_first(&self, tape: &Tape<'_>, g: Value<'_>, shape: &[usize]) -> Tensor {
        let of = |i: usize| Some(tape.input(i));
        let g = match self {
            Binary::Add | Binary::Sub => g,
            Binary::Mul => along(g, None, of(1), |g, _, b| g * b),
            Binary::Div => along(g, None, of(1), |g, _, b| g / b),
            Binary::Pow if tape.input(1).data == [2.0] => along(g, of(0), None, |g, a, _| 2.0 * g * a),
            // Without the case of b = 0, 0·∞ at a = 0.
            Binary::Pow => along(g, of(0), of(1), |g, a, b| if b == 0.0 { 0.0 } else { g * b * a.powf(b - 1.0) }),
            Binary::Min => along(g, of(0), of(1), |g, a, b| if least(a, b) { g } else { 0.0 }),
            Binary::Max => along(g, of(0), of(1), |g, a, b| if greatest(a, b) { g } else { 0.0 }),
        };
        reduce_to(g, shape)
    }

    fn by_second(&self, tape: &Tape<'_>, g: Tensor, shape: &[usize]) -> Tensor {
        let of = |i: usize| Some(tape.input(i));
        let g = Value::Owned(g);
        let g = match self {
            Binary::Add => g,
            Binary::Sub => along(g, None, None, |g, _, _| -g),
            Binary::Mul => along(g, of(0), None, |g, a, _| g * a),
            Binary::Div => along(g, of(0), of(1), |g, a, b| -g * (a / b) / b),
            // 0 where the base is not positive, as if the exponent could not move there.
            Binary::Pow => along(g, of(0), of(1), |g, a, b| if a <= 0.0 { 0.0 } else { g * a.powf(b) * a.ln() }),
            Binary::Min => along(g, of(0), of(1), |g, a, b| if least(a, b) { 0.0 } else { g }),
            Binary::Max => along(g, of(0), of(1), |g, a, b| if greatest(a, b) { 0.0 } else { g }),
        };
        reduce_to(g, shape)
    }
}

/// The number of inputs, as a clause where it is wrong.
pub(super) fn arity(inputs: &[&[usize]], count: std::ops::RangeInclusive<usize>) -> Result<(), String> {
    if count.contains(&inputs.len()) {
        return Ok(());
    }
    let wanted = if count.start() == count.end() { count.start().to_string() } else { format!("{} to {}", count.start(), count.end()) };
    Err(format!("it has {} inputs instead of {wanted}", inputs.len()))
}

/// The shape that two shapes are broadcast to.
///
/// # Errors
/// A clause, when there is none.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let both = |axis| match (at(a, axis), at(b, axis)) {
        (1, n) | (n, 1) => Ok(n),
        (m, n) if m == n => Ok(n),
        _ => Err(format!("its inputs of shapes {a:?} and {b:?} cannot be broadcast")),
    };
    (0..rank).map(both).collect()
}

/// A shape that is broadcast to another one: [`broadcast`] gives the other one again.
///
/// # Errors
/// A clause that calls the tensor `what`.
pub(super) fn broadcasts_to(shape: &[usize], to: &[usize], what: &str) -> Result<(), String> {
    match broadcast(shape, to) {
        Ok(shape) if shape == to => Ok(()),
        _ => Err(format!("its {what} of shape {shape:?} cannot be broadcast to {to:?}")),
    }
}

/// A walk through an array of shape `out` and two that are broadcast to it, in runs as long as each of the two either advances by one
/// or stays. Axes of length 1 are gone and neighbours that advance alike are one, so that a channel's bias, a row's bias, a scalar, and
/// equal shapes all come in few long runs.
#[derive(Debug)]
pub(super) struct Walk {
    /// Outer axes, slowest first: length, and what the two arrays advance by.
    outer: Vec<(usize, [usize; 2])>,
    /// Length of a run.
    pub run: usize,
    /// Whether the arrays advance in a run.
    pub moves: [bool; 2],
}

impl Walk {
    /// Shapes must be such that [`broadcasts_to`] is right.
    pub fn new(out: &[usize], shapes: [&[usize]; 2]) -> Walk {
        let mut axes: Vec<(usize, [usize; 2])> = Vec::new();
        let mut strides = [1; 2];
        // From the fastest axis to the slowest.
        for (back, &n) in out.iter().rev().enumerate() {
            let mut steps = [0; 2];
            for i in 0..2 {
                let length = shapes[i].len().checked_sub(back + 1).map_or(1, |axis| shapes[i][axis]);
                if length != 1 {
                    steps[i] = strides[i];
                    strides[i] *= length;
                }
            }
            match axes.last_mut() {
                _ if n == 1 => {}
                Some((m, last)) if (0..2).all(|i| steps[i] == last[i] * *m) => *m *= n,
                _ => axes.push((n, steps)),
            }
        }
        let (run, moves) = if axes.is_empty() { (1, [0; 2]) } else { axes.remove(0) };
        axes.reverse();
        Walk { outer: axes, run, moves: moves.map(|m| m > 0) }
    }

    /// Calls `f` with where the next run starts in `out` and in the two arrays.
    pub fn each(&self, mut f: impl FnMut(usize, [usize; 2])) {
        if self.run == 0 || self.outer.iter().any(|(n, _)| *n == 0) {
            return;
        }
        let mut index = vec![0; self.outer.len()];
        let (mut at, mut start) = ([0; 2], 0);
        loop {
            f(start, at);
            start += self.run;
            let mut axis = self.outer.len();
            loop {
                let Some(next) = axis.checked_sub(1) else { return };
                axis = next;
                let (n, steps) = self.outer[axis];
                index[axis] += 1;
                (0..2).for_each(|i| at[i] += steps[i]);
                if index[axis] < n {
                    break;
                }
                (0..2).for_each(|i| at[i] -= steps[i] * n);
                index[axis] = 0;
            }
        }
    }
}

/// `f` of two tensors, in place of one that is owned and as large as the result.
pub(super) fn zip(a: Value<'_>, b: Value<'_>, f: impl Fn(f32, f32) -> f32) -> Tensor {
    let shape = broadcast(&a.shape, &b.shape).expect("shapes() saw the inputs");
    let n = shape.iter().product();
    // With as many elements the order of elements is the same, whatever axes of length 1 there are.
    match (a, b) {
        (Value::Owned(a), b) if a.len() == n => update(a.reshaped(shape), &b, f),
        (a, Value::Owned(b)) if b.len() == n => update(b.reshaped(shape), &a, |b, a| f(a, b)),
        (a, b) => {
            let walk = Walk::new(&shape, [&a.shape, &b.shape]);
            let mut data = Vec::with_capacity(n);
            walk.each(|_, [i, j]| match walk.moves {
                [true, true] => data.extend(a.data[i..i + walk.run].iter().zip(&b.data[j..j + walk.run]).map(|(a, b)| f(*a, *b))),
                [true, false] => {
                    let b = b.data[j];
                    data.extend(a.data[i..i + walk.run].iter().map(|a| f(*a, b)));
                }
                [false, true] => {
                    let a = a.data[i];
                    data.extend(b.data[j..j + walk.run].iter().map(|b| f(a, *b)));
                }
                [false, false] => data.push(f(a.data[i], b.data[j])),
            });
            Tensor::new(shape, data)
        }
    }
}

/// `a = f(a, b)` where `b` is broadcast to `a`.
pub(super) fn update(mut a: Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32) -> Tensor {
    let walk = Walk::new(&a.shape, [&b.shape, &[]]);
    walk.each(|start, [j, _]| {
        let a = &mut a.data[start..start + walk.run];
        if walk.moves[0] {
            a.iter_mut().zip(&b.data[j..j + walk.run]).for_each(|(a, b)| *a = f(*a, *b));
        } else {
            let b = b.data[j];
            a.iter_mut().for_each(|a| *a = f(*a, b));
        }
    });
    a
}

/// `f(g, a, b)` in place of `g`, where `a` and `b` are broadcast to it; what is not given is 0.
pub(super) fn along<'a>(g: Value<'a>, a: Option<&Tensor>, b: Option<&Tensor>, f: impl Fn(f32, f32, f32) -> f32) -> Value<'a> {
    let mut g = g.into_owned();
    let zero = Tensor::zeros([]);
    let (a, b) = (a.unwrap_or(&zero), b.unwrap_or(&zero));
    let walk = Walk::new(&g.shape, [&a.shape, &b.shape]);
    let run = walk.run;
    walk.each(|start, [i, j]| {
        let g = &mut g.data[start..start + run];
        match walk.moves {
            [true, true] => {
                let ab = a.data[i..i + run].iter().zip(&b.data[j..j + run]);
                g.iter_mut().zip(ab).for_each(|(g, (a, b))| *g = f(*g, *a, *b));
            }
            [true, false] => {
                let b = b.data[j];
                g.iter_mut().zip(&a.data[i..i + run]).for_each(|(g, a)| *g = f(*g, *a, b));
            }
            [false, true] => {
                let a = a.data[i];
                g.iter_mut().zip(&b.data[j..j + run]).for_each(|(g, b)| *g = f(*g, a, *b));
            }
            [false, false] => {
                let (a, b) = (a.data[i], b.data[j]);
                g.iter_mut().for_each(|g| *g = f(*g, a, b));
            }
        }
    });
    Value::Owned(g)
}

/// Sums (in f64) over the axes along which `shape` is broadcast to the tensor.
pub(super) fn reduce_to(g: Value<'_>, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    if n == g.len() {
        return g.into_owned().reshaped(shape);
    }
    Tensor::new(shape, sums(&g, shape).iter().map(|s| *s as f32).collect())
}

/// The sums of [`reduce_to`].
pub(super) fn sums(g: &Tensor, shape: &[usize]) -> Vec<f64> {
    let walk = Walk::new(&g.shape, [shape, &[]]);
    let mut sums = vec![0.0; shape.iter().product()];
    walk.each(|start, [j, _]| {
        let g = &g.data[start..start + walk.run];
        if walk.moves[0] {
            sums[j..j + walk.run].iter_mut().zip(g).for_each(|(s, g)| *s += f64::from(*g));
        } else {
            sums[j] += sum(g, f64::from);
        }
    });
    sums
}

/// Sums run in lanes, so that they are vector sums; their order depends on the length alone.
const LANES: usize = 8;

/// `Σ f(x)`.
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(s, x)| *s += f(*x));
    }
    lanes.iter().sum::<f64>() + rest
}

/// `Σ f(x, y)`.
pub(super) fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| f(*x, *y)).sum();
    for (x, y) in xs.zip(ys) {
        lanes.iter_mut().zip(x.iter().zip(y)).for_each(|(s, (x, y))| *s += f(*x, *y));
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{any, away, distinct, gradients, positive};

    const ALL: [Binary; 7] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Pow, Binary::Min, Binary::Max];

    fn run(op: &Binary, a: Tensor, b: Tensor) -> Tensor {
        op.forward(vec![Value::Owned(a), Value::Borrowed(&b)], None).remove(0)
    }

    fn values(op: &Binary, a: &[f32], b: &[f32]) -> Vec<f32> {
        run(op, Tensor::new([a.len()], a.to_vec()), Tensor::new([b.len()], b.to_vec())).data
    }

    /// Shapes that fit each other in many ways: equal, scalars, channels, rows, both sides, empty, rank 6.
    const SHAPES: [(&[usize], &[usize]); 16] = [
        (&[], &[]),
        (&[], &[1]),
        (&[2, 3], &[]),
        (&[2, 3], &[2, 3]),
        (&[1, 3], &[3]),
        (&[2, 3, 2, 2], &[3, 1, 1]),
        (&[2, 3, 2, 2], &[1, 3, 1, 1]),
        (&[2, 3, 4], &[4]),
        (&[2, 3, 1, 1], &[2, 3, 2, 3]),
        (&[3, 1], &[1, 4]),
        (&[2, 1, 3, 1], &[4, 1, 2]),
        (&[0, 3], &[3]),
        (&[0, 3], &[1, 1]),
        (&[1, 3], &[0, 1]),
        (&[2, 1, 2, 1, 2, 1], &[1, 2, 2, 1, 1, 3]),
        (&[1, 1, 1, 1, 1, 1], &[5]),
    ];

    #[test]
    fn known_values() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let (a, b) = ([1.0, -2.0, 6.0, 0.0], [4.0, 3.0, -2.0, 5.0]);
        assert_eq!(values(&Binary::Add, &a, &b), [5.0, 1.0, 4.0, 5.0]);
        assert_eq!(values(&Binary::Sub, &a, &b), [-3.0, -5.0, 8.0, -5.0]);
        assert_eq!(values(&Binary::Mul, &a, &b), [4.0, -6.0, -12.0, 0.0]);
        assert_eq!(values(&Binary::Div, &a, &b), [0.25, -2.0 / 3.0, -3.0, 0.0]);
        assert_eq!(values(&Binary::Div, &[1.0, -1.0], &[0.0]), [inf, -inf]);
        assert_eq!(values(&Binary::Pow, &[-2.0, 2.0, 9.0, 0.0], &[3.0, -1.0, 0.5, 0.0]), [-8.0, 0.5, 3.0, 1.0]);
        assert_eq!(values(&Binary::Pow, &[-3.0, 1e30], &[2.0]), [9.0, inf]);
        assert_eq!(values(&Binary::Min, &a, &b), [1.0, -2.0, -2.0, 0.0]);
        assert_eq!(values(&Binary::Max, &a, &b), [4.0, 3.0, 6.0, 5.0]);
        assert_eq!(values(&Binary::Max, &[-inf, inf], &[0.0]), [0.0, inf]);
        for op in [Binary::Min, Binary::Max] {
            assert!(values(&op, &[nan, 1.0], &[1.0, nan]).iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn derivatives() {
        for (op, seed) in ALL.iter().zip(0..) {
            for (a, b) in SHAPES {
                for (a, b) in [(a, b), (b, a)] {
                    let (a, b) = match op {
                        Binary::Div => (any(a, seed), away(b, seed + 50)),
                        Binary::Pow => (positive(a, seed), away(b, seed + 50)),
                        // Quarters and an eighth against quarters: a step of 1/16 changes no order.
                        Binary::Min | Binary::Max => {
                            let (a, mut b) = (distinct(a, seed), distinct(b, seed + 50));
                            b.data.iter_mut().for_each(|b| *b += 0.125);
                            (a, b)
                        }
                        _ => (any(a, seed), any(b, seed + 50)),
                    };
                    gradients(op, &[a, b]);
                }
            }
        }
        // The square, with its own loop; by the base only, for the other derivative is by a single exponent.
        gradients(&Binary::Pow, &[positive(&[3, 4], 1), Tensor::new([1], vec![2.0])]);
        gradients(&Binary::Pow, &[positive(&[3, 4], 1), Tensor::new([], vec![0.5])]);
    }

    fn slopes(op: &Binary, a: &[f32], b: &[f32]) -> [Vec<f32>; 2] {
        let (a, b) = (Tensor::new([a.len()], a.to_vec()), Tensor::new([b.len()], b.to_vec()));
        let shapes = [&a.shape[..], &b.shape];
        let tape = Tape { inputs: &[Some(&a), Some(&b)], outputs: &[None], input_shapes: &shapes, output_shapes: &shapes[..1], aux: &[] };
        let mut g = op.vjp(&tape, vec![Some(Tensor::new([a.len()], vec![1.0; a.len()]))], &[true, true]).into_iter();
        [(); 2].map(|()| g.next().flatten().expect("a derivative").data)
    }

    #[test]
    fn derivatives_where_functions_are_not_smooth() {
        let [a, b] = slopes(&Binary::Pow, &[-2.0, 0.0, 0.0, 0.0, -1.0], &[3.0, 2.0, 0.0, 1.0, 0.0]);
        assert_eq!((a, b), (vec![12.0, 0.0, 0.0, 1.0, 0.0], vec![0.0; 5]));
        let [a, b] = slopes(&Binary::Max, &[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]);
        assert_eq!((a, b), (vec![1.0, 0.0, 1.0], vec![0.0, 1.0, 0.0]));
        let [a, b] = slopes(&Binary::Min, &[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]);
        assert_eq!((a, b), (vec![1.0, 1.0, 0.0], vec![0.0, 0.0, 1.0]));
    }

    #[test]
    fn impossible_shapes_are_told() {
        let e = Binary::Add.shapes(&[&[2, 3], &[4]]).unwrap_err();
        assert_eq!(e, "its inputs of shapes [2, 3] and [4] cannot be broadcast");
        assert_eq!(Binary::Add.shapes(&[&[2]]).unwrap_err(), "it has 1 inputs instead of 2");
        assert!(Binary::Mul.shapes(&[&[0], &[2]]).is_err());
    }

    #[test]
    fn common_broadcasts_walk_in_long_runs() {
        let walk = |out: &[usize], b: &[usize]| {
            let walk = Walk::new(out, [out, b]);
            (walk.outer.len(), walk.run, walk.moves[1])
        };
        assert_eq!(walk(&[2, 3, 4, 5], &[2, 3, 4, 5]), (0, 120, true));
        assert_eq!(walk(&[2, 3, 4, 5], &[]), (0, 120, false));
        assert_eq!(walk(&[2, 3, 4, 5], &[1, 1, 1, 5]), (1, 5, true));
        assert_eq!(walk(&[2, 3, 4, 5], &[3, 1, 1]), (2, 20, false));
        assert_eq!(walk(&[2, 3, 1, 1], &[3, 1, 1]), (1, 3, true));
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::{any, *};

        use super::*;

        /// A shape, and two that are broadcast to it.
        fn shapes() -> impl Strategy<Value = [Vec<usize>; 3]> {
            let axis = (prop_oneof![1 => Just(0usize), 12 => 1usize..4], 0..6usize);
            (prop::collection::vec(axis, 0..=6), 0..7usize, any::<bool>()).prop_map(|(axes, short, left)| {
                let out: Vec<usize> = axes.iter().map(|(n, _)| *n).collect();
                // An axis of the result is one of both, or of the one or the other.
                let mut a: Vec<usize> = axes.iter().map(|(n, who)| if *who == 0 { 1 } else { *n }).collect();
                let mut b: Vec<usize> = axes.iter().map(|(n, who)| if *who == 1 { 1 } else { *n }).collect();
                // Leading axes of length 1 may be left out.
                let shorter = if left { &mut a } else { &mut b };
                let ones = shorter.iter().take_while(|n| **n == 1).count().min(short);
                shorter.drain(..ones);
                [out, a, b]
            })
        }

        /// Index of the element of a tensor that is broadcast to element `k` of `out`.
        fn naive(out: &[usize], shape: &[usize], mut k: usize) -> usize {
            let (mut index, mut stride) = (0, 1);
            for back in 0..out.len() {
                let i = k % out[out.len() - 1 - back];
                k /= out[out.len() - 1 - back];
                if back < shape.len() {
                    let n = shape[shape.len() - 1 - back];
                    index += if n == 1 { 0 } else { i * stride };
                    stride *= n;
                }
            }
            index
        }

        fn value(t: &Tensor, owned: bool) -> Value<'_> {
            if owned { Value::Owned(t.clone()) } else { Value::Borrowed(t) }
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(400))]
            #[test]
            fn broadcasting_is_as_index_by_index([out, a, b] in shapes()) {
                prop_assert_eq!(Binary::Sub.shapes(&[&a, &b]), Ok(vec![out.clone()]));
                let (a, b) = (super::any(&a, 1), super::any(&b, 2));
                let n: usize = out.iter().product();
                let expected: Vec<f32> = (0..n).map(|k| a.data[naive(&out, &a.shape, k)] - b.data[naive(&out, &b.shape, k)]).collect();
                for owned in 0..4 {
                    let y = Binary::Sub.forward(vec![value(&a, owned & 1 > 0), value(&b, owned & 2 > 0)], None).remove(0);
                    prop_assert_eq!(&y, &Tensor::new(out.clone(), expected.clone()));
                }
                // The derivative by each input: sums over where its elements went.
                let g = super::any(&out, 3);
                for (t, sign) in [(&a, 1.0), (&b, -1.0)] {
                    let mut sums = vec![0f64; t.len()];
                    (0..n).for_each(|k| sums[naive(&out, &t.shape, k)] += sign * f64::from(g.data[k]));
                    let shapes = [&a.shape[..], &b.shape];
                    let tape = Tape { inputs: &[None, None], outputs: &[None], input_shapes: &shapes, output_shapes: &[&out], aux: &[] };
                    let wanted = [sign > 0.0, sign < 0.0];
                    let by = Binary::Sub.vjp(&tape, vec![Some(g.clone())], &wanted).into_iter().flatten().next().expect("a derivative");
                    prop_assert_eq!(&by.shape, &t.shape);
                    for (x, y) in by.data.iter().zip(&sums) {
                        prop_assert!((f64::from(*x) - y).abs() <= 1e-5 * (1.0 + y.abs()));
                    }
                }
            }
        }
    }
}
