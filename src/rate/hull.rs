//! Rate–distortion points of a block of rows, and their lower convex hull (Young et al. 2021, Section 5.1).

use crate::quantize::search::Choice;

/// Which of a block's choices are taken: for its coefficients and for its basis rows. Those of fixed-length quantizers are in the order of depths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Index in [`Block::coefficients`]; 0: the block is pruned and its basis rows are not stored.
    pub coefficient: u8,
    /// Index in [`Block::basis`]; 0 without a transform.
    pub basis: u8,
}

/// A vertex of a hull.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vertex {
    /// The choices.
    pub taken: Taken,
    /// Bits the block's indices take.
    pub bits: u64,
    /// Relative squared error of the layer that this block causes.
    pub distortion: f64,
    /// Distortion per bit that the step to this vertex buys, from the vertex before; infinite for the first.
    pub slope: f64,
}

/// What every choice for a block costs and errs. Distortions are relative to the layer's energy.
#[derive(Debug, Clone)]
pub struct Block {
    /// For the coefficients, by rising bits; the first is to store nothing.
    pub coefficients: Vec<Choice>,
    /// The same for the basis rows, errors weighted by the energy of the coefficients they carry; empty without a transform.
    pub basis: Vec<Choice>,
    /// Coefficients in the block.
    pub count: u64,
    /// The lower convex hull over all pairs of choices, by rising bits.
    pub hull: Vec<Vertex>,
}

impl Block {
    /// Builds the hull. All distortions must be relative to the layer's energy already.
    pub fn new(coefficients: Vec<Choice>, basis: Vec<Choice>, count: u64) -> Block {
        let mut block = Block { coefficients, basis, count, hull: Vec::new() };
        let points = block.points(0..block.coefficients.len() as u8);
        block.hull = lower_hull(points);
        block
    }

    /// Makes all distortions so many times what they are. The hull keeps its vertices.
    pub fn weigh(&mut self, factor: f64) {
        self.coefficients.iter_mut().chain(&mut self.basis).for_each(|choice| choice.distortion *= factor);
        for vertex in &mut self.hull {
            vertex.distortion *= factor;
            vertex.slope *= factor;
        }
    }

    /// Bits and distortion of a pair of choices. An error of basis row `k` costs its squared size times the energy of row `k`
    /// of `T` (method.md, section 5); both errors add up, as they are uncorrelated.
    pub fn point(&self, taken: Taken) -> Vertex {
        let coefficients = self.coefficients[usize::from(taken.coefficient)];
        let basis = self.basis.get(usize::from(taken.basis)).filter(|_| taken.coefficient > 0);
        Vertex {
            taken,
            bits: coefficients.bits + basis.map_or(0, |b| b.bits),
            distortion: coefficients.distortion + basis.map_or(0.0, |b| b.distortion),
            slope: f64::INFINITY,
        }
    }

    fn points(&self, coefficients: std::ops::Range<u8>) -> Vec<Vertex> {
        let mut points = Vec::new();
        for coefficient in coefficients {
            if coefficient == 0 || self.basis.is_empty() {
                points.push(self.point(Taken { coefficient, basis: 0 }));
            } else {
                points.extend((1..self.basis.len() as u8).map(|basis| self.point(Taken { coefficient, basis })));
            }
        }
        points
    }

    /// The vertex of least `D + λ·bits`.
    pub fn at(&self, lambda: f64) -> Vertex {
        let taken = self.hull.partition_point(|v| v.slope > lambda);
        self.hull[taken.max(1) - 1]
    }

    /// The same with the coefficients locked to a depth, or to the choice of the most bits that are not more: only the basis is chosen for.
    pub fn at_locked(&self, lambda: f64, depth: u8) -> Vertex {
        let most = u64::from(depth) * self.count;
        let locked = self.coefficients.partition_point(|c| c.bits <= most).max(1) as u8 - 1;
        let cost = |v: &Vertex| v.distortion + lambda * v.bits as f64;
        let points = self.points(locked..locked + 1);
        points.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.bits.cmp(&b.bits))).expect("there is a choice to store nothing")
    }

    /// The next vertex of the hull after one with these bits.
    pub fn next(&self, bits: u64) -> Option<Vertex> {
        self.hull.iter().find(|v| v.bits > bits).copied()
    }
}

/// The lower convex hull of points: rising bits, falling distortion, falling slopes. The first vertex is the cheapest point.
fn lower_hull(mut points: Vec<Vertex>) -> Vec<Vertex> {
    points.sort_by(|a, b| a.bits.cmp(&b.bits).then(a.distortion.total_cmp(&b.distortion)));
    let mut hull: Vec<Vertex> = Vec::new();
    for mut p in points {
        if hull.last().is_some_and(|last| p.distortion >= last.distortion || p.bits == last.bits) {
            continue;
        }
        while let Some(last) = hull.last() {
            p.slope = (last.distortion - p.distortion) / (p.bits - last.bits) as f64;
            if p.slope < last.slope {
                break;
            }
            hull.pop();
        }
        hull.push(p);
    }
    hull
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantize::Step;

    fn block(d: &[f64], b: &[f64], n: u64, m: u64) -> Block {
        let choices = |d: &[f64], count: u64| {
            d.iter()
                .enumerate()
                .map(|(i, &distortion)| Choice { depth: i as u8, step: Step(0), bits: i as u64 * count, distortion })
                .collect()
        };
        Block::new(choices(d, n), choices(b, m), n)
    }

    proptest! {
        /// The hull vertex at λ is the best of all points at λ.
        #[test]
        fn the_hull_minimises_the_lagrangian(
            d in prop::collection::vec(0f64..1.0, 1..10), b in prop::collection::vec(0f64..1.0, 2..8), with_basis in any::<bool>(),
            n in 1u64..100, m in 1u64..100, lambda in 0f64..0.1,
        ) {
            let block = block(&d, if with_basis { &b } else { &[] }, n, m);
            let cost = |v: Vertex| v.distortion + lambda * v.bits as f64;
            let best = cost(block.at(lambda));
            for p in block.points(0..d.len() as u8) {
                prop_assert!(best <= cost(p) + 1e-12, "{:?} is better", p);
            }
            prop_assert!(block.hull.windows(2).all(|w| w[0].bits < w[1].bits && w[0].distortion > w[1].distortion && w[0].slope > w[1].slope));
            for depth in 0..d.len() as u8 {
                prop_assert_eq!(block.at_locked(lambda, depth).taken.coefficient, depth);
            }
            // All of it once more, with errors that cost eight times as much: exactly, as powers of two are.
            let mut weighed = block.clone();
            weighed.weigh(8.0);
            let again = |choices: &[Choice]| choices.iter().map(|c| Choice { distortion: 8.0 * c.distortion, ..*c }).collect();
            let anew = Block::new(again(&block.coefficients), again(&block.basis), block.count);
            prop_assert_eq!((weighed.coefficients, weighed.basis, weighed.hull), (anew.coefficients, anew.basis, anew.hull));
        }
    }

    #[test]
    fn an_empty_block_stays_at_zero_bits() {
        let block = block(&[0.0, 0.0, 0.0], &[], 0, 0);
        assert_eq!(block.at(0.0).bits, 0);
        assert_eq!(block.hull.len(), 1);
    }
}
