//! Matrix products.

use super::{
    Needs, Operator, Tape, Tensor, Value,
    kernel::{Matrix, product},
};

/// Gemm: `alpha · A'B' + beta · C`; inputs `a`, `b` (matrices) and perhaps `c`, which is broadcast.
#[derive(Debug, Clone, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of `c`.
    pub beta: f32,
    /// Whether `a` is transposed.
    pub trans_a: bool,
    /// Whether `b` is transposed.
    pub trans_b: bool,
}

/// A matrix, transposed or not: `rows×columns` as stored.
fn matrix<'a>(data: &'a [f32], shape: &[usize], transposed: bool) -> Matrix<'a> {
    let matrix = Matrix::rows(data, shape[1]);
    if transposed { matrix.t() } else { matrix }
}

impl Gemm {
    /// Rows of the result, length of the sums, columns of the result.
    fn sizes(&self, inputs: &[&[usize]]) -> Result<[usize; 3], String> {
        let ([a, b] | [a, b, _]) = inputs else { return Err(format!("it has {} inputs instead of 2 or 3", inputs.len())) };
        let (&[mut m, mut k], &[mut l, mut n]) = (*a, *b) else {
            return Err(format!("its inputs have shapes {a:?} and {b:?} instead of two matrices"));
        };
        if self.trans_a {
            (m, k) = (k, m);
        }
        if self.trans_b {
            (l, n) = (n, l);
        }
        if k != l {
            return Err(format!("matrices of {m}×{k} and {l}×{n} have no product"));
        }
        match inputs.get(2) {
            Some(c) if across(c, [m, n]).is_none() => Err(format!("its third input has shape {c:?}, which does not broadcast to {m}×{n}")),
            _ => Ok([m, k, n]),
        }
    }

    fn scaled(&self, mut product: Vec<f32>) -> Vec<f32> {
        if self.alpha != 1.0 {
            product.iter_mut().for_each(|x| *x *= self.alpha);
        }
        product
    }
}

/// How a broadcast `c` goes over the rows and columns of a matrix: the distances of its elements, 0 where one serves all.
fn across(c: &[usize], [m, n]: [usize; 2]) -> Option<[usize; 2]> {
    let [rows, columns] = match *c {
        [] => [1, 1],
        [columns] => [1, columns],
        [rows, columns] => [rows, columns],
        _ => return None,
    };
    let fits = (rows == 1 || rows == m) && (columns == 1 || columns == n);
    fits.then_some([if rows == 1 { 0 } else { columns }, usize::from(columns != 1)])
}

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let [m, _, n] = self.sizes(inputs)?;
        Ok(vec![vec![m, n]])
    }

    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|x| &x.shape[..]).collect();
        let [m, k, n] = self.sizes(&shapes).expect("shapes were checked");
        let (a, b) = (matrix(&inputs[0].data, shapes[0], self.trans_a), matrix(&inputs[1].data, shapes[1], self.trans_b));
        let mut y = vec![0.0; m * n];
        product(m, k, n, a, b, &mut y, n, false);
        let mut y = self.scaled(y);
        if let Some(c) = inputs.get(2) {
            let [down, right] = across(&c.shape, [m, n]).expect("shapes were checked");
            for (i, row) in y.chunks_exact_mut(n.max(1)).enumerate() {
                for (j, y) in row.iter_mut().enumerate() {
                    *y += self.beta * c.data[i * down + j * right];
                }
            }
        }
        vec![Tensor::new([m, n], y)]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![wanted[1], wanted[0]], outputs: vec![] }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let [m, k, n] = self.sizes(tape.input_shapes).expect("shapes were checked");
        let dy = cotangents.remove(0).expect("one of the cotangents is there");
        let dy = Matrix::rows(&dy.data, n);
        let derivative = |i: usize| {
            let shape = tape.input_shapes[i];
            let mut d = vec![0.0; shape.iter().product()];
            match i {
                0 => {
                    let b = matrix(&tape.input(1).data, tape.input_shapes[1], self.trans_b).t();
                    match self.trans_a {
                        false => product(m, n, k, dy, b, &mut d, k, false),
                        true => product(k, n, m, b.t(), dy.t(), &mut d, m, false),
                    }
                    d = self.scaled(d);
                }
                1 => {
                    let a = matrix(&tape.input(0).data, tape.input_shapes[0], self.trans_a).t();
                    match self.trans_b {
                        false => product(k, m, n, a, dy, &mut d, n, false),
                        true => product(n, m, k, dy.t(), a.t(), &mut d, k, false),
                    }
                    d = self.scaled(d);
                }
                _ => {
                    let [down, right] = across(shape, [m, n]).expect("shapes were checked");
                    for (i, row) in dy.data.chunks_exact(n.max(1)).enumerate() {
                        row.iter().enumerate().for_each(|(j, dy)| d[i * down + j * right] += dy);
                    }
                    d.iter_mut().for_each(|d| *d *= self.beta);
                }
            }
            Tensor::new(shape, d)
        };
        (0..wanted.len()).map(|i| wanted[i].then(|| derivative(i))).collect()
    }

    fn multiplications(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        self.sizes(inputs).map_or(0, |sizes| sizes.iter().fold(1, |product, n| u64::saturating_mul(product, *n as u64)))
    }
}

