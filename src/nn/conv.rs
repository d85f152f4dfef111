//! Convolution and transposed convolution, with groups. Inputs: `x` (`N×C×H×W` or `N×C×L`), `w`, and perhaps a bias `b` (`O`).
//!
//! Three computations serve both operators, as one is the adjoint of the other: a convolution of `x`, its adjoint (the derivative by
//! `x`), and the derivative by `w`. `columns` makes matrix products of them; where there is one input channel per group, and so little
//! to multiply, `depthwise` goes over planes.

mod columns;
mod depthwise;

use super::{Needs, Operator, Tape, Tensor, Value, kernel, window::Window};

/// Conv: `w` is `O×(C/groups)×kernel`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// The window; height 1 for `N×C×L`.
    pub window: Window,
    /// Groups.
    pub groups: usize,
}

/// ConvTranspose: `w` is `C×(O/groups)×kernel`; the adjoint of [`Conv`] with the same window.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose {
    /// The window of the convolution it is the adjoint of.
    pub window: Window,
    /// Groups.
    pub groups: usize,
    /// Rows and columns added at the end of the output.
    pub output_padding: [usize; 2],
}

/// Sizes of a convolution. Those of a transposed one are the sizes of the convolution it is the adjoint of.
#[derive(Debug, Clone)]
struct Geometry {
    window: Window,
    images: usize,
    groups: usize,
    /// Input channels of a group.
    channels: usize,
    /// Output channels of a group.
    filters: usize,
    /// Height and width of the input.
    input: [usize; 2],
    /// Height and width of the output.
    output: [usize; 2],
}

impl Geometry {
    /// Elements of an input plane.
    fn plane(&self) -> usize {
        self.input[0] * self.input[1]
    }
    /// Elements of an output plane.
    fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }
    /// Kernel positions.
    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }
    /// What one element of the output sees: kernel positions of all channels of its group.
    fn seen(&self) -> usize {
        self.channels * self.taps()
    }
    fn multiplications(&self) -> u64 {
        [self.groups, self.filters, self.seen(), self.pixels()]
            .iter()
            .fold(self.images as u64, |product, n| product.saturating_mul(*n as u64))
    }

    /// `y ← w ⋆ x`, plus a bias for each output channel.
    fn convolve(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        match depthwise::Planes::new(self) {
            Some(planes) => planes.convolve(x, w, bias, y),
            None => columns::convolve(self, x, w, bias, y),
        }
    }
    /// `dx ← dx +` the adjoint of [`Geometry::convolve`] without bias, applied to `dy`.
    fn adjoint(&self, w: &[f32], dy: &[f32], dx: &mut [f32]) {
        match depthwise::Planes::new(self) {
            Some(planes) => planes.adjoint(w, dy, dx),
            None => columns::adjoint(self, w, dy, dx),
        }
    }
    /// `dw ← dw +` the derivative of `⟨dy, w ⋆ x⟩` by `w`.
    fn by_weights(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        match depthwise::Planes::new(self) {
            Some(planes) => planes.by_weights(x, dy, dw),
            None => columns::by_weights(self, x, dy, dw),
        }
    }
}

/// Checks what both operators have in common; images, channels and size of `x`, and first and second axis of `w`.
fn read(window: &Window, groups: usize, inputs: &[&[usize]]) -> Result<([usize; 4], [usize; 2]), String> {
    let (x, w) = match inputs {
        [x, w] | [x, w, _] => (*x, *w),
        _ => return Err(format!("it has {} inputs instead of 2 or 3", inputs.len())),
    };
    let x = match *x {
        [n, c, l] if w.len() == 3 => [n, c, 1, l],
        [n, c, h, w_] if w.len() == 4 => [n, c, h, w_],
        _ => return Err(format!("its input and its weights have shapes {x:?} and {w:?}, and only one or two spatial axes are supported")),
    };
    let kernel = match w[2..] {
        [l] => [1, l],
        _ => [w[2], w[3]],
    };
    if kernel != window.kernel {
        return Err(format!("its kernel is {:?} and its weights have shape {w:?}", window.kernel));
    }
    if kernel.contains(&0) || window.stride.contains(&0) || window.dilation.contains(&0) || groups == 0 {
        return Err("a kernel size, a stride, a dilation or the number of groups is 0".into());
    }
    // Axes of length 0 make any other lengths possible.
    if w.iter().try_fold(1usize, |product, length| product.checked_mul(*length.max(&1))).is_none() {
        return Err(format!("its weights have shape {w:?}, which is too large"));
    }
    Ok((x, [w[0], w[1]]))
}

