use super::{view::inverse, *};
use crate::{
    nn::{Operator, Tape, check},
    testing::noise,
};

/// Small integers: sums and products of them are exact.
pub fn integers(shape: &[usize], seed: u64) -> Tensor {
    let n = shape.iter().product();
    Tensor::new(shape, noise(n, seed).iter().map(|x| (x * 16.0).round()).collect())
}

pub fn run(op: &dyn Operator, inputs: &[Tensor]) -> Vec<Tensor> {
    let shapes = op.shapes(&inputs.iter().map(|t| &t.shape[..]).collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    let outputs = op.forward(inputs.iter().map(Value::Borrowed).collect(), None);
    assert_eq!(outputs.iter().map(|t| t.shape.clone()).collect::<Vec<_>>(), shapes, "{op:?}");
    outputs
}

/// ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for a linear operator, to a part of the products' sizes; 0: exactly.
pub fn adjoint(op: &dyn Operator, inputs: &[Tensor], tolerance: f64) {
    let outputs = run(op, inputs);
    let y: Vec<Tensor> = outputs.iter().enumerate().map(|(i, t)| integers(&t.shape, 77 + i as u64)).collect();
    let shapes: Vec<&[usize]> = inputs.iter().map(|t| &t.shape[..]).collect();
    let output_shapes: Vec<&[usize]> = outputs.iter().map(|t| &t.shape[..]).collect();
    let tape = Tape {
        inputs: &vec![None; inputs.len()],
        outputs: &vec![None; outputs.len()],
        input_shapes: &shapes,
        output_shapes: &output_shapes,
        aux: &[],
    };
    let back = op.vjp(&tape, y.iter().cloned().map(Some).collect(), &vec![true; inputs.len()]);
    let dot = |a: &[f32], b: &[f32]| {
        assert_eq!(a.len(), b.len(), "{op:?}");
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).fold((0.0, 0.0), |(s, e), p| (s + p, e + p.abs()))
    };
    let sum =
        |a: &[Tensor], b: &[&Tensor]| a.iter().zip(b).map(|(a, b)| dot(&a.data, &b.data)).fold((0.0, 0.0), |(s, e), p| (s + p.0, e + p.1));
    let (left, size) = sum(&outputs, &y.iter().collect::<Vec<_>>());
    let (right, _) = sum(inputs, &back.iter().map(|t| t.as_ref().expect("wanted")).collect::<Vec<_>>());
    assert!((left - right).abs() <= tolerance * size, "{op:?} of {shapes:?}: {left} and {right}");
}

/// Every index of a shape, in order.
pub fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let n: usize = shape.iter().product();
    let index = |mut i: usize| {
        let mut index: Vec<usize> = shape.iter().rev().map(|&len| (i % len, i /= len).0).collect();
        index.reverse();
        index
    };
    (0..n).map(index).collect()
}

/// The element at an index.
pub fn at(x: &Tensor, index: &[usize]) -> f32 {
    x.data[index.iter().zip(&x.shape).fold(0, |i, (&k, &len)| i * len + k)]
}

/// Compares with a tensor told index by index.
fn is(op: &dyn Operator, result: &Tensor, shape: &[usize], element: impl Fn(&[usize]) -> f32) {
    assert_eq!(result.shape, shape, "{op:?}");
    let expected: Vec<f32> = indices(shape).iter().map(|i| element(i)).collect();
    assert_eq!(result.data, expected, "{op:?}");
}

fn iota(shape: &[usize]) -> Tensor {
    Tensor::new(shape, (0..shape.iter().product()).map(|i| i as f32).collect())
}

fn refused(op: &dyn Operator, shapes: &[&[usize]]) -> String {
    op.shapes(shapes).expect_err(&format!("{op:?} of {shapes:?}"))
}

