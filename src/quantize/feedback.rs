//! Error feedback: coefficients are quantized column after column, and what each has erred is made good, as far as it can be, by those to come.
//!
//! An error `e` of a row of weights costs `e·H·eᵗ`, `H` being the second moment of gradients across columns. With `H = R·D·Rᵗ`, `R` unit upper
//! triangular, that is `Σ_j D_j (e_j + u_j)²` with `u_j = Σ_{k<j} e_k R_kj`: of column `j` it is not the weight that is to be met but the weight
//! less `u_j`, and what is left costs `D_j`. No basis is stored, and at high rate the gain is that of the best transform of gradients,
//! `Π H_jj / Π D_j` (GPTQ, Frantar et al. 2022, does this with the second moment of inputs).
//!
//! Combined with a trellis every state keeps the errors of its own path ("per-survivor processing"), within stretches of 64 columns: at their
//! ends the best path is taken, and its errors go to all later columns at once, which is a matrix product over all rows.

use std::ops::Range;

use half::bf16;

use super::trellis::{Bits, STATES, Trellis};
use crate::nn::kernel::{self, Matrix};

/// Columns between two decisions on a path.
const STRETCH: usize = 64;
/// Columns of a panel of the factorization.
const PANEL: usize = 64;

/// `R` and `D` of `H = R·D·Rᵗ`.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor {
    /// `D`.
    pub diagonal: Vec<f32>,
    /// `R` right of its diagonal, row after row.
    upper: Vec<bf16>,
}

impl Factor {
    /// Factors a symmetric `n×n` matrix, row-major. Nothing where it is not positive definite, as far as `f32` can tell.
    pub fn new(mut h: Vec<f32>, n: usize) -> Option<Factor> {
        assert_eq!(h.len(), n * n);
        let mut diagonal = vec![0f32; n];
        let mut end = n;
        while end > 0 {
            let start = end.saturating_sub(PANEL);
            let width = end - start;
            // H[..end, start..end] less what the columns behind explain.
            let behind = n - end;
            let mut panel = vec![0f32; end * width];
            for (row, panel) in panel.chunks_mut(width).enumerate() {
                panel.copy_from_slice(&h[row * n + start..row * n + end]);
            }
            if behind > 0 {
                let mut scaled = Vec::with_capacity(width * behind);
                for row in start..end {
                    scaled.extend(h[row * n + end..(row + 1) * n].iter().zip(&diagonal[end..]).map(|(r, d)| -r * d));
                }
                kernel::product(end, behind, width, Matrix::rows(&h[end..], n), Matrix::rows(&scaled, behind).t(), &mut panel, width, true);
            }
            for j in (0..width).rev() {
                let column = start + j;
                let d = panel[column * width + j];
                if !(d > 0.0 && d.is_finite()) {
                    return None;
                }
                diagonal[column] = d;
                // Of the rows above, and what that explains of the panel's columns before.
                let own: Vec<f32> = (0..j).map(|k| panel[(start + k) * width + j]).collect();
                for row in 0..column {
                    let panel = &mut panel[row * width..(row + 1) * width];
                    let r = panel[j] / d;
                    panel[j] = r;
                    let from = row.saturating_sub(start).min(j);
                    panel[from..j].iter_mut().zip(&own[from..]).for_each(|(v, own)| *v -= r * own);
                }
            }
            for (row, panel) in panel.chunks(width).enumerate() {
                // Right of the diagonal.
                let from = (row + 1).saturating_sub(start).min(width);
                h[row * n + start + from..row * n + end].copy_from_slice(&panel[from..]);
            }
            end = start;
        }
        let upper = (0..n).flat_map(|row| h[row * n + row + 1..(row + 1) * n].iter().map(|&r| bf16::from_f32(r))).collect();
        Some(Factor { diagonal, upper })
    }

    /// `e·H·eᵗ` of rows of errors, one after the other.
    pub fn costs(&self, errors: &[f32]) -> Vec<f64> {
        let n = self.diagonal.len();
        let count = errors.len() / n.max(1);
        let mut seen = errors.to_vec();
        for start in (0..n).step_by(PANEL) {
            let end = (start + PANEL).min(n);
            let panel = self.panel(start..end);
            kernel::product(
                count,
                end - start,
                n - start,
                Matrix::rows(&errors[start..], n),
                Matrix::rows(&panel, n - start),
                &mut seen[start..],
                n,
                true,
            );
        }
        let row = |row: &[f32]| row.iter().zip(&self.diagonal).map(|(v, d)| f64::from(d * v * v)).sum();
        seen.chunks(n.max(1)).map(row).collect()
    }