/// Checks the bias.
fn read_bias(inputs: &[&[usize]], outputs: usize) -> Result<(), String> {
    match inputs.get(2) {
        Some(bias) if **bias != [outputs] => Err(format!("its bias has shape {bias:?} instead of [{outputs}]")),
        _ => Ok(()),
    }
}

/// A shape of as many axes as `like` has.
fn shape(like: &[usize], [n, c, h, w]: [usize; 4]) -> Vec<usize> {
    if like.len() == 3 { vec![n, c, w] } else { vec![n, c, h, w] }
}

/// Sum over images and pixels, for each of the channels.
fn sum_by_channel(dy: &Tensor) -> Tensor {
    let (channels, pixels) = (dy.shape[1], dy.shape[2..].iter().product::<usize>());
    let mut sums = Tensor::zeros([channels]);
    for image in dy.data.chunks_exact((channels * pixels).max(1)) {
        for (sum, plane) in sums.data.iter_mut().zip(image.chunks_exact(pixels)) {
            *sum += kernel::sum(plane);
        }
    }
    sums
}

impl Conv {
    fn geometry(&self, inputs: &[&[usize]]) -> Result<Geometry, String> {
        let ([images, channels, height, width], [outputs, per_group]) = read(&self.window, self.groups, inputs)?;
        if channels % self.groups != 0 || outputs % self.groups != 0 {
            return Err(format!("its {channels} input or {outputs} output channels are no multiple of {} groups", self.groups));
        }
        if channels / self.groups != per_group {
            return Err(format!("its weights are for {per_group} channels in a group, and there are {}", channels / self.groups));
        }
        read_bias(inputs, outputs)?;
        let windows = |i, length| {
            let too_large = || format!("its window {:?} is larger than its padded input {height}×{width}", self.window.kernel);
            self.window.positions(i, length).ok_or_else(too_large)
        };
        Ok(Geometry {
            window: self.window,
            images,
            groups: self.groups,
            channels: per_group,
            filters: outputs / self.groups,
            input: [height, width],
            output: [windows(0, height)?, windows(1, width)?],
        })
    }
}

impl Operator for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let g = self.geometry(inputs)?;
        Ok(vec![shape(inputs[0], [g.images, g.groups * g.filters, g.output[0], g.output[1]])])
    }

    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let (g, mut shapes) = checked(&inputs, |shapes| Ok((self.geometry(shapes)?, self.shapes(shapes)?)));
        let mut y = Tensor::zeros(shapes.remove(0));
        g.convolve(&inputs[0].data, &inputs[1].data, inputs.get(2).map(|b| &b.data[..]), &mut y.data);
        vec![y]
    }

    fn seen(&self, shapes: &[&[usize]], x: &Tensor, pixels: &[usize]) -> Option<Vec<f32>> {
        let g = self.geometry(shapes).ok().filter(|g| g.groups == 1)?;
        Some(columns::seen(&g, &x.data, pixels))
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![wanted[1], wanted[0]], outputs: vec![] }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let g = self.geometry(tape.input_shapes).expect(CHECKED);
        let dy = cotangents.remove(0).expect(SOME);
        let derivative = |i: usize| {
            wanted[i].then(|| match i {
                0 => with(tape.input_shapes[0], |dx| g.adjoint(&tape.input(1).data, &dy.data, dx)),
                1 => with(tape.input_shapes[1], |dw| g.by_weights(&tape.input(0).data, &dy.data, dw)),
                _ => sum_by_channel(&dy),
            })
        };
        (0..wanted.len()).map(derivative).collect()
    }

    fn multiplications(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        self.geometry(inputs).map_or(0, |g| g.multiplications())
    }
}

