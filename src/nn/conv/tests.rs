use std::borrow::Cow;

use super::*;
use crate::testing::noise;

/// A convolution to test.
#[derive(Debug, Clone)]
struct Case {
    conv: Conv,
    x: Vec<usize>,
    w: Vec<usize>,
}

impl Case {
    fn new(x: [usize; 4], outputs: usize, groups: usize, window: Window) -> Case {
        let w = vec![outputs, x[1] / groups, window.kernel[0], window.kernel[1]];
        Case { conv: Conv { window, groups }, x: x.to_vec(), w }
    }
    fn y(&self) -> Vec<usize> {
        self.conv.shapes(&[&self.x, &self.w]).unwrap().remove(0)
    }
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    Tensor::new(shape, noise(shape.iter().product(), seed))
}

fn run(operator: &dyn Operator, inputs: &[&Tensor]) -> Tensor {
    operator.forward(inputs.iter().map(|x| Cow::Borrowed(*x)).collect(), None).remove(0)
}

/// Derivatives of `⟨dy, y⟩`, when given only what the operator says it needs.
fn vjp(operator: &dyn Operator, inputs: &[&Tensor], dy: &Tensor, wanted: &[bool]) -> Vec<Option<Tensor>> {
    let needs = operator.needs(wanted);
    let kept: Vec<Option<&Tensor>> =
        inputs.iter().enumerate().map(|(i, x)| needs.inputs.get(i).copied().unwrap_or(false).then_some(*x)).collect();
    let shapes: Vec<&[usize]> = inputs.iter().map(|x| &x.shape[..]).collect();
    let tape = Tape { inputs: &kept, outputs: &[None], input_shapes: &shapes, output_shapes: &[&dy.shape], aux: &[] };
    operator.vjp(&tape, vec![Some(dy.clone())], wanted)
}

