//! Distortions measured by running the network with one block quantized at a time (Young et al. 2021, Algorithm 2), as a job: one item per
//! layer, way to code it, and batch of images.
//!
//! ```text
//! curves of the model ─→ Measurer ─ job ─→ Vec<Vec<f64>> ─ curves ─→ the same curves, measured
//! ```
//!
//! What comes before a layer is run once an item, what follows once for every quantizer that is tried: a layer costs only what follows
//! it. Slow, and exact for one block alone; how errors of several blocks add up it does not see, as little as the model.

use std::sync::Arc;

use super::{
    Session,
    calibrate::CalibratedLayer,
    inputs::Inputs,
    job::{Item, Job},
};
use crate::{
    container::fold,
    data::Dataset,
    error::{Result, bad},
    io::{LayerShape, tensor::stored},
    nn::{Network, Tensor},
    quantize,
    rate::{
        cost::Cost,
        curve::{Candidate, LayerCurves},
    },
    report::{Preprocessing, TransformKind},
};

/// Most images that distortions are measured on.
pub const MOST_IMAGES: usize = 64;

/// A network bound to the images that distortions are measured on.
pub struct Measurer {
    network: Network,
    inputs: Inputs,
    layers: Vec<CalibratedLayer>,
    /// Images per item.
    batch: usize,
}

/// What an item runs.
#[derive(Debug, Clone, Copy)]
struct Probe {
    layer: usize,
    candidate: usize,
    first: usize,
}

/// What one item gave: squared output errors for each of [`Candidate::tries`], and the output's own square.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    errors: Vec<f64>,
    power: f64,
}

impl Session {
    /// Binds the network to calibration images, at most [`MOST_IMAGES`] of them. `memory`: bytes of activations per task.
    ///
    /// # Errors
    /// Those of [`Session::runnable`] and [`Inputs::new`]; curves that were not computed.
    pub fn measurer(&self, data: &Dataset, preprocessing: Preprocessing, images: usize, memory: u64) -> Result<Measurer> {
        let runnable = self.runnable()?;
        let inputs = Inputs::new(&runnable, data, preprocessing, Some(images.min(MOST_IMAGES)))?;
        let batch = runnable.batch(&inputs.image, false, memory, inputs.len())?.max(1);
        Ok(Measurer { network: runnable.network(batch, &inputs.image)?, inputs, layers: self.calibrated_layers(&runnable), batch })
    }

    /// The job that measures every block of the candidates in question.
    pub fn measured_job<'a>(&'a self, measurer: &'a Measurer) -> Job<'a, Measured> {
        let probes: Vec<Probe> = measurer.probes(&self.curves).collect();
        let item = |probe: &Probe| {
            let candidate = &self.curves[probe.layer].candidates[probe.candidate];
            let each = measurer.network.multiplications_from(probe.layer) as f64;
            let before = measurer.network.multiplications() as f64 - each;
            let name = &self.model.tensors[self.layers[probe.layer].0].name;
            Item { name: format!("{name}, {}", candidate.kind.name()), cost: before + each * (1 + candidate.tries().len()) as f64 }
        };
        Job {
            stage: "measuring",
            items: probes.iter().map(item).collect(),
            prepare: Box::new(move |i| {
                let Probe { layer, candidate, first } = probes[i];
                let (tensor, shape) = self.layers[layer];
                let mut weights = self.read(tensor)?;
                let exponent = quantize::normalize(&mut weights);
                let images = first..(first + measurer.batch).min(measurer.inputs.len());
                let encoded = measurer.inputs.read(images.clone(), measurer.batch)?;
                let task = Task {
                    network: measurer.network.clone(),
                    layer,
                    shape,
                    factors: measurer.layers[layer].factors.clone(),
                    curves: self.curves[layer].clone(),
                    candidate,
                    cost: self.cost(layer, self.curve_settings),
                    weights,
                    exponent,
                };
                let file = measurer.inputs.data.summary.name.clone();
                Ok(Box::new(move || {
                    let measured = task.run(encoded.decode()?, images.len());
                    let finite = measured.power.is_finite() && measured.errors.iter().all(|e| e.is_finite());
                    let advice = "check the preprocessing, and that the model is whole";
                    let reason = "the network's output for its images has NaN or infinite values";
                    finite.then_some(measured).ok_or_else(|| bad(&file, reason, advice))
                }))
            }),
        }
    }

