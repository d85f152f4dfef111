//! Pooling over windows.
//!
//! A window is a product of one interval per axis, so both poolings go axis by axis: the rows a window covers are combined first, whole
//! rows at a time, then its columns. For the columns an `Axis` lists, for every position of the kernel, which windows have an element
//! there (`Tap`); padding is never looked at, and the loop over windows has no conditions.
//!
//! There are as many windows as fit. In ceil mode one more may hang over the end, if it begins before the padding at the end does (ONNX
//! since opset 22, PyTorch).

use super::{
    Needs, Operator, Tape, Tensor, Value,
    arrange::{add, bounded, cotangent, only, take},
    window::Window,
};

/// Most positions of a kernel on one axis.
const KERNEL: usize = 1 << 16;
/// Longest axis, dilation, stride or padding.
const LENGTH: usize = crate::limits::WEIGHTS as usize;

/// One axis of the windows; all its numbers are at most [`LENGTH`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    input: i64,
    output: i64,
    kernel: i64,
    stride: i64,
    dilation: i64,
    before: i64,
    after: i64,
}

/// A position of the kernel: windows `first..first + count` have an element there, the first of them that at `at`, each next one a
/// stride further.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    first: usize,
    count: usize,
    at: usize,
}

impl Axis {
    fn new(window: &Window, ceil: bool, i: usize, input: usize) -> Result<Axis, String> {
        let (kernel, stride, dilation) = (window.kernel[i], window.stride[i], window.dilation[i]);
        let (before, after) = (window.pads[i], window.pads[i + 2]);
        if kernel == 0 || stride == 0 || dilation == 0 {
            return Err("its window, stride or dilation is 0".into());
        }
        if kernel > KERNEL {
            return Err(format!("its window of {kernel} elements is longer than {KERNEL}"));
        }
        if let Some(long) = [input, stride, dilation, before, after].into_iter().find(|&n| n > LENGTH) {
            return Err(format!("its window moves over {long} elements, more than {LENGTH}"));
        }
        let [input, kernel, stride, dilation, before, after] = [input, kernel, stride, dilation, before, after].map(|n| n as i64);
        let span = (kernel - 1) * dilation + 1;
        if input == 0 {
            return Err("it pools over an empty axis".into());
        }
        if before >= span || after >= span {
            return Err(format!("its padding of {} is no smaller than its window, which spans {span}", before.max(after)));
        }
        let room = input + before + after - span;
        if room < 0 {
            return Err(format!("its window spans {span} elements, but with padding there are {}", input + before + after));
        }
        let mut output = room / stride + 1;
        if ceil && room % stride > 0 && output * stride < input + before {
            output += 1;
        }
        Ok(Axis { input, output, kernel, stride, dilation, before, after })
    }

    /// The taps that any window has an element at.
    fn taps(&self) -> Vec<Tap> {
        let tap = |k: i64| {
            let offset = k * self.dilation - self.before;
            let first = if offset < 0 { (-offset + self.stride - 1) / self.stride } else { 0 };
            let end = if offset < self.input { ((self.input - 1 - offset) / self.stride + 1).min(self.output) } else { 0 };
            let at = offset + first * self.stride;
            (first < end).then(|| Tap { first: first as usize, count: (end - first) as usize, at: at as usize })
        };
        (0..self.kernel).filter_map(tap).collect()
    }

    /// The elements of window `i`, rising.
    fn elements(&self, i: usize) -> impl Iterator<Item = usize> + use<> {
        let start = i as i64 * self.stride - self.before;
        let first = if start < 0 { (-start + self.dilation - 1) / self.dilation } else { 0 };
        let end = (start + (self.kernel - 1) * self.dilation + 1).min(self.input);
        (start + first * self.dilation..end).step_by(self.dilation as usize).map(|at| at as usize)
    }

    /// How many elements every window has, with those in the padding or without.
    fn counts(&self, pads: bool) -> Vec<f32> {
        let count = |i: usize| {
            if !pads {
                return self.elements(i).count() as f32;
            }
            let room = self.input + self.after - (i as i64 * self.stride - self.before);
            self.kernel.min((room + self.dilation - 1) / self.dilation) as f32
        };
        (0..self.output as usize).map(count).collect()
    }
}

/// Height and width; the number of planes comes from the shapes.
struct Plan {
    rows: Axis,
    columns: Axis,
    taps: Vec<Tap>,
}

