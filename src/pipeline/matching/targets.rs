//! Targets that know the quantized network's own inputs: what errors of the layers before have done is made good, as far as a layer's weights can.
//!
//! Where a layer comes, both networks have run the same images up to it. Let `x` be what a pixel of its output sees in the full-precision network, `x̃` in the
//! quantized one, whose earlier layers are quantized and corrected already, and `r = s − s̃` the difference of what a residual connection will add to that
//! output (0 where there is none). The weights that meet `W·x + s` best by `W̃·x̃ + s̃`, but for a constant, which is matched afterwards, are
//!
//! ```text
//! W̃ = W + cov(e, x̃)·C⁻¹,   e = W·(x − x̃) + r,   C = cov(x̃, x̃) + δ·tr/n·I
//! ```
//!
//! (targets of "asymmetric calibration": Li et al., "GPTAQ", arXiv 2504.02692, for dense layers without residual connections). Regression on inputs with errors
//! shrinks, and later layers expect deviations that they were trained with: the layer is quantized, with errors fed back and its plan unchanged, for what lies half of
//! the way. On ResNet-20, with what is left of the budget spent ([`crate::pipeline::settle`]) and twice as many pixels, squared errors of the output are 0.79 to 0.90 of what they were at 0.5 to 1.3 bits per
//! weight, and 0.88 to 0.93 at 1.5 to 3.5. In a prototype, with three seeds, all of the way they were not less than without at 1.3 and 2.5 bits.
//!
//! Convolutions of one group whose errors are fed back have targets, unless an output channel has more than 1152 weights.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use nalgebra::{Cholesky, DMatrix, DVector};

use super::{Correction, Halt, Matcher, Pair};
use crate::{
    container::fold,
    error::{Error, Result},
    io::Order,
    nn::{
        Tensor,
        kernel::{self, Matrix},
    },
    pipeline::{
        EncodedLayer, Recoded, Session, encode_target,
        job::{Item, Job, Runner, Span, Task},
    },
    rate::{Allocation, Plan},
    transform::linalg,
};

/// How much of the way to the best weights a target is.
const PART: f64 = 0.5;
/// What is added to the diagonal of `C`, in parts of its mean.
const DAMPING: f64 = 0.03;
/// Most weights of an output channel: `C` has the square of it.
const WIDEST: usize = 1152;
/// Pixels that are summed over, for each of these; of the images, evenly spaced.
const PIXELS: usize = 32;

/// What is quantized again, and what it became.
pub struct Targets<'a> {
    session: &'a Session,
    allocation: &'a Allocation,
    layers: RefCell<Vec<EncodedLayer>>,
}