/// MatMul as in NumPy: leading axes are batches and broadcast; one-dimensional inputs are a row or a column.
#[derive(Debug, Clone, PartialEq)]
pub struct MatMul;

/// A MatMul as matrix products.
#[derive(Debug)]
struct Products {
    /// Rows of a result, length of the sums, columns of a result.
    sizes: [usize; 3],
    /// Batch axes of the result.
    batch: Vec<usize>,
    /// Distances of the matrices of `a` and of `b` along the batch axes, in matrices; 0 where one serves all.
    strides: [Vec<usize>; 2],
    /// Shape of the result.
    shape: Vec<usize>,
}

impl Products {
    fn new(inputs: &[&[usize]]) -> Result<Products, String> {
        let &[a, b] = inputs else { return Err(format!("it has {} inputs instead of 2", inputs.len())) };
        let ([.., k], [.., l]) = (a, b) else { return Err("one of its inputs is a scalar".into()) };
        let (m, n) = (if let [.., m, _] = a { *m } else { 1 }, if b.len() > 1 { *l } else { 1 });
        let inner = if let [.., l, _] = b { l } else { l };
        if k != inner {
            return Err(format!("shapes {a:?} and {b:?} have no product: {k} columns, {inner} rows"));
        }
        let batches = [a, b].map(|shape| &shape[..shape.len().saturating_sub(2)]);
        let axes = batches[0].len().max(batches[1].len());
        let length = |i: usize, axis: usize| (axis + batches[i].len()).checked_sub(axes).map_or(1, |axis| batches[i][axis]);
        let mut batch = Vec::new();
        for axis in 0..axes {
            batch.push(match (length(0, axis), length(1, axis)) {
                (a, b) if a == b => a,
                (1, length) | (length, 1) => length,
                (x, y) => return Err(format!("batches {a:?} and {b:?} do not broadcast: {x} and {y}")),
            });
        }
        let strides = [0, 1].map(|i| {
            let mut stride = 1usize;
            let mut strides = vec![0; axes];
            for axis in (0..axes).rev() {
                if length(i, axis) != 1 {
                    strides[axis] = stride;
                    stride = stride.saturating_mul(length(i, axis)); // beside an axis of length 0 nothing is read
                }
            }
            strides
        });
        let mut shape = batch.clone();
        shape.extend((a.len() > 1).then_some(m));
        shape.extend((b.len() > 1).then_some(n));
        let mut products = Products { sizes: [m, *k, n], batch, strides, shape };
        products.join();
        Ok(products)
    }

    /// With one matrix `b` for all of the last batch axis, the matrices `a` along it are one taller matrix.
    fn join(&mut self) {
        while let ([.., length], [.., last]) = (&self.batch[..], &self.strides[1][..]) {
            // A first axis of the batch that `a` lacks too has nothing to join.
            if *last != 0 || *length == 0 || (self.strides[0].last() == Some(&0) && *length != 1) {
                break;
            }
            self.sizes[0] *= length;
            let joined = *length;
            self.batch.pop();
            for strides in &mut self.strides {
                strides.pop();
            }
            self.strides[0].iter_mut().for_each(|stride| *stride /= joined);
        }
    }