impl Plan {
    /// Plan and shape of the result.
    fn new(window: &Window, ceil: bool, shape: &[usize]) -> Result<(Plan, Vec<usize>), String> {
        let (height, width) = match *shape {
            [_, _, width] if window.kernel[0] == 1 => (1, width),
            [_, _, height, width] => (height, width),
            _ => return Err(format!("its input has {} axes; pooling is over one axis or two, after batch and channels", shape.len())),
        };
        let rows = Axis::new(window, ceil, 0, height)?;
        let columns = Axis::new(window, ceil, 1, width)?;
        let mut result = vec![shape[0], shape[1], rows.output as usize, columns.output as usize];
        if shape.len() == 3 {
            result.remove(2);
        }
        let result = bounded(result)?;
        // Without planes the lengths are unbounded and nothing is done.
        let taps = if result.contains(&0) { Vec::new() } else { columns.taps() };
        Ok((Plan { rows, columns, taps }, result))
    }

    fn input_plane(&self) -> usize {
        (self.rows.input * self.columns.input) as usize
    }
    fn output_plane(&self) -> usize {
        (self.rows.output * self.columns.output) as usize
    }
    fn width(&self) -> usize {
        self.columns.input as usize
    }
    fn output_width(&self) -> usize {
        self.columns.output as usize
    }

    /// Combines, for every window of a row, the elements of a row of the input.
    fn combine(&self, out: &mut [f32], row: &[f32], f: impl Fn(f32, f32) -> f32) {
        for tap in &self.taps {
            along(&mut out[tap.first..][..tap.count], &row[tap.at..], self.columns.stride as usize, &f);
        }
    }
}

/// `a[i] = f(a[i], b[i·stride])`.
#[inline(always)]
fn along(a: &mut [f32], b: &[f32], stride: usize, f: impl Fn(f32, f32) -> f32) {
    match stride {
        1 => a.iter_mut().zip(b).for_each(|(a, &b)| *a = f(*a, b)),
        2 => {
            // The last may have no right neighbour; all others do, so that pairs can be loaded.
            let (last, most) = a.split_last_mut().expect("a tap has windows");
            *last = f(*last, b[2 * most.len()]);
            most.iter_mut().zip(b.chunks_exact(2)).for_each(|(a, b)| *a = f(*a, b[0]));
        }
        _ => a.iter_mut().zip(b.iter().step_by(stride)).for_each(|(a, &b)| *a = f(*a, b)),
    }
}

/// The larger; the first of equals; a NaN over all.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if wins(b, a) { b } else { a }
}

/// Whether `b`, which comes later, displaces `a`.
#[inline(always)]
fn wins(b: f32, a: f32) -> bool {
    (b > a) | (b.is_nan() & !a.is_nan())
}

/// MaxPool; padding never wins. Of equal elements the first in the window wins, and NaN over all.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxPool {
    /// The window; height 1 for `N×C×L`.
    pub window: Window,
    /// Whether a last window that hangs over the edge counts.
    pub ceil: bool,
}

impl MaxPool {
    fn plan(&self, shape: &[usize]) -> (Plan, Vec<usize>) {
        Plan::new(&self.window, self.ceil, shape).expect("checked by shapes")
    }
}

/// Maxima with where in their plane they are. Position by position of the kernel, in the order that decides between equals.
fn find(plan: &Plan, x: &[f32], out: &mut [f32], places: &mut [u32]) {
    let (width, stride) = (plan.width(), plan.columns.stride as usize);
    let mut line = vec![0.0; plan.output_width()];
    let lines = out.chunks_exact_mut(plan.output_width()).zip(places.chunks_exact_mut(plan.output_width()));
    for (i, (out, places)) in lines.enumerate() {
        for y in plan.rows.elements(i) {
            for tap in &plan.taps {
                let at = y * width + tap.at;
                let windows = tap.first..tap.first + tap.count;
                let elements = match stride {
                    1 => &x[at..][..tap.count],
                    _ => {
                        along(&mut line[..tap.count], &x[at..], stride, |_, x| x);
                        &line[..tap.count]
                    }
                };
                displace(&mut out[windows.clone()], &mut places[windows], elements, at as u32, stride as u32);
            }
        }
    }
}