    /// Some rows of `R` from their first column on, without the ones of the diagonal.
    fn panel(&self, rows: Range<usize>) -> Vec<f32> {
        let width = self.diagonal.len() - rows.start;
        let mut panel = vec![0f32; rows.len() * width];
        for (k, row) in panel.chunks_mut(width).enumerate() {
            row[k + 1..].iter_mut().zip(self.row(rows.start + k)).for_each(|(r, v)| *r = v.to_f32());
        }
        panel
    }

    /// `R_kj` of a row right of the diagonal.
    fn row(&self, k: usize) -> &[bf16] {
        let n = self.diagonal.len();
        let at = k * n - k * (k + 1) / 2;
        &self.upper[at..at + n - 1 - k]
    }
}

/// Rows to quantize. All lengths in steps of the rows' grids.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The weights, `rows × n`.
    pub weights: &'a [f32],
    /// Scale of each column.
    pub columns: &'a [f32],
    /// What a bit is worth, in squares of a step, where a column's errors cost what they do on average.
    pub price: f32,
}

/// One stretch of one row: the errors of all paths.
struct Paths {
    costs: [f32; STATES],
    errors: [[f32; STATES]; STRETCH],
    from: [[u8; STATES]; STRETCH],
    indices: [[i32; STATES]; STRETCH],
}

/// The indices of rows, for consecutive ranges of columns with a factor each. The trellis begins anew in each row. `classes` says of every weight, from the
/// indices of all, how large its neighbours are ([`super::trellis::class`]); with each of the `passes` the bits are those of what the one before has found.
pub fn indices(rows: Rows<'_>, factors: &[Factor], passes: usize, classes: impl Fn(&[i32]) -> Vec<u8>) -> Vec<i32> {
    let n = rows.columns.len();
    let costs = costs(rows.columns, factors);
    // To begin with: one quantizer of twice the step, and no feedback.
    let plain = |(i, v): (usize, &f32)| super::nearest(v / rows.columns[i % n], 0.5);
    let mut found: Vec<i32> = rows.weights.iter().enumerate().map(plain).collect();
    for pass in 0..passes {
        let classes = classes(&found);
        let bits = Bits::of(&found, &classes, if pass == 0 { Trellis::None } else { Trellis::Eight }, n);
        found = search(rows, factors, &costs, &classes, &bits);
    }
    found
}

/// What a squared error of each column costs, in steps: `D_j·c_j²`, one on average.
fn costs(columns: &[f32], factors: &[Factor]) -> Vec<f32> {
    let costs: Vec<f32> = factors.iter().flat_map(|f| &f.diagonal).zip(columns).map(|(d, c)| d * c * c).collect();
    let mean = costs.iter().map(|&c| f64::from(c)).sum::<f64>() / costs.len().max(1) as f64;
    costs.iter().map(|c| (f64::from(*c) / mean).clamp(1e-3, 1e3) as f32).collect()
}

fn search(rows: Rows<'_>, factors: &[Factor], costs: &[f32], classes: &[u8], bits: &Bits) -> Vec<i32> {
    let n = rows.columns.len();
    let count = rows.weights.len() / n.max(1);
    let mut found = vec![0; rows.weights.len()];
    if count == 0 {
        return found;
    }
    let mut states = vec![0u8; count];
    let mut first = 0;
    for factor in factors {
        let width = factor.diagonal.len();
        // `u` of the columns to come, in steps.
        let mut owed = vec![0f32; count * width];
        for start in (0..width).step_by(STRETCH) {
            let end = (start + STRETCH).min(width);
            let panel = factor.panel(start..end);
            let stretch = first + start..first + end;
            let mut errors = vec![0f32; count * (end - start)];
            for (row, state) in states.iter_mut().enumerate() {
                let at = row * n + stretch.start..row * n + stretch.end;
                let part = Part {
                    weights: &rows.weights[at.clone()],
                    owed: &owed[row * width + start..row * width + end],
                    columns: &rows.columns[stretch.clone()],
                    classes: &classes[at.clone()],
                    costs: &costs[stretch.clone()],
                    inside: &panel,
                    distance: width - start,
                    price: rows.price,
                };
                let errors = &mut errors[row * (end - start)..(row + 1) * (end - start)];
                *state = part.search(*state, bits, &mut found[at], errors);
            }
            if end < width {
                let (k, later) = (end - start, width - end);
                let panel = Matrix::rows(&panel[k..], width - start);
                kernel::product(count, k, later, Matrix::rows(&errors, k), panel, &mut owed[end..], width, true);
            }
        }
        first += width;
    }
    found
}