    /// The curves with what [`Session::measured_job`] found.
    pub fn measured_curves(&self, measurer: &Measurer, results: &[Measured]) -> Vec<LayerCurves> {
        let mut curves: Vec<LayerCurves> = self.curves.iter().map(|c| (**c).clone()).collect();
        let found: Vec<(Probe, &Measured)> = measurer.probes(&self.curves).zip(results).collect();
        for of in found.chunk_by(|(a, _), (b, _)| (a.layer, a.candidate) == (b.layer, b.candidate)) {
            let power: f64 = of.iter().map(|(_, m)| m.power).sum();
            let mut errors = vec![0.0; of[0].1.errors.len()];
            for (_, measured) in of {
                errors.iter_mut().zip(&measured.errors).for_each(|(sum, e)| *sum += e / if power > 0.0 { power } else { 1.0 });
            }
            let Probe { layer, candidate, .. } = of[0].0;
            let candidate = &mut curves[layer].candidates[candidate];
            *candidate = candidate.with_measured(&errors);
        }
        curves
    }
}

impl Measurer {
    /// How many images are run.
    pub fn images(&self) -> usize {
        self.inputs.len()
    }

    fn probes(&self, curves: &[Arc<LayerCurves>]) -> impl Iterator<Item = Probe> {
        let runs = self.network.layers();
        let candidates = curves.iter().enumerate().filter(move |(layer, _)| runs.contains(layer));
        let candidates = candidates.flat_map(|(layer, c)| in_question(c).into_iter().map(move |candidate| (layer, candidate)));
        let starts: Vec<usize> = (0..self.inputs.len()).step_by(self.batch).collect();
        candidates.flat_map(move |(layer, candidate)| starts.clone().into_iter().map(move |first| Probe { layer, candidate, first }))
    }
}

/// Candidates that are measured: those that the model prefers at some slope, among all and among those without a transform. The others are too
/// many to run, and keep what the model says of them.
fn in_question(curves: &LayerCurves) -> Vec<usize> {
    let cost = |c: &Candidate, lambda: f64| {
        let blocks = c.blocks.iter().map(|b| b.at(lambda));
        blocks.map(|v| v.distortion + lambda * v.bits as f64).sum::<f64>() + lambda * c.side_bits as f64
    };
    let mut found = std::collections::BTreeSet::new();
    for lambda in (0..48).map(|i| 10f64.powf(-1.0 - 0.25 * f64::from(i))) {
        for only in [None, Some(TransformKind::None)] {
            let among = curves.candidates.iter().enumerate().filter(|(_, c)| only.is_none_or(|kind| c.kind == kind));
            let best = among.min_by(|a, b| cost(a.1, lambda).total_cmp(&cost(b.1, lambda)));
            found.extend(best.map(|b| b.0));
        }
    }
    found.into_iter().collect()
}

struct Task {
    network: Network,
    layer: usize,
    shape: LayerShape,
    /// From the weights that are coded to those that run.
    factors: Option<Vec<f32>>,
    curves: Arc<LayerCurves>,
    candidate: usize,
    cost: Cost,
    /// Normalised, as they are coded.
    weights: Vec<f32>,
    exponent: i16,
}

impl Task {
    fn run(&self, input: Tensor, images: usize) -> Measured {
        let candidate: &Candidate = &self.curves.candidates[self.candidate];
        let batch = input.shape[0];
        let coefficients = candidate.coefficients(&self.cost, &self.shape, &self.weights);
        let mut tries = candidate.tries().into_iter();
        let (mut started, mut reference) = (false, Vec::new());
        let mut measured = Measured { errors: Vec::new(), power: 0.0 };
        let mut weights = |own: &Tensor| {
            // First as they are: what the others are compared with.
            if !std::mem::replace(&mut started, true) {
                return Some(own.clone());
            }
            let mut error = candidate.error(&coefficients, &self.shape, tries.next()?);
            quantize::scale(&mut error, self.exponent.into());
            if let Some(factors) = &self.factors {
                fold::fold(&mut error, factors);
            }
            let mut other = own.clone();
            other.data.iter_mut().zip(stored(&self.shape, &error)).for_each(|(w, e)| *w += e);
            Some(other)
        };
        let mut outputs = |outputs: Vec<Tensor>| {
            // Images that only fill the batch up do not count.
            let real = outputs.into_iter().flat_map(|y| {
                let size = y.len() / batch.max(1) * images;
                y.data.into_iter().take(size)
            });
            let y: Vec<f32> = real.collect();
            if reference.is_empty() {
                measured.power = y.iter().map(|&v| f64::from(v).powi(2)).sum();
                reference = y;
            } else {
                measured.errors.push(y.iter().zip(&reference).map(|(a, b)| f64::from(a - b).powi(2)).sum());
            }
        };
        self.network.forward_with(vec![input], self.layer, &mut weights, &mut outputs);
        measured
    }
}