/// Where an element wins, puts it in the place of the best so far; element `i` is at `at + i·stride`.
fn displace(best: &mut [f32], places: &mut [u32], x: &[f32], at: u32, stride: u32) {
    for (i, ((best, place), &x)) in best.iter_mut().zip(places).zip(x).enumerate() {
        // All ones, or none.
        let mask = u32::from(wins(x, *best)).wrapping_neg();
        *best = larger(*best, x);
        *place ^= (*place ^ at.wrapping_add(stride.wrapping_mul(i as u32))) & mask;
    }
}

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "MaxPool"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        Ok(vec![Plan::new(&self.window, self.ceil, only(inputs)?)?.1])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let (plan, shape) = self.plan(&x.shape);
        let mut out = Tensor { data: vec![f32::NEG_INFINITY; shape.iter().product()], shape };
        if out.is_empty() {
            return vec![out];
        }
        let planes = x.data.chunks_exact(plan.input_plane()).zip(out.data.chunks_exact_mut(plan.output_plane()));
        if let Some(aux) = aux {
            // What is nowhere: a window that has nothing above −∞ passes no derivative on.
            *aux = vec![u32::MAX; x.len() / plan.input_plane() * plan.output_plane()];
            let places = aux.chunks_exact_mut(plan.output_plane());
            planes.zip(places).for_each(|((x, out), places)| find(&plan, x, out, places));
            return vec![out];
        }
        let mut line = vec![0.0; plan.width()];
        for (x, out) in planes {
            for (i, out) in out.chunks_exact_mut(plan.output_width()).enumerate() {
                let mut rows = plan.rows.elements(i).map(|y| &x[y * plan.width()..][..plan.width()]);
                let Some(first) = rows.next() else { continue };
                match rows.next() {
                    None => plan.combine(out, first, larger),
                    Some(second) => {
                        line.iter_mut().zip(first.iter().zip(second)).for_each(|(l, (&a, &b))| *l = larger(a, b));
                        rows.for_each(|row| along(&mut line, row, 1, larger));
                        plan.combine(out, &line, larger);
                    }
                }
            }
        }
        vec![out]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let back = |g: Tensor| {
            let mut dx = Tensor::zeros(tape.input_shapes[0]);
            if !g.is_empty() {
                let (plan, _) = self.plan(tape.input_shapes[0]);
                let found = g.data.chunks_exact(plan.output_plane()).zip(tape.aux.chunks_exact(plan.output_plane()));
                for (dx, (g, places)) in dx.data.chunks_exact_mut(plan.input_plane()).zip(found) {
                    for (g, &place) in g.iter().zip(places) {
                        if let Some(dx) = dx.get_mut(place as usize) {
                            *dx += g;
                        }
                    }
                }
            }
            dx
        };
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

/// AveragePool. A window that has no element at all, which only dilation makes possible, averages to 0.
#[derive(Debug, Clone, PartialEq)]
pub struct AveragePool {
    /// The window; height 1 for `N×C×L`.
    pub window: Window,
    /// Whether a last window that hangs over the edge counts.
    pub ceil: bool,
    /// Whether padding counts in the divisor. What hangs over the padded edge in ceil mode never does.
    pub count_pads: bool,
}

impl AveragePool {
    fn plan(&self, shape: &[usize]) -> (Plan, Vec<usize>) {
        Plan::new(&self.window, self.ceil, shape).expect("checked by shapes")
    }

    /// Divides rows of windows by their numbers of elements.
    fn divide(&self, plan: &Plan, data: &mut [f32]) {
        let (rows, columns) = (plan.rows.counts(self.count_pads), plan.columns.counts(self.count_pads));
        for (out, &height) in data.chunks_exact_mut(columns.len()).zip(rows.iter().cycle()) {
            out.iter_mut().zip(&columns).for_each(|(out, width)| *out /= (height * width).max(1.0));
        }
    }
}