impl<'a> Targets<'a> {
    /// Of an allocation that was encoded to these layers.
    pub fn new(session: &'a Session, allocation: &'a Allocation, layers: &[EncodedLayer]) -> Targets<'a> {
        Targets { session, allocation, layers: RefCell::new(layers.to_vec()) }
    }

    /// The layers, after [`Matcher::run_with`].
    pub fn into_layers(self) -> Vec<EncodedLayer> {
        self.layers.into_inner()
    }

    /// Whether a layer may have a target.
    pub(super) fn wants(&self, layer: usize) -> bool {
        let shape = self.session.layers[layer].1;
        let fed_back = match &self.allocation.plans[layer] {
            Plan::Quantized { candidate, .. } => self.session.curves[layer].candidates[*candidate].feedback.is_some(),
            Plan::Exact => false,
        };
        fed_back && shape.groups == 1 && shape.order == Order::OutIn && shape.inputs * shape.taps <= WIDEST
    }

    /// Takes both networks to a layer, and quantizes that again. Gives the weights that run; nothing for a layer that stays as it is.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn layer(
        &self,
        matcher: &Matcher,
        halt: Halt,
        name: &str,
        pairs: &RefCell<Vec<Option<Pair>>>,
        correction: Option<Correction>,
        span: Span,
        runner: &mut impl Runner,
    ) -> Result<Option<Arc<Tensor>>> {
        let shape = self.session.layers[halt.layer].1;
        let weights = Weights::of(self.session, halt.layer)?;
        let sums = Arc::new(Mutex::new(Ordered::default()));
        let job = self.sums_job(matcher, halt, name, pairs, correction, &weights.running, &sums);
        for (item, pair) in runner.run(span.part(0.0, 0.7), job).await?.into_iter().enumerate() {
            pairs.borrow_mut()[item] = Some(pair);
        }
        let sums = sums.lock().unwrap_or_else(PoisonError::into_inner).total.take();
        let Some(sums) = sums.filter(|sums| sums.seen() == shape.inputs * shape.taps) else { return Ok(None) };
        let found = RefCell::new(Some((weights, sums)));
        let job = Job {
            stage: "encoding",
            items: vec![Item { name: name.into(), cost: 1.0 }],
            prepare: Box::new(|_| {
                let taken = found.take().ok_or_else(|| Error::Setting("There is nothing to encode.".into()))?;
                Ok(self.encode_task(halt.layer, taken))
            }),
        };
        let Some((body, weights)) = runner.run(span.part(0.7, 1.0), job).await?.pop().flatten() else { return Ok(None) };
        self.layers.borrow_mut()[halt.layer].body = Some(body);
        let tensor = &self.session.model.tensors[self.session.layers[halt.layer].0];
        Ok(Some(Arc::new(Tensor::new(tensor.shape.clone(), weights))))
    }

    /// The job that takes every item's networks to the layer, and sums over what they see there.
    #[allow(clippy::too_many_arguments)]
    fn sums_job<'b>(
        &self,
        matcher: &'b Matcher,
        halt: Halt,
        name: &str,
        pairs: &'b RefCell<Vec<Option<Pair>>>,
        correction: Option<Correction>,
        running: &Arc<[f32]>,
        sums: &Arc<Mutex<Ordered>>,
    ) -> Job<'b, Pair> {
        let shape = self.session.layers[halt.layer].1;
        let most = PIXELS * shape.inputs * shape.taps / matcher.items().max(1) + 1;
        let (correction, running, sums) = (correction.map(Arc::new), running.clone(), sums.clone());
        let prepare = move |item: usize| -> Result<Task<Pair>> {
            let (start, real, batch) = (matcher.start(item, pairs)?, matcher.range(item).len(), matcher.micro);
            let (correction, running, sums) = (correction.clone(), running.clone(), sums.clone());
            Ok(Box::new(move || {
                let mut pair = start.walks()?;
                if let Some(correction) = correction {
                    pair.correct(&correction, batch);
                }
                for _ in 1..halt.steps {
                    pair.full.next_layer();
                    pair.quantized.next_layer();
                }
                let found = pair.sums(batch, real, most, &running);
                sums.lock().unwrap_or_else(PoisonError::into_inner).add(item, found);
                Ok(pair)
            }))
        };
        let items = (0..matcher.items()).map(|_| Item { name: name.into(), cost: halt.cost }).collect();
        Job { stage: "matching", items, prepare: Box::new(prepare) }
    }

    /// The task that finds a layer's target and encodes it: the body, and the weights that run.
    fn encode_task(&self, layer: usize, (weights, sums): (Weights, Sums)) -> Task<Option<Recoded>> {
        let session = self.session;
        let (tensor, shape) = session.layers[layer];
        let (curves, plan) = (session.curves[layer].clone(), self.allocation.plans[layer].clone());
        let folded = session.head.factors(tensor).is_some();
        Box::new(move || {
            let Weights { coded, factors, .. } = weights;
            let Some(mut change) = sums.change() else { return Ok(None) };
            if let Some(factors) = &factors {
                fold::unfold(&mut change, factors);
            }
            let target: Vec<f32> = coded.iter().zip(&change).map(|(w, d)| w + PART as f32 * d).collect();
            let found = encode_target(&shape, &coded, &target, &curves, &plan, folded);
            Ok(found.map(|(body, mut decoded)| {
                factors.iter().for_each(|factors| fold::fold(&mut decoded, factors));
                (body, decoded)
            }))
        })
    }
}

/// A layer's full-precision weights.
struct Weights {
    /// Those that are coded.
    coded: Vec<f32>,
    /// Those that run.
    running: Arc<[f32]>,
    /// From the first to the second, per output channel, if they differ.
    factors: Option<Vec<f32>>,
}

impl Weights {
    fn of(session: &Session, layer: usize) -> Result<Weights> {
        let coded = session.read(session.layers[layer].0)?;
        let factors = session.calibrated_layers(&*session.runnable()?).swap_remove(layer).factors;
        let mut running = coded.clone();
        factors.iter().for_each(|factors| fold::fold(&mut running, factors));
        Ok(Weights { coded, running: running.into(), factors })
    }
}