#[test]
fn examples_of_the_standard() {
    let x = Tensor::new([3, 2], vec![1.0, 1.2, 2.3, 3.4, 4.5, 5.7]);
    let gather = Gather { axis: 0, indices: vec![0, 1, 1, 2], indices_shape: vec![2, 2] };
    assert_eq!(run(&gather, std::slice::from_ref(&x))[0], Tensor::new([2, 2, 2], vec![1.0, 1.2, 2.3, 3.4, 2.3, 3.4, 4.5, 5.7]));
    let pad = |fill| Pad { pads: vec![(0, 0), (2, 0)], fill };
    assert_eq!(run(&pad(Fill::Constant(0.0)), std::slice::from_ref(&x))[0].data[..8], [0.0, 0.0, 1.0, 1.2, 0.0, 0.0, 2.3, 3.4]);
    assert_eq!(run(&pad(Fill::Edge), &[x])[0].data[..8], [1.0, 1.0, 1.0, 1.2, 2.3, 2.3, 2.3, 3.4]);
    let reflect = Pad { pads: vec![(2, 1)], fill: Fill::Reflect };
    assert_eq!(run(&reflect, &[iota(&[3])])[0].data, [2.0, 1.0, 0.0, 1.0, 2.0, 1.0]);
    // Cut first, then mirrored.
    let cut = Pad { pads: vec![(-1, 2)], fill: Fill::Reflect };
    assert_eq!(run(&cut, &[iota(&[4])])[0].data, [1.0, 2.0, 3.0, 2.0, 1.0]);

    let x = Tensor::new([2, 4], (1..9).map(|i| i as f32).collect());
    assert_eq!(run(&Slice { ranges: vec![(1, 1, 1), (0, 2, 2)] }, &[x])[0], Tensor::new([1, 2], vec![5.0, 7.0]));
    let back = Slice { ranges: vec![(3, -2, 2)] };
    assert_eq!(run(&back, &[iota(&[4])])[0].data, [3.0, 1.0]);

    let x = Tensor::new([1, 8, 2, 3], (0..8).flat_map(|c| (0..6).map(move |i| (9 * c + i) as f32)).collect());
    let rows = |crd| run(&DepthToSpace { block: 2, crd }, std::slice::from_ref(&x))[0].data[..12].to_vec();
    assert_eq!(rows(false), [0.0, 18.0, 1.0, 19.0, 2.0, 20.0, 36.0, 54.0, 37.0, 55.0, 38.0, 56.0]);
    assert_eq!(rows(true), [0.0, 9.0, 1.0, 10.0, 2.0, 11.0, 18.0, 27.0, 19.0, 28.0, 20.0, 29.0]);
    assert_eq!(run(&SpaceToDepth { block: 2 }, &[iota(&[1, 1, 2, 4])])[0].data, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
}

#[test]
fn derivatives() {
    let x = check::any(&[2, 3, 4], 1);
    check::gradients(&Reshape { shape: vec![4, 6] }, std::slice::from_ref(&x));
    for axes in [vec![0, 1, 2], vec![2, 0, 1], vec![1, 0, 2], vec![2, 1, 0]] {
        check::gradients(&Transpose { axes }, std::slice::from_ref(&x));
    }
    check::gradients(&Concat { axis: 1 }, &[x.clone(), check::any(&[2, 0, 4], 2), check::any(&[2, 1, 4], 3)]);
    check::gradients(&Concat { axis: 0 }, std::slice::from_ref(&x));
    check::gradients(&Split { axis: 1, sizes: vec![1, 0, 2] }, std::slice::from_ref(&x));
    check::gradients(&Split { axis: 2, sizes: vec![4] }, std::slice::from_ref(&x));
    check::gradients(&Slice { ranges: vec![(0, 1, 2), (2, -2, 2), (1, 1, 3)] }, std::slice::from_ref(&x));
    check::gradients(&Slice { ranges: vec![(1, 1, 1), (2, -1, 3), (3, -2, 2)] }, std::slice::from_ref(&x));
    for fill in [Fill::Constant(2.5), Fill::Reflect, Fill::Edge] {
        check::gradients(&Pad { pads: vec![(1, 0), (-1, 1), (2, 1)], fill }, std::slice::from_ref(&x));
        check::gradients(&Pad { pads: vec![(0, 1), (0, 0), (0, 0)], fill }, std::slice::from_ref(&x));
        check::gradients(&Pad { pads: vec![(0, 0); 3], fill }, std::slice::from_ref(&x));
    }
    check::gradients(&Expand { shape: vec![2, 2, 3, 2] }, &[check::any(&[2, 1, 2], 4)]);
    check::gradients(&Expand { shape: vec![3, 19] }, &[check::any(&[1, 1], 5)]);
    check::gradients(&Gather { axis: 1, indices: vec![2, 0, 2, 2], indices_shape: vec![2, 2] }, std::slice::from_ref(&x));
    check::gradients(&Gather { axis: 2, indices: vec![3], indices_shape: vec![] }, &[x]);
    for crd in [false, true] {
        check::gradients(&DepthToSpace { block: 2, crd }, &[check::any(&[1, 8, 1, 2], 6)]);
    }
    check::gradients(&SpaceToDepth { block: 2 }, &[check::any(&[2, 1, 2, 4], 7)]);
}

#[test]
fn large_transposes_are_tiled_right() {
    for shape in [[1, 37, 53, 1], [2, 33, 5, 16], [3, 16, 16, 2], [1, 1, 100, 17]] {
        let x = iota(&shape);
        for axes in [[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
            let op = Transpose { axes: axes.to_vec() };
            let y = run(&op, std::slice::from_ref(&x)).remove(0);
            is(&op, &y, &axes.map(|a| shape[a]), |index| {
                let mut of = [0; 4];
                axes.iter().zip(index).for_each(|(&a, &i)| of[a] = i);
                at(&x, &of)
            });
            assert_eq!(run(&Transpose { axes: inverse(&axes) }, &[y])[0], x);
        }
    }
}

#[test]
fn what_need_not_move_is_not_copied() {
    let x = iota(&[2, 1, 3, 4]);
    let place = x.data.as_ptr();
    let ops: [&dyn Operator; 5] = [
        &Reshape { shape: vec![6, 4] },
        &Transpose { axes: vec![1, 0, 2] },
        &Slice { ranges: vec![(0, 1, 6), (0, 1, 4)] },
        &Expand { shape: vec![1, 6, 4] },
        &Pad { pads: vec![(0, 0); 3], fill: Fill::Edge },
    ];
    let mut x = x.reshaped([1, 6, 4]);
    for op in ops {
        x = match op.name() {
            "Transpose" | "Pad" => x.reshaped([1, 6, 4]),
            _ => x.reshaped([6, 4]),
        };
        op.shapes(&[&x.shape]).unwrap();
        x = op.forward(vec![Value::Owned(x)], None).remove(0);
        assert_eq!(x.data.as_ptr(), place, "{op:?}");
    }
}

#[test]
fn impossible_attributes_are_refused() {
    const MANY: usize = usize::MAX;
    let x: &[usize] = &[2, 3, 4];
    let some: &[usize] = &[0, MANY, MANY];
    assert_eq!(refused(&Reshape { shape: vec![5, 5] }, &[x]), "its input, of shape [2, 3, 4], cannot be reshaped to [5, 5]");
    refused(&Reshape { shape: vec![24] }, &[x, x]);
    refused(&Reshape { shape: vec![MANY, MANY] }, &[x]);
    refused(&Transpose { axes: vec![0, 1] }, &[x]);
    refused(&Transpose { axes: vec![0, 1, 1] }, &[x]);
    refused(&Transpose { axes: vec![2, 1, 0] }, &[some]);
    refused(&Concat { axis: 0 }, &[]);
    refused(&Concat { axis: 3 }, &[x]);
    refused(&Concat { axis: 0 }, &[x, &[2, 3]]);
    refused(&Concat { axis: 0 }, &[x, &[2, 3, 5]]);
    refused(&Concat { axis: 0 }, &[&[MANY], &[1]]);
    refused(&Concat { axis: 0 }, &[&[1 << 28], &[1]]);
    for sizes in [vec![], vec![1, 1], vec![2, 2], vec![MANY, 4]] {
        refused(&Split { axis: 1, sizes }, &[x]);
    }
    refused(&Split { axis: 4, sizes: vec![1] }, &[x]);
    for range in [(3, 1, 1), (0, 1, 4), (0, 0, 1), (1, -1, 3), (0, isize::MAX, 2), (2, isize::MIN, 2), (0, 1, MANY)] {
        refused(&Slice { ranges: vec![(0, 1, 2), range, (0, 1, 4)] }, &[x]);
    }
    refused(&Slice { ranges: vec![(0, 1, 2)] }, &[x]);
    for (pads, fill) in [
        ((-2, -2), Fill::Constant(0.0)),
        ((isize::MIN, 5), Fill::Constant(0.0)),
        ((isize::MAX, isize::MAX), Fill::Constant(0.0)),
        ((1 << 28, 0), Fill::Edge),
        ((3, 0), Fill::Reflect),
        ((-2, 1), Fill::Reflect),
        ((-3, 1), Fill::Edge),
    ] {
        refused(&Pad { pads: vec![(0, 0), pads, (0, 0)], fill }, &[x]);
    }
    refused(&Pad { pads: vec![(0, 0)], fill: Fill::Edge }, &[x]);
    for shape in [vec![3, 4], vec![1, 3, 4], vec![2, 3, 5], vec![1 << 28, 2, 3, 4], vec![1; 17]] {
        refused(&Expand { shape }, &[x]);
    }
    refused(&Gather { axis: 1, indices: vec![3], indices_shape: vec![1] }, &[x]);
    refused(&Gather { axis: 1, indices: vec![2], indices_shape: vec![2] }, &[x]);
    refused(&Gather { axis: 3, indices: vec![], indices_shape: vec![0] }, &[x]);
    refused(&Gather { axis: 1, indices: vec![], indices_shape: vec![MANY, MANY, 0] }, &[x]);
    refused(&Gather { axis: 1, indices: vec![0; 2], indices_shape: vec![2] }, &[&[1 << 28, 1]]);
    for (block, shape) in
        [(0, vec![1, 4, 2, 2]), (2, vec![1, 6, 2, 2]), (2, vec![4, 2, 2]), (MANY, vec![1, 4, 2, 2]), (2, vec![0, 4, MANY, 2])]
    {
        refused(&DepthToSpace { block, crd: false }, &[&shape]);
    }
    for (block, shape) in
        [(0, vec![1, 4, 2, 2]), (2, vec![1, 6, 3, 2]), (2, vec![4, 2, 2]), (MANY, vec![1, 4, 0, 0]), (2, vec![0, MANY, 2, 2])]
    {
        refused(&SpaceToDepth { block }, &[&shape]);
    }
}

#[test]
fn empty_tensors_of_absurd_lengths_do_nothing() {
    const MANY: usize = usize::MAX;
    let shape = [0, MANY, MANY];
    let x = Tensor::new(shape, Vec::new());
    let ops: [&dyn Operator; 7] = [
        &Reshape { shape: vec![0] },
        &Transpose { axes: vec![0, 2, 1] },
        &Split { axis: 1, sizes: vec![1, MANY - 1] },
        &Slice { ranges: vec![(0, 1, 0), (MANY - 1, -1, 2), (0, 1, MANY)] },
        &Pad { pads: vec![(1, 1), (-isize::MAX, 1 - isize::MAX), (-isize::MAX, -isize::MAX)], fill: Fill::Constant(1.0) },
        &Expand { shape: vec![0, MANY, MANY] },
        &Gather { axis: 2, indices: vec![7], indices_shape: vec![] },
    ];
    for op in ops {
        if op.name() == "Pad" {
            assert_eq!(run(op, std::slice::from_ref(&x))[0], Tensor::new([2, 2, 1], vec![1.0; 4]));
        }
        adjoint_of_empty(op, &x);
    }
    run(&Concat { axis: 0 }, &[x.clone(), x]);
}

fn adjoint_of_empty(op: &dyn Operator, x: &Tensor) {
    let y = run(op, std::slice::from_ref(x));
    let output_shapes: Vec<&[usize]> = y.iter().map(|t| &t.shape[..]).collect();
    let tape = Tape { inputs: &[None], outputs: &vec![None; y.len()], input_shapes: &[&x.shape], output_shapes: &output_shapes, aux: &[] };
    assert_eq!(op.vjp(&tape, y.iter().cloned().map(Some).collect(), &[true]), [Some(x.clone())]);
}

#[cfg(not(target_arch = "wasm32"))]
mod any_shape {
    use proptest::prelude::*;

    use super::*;

    fn below(seed: &mut u64, n: usize) -> usize {
        *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (*seed >> 33) as usize % n.max(1)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn same_as_index_by_index(shape in prop::collection::vec(0usize..5, 1..6), seed in any::<u64>()) {
            let mut seed = seed;
            let mut random = |n: usize| below(&mut seed, n);
            let rank = shape.len();
            let x = integers(&shape, 5);
            let one = std::slice::from_ref(&x);

            let mut axes: Vec<usize> = (0..rank).collect();
            (1..rank).for_each(|i| axes.swap(i, random(i + 1)));
            let op = Transpose { axes: axes.clone() };
            let y = run(&op, one).remove(0);
            is(&op, &y, &axes.iter().map(|&a| shape[a]).collect::<Vec<_>>(), |i| at(&x, &inverse(&axes).iter().map(|&k| i[k]).collect::<Vec<_>>()));
            adjoint(&op, one, 0.0);
            prop_assert_eq!(&run(&Transpose { axes: inverse(&axes) }, &[y])[0], &x);

            let range = |len: usize, random: &mut dyn FnMut(usize) -> usize| {
                if len == 0 {
                    return (0, 1, 0);
                }
                let (start, step) = (random(len), [1, 1, -1, 2, -2, -3][random(6)]);
                let most = if step > 0 { (len - 1 - start) / step as usize } else { start / -step as usize } + 1;
                (start, step, if random(8) == 0 { random(most + 1) } else { most })
            };
            let ranges: Vec<(usize, isize, usize)> = shape.iter().map(|&len| range(len, &mut random)).collect();
            let op = Slice { ranges: ranges.clone() };
            let result: Vec<usize> = ranges.iter().map(|r| r.2).collect();
            is(&op, &run(&op, one)[0], &result, |i| {
                at(&x, &i.iter().zip(&ranges).map(|(&i, r)| (r.0 as isize + i as isize * r.1) as usize).collect::<Vec<_>>())
            });
            adjoint(&op, one, 0.0);

            for fill in [Fill::Constant(3.0), Fill::Constant(0.0), Fill::Reflect, Fill::Edge] {
                let mut pad = |&len: &usize| {
                    let cut = if len > 1 { -(random(2) as isize) } else { 0 };
                    let most = match fill {
                        Fill::Constant(_) => 3,
                        Fill::Edge => if len == 0 { 0 } else { 3 },
                        Fill::Reflect => (len as isize + cut - 1).clamp(0, 3),
                    };
                    let pads = (cut, random(most as usize + 1) as isize);
                    match random(4) { 0 => (pads.1, pads.0), 1 => pads, _ => (0, 0) }
                };
                let pads: Vec<(isize, isize)> = shape.iter().map(&mut pad).collect();
                let op = Pad { pads: pads.clone(), fill };
                let result: Vec<usize> = shape.iter().zip(&pads).map(|(&len, p)| (len as isize + p.0 + p.1) as usize).collect();
                is(&op, &run(&op, one)[0], &result, |i| {
                    let mut index = Vec::new();
                    for ((&i, p), &len) in i.iter().zip(&pads).zip(&shape) {
                        let (first, last) = (-p.0.min(0), len as isize - 1 + p.1.min(0));
                        let at = i as isize - p.0;
                        index.push(match fill {
                            Fill::Constant(value) if at < first || at > last => return value,
                            Fill::Reflect if at < first => 2 * first - at,
                            Fill::Reflect if at > last => 2 * last - at,
                            _ => at.clamp(first, last),
                        } as usize);
                    }
                    at(&x, &index)
                });
                if fill != Fill::Constant(3.0) {
                    adjoint(&op, one, 0.0);
                }
            }

            let mut small = shape.clone();
            small.iter_mut().for_each(|len| *len = if random(2) == 0 { 1 } else { *len });
            small.drain(..random(rank));
            let from = integers(&small, 6);
            let op = Expand { shape: shape.clone() };
            is(&op, &run(&op, std::slice::from_ref(&from))[0], &shape, |i| {
                at(&from, &i[rank - small.len()..].iter().zip(&small).map(|(&i, &len)| i.min(len.max(1) - 1)).collect::<Vec<_>>())
            });
            adjoint(&op, std::slice::from_ref(&from), 0.0);

            let axis = random(rank);
            let indices_shape: Vec<usize> = (0..random(3)).map(|_| random(4)).collect();
            let count = if shape[axis] == 0 { 0 } else { indices_shape.iter().product() };
            let indices_shape = if shape[axis] == 0 { vec![0] } else { indices_shape };
            let op = Gather { axis, indices: (0..count).map(|_| random(shape[axis])).collect(), indices_shape: indices_shape.clone() };
            is(&op, &run(&op, one)[0], &[&shape[..axis], &indices_shape, &shape[axis + 1..]].concat(), |i| {
                let (before, rest) = i.split_at(axis);
                let (which, after) = rest.split_at(indices_shape.len());
                let which = which.iter().zip(&indices_shape).fold(0, |k, (&i, &len)| k * len + i);
                at(&x, &[before, &[op.indices[which]], after].concat())
            });
            adjoint(&op, one, 0.0);

            let mut sizes = Vec::new();
            let mut left = shape[axis];
            while left > 0 || sizes.is_empty() {
                sizes.push(random(left + 1));
                left -= sizes[sizes.len() - 1];
            }
            let split = Split { axis, sizes: sizes.clone() };
            let parts = run(&split, one);
            for (k, part) in parts.iter().enumerate() {
                let start: usize = sizes[..k].iter().sum();
                let mut result = shape.clone();
                result[axis] = sizes[k];
                is(&split, part, &result, |i| {
                    let mut i = i.to_vec();
                    i[axis] += start;
                    at(&x, &i)
                });
            }
            adjoint(&split, one, 0.0);
            adjoint(&Concat { axis }, &parts, 0.0);
            prop_assert_eq!(&run(&Concat { axis }, &parts)[0], &x);
        }

        #[test]
        fn depth_and_space(n in 0usize..3, c in 0usize..4, h in 0usize..4, w in 0usize..4, block in 1usize..4) {
            let x = integers(&[n, c * block * block, h, w], 3);
            for crd in [false, true] {
                let op = DepthToSpace { block, crd };
                let y = run(&op, std::slice::from_ref(&x)).remove(0);
                is(&op, &y, &[n, c, h * block, w * block], |i| {
                    let inside = (i[2] % block) * block + i[3] % block;
                    let channel = if crd { i[1] * block * block + inside } else { inside * c + i[1] };
                    at(&x, &[i[0], channel, i[2] / block, i[3] / block])
                });
                adjoint(&op, std::slice::from_ref(&x), 0.0);
                if !crd {
                    let back = SpaceToDepth { block };
                    adjoint(&back, std::slice::from_ref(&y), 0.0);
                    prop_assert_eq!(&run(&back, &[y])[0], &x);
                }
            }
        }
    }
}