impl Operator for AveragePool {
    fn name(&self) -> &'static str {
        "AveragePool"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        Ok(vec![Plan::new(&self.window, self.ceil, only(inputs)?)?.1])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let (plan, shape) = self.plan(&x.shape);
        let mut out = Tensor::zeros(shape);
        if out.is_empty() {
            return vec![out];
        }
        let mut line = vec![0.0; plan.width()];
        for (x, out) in x.data.chunks_exact(plan.input_plane()).zip(out.data.chunks_exact_mut(plan.output_plane())) {
            for (i, out) in out.chunks_exact_mut(plan.output_width()).enumerate() {
                line.fill(0.0);
                plan.rows.elements(i).for_each(|y| add(&mut line, &x[y * plan.width()..][..plan.width()]));
                plan.combine(out, &line, |a, b| a + b);
            }
        }
        self.divide(&plan, &mut out.data);
        vec![out]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let back = |mut g: Tensor| {
            let mut dx = Tensor::zeros(tape.input_shapes[0]);
            if g.is_empty() {
                return dx;
            }
            let (plan, _) = self.plan(tape.input_shapes[0]);
            self.divide(&plan, &mut g.data);
            let (width, stride) = (plan.width(), plan.columns.stride as usize);
            let mut line = vec![0.0; width];
            for (dx, g) in dx.data.chunks_exact_mut(plan.input_plane()).zip(g.data.chunks_exact(plan.output_plane())) {
                for (i, g) in g.chunks_exact(plan.output_width()).enumerate() {
                    line.fill(0.0);
                    for tap in &plan.taps {
                        let windows = &g[tap.first..][..tap.count];
                        match stride {
                            1 => add(&mut line[tap.at..][..tap.count], windows),
                            _ => line[tap.at..].iter_mut().step_by(stride).zip(windows).for_each(|(line, g)| *line += g),
                        }
                    }
                    plan.rows.elements(i).for_each(|y| add(&mut dx[y * width..][..width], &line));
                }
            }
            dx
        };
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nn::{
            arrange::tests::{adjoint, at, indices, integers, run},
            check,
        },
        testing::noise,
    };

    fn window(kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], pads: [usize; 4]) -> Window {
        Window { kernel, stride, dilation, pads }
    }

    fn average(window: Window, ceil: bool, count_pads: bool) -> AveragePool {
        AveragePool { window, ceil, count_pads }
    }

    fn count(n: usize) -> Tensor {
        Tensor::new([1, 1, n, n], (1..=n * n).map(|i| i as f32).collect())
    }

    #[test]
    fn examples_of_the_standard() {
        let ceil = window([3, 3], [2, 2], [1, 1], [0; 4]);
        assert_eq!(run(&MaxPool { window: ceil, ceil: true }, &[count(4)])[0].data, [11.0, 12.0, 15.0, 16.0]);
        assert_eq!(run(&average(ceil, true, false), &[count(4)])[0].data, [6.0, 7.5, 12.0, 13.5]);
        let pads = window([5, 5], [1, 1], [1, 1], [2; 4]);
        assert_eq!(run(&MaxPool { window: pads, ceil: false }, &[count(5)])[0].data[..5], [13.0, 14.0, 15.0, 15.0, 15.0]);
        assert_eq!(run(&average(pads, false, false), &[count(5)])[0].data[..5], [7.0, 7.5, 8.0, 8.5, 9.0]);
        assert_eq!(run(&average(pads, false, true), &[count(5)])[0].data[..5], [2.52, 3.6, 4.8, 4.08, 3.24]);
        let dilated = window([2, 2], [1, 1], [2, 2], [0; 4]);
        assert_eq!(run(&MaxPool { window: dilated, ceil: false }, &[count(4)])[0].data, [11.0, 12.0, 15.0, 16.0]);
        // A window that would begin in the padding at the end is none.
        let one = window([1, 1], [2, 2], [1, 1], [0; 4]);
        assert_eq!(run(&MaxPool { window: one, ceil: true }, &[count(2)])[0], Tensor::new([1, 1, 1, 1], vec![1.0]));
        let pads = window([1, 3], [1, 3], [1, 1], [0, 1, 0, 1]);
        let x = Tensor::new([1, 1, 6], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        // Windows at −1, 2 and, over the end, 5: 1 of 3 padded places of the first, 1 of the 2 that the last has in all.
        assert_eq!(run(&average(pads, true, true), std::slice::from_ref(&x))[0].data, [1.0, 4.0, 3.0]);
        assert_eq!(run(&average(pads, true, false), std::slice::from_ref(&x))[0].data, [1.5, 4.0, 6.0]);
        assert_eq!(run(&average(pads, false, true), &[x])[0].data, [1.0, 4.0]);
    }

    #[test]
    fn padding_never_wins_and_nan_always_does() {
        let max = MaxPool { window: window([3, 3], [1, 1], [1, 1], [1; 4]), ceil: false };
        let x = Tensor::new([1, 1, 3, 4], noise(12, 1).iter().map(|x| x - 9.0).collect());
        assert!(run(&max, std::slice::from_ref(&x))[0].data.iter().all(|y| *y < -8.0));
        for k in 0..12 {
            let mut x = x.clone();
            x.data[k] = f32::NAN;
            for aux in [None, Some(&mut Vec::new())] {
                let y = max.forward(vec![Value::Borrowed(&x)], aux).remove(0);
                for (i, y) in y.data.iter().enumerate() {
                    let near = (i / 4).abs_diff(k / 4) <= 1 && (i % 4).abs_diff(k % 4) <= 1;
                    assert_eq!(y.is_nan(), near, "NaN at {k}, seen from {i}");
                }
            }
        }
    }

    #[test]
    fn first_maximum_takes_the_derivative() {
        let max = MaxPool { window: window([2, 2], [2, 2], [1, 1], [0; 4]), ceil: false };
        let x = Tensor::new([1, 1, 2, 4], vec![1.0, 5.0, 7.0, 7.0, 5.0, 5.0, 7.0, 7.0]);
        let mut aux = Vec::new();
        let y = max.forward(vec![Value::Borrowed(&x)], Some(&mut aux));
        assert_eq!((&y[0].data[..], &aux[..]), (&[5.0, 7.0][..], &[1, 2][..]));
    }

    /// Windows of all kinds that fit 5×7.
    fn windows() -> Vec<Window> {
        vec![
            window([2, 2], [2, 2], [1, 1], [0; 4]),
            window([3, 3], [2, 2], [1, 1], [1; 4]),
            window([3, 3], [1, 1], [1, 1], [1; 4]),
            window([5, 7], [1, 1], [1, 1], [0; 4]),
            window([1, 1], [3, 2], [1, 1], [0; 4]),
            window([2, 3], [1, 3], [2, 1], [1, 0, 0, 2]),
            window([1, 4], [1, 2], [1, 2], [0, 3, 0, 1]),
            window([4, 2], [3, 1], [1, 6], [2, 5, 3, 1]),
        ]
    }

    #[test]
    fn derivatives() {
        for window in windows() {
            for ceil in [false, true] {
                check::gradients(&MaxPool { window, ceil }, &[check::distinct(&[1, 2, 5, 7], 4)]);
                for count_pads in [false, true] {
                    check::gradients(&average(window, ceil, count_pads), &[check::any(&[2, 1, 5, 7], 5)]);
                }
            }
        }
        let line = window([1, 3], [1, 2], [1, 1], [0, 1, 0, 1]);
        check::gradients(&MaxPool { window: line, ceil: true }, &[check::distinct(&[2, 2, 6], 6)]);
        check::gradients(&average(line, true, true), &[check::any(&[2, 2, 6], 7)]);
        for shape in [[0, 2, 5, 7], [2, 0, 5, 7]] {
            check::gradients(&MaxPool { window: windows()[1], ceil: true }, &[check::any(&shape, 1)]);
            check::gradients(&average(windows()[1], true, true), &[check::any(&shape, 1)]);
        }
    }

    #[test]
    fn impossible_windows_are_refused() {
        const MANY: usize = usize::MAX;
        let shape: &[usize] = &[1, 2, 5, 7];
        let good = window([2, 2], [1, 1], [1, 1], [0; 4]);
        for (window, shape) in [
            (Window { kernel: [0, 2], ..good }, shape),
            (Window { stride: [1, 0], ..good }, shape),
            (Window { dilation: [1, 0], ..good }, shape),
            (Window { kernel: [6, 1], ..good }, shape),
            (Window { dilation: [1, 7], ..good }, shape),
            (Window { pads: [2, 0, 0, 0], ..good }, shape),
            (Window { kernel: [MANY, MANY], ..good }, shape),
            (Window { kernel: [1 << 17, 1], pads: [1 << 16, 0, 1 << 16, 0], ..good }, shape),
            (Window { pads: [MANY, MANY, MANY, MANY], ..good }, shape),
            (Window { stride: [MANY, 1], ..good }, shape),
            (Window { dilation: [MANY, MANY], ..good }, shape),
            (good, &[1, 2, 7]),
            (good, &[1, 2]),
            (good, &[]),
            (good, &[1, 1, 5, 7, 7]),
            (good, &[1, 1, 0, 7]),
            (good, &[0, 1, MANY, 7]),
            (Window { kernel: [2, 1 << 16], pads: [0, 65535, 0, 65535], ..good }, &[1, 1 << 14, 2, 2]),
        ] {
            for ceil in [false, true] {
                MaxPool { window, ceil }.shapes(&[shape]).expect_err(&format!("{window:?} {shape:?}"));
                average(window, ceil, true).shapes(&[shape]).expect_err(&format!("{window:?} {shape:?}"));
            }
        }
        assert!(MaxPool { window: good, ceil: false }.shapes(&[shape, shape]).is_err());
        // Nothing is done for no planes, however large.
        let large = [0, 1, 1 << 28, 1 << 28];
        run(&average(good, true, true), &[Tensor::new(large, Vec::new())]);
    }

    /// Every element of every window, by the definition; `None` is padding.
    fn elements(window: &Window, x: &Tensor, index: &[usize]) -> Vec<Option<f32>> {
        let mut elements = Vec::new();
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                let place =
                    |i: usize, k: usize| (index[2 + i] * window.stride[i] + k * window.dilation[i]) as isize - window.pads[i] as isize;
                let (y, x_) = (place(0, ky), place(1, kx));
                let (height, width) = (x.shape[2] as isize, x.shape[3] as isize);
                if y >= height + window.pads[2] as isize || x_ >= width + window.pads[3] as isize {
                    continue;
                }
                let inside = (0..height).contains(&y) && (0..width).contains(&x_);
                elements.push(inside.then(|| at(x, &[index[0], index[1], y as usize, x_ as usize])));
            }
        }
        elements
    }

    fn same_as_the_definition(window: Window, ceil: bool, x: &Tensor) {
        let max = MaxPool { window, ceil };
        let y = run(&max, std::slice::from_ref(x)).remove(0);
        let mut aux = Vec::new();
        assert_eq!(max.forward(vec![Value::Borrowed(x)], Some(&mut aux))[0], y, "{max:?}");
        for (k, index) in indices(&y.shape).iter().enumerate() {
            let there: Vec<f32> = elements(&window, x, index).into_iter().flatten().collect();
            assert_eq!(y.data[k], there.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{max:?} {:?} at {index:?}", x.shape);
            if !there.is_empty() {
                let place = aux[k] as usize;
                assert_eq!(at(x, &[index[0], index[1], place / x.shape[3], place % x.shape[3]]), y.data[k], "{max:?} at {index:?}");
            }
        }
        for count_pads in [false, true] {
            let op = average(window, ceil, count_pads);
            let y = run(&op, std::slice::from_ref(x)).remove(0);
            for (k, index) in indices(&y.shape).iter().enumerate() {
                let all = elements(&window, x, index);
                let sum: f32 = all.iter().flatten().sum();
                let n = if count_pads { all.len() } else { all.iter().flatten().count() };
                assert_eq!(y.data[k], sum / n.max(1) as f32, "{op:?} {:?} at {index:?}", x.shape);
            }
            adjoint(&op, std::slice::from_ref(x), 1e-6);
        }
    }

    #[test]
    fn all_kinds_of_windows() {
        for window in windows() {
            for ceil in [false, true] {
                same_as_the_definition(window, ceil, &integers(&[2, 3, 5, 7], 8));
            }
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod any_window {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(500))]
            #[test]
            fn same_as_index_by_index(
                size in [1usize..9, 1usize..40], kernel in [1usize..5, 1usize..5], stride in [1usize..4, 1usize..4],
                dilation in [1usize..4, 1usize..4], pads in [0usize..4, 0usize..4, 0usize..4, 0usize..4], ceil in any::<bool>(),
            ) {
                let window = Window { kernel, stride, dilation, pads };
                let x = integers(&[1, 2, size[0], size[1]], 9);
                if (MaxPool { window, ceil }).shapes(&[&x.shape]).is_ok() {
                    same_as_the_definition(window, ceil, &x);
                } else {
                    // Only for these reasons.
                    let why = |i: usize| {
                        let span = window.span(i);
                        pads[i].max(pads[i + 2]) >= span || size[i] + pads[i] + pads[i + 2] < span
                    };
                    prop_assert!(why(0) || why(1));
                }
            }
        }
    }
}