    /// Calls a function with the number of the matrix of `a`, of `b` and of the result, in the order of results.
    fn each(&self, mut call: impl FnMut(usize, usize, usize)) {
        let count = self.batch.iter().product();
        let mut index = vec![0; self.batch.len()];
        for result in 0..count {
            let [a, b] = [0, 1].map(|i| self.strides[i].iter().zip(&index).map(|(stride, index)| stride * index).sum());
            call(a, b, result);
            for (index, length) in index.iter_mut().zip(&self.batch).rev() {
                *index += 1;
                if *index < *length {
                    break;
                }
                *index = 0;
            }
        }
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        Ok(vec![Products::new(inputs)?.shape])
    }

    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let products = Products::new(&[&inputs[0].shape, &inputs[1].shape]).expect("shapes were checked");
        let [m, k, n] = products.sizes;
        let (a, b) = (&inputs[0].data, &inputs[1].data);
        let mut y = Tensor::zeros(&products.shape[..]);
        products.each(|i, j, to| {
            let (a, b) = (Matrix::rows(&a[i * m * k..], k), Matrix::rows(&b[j * k * n..], n));
            product(m, k, n, a, b, &mut y.data[to * m * n..], n, false);
        });
        vec![y]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![wanted[1], wanted[0]], outputs: vec![] }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let products = Products::new(tape.input_shapes).expect("shapes were checked");
        let [m, k, n] = products.sizes;
        let dy = cotangents.remove(0).expect("one of the cotangents is there").data;
        // What was broadcast gets the sum of all it was used for.
        let da = wanted[0].then(|| {
            let mut da = Tensor::zeros(tape.input_shapes[0]);
            products.each(|i, j, from| {
                let (dy, b) = (Matrix::rows(&dy[from * m * n..], n), Matrix::rows(&tape.input(1).data[j * k * n..], n));
                product(m, n, k, dy, b.t(), &mut da.data[i * m * k..], k, true);
            });
            da
        });
        let db = wanted[1].then(|| {
            let mut db = Tensor::zeros(tape.input_shapes[1]);
            products.each(|i, j, from| {
                let (dy, a) = (Matrix::rows(&dy[from * m * n..], n), Matrix::rows(&tape.input(0).data[i * m * k..], k));
                product(k, m, n, a.t(), dy, &mut db.data[j * k * n..], n, true);
            });
            db
        });
        vec![da, db]
    }

    fn multiplications(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        let count = |p: Products| p.sizes.iter().chain(&p.batch).fold(1, |product, n| u64::saturating_mul(product, *n as u64));
        Products::new(inputs).map_or(0, count)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::{nn::check, testing::noise};

    fn random(shape: &[usize], seed: u64) -> Tensor {
        Tensor::new(shape, noise(shape.iter().product(), seed))
    }

    fn run(operator: &dyn Operator, inputs: &[Tensor]) -> Tensor {
        operator.forward(inputs.iter().map(Cow::Borrowed).collect(), None).remove(0)
    }

    #[test]
    fn gemm_by_hand() {
        let (a, b) = (Tensor::new([1, 2], vec![1.0, 2.0]), Tensor::new([2, 2], vec![3.0, 4.0, 5.0, 6.0]));
        let gemm = |trans_b| Gemm { alpha: 2.0, beta: 3.0, trans_a: false, trans_b };
        let c = Tensor::new([2], vec![10.0, 20.0]);
        // 2·(1·3 + 2·5) + 3·10, 2·(1·4 + 2·6) + 3·20; transposed 2·(1·3 + 2·4) + …, 2·(1·5 + 2·6) + …
        assert_eq!(run(&gemm(false), &[a.clone(), b.clone(), c.clone()]), Tensor::new([1, 2], vec![56.0, 92.0]));
        assert_eq!(run(&gemm(true), &[a.clone(), b.clone(), c]), Tensor::new([1, 2], vec![52.0, 94.0]));
        assert_eq!(run(&gemm(false), &[a.clone(), b.clone()]), Tensor::new([1, 2], vec![26.0, 32.0]));
        assert_eq!(run(&gemm(false), &[a.clone().reshaped([2, 1]).reshaped([1, 2]), b, Tensor::new([], vec![1.0])]).data, [29.0, 35.0]);
    }

    #[test]
    fn gemm_in_all_layouts_has_its_derivatives() {
        for code in 0..4 {
            let (trans_a, trans_b) = (code & 1 == 1, code & 2 == 2);
            let gemm = Gemm { alpha: 0.5, beta: -2.0, trans_a, trans_b };
            let (m, k, n) = (3, 4, 5);
            let a = random(&if trans_a { [k, m] } else { [m, k] }, 1);
            let b = random(&if trans_b { [n, k] } else { [k, n] }, 2);
            for c in [&[][..], &[1], &[n], &[1, n], &[m, 1], &[m, n], &[1, 1]] {
                check::gradients(&gemm, &[a.clone(), b.clone(), random(c, 3)]);
            }
            check::gradients(&gemm, &[a.clone(), b.clone()]);
            let plain = run(&Gemm { alpha: 1.0, trans_a: !trans_b, trans_b: !trans_a, ..gemm }, &[b.clone(), a.clone()]);
            let y = run(&gemm, &[a, b]);
            // (AB)' = B'A'.
            for i in 0..m {
                (0..n).for_each(|j| assert!((y.data[i * n + j] - 0.5 * plain.data[j * m + i]).abs() < 1e-6));
            }
        }
    }

    /// By the definition, for matrices with as many batch axes each.
    fn naive(a: &Tensor, b: &Tensor, shape: &[usize]) -> Vec<f64> {
        let axes = shape.len();
        let (k, total) = (a.shape[axes - 1], shape.iter().product());
        let at = |x: &Tensor, index: &[usize]| {
            let offset = x.shape.iter().zip(index).fold(0, |offset, (length, i)| offset * length + if *length == 1 { 0 } else { *i });
            f64::from(x.data[offset])
        };
        let element = |mut flat: usize| {
            let mut index = vec![0; axes];
            for axis in (0..axes).rev() {
                (index[axis], flat) = (flat % shape[axis], flat / shape[axis]);
            }
            let (mut left, mut right) = (index.clone(), index);
            let term = |p| {
                (left[axes - 1], right[axes - 2]) = (p, p);
                at(a, &left) * at(b, &right)
            };
            (0..k).map(term).sum()
        };
        (0..total).map(element).collect()
    }

    #[test]
    fn matmul_broadcasts_as_numpy() {
        let cases: [(&[usize], &[usize], &[usize]); 12] = [
            (&[2, 3], &[3, 4], &[2, 4]),
            (&[5, 2, 3], &[3, 4], &[5, 2, 4]),
            (&[2, 3], &[5, 3, 4], &[5, 2, 4]),
            (&[2, 1, 2, 3], &[4, 3, 2], &[2, 4, 2, 2]),
            (&[2, 4, 1, 3], &[2, 1, 3, 2], &[2, 4, 1, 2]),
            (&[1, 4, 1, 3], &[2, 1, 3, 2], &[2, 4, 1, 2]),
            (&[2, 3, 2, 2], &[1, 1, 2, 3], &[2, 3, 2, 3]),
            (&[3], &[3], &[]),
            (&[3], &[2, 3, 4], &[2, 4]),
            (&[2, 4, 3], &[3], &[2, 4]),
            (&[0, 2, 3], &[3, 4], &[0, 2, 4]),
            (&[2, 2, 0], &[0, 4], &[2, 2, 4]),
        ];
        for (a, b, shape) in cases {
            assert_eq!(MatMul.shapes(&[a, b]), Ok(vec![shape.to_vec()]), "{a:?} {b:?}");
            let (a, b) = (random(a, 1), random(b, 2));
            let y = run(&MatMul, &[a.clone(), b.clone()]);
            assert_eq!(y.shape, shape);
            // One-dimensional operands as a row and a column, then batch axes of length 1 in front.
            let row = if a.shape.len() == 1 { a.clone().reshaped([1, a.len()]) } else { a.clone() };
            let column = if b.shape.len() == 1 { b.clone().reshaped([b.len(), 1]) } else { b.clone() };
            let axes = row.shape.len().max(column.shape.len());
            let padded = |x: Tensor| {
                let shape: Vec<usize> = std::iter::repeat_n(1, axes - x.shape.len()).chain(x.shape.iter().copied()).collect();
                x.reshaped(shape)
            };
            let (row, column) = (padded(row), padded(column));
            let full: Vec<usize> = (0..axes - 2).map(|i| if row.shape[i] == 1 { column.shape[i] } else { row.shape[i] }).collect();
            let full = [full, vec![row.shape[axes - 2], column.shape[axes - 1]]].concat();
            for (y, exact) in y.data.iter().zip(naive(&row, &column, &full)) {
                assert!((f64::from(*y) - exact).abs() < 1e-6, "{:?} {:?}", a.shape, b.shape);
            }
            if !a.is_empty() && !y.is_empty() {
                check::gradients(&MatMul, &[a, b]);
            }
        }
    }

    #[test]
    fn what_is_impossible_is_said() {
        let gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
        assert!(gemm.shapes(&[&[2, 3], &[4, 5]]).unwrap_err().contains("2×3 and 4×5"));
        assert!(gemm.shapes(&[&[2, 3], &[3, 5], &[4]]).unwrap_err().contains("broadcast"));
        assert!(gemm.shapes(&[&[2, 3, 1], &[3, 5]]).unwrap_err().contains("two matrices"));
        assert!(MatMul.shapes(&[&[2, 3], &[4, 5]]).unwrap_err().contains("3 columns, 4 rows"));
        assert!(MatMul.shapes(&[&[2, 2, 3], &[3, 3, 5]]).unwrap_err().contains("broadcast"));
        assert!(MatMul.shapes(&[&[], &[3]]).unwrap_err().contains("scalar"));
        assert!(MatMul.shapes(&[&[3]]).unwrap_err().contains("1 inputs"));
    }
}