impl Pair {
    /// Goes to just before the next layer, of these weights, and sums over what about so many pixels of its output see. Nothing for other layers than convolutions.
    fn sums(&mut self, batch: usize, real: usize, most: usize, weights: &[f32]) -> Option<Sums> {
        let (full, quantized) = (self.full.approach(), self.quantized.approach());
        let (full, quantized) = (full?, quantized?);
        let [images, outputs, size @ ..] = full.output else { return None };
        let each = size.iter().product::<usize>();
        let count = each * real;
        if *images != batch || count == 0 || *outputs == 0 || !weights.len().is_multiple_of(*outputs) {
            return None;
        }
        // A step that is prime to most sizes visits all columns of an image.
        let step = count.div_ceil(most);
        let pixels: Vec<usize> = (0..count).step_by(if step > 1 { step | 1 } else { 1 }).collect();
        let x = full.operator.seen(&full.shapes, full.input, &pixels)?;
        let q = quantized.operator.seen(&quantized.shapes, quantized.input, &pixels)?;
        let beside = full.beside.zip(quantized.beside).map(|(s, q)| {
            let at = |channel: usize, pixel: usize| (pixel / each * outputs + channel) * each + pixel % each;
            let at = (0..*outputs).flat_map(|channel| pixels.iter().map(move |&pixel| at(channel, pixel)));
            at.map(|at| s.data[at] - q.data[at]).collect::<Vec<f32>>()
        });
        let seen = weights.len() / outputs;
        (q.len() == seen * pixels.len()).then(|| Sums::of(pixels.len(), &x, &q, beside, weights))
    }
}

/// Sums of all items, added in their order.
#[derive(Default)]
struct Ordered {
    total: Option<Sums>,
    done: usize,
    waiting: BTreeMap<usize, Option<Sums>>,
}

impl Ordered {
    fn add(&mut self, item: usize, sums: Option<Sums>) {
        self.waiting.insert(item, sums);
        while let Some(sums) = self.waiting.remove(&self.done) {
            match (&mut self.total, sums) {
                (Some(total), Some(sums)) => total.add(&sums),
                (total, sums) => *total = total.take().or(sums),
            }
            self.done += 1;
        }
    }
}

/// Sums over pixels: of what they see in the quantized network, `x̃`, of what a layer's output lacks there, `e = W(x − x̃) + r`, and of products with `x̃`.
#[derive(Debug, Clone)]
struct Sums {
    count: f64,
    /// Of `x̃` and of `e`.
    means: [DVector<f64>; 2],
    /// Of `x̃x̃ᵗ` and of `ex̃ᵗ`.
    products: [DMatrix<f64>; 2],
}

impl Sums {
    /// Over so many pixels: rows of `x`, of `x̃`, of `r` if there is any, and of the weights.
    fn of(pixels: usize, x: &[f32], q: &[f32], r: Option<Vec<f32>>, weights: &[f32]) -> Sums {
        // Differences first: of sums that nearly agree rounding would leave little.
        let d: Vec<f32> = x.iter().zip(q).map(|(x, q)| x - q).collect();
        let n = q.len() / pixels.max(1);
        let outputs = weights.len() / n.max(1);
        let (mut e, beside) = r.map_or_else(|| (vec![0.0; outputs * pixels], false), |r| (r, true));
        kernel::product(outputs, n, pixels, Matrix::rows(weights, n), Matrix::rows(&d, pixels), &mut e, pixels, beside);
        let means = |a: &[f32], rows: usize| DVector::from_fn(rows, |i, _| a[i * pixels..][..pixels].iter().map(|&v| f64::from(v)).sum());
        let across = linalg::product_transposed(&e, q, outputs, pixels, n).into_iter().map(f64::from);
        Sums {
            count: pixels as f64,
            means: [means(q, n), means(&e, outputs)],
            products: [linalg::gram(q, n, pixels), DMatrix::from_row_iterator(outputs, n, across)],
        }
    }

    /// How many inputs a pixel sees.
    fn seen(&self) -> usize {
        self.means[0].len()
    }

    fn add(&mut self, other: &Sums) {
        self.count += other.count;
        self.means.iter_mut().zip(&other.means).for_each(|(sum, v)| *sum += v);
        self.products.iter_mut().zip(&other.products).for_each(|(sum, v)| *sum += v);
    }

    /// What leads from the weights, row-major, to those that meet the full-precision network best: `cov(e, x̃)·C⁻¹`. Nothing where the inputs say nothing of it, or it is
    /// not finite.
    fn change(&self) -> Option<Vec<f32>> {
        let n = self.seen();
        let covariance =
            |which: usize| &self.products[which] / self.count - &self.means[which] * self.means[0].transpose() / (self.count * self.count);
        let mut c = covariance(0);
        let damping = DAMPING * c.trace() / n as f64;
        if damping.is_nan() || damping <= 0.0 {
            return None;
        }
        (0..n).for_each(|i| c[(i, i)] += damping);
        let change = Cholesky::new(c)?.solve(&covariance(1).transpose());
        // Columns of what is solved are rows of the weights.
        let change: Vec<f32> = change.iter().map(|&v| v as f32).collect();
        change.iter().all(|v| v.is_finite()).then_some(change)
    }
}

#[cfg(test)]
mod tests;