/// The definition, in `f64`, from images with one spatial axis too.
fn direct(case: &Case, x: &Tensor, w: &Tensor, bias: &[f32]) -> Vec<f64> {
    let four =
        |shape: &[usize]| if shape.len() == 3 { [shape[0], shape[1], 1, shape[2]] } else { [shape[0], shape[1], shape[2], shape[3]] };
    let ([images, channels, height, width], [outputs, per_group, kh, kw]) = (four(&x.shape), four(&w.shape));
    let [_, _, rows, columns] = four(&case.y());
    let Window { stride, dilation, pads, .. } = case.conv.window;
    let mut y = Vec::new();
    for n in 0..images {
        for (o, bias) in bias.iter().enumerate().take(outputs) {
            for i in 0..rows {
                for j in 0..columns {
                    let mut sum = f64::from(*bias);
                    for c in 0..per_group {
                        for p in 0..kh {
                            for q in 0..kw {
                                let (a, b) = ((i * stride[0] + p * dilation[0]) as isize, (j * stride[1] + q * dilation[1]) as isize);
                                let (a, b) = (a - pads[0] as isize, b - pads[1] as isize);
                                if a >= 0 && b >= 0 && a < height as isize && b < width as isize {
                                    let channel = n * channels + o / (outputs / case.conv.groups) * per_group + c;
                                    let x = x.data[(channel * height + a as usize) * width + b as usize];
                                    sum += f64::from(x) * f64::from(w.data[((o * per_group + c) * kh + p) * kw + q]);
                                }
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

fn inner(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape, b.shape);
    a.data.iter().zip(&b.data).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn norm(a: &Tensor) -> f64 {
    inner(a, a).sqrt()
}

fn close(a: f64, b: f64, scale: f64) {
    assert!((a - b).abs() <= 1e-5 * scale + 1e-9, "{a} {b}");
}

/// Forward against the definition; derivatives by bilinearity, along random directions: `⟨dx, v⟩ = ⟨w ⋆ v, dy⟩` and
/// `⟨dw, v⟩ = ⟨v ⋆ x, dy⟩`; the transposed convolution is what the derivative by `x` is.
fn check(case: &Case) {
    let (x, w, dy) = (random(&case.x, 1), random(&case.w, 2), random(&case.y(), 3));
    let bias = random(&[case.w[0]], 4);
    let y = run(&case.conv, &[&x, &w, &bias]);
    let exact = direct(case, &x, &w, &bias.data);
    assert_eq!((&y.shape, y.len()), (&case.y(), exact.len()));
    let terms = case.w[1..].iter().product::<usize>() as f64;
    for (y, exact) in y.data.iter().zip(&exact) {
        assert!((f64::from(*y) - exact).abs() < 1e-6 * (terms + 1.0), "{case:?}: {y} {exact}");
    }
    let mut without = run(&case.conv, &[&x, &w]);
    without.data.iter_mut().zip(&exact).for_each(|(y, exact)| *y -= *exact as f32);
    let pixels = case.y()[2..].iter().product::<usize>();
    for (i, difference) in without.data.iter().enumerate() {
        assert!((difference + bias.data[i / pixels % case.w[0]]).abs() < 1e-5 * (terms as f32 + 1.0), "{case:?} without bias");
    }

    let all = vjp(&case.conv, &[&x, &w, &bias], &dy, &[true; 3]);
    for wanted in [[true, false, false], [false, true, false], [false, false, true]] {
        let one = vjp(&case.conv, &[&x, &w, &bias], &dy, &wanted);
        for i in 0..3 {
            assert_eq!(one[i], all[i].clone().filter(|_| wanted[i]), "{case:?}");
        }
    }
    let [dx, dw, db] = [0, 1, 2].map(|i| all[i].as_ref().unwrap());
    let (vx, vw, vb) = (random(&case.x, 5), random(&case.w, 6), random(&[case.w[0]], 7));
    let scale = norm(&dy) * terms.sqrt();
    close(inner(dx, &vx), inner(&run(&case.conv, &[&vx, &w]), &dy), norm(&vx) * scale);
    close(inner(dw, &vw), inner(&run(&case.conv, &[&x, &vw]), &dy), norm(&x) * scale);
    let no_w = Tensor::zeros(&case.w[..]);
    close(inner(db, &vb), inner(&run(&case.conv, &[&x, &no_w, &vb]), &dy), norm(&vb) * norm(&dy) * (pixels as f64).sqrt());

    // The transposed convolution whose output is as large as x.
    let (axes, window) = (case.x.len(), case.conv.window);
    let size = |shape: &[usize], i: usize| if axes == 4 { shape[2 + i] } else { [1, shape[2]][i] };
    let padding = |i: usize| {
        let least = (size(&case.y(), i) - 1) * window.stride[i] + window.span(i);
        (size(&case.x, i) + window.pads[i] + window.pads[i + 2]).checked_sub(least)
    };
    let output_padding = [0, 1].map(|i| padding(i).expect("windows lie inside"));
    let transposed = ConvTranspose { window, groups: case.conv.groups, output_padding };
    let bias = random(&[case.x[1]], 8);
    assert_eq!(transposed.shapes(&[&dy.shape, &w.shape, &bias.shape]), Ok(vec![case.x.clone()]), "{case:?}");
    let z = run(&transposed, &[&dy, &w]);
    close(inner(&z, &vx), inner(dx, &vx), norm(&vx) * scale);
    let back = vjp(&transposed, &[&dy, &w, &bias], &x, &[true; 3]);
    let [dz, dw2, db2] = [0, 1, 2].map(|i| back[i].as_ref().unwrap());
    assert_eq!((&dz.shape, &dw2.shape), (&dy.shape, &w.shape));
    close(inner(dz, &dy), inner(&z, &x), norm(&x) * scale);
    close(inner(dw2, &vw), inner(dw, &vw), norm(&x) * scale);
    let no_dy = Tensor::zeros(&dy.shape[..]);
    close(inner(db2, &bias), inner(&run(&transposed, &[&no_dy, &w, &bias]), &x), norm(&x) * 100.0);
}

fn window(kernel: [usize; 2], stride: usize, dilation: usize, pads: [usize; 4]) -> Window {
    Window { kernel, stride: [stride; 2], dilation: [dilation; 2], pads }
}

#[test]
fn shapes_of_networks() {
    let same = [1; 4];
    // Several tiles of one image, parts of rows, tiles of several images, 1×1 with large and small images, strides, depthwise.
    check(&Case::new([2, 3, 65, 67], 5, 1, window([7, 7], 2, 1, [3; 4])));
    check(&Case::new([1, 12, 70, 61], 6, 1, window([3, 3], 1, 1, same)));
    check(&Case::new([5, 200, 4, 4], 3, 1, window([3, 3], 1, 1, same)));
    check(&Case::new([1, 300, 3, 3], 3, 1, window([3, 3], 1, 1, same)));
    check(&Case::new([2, 7, 12, 13], 9, 1, Window::new([1, 1])));
    check(&Case::new([3, 7, 5, 3], 9, 1, Window::new([1, 1])));
    check(&Case::new([2, 7, 9, 9], 9, 1, window([1, 1], 2, 1, [0; 4])));
    check(&Case::new([2, 6, 9, 9], 6, 6, window([3, 3], 2, 1, same)));
    check(&Case::new([2, 6, 9, 9], 18, 6, window([3, 3], 1, 2, same)));
    check(&Case::new([2, 8, 9, 7], 12, 4, window([3, 3], 1, 1, same)));
    check(&Case::new([2, 2, 9, 7], 20, 2, window([3, 3], 1, 1, same)));
    // All in padding: the plane of a depthwise convolution would be far larger than the tensors.
    check(&Case::new([1, 1, 2, 2], 1, 1, window([3, 3], 500, 300, [400; 4])));
}

#[test]
fn empty_batches_and_channels() {
    for (x, outputs, groups) in [([0, 4, 5, 5], 4, 2), ([2, 0, 5, 5], 3, 1), ([2, 4, 5, 5], 0, 1), ([0, 3, 5, 5], 3, 3)] {
        check(&Case::new(x, outputs, groups, window([3, 3], 1, 1, [1; 4])));
        check(&Case::new(x, outputs, groups, Window::new([1, 1])));
    }
    check(&Case::new([2, 3, 0, 2], 3, 1, window([2, 2], 1, 1, [1; 4])));
    check(&Case::new([2, 3, 0, 2], 3, 3, window([2, 2], 1, 1, [1; 4])));
}

#[test]
fn one_spatial_axis() {
    let window = Window { kernel: [1, 5], stride: [1, 2], dilation: [1, 3], pads: [0, 4, 0, 1] };
    check(&Case { conv: Conv { window, groups: 2 }, x: vec![2, 6, 50], w: vec![4, 3, 5] });
    check(&Case { conv: Conv { window, groups: 6 }, x: vec![2, 6, 50], w: vec![12, 1, 5] });
    // A row of outputs longer than a tile.
    check(&Case { conv: Conv { window, groups: 1 }, x: vec![1, 1, 20_000], w: vec![8, 1, 5] });
}

#[test]
fn what_is_impossible_is_said() {
    let conv = Conv { window: window([3, 3], 1, 1, [0; 4]), groups: 2 };
    let clause = |inputs: &[&[usize]]| conv.shapes(inputs).unwrap_err();
    assert!(clause(&[&[1, 3, 5, 5], &[4, 2, 3, 3]]).contains("no multiple of 2 groups"));
    assert!(clause(&[&[1, 4, 5, 5], &[4, 4, 3, 3]]).contains("4 channels in a group, and there are 2"));
    assert!(clause(&[&[1, 4, 5, 5], &[4, 2, 3, 2]]).contains("kernel"));
    assert!(clause(&[&[1, 4, 2, 5], &[4, 2, 3, 3]]).contains("larger than its padded input"));
    assert!(clause(&[&[1, 4, 5, 5], &[4, 2, 3, 3], &[5]]).contains("bias"));
    assert!(clause(&[&[4, 5, 5], &[4, 2, 3, 3]]).contains("spatial axes"));
    assert!(clause(&[&[1, 4, 5, 5]]).contains("1 inputs"));
    let huge = usize::MAX / 2;
    let conv = Conv { window: window([huge, 3], 1, 1, [huge; 4]), groups: 1 };
    assert!(conv.shapes(&[&[1, 0, 5, 5], &[4, 0, huge, 3]]).unwrap_err().contains("too large"));
    let transposed = ConvTranspose { window: window([3, 3], 1, 1, [3; 4]), groups: 1, output_padding: [0; 2] };
    assert!(transposed.shapes(&[&[1, 2, 2, 2], &[2, 2, 3, 3]]).unwrap_err().contains("pads"));
    assert!(transposed.shapes(&[&[1, 3, 9, 9], &[2, 2, 3, 3]]).unwrap_err().contains("3"));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    fn cases() -> impl Strategy<Value = Case> {
        let sizes = (0usize..4, 1usize..5, 1usize..4, 1usize..4, [1usize..14, 1usize..14]);
        let windows =
            ([1usize..5, 1usize..5], [1usize..4, 1usize..4], [1usize..4, 1usize..4], [0usize..4, 0usize..4, 0usize..4, 0usize..4]);
        (sizes, windows, any::<bool>()).prop_filter_map("a window fits", |(sizes, windows, flat)| {
            let ((images, groups, channels, filters, [mut h, w]), (mut kernel, mut stride, mut dilation, mut pads)) = (sizes, windows);
            if flat {
                (h, kernel[0], stride[0], dilation[0], pads[0], pads[2]) = (1, 1, 1, 1, 0, 0);
            }
            let mut case =
                Case::new([images, channels * groups, h, w], filters * groups, groups, Window { kernel, stride, dilation, pads });
            if flat {
                case.x.remove(2);
                case.w.remove(2);
            }
            case.conv.shapes(&[&case.x, &case.w]).is_ok().then_some(case)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn any_convolution(case in cases()) {
            check(&case);
        }
    }
}