/// A stretch of a row.
struct Part<'a> {
    weights: &'a [f32],
    /// What the columns before the stretch have erred, as it reaches those of the stretch.
    owed: &'a [f32],
    columns: &'a [f32],
    classes: &'a [u8],
    costs: &'a [f32],
    /// `R` of the stretch, rows `distance` apart.
    inside: &'a [f32],
    distance: usize,
    price: f32,
}

impl Part<'_> {
    /// Finds the best path from a state. Gives the state that it ends in.
    fn search(&self, first: u8, bits: &Bits, found: &mut [i32], errors: &mut [f32]) -> u8 {
        let trellis = Trellis::Eight;
        let next = trellis.next();
        let mut paths = Paths {
            costs: [f32::INFINITY; STATES],
            errors: [[0.0; STATES]; STRETCH],
            from: [[0; STATES]; STRETCH],
            indices: [[0; STATES]; STRETCH],
        };
        paths.costs[usize::from(first)] = 0.0;
        for j in 0..self.weights.len() {
            let mut owed = [self.owed[j]; STATES];
            for (k, errors) in paths.errors[..j].iter().enumerate() {
                let r = self.inside[k * self.distance + j];
                owed.iter_mut().zip(errors).for_each(|(u, e)| *u += r * e);
            }
            let (scale, cost) = (self.columns[j], self.costs[j]);
            let (inverse, price) = (1.0 / scale, self.price / cost);
            let (mut after, mut from) = ([f32::INFINITY; STATES], [0u8; STATES]);
            let (mut levels, mut indices) = ([0f32; STATES], [0i32; STATES]);
            for (state, to) in next.iter().enumerate().filter(|(state, _)| paths.costs[*state] < f32::INFINITY) {
                let value = (self.weights[j] - owed[state]) * inverse;
                let quantizer = trellis.quantizer(state as u8);
                for (best, &to) in bits.options(value, quantizer, self.classes[j], price).into_iter().zip(to) {
                    let (total, to) = (paths.costs[state] + cost * best.cost, usize::from(to));
                    if total < after[to] {
                        (after[to], from[to]) = (total, state as u8);
                        (levels[to], indices[to]) = (super::trellis::level(quantizer, best.index) as f32, best.index);
                    }
                }
            }
            let least = after.iter().fold(f32::INFINITY, |m, c| m.min(*c));
            paths.costs = after.map(|c| c - least);
            // Every path goes on with the errors of the one that it comes from.
            for errors in &mut paths.errors[..j] {
                *errors = from.map(|state| errors[usize::from(state)]);
            }
            paths.errors[j] = levels.map(|level| level * scale - self.weights[j]);
            (paths.from[j], paths.indices[j]) = (from, indices);
        }
        let end = (0..STATES).min_by(|&a, &b| paths.costs[a].total_cmp(&paths.costs[b])).unwrap_or(0);
        errors.iter_mut().zip(&paths.errors).for_each(|(to, errors)| *to = errors[end]);
        let mut state = end;
        for j in (0..self.weights.len()).rev() {
            found[j] = paths.indices[j][state];
            state = usize::from(paths.from[j][state]);
        }
        end as u8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{quantize::trellis::Walk, testing::noise};

    /// A positive definite matrix with strong correlations.
    fn moment(n: usize, seed: u64) -> Vec<f32> {
        let x = noise(n * (n + 3), seed);
        let mut h = vec![0f32; n * n];
        for i in 0..n {
            for j in 0..n {
                let dot: f32 = (0..n + 3).map(|k| (x[i * (n + 3) + k] + 2.0 * x[k]) * (x[j * (n + 3) + k] + 2.0 * x[k])).sum();
                h[i * n + j] = dot / n as f32 + if i == j { 0.05 } else { 0.0 };
            }
        }
        h
    }

    /// `e·H·eᵗ` of all rows.
    fn cost(h: &[f32], n: usize, e: &[f32]) -> f64 {
        let row = |e: &[f32]| -> f64 {
            (0..n).map(|i| f64::from(e[i]) * (0..n).map(|j| f64::from(h[i * n + j]) * f64::from(e[j])).sum::<f64>()).sum()
        };
        e.chunks(n).map(row).sum()
    }

    proptest! {
        #[test]
        fn factors_multiply_to_what_they_are_of(n in prop::sample::select(vec![1usize, 2, 5, 63, 64, 65, 150]), seed in any::<u64>()) {
            let h = moment(n, seed);
            let factor = Factor::new(h.clone(), n).unwrap();
            let r = |i: usize, j: usize| match i.cmp(&j) {
                std::cmp::Ordering::Less => f64::from(factor.row(i)[j - i - 1].to_f32()),
                std::cmp::Ordering::Equal => 1.0,
                std::cmp::Ordering::Greater => 0.0,
            };
            for (i, j) in [(0, 0), (0, n - 1), (n - 1, n - 1), (n / 2, n / 3), (n / 3, n - 1)] {
                let sum: f64 = (0..n).map(|k| r(i, k) * f64::from(factor.diagonal[k]) * r(j, k)).sum();
                let scale = f64::from(h[i * n + i] * h[j * n + j]).sqrt();
                prop_assert!((sum - f64::from(h[i * n + j])).abs() < 0.02 * scale, "{i} {j}: {sum} for {}", h[i * n + j]);
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert_eq!(Factor::new(vec![1.0, 2.0, 2.0, 1.0], 2), None);
        assert_eq!(Factor::new(vec![0.0], 1), None);
        assert_eq!(Factor::new(vec![f32::NAN], 1), None);
    }

    /// Fed back, errors cost less than they would: about `(Π D_j / Π H_jj)^(1/n)` of it, at fine steps.
    #[test]
    fn feedback_gains_what_theory_says() {
        let (n, count) = (70, 40);
        let h = moment(n, 5);
        let weights: Vec<f32> = noise(count * n, 9).iter().map(|w| 40.0 * w).collect();
        let run = |factor: Factor| -> f64 {
            let columns: Vec<f32> = factor.diagonal.iter().map(|d| 0.3 / d.sqrt()).collect();
            let rows = Rows { weights: &weights, columns: &columns, price: 0.0 };
            let found = indices(rows, &[factor], 2, |q| vec![0; q.len()]);
            let errors = found.chunks(n).zip(weights.chunks(n)).flat_map(|(q, w)| {
                let mut walk = Walk::new(Trellis::Eight);
                q.iter().zip(w).zip(&columns).map(move |((q, w), c)| walk.pass(*q) as f32 * c - w).collect::<Vec<_>>()
            });
            cost(&h, n, &errors.collect::<Vec<_>>())
        };
        let factor = Factor::new(h.clone(), n).unwrap();
        let mut alone = vec![0f32; n * n];
        (0..n).for_each(|i| alone[i * n + i] = h[i * n + i]);
        let alone = Factor::new(alone, n).unwrap();
        let log = |d: &[f32]| d.iter().map(|d| f64::from(*d).log2()).sum::<f64>() / n as f64;
        // Steps follow from D: with the same indices' range a fair comparison takes the volume of a cell as it is.
        let expected = (log(&factor.diagonal) - log(&alone.diagonal)).exp2();
        let volume = |f: &Factor| (-log(&f.diagonal)).exp2();
        let fed_back = run(factor.clone());
        let gain = fed_back / volume(&factor) / (run(alone.clone()) / volume(&alone));
        // Errors that are not fed back also follow each other a little, which this matrix makes much of.
        assert!(gain < 1.1 * expected && expected < 0.5, "{gain} for {expected}");
        // A cell of the trellis is 1.1 dB better than one of twice the grid.
        let cell = 0.09 * 4.0 / 12.0 / 1.29 * (count * n) as f64;
        assert!((0.95..1.1).contains(&(fed_back / cell)), "{}", fed_back / cell);
    }
}