impl ConvTranspose {
    fn geometry(&self, inputs: &[&[usize]]) -> Result<Geometry, String> {
        let ([images, channels, height, width], [first, per_group]) = read(&self.window, self.groups, inputs)?;
        if channels % self.groups != 0 {
            return Err(format!("its {channels} input channels are no multiple of {} groups", self.groups));
        }
        if first != channels {
            return Err(format!("its weights are for {first} channels, and there are {channels}"));
        }
        let outputs = per_group.checked_mul(self.groups).ok_or("it has too many output channels")?;
        read_bias(inputs, outputs)?;
        let size = |i: usize, length: usize| {
            let Window { kernel, stride, dilation, pads } = self.window;
            let span = (kernel[i] - 1).checked_mul(dilation[i])?.checked_add(1)?;
            let full = length.checked_sub(1)?.checked_mul(stride[i])?.checked_add(span)?.checked_add(self.output_padding[i])?;
            full.checked_sub(pads[i].checked_add(pads[i + 2])?)
        };
        let size = |i, length| size(i, length).ok_or_else(|| format!("its pads {:?} are larger than its output", self.window.pads));
        Ok(Geometry {
            window: self.window,
            images,
            groups: self.groups,
            channels: per_group,
            filters: channels / self.groups,
            input: [size(0, height)?, size(1, width)?],
            output: [height, width],
        })
    }
}

impl Operator for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let g = self.geometry(inputs)?;
        Ok(vec![shape(inputs[0], [g.images, g.groups * g.channels, g.input[0], g.input[1]])])
    }

    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let (g, mut shapes) = checked(&inputs, |shapes| Ok((self.geometry(shapes)?, self.shapes(shapes)?)));
        let mut y = Tensor::zeros(shapes.remove(0));
        if let (Some(bias), plane @ 1..) = (inputs.get(2), g.plane()) {
            for (plane, bias) in y.data.chunks_exact_mut(plane).zip(bias.data.iter().cycle()) {
                plane.fill(*bias);
            }
        }
        g.adjoint(&inputs[1].data, &inputs[0].data, &mut y.data);
        vec![y]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![wanted[1], wanted[0]], outputs: vec![] }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let g = self.geometry(tape.input_shapes).expect(CHECKED);
        let dy = cotangents.remove(0).expect(SOME);
        let derivative = |i: usize| {
            wanted[i].then(|| match i {
                0 => with(tape.input_shapes[0], |dx| g.convolve(&dy.data, &tape.input(1).data, None, dx)),
                1 => with(tape.input_shapes[1], |dw| g.by_weights(&dy.data, &tape.input(0).data, dw)),
                _ => sum_by_channel(&dy),
            })
        };
        (0..wanted.len()).map(derivative).collect()
    }

    fn multiplications(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        self.geometry(inputs).map_or(0, |g| g.multiplications())
    }
}

const CHECKED: &str = "shapes were checked";
const SOME: &str = "one of the cotangents is there";

/// What a function makes of the shapes of the inputs, which were checked before.
fn checked<T>(inputs: &[Value<'_>], read: impl Fn(&[&[usize]]) -> Result<T, String>) -> T {
    let shapes: Vec<&[usize]> = inputs.iter().map(|x| &x.shape[..]).collect();
    read(&shapes).expect(CHECKED)
}

/// A tensor of zeros, to which a function adds.
fn with(shape: &[usize], add: impl FnOnce(&mut [f32])) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    add(&mut tensor.data);
    tensor
}

#[cfg(test)]
mod tests;
