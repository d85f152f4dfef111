//! Statistics of all layers from calibration images, as a job: one item a sample ([`crate::statistics`]).
//!
//! ```text
//! Calibrator ─ job ─→ () … ─ statistics ─→ Statistics
//! ```
//!
//! A sample is the gradient over a few images, as many as keep the samples within memory. Tasks square their sample and hand it to a sum
//! that takes samples in the order of the images, whatever order they are finished in: the same bits for any number of threads, and
//! never more samples in memory than threads. A job that was cancelled goes on where it stopped.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    inputs::{EncodedBatch, Inputs},
    job::{Item, Job},
};
use crate::{
    data::Dataset,
    error::{Result, bad},
    graph::Runnable,
    io::{
        LayerShape,
        tensor::{canonical, swap_channels},
    },
    nn::{Hooks, Network, Tensor},
    report::{CalibrationSettings, CalibrationSummary, Preprocessing},
    statistics::{Accumulator, LayerStatistics, Moment, Moments, Sample, signs},
};

/// How much memory statistics may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Bytes of samples that are kept; when not even [`FEWEST`] fit, none are.
    pub samples: u64,
    /// Bytes of activations per task.
    pub activations: u64,
}

impl Default for Memory {
    /// For a browser.
    fn default() -> Self {
        Memory { samples: 256 << 20, activations: 256 << 20 }
    }
}

/// Fewest samples of which distortions are estimated.
pub const FEWEST: usize = 8;

/// A layer of the model, as statistics see it.
#[derive(Debug, Clone)]
pub struct CalibratedLayer {
    /// Its shape.
    pub shape: LayerShape,
    /// Factor of each output channel from the derivative by the weights that run to that by the weights that are coded; none where all are 1.
    pub factors: Option<Vec<f32>>,
}

/// A network bound to calibration images.
pub struct Calibrator {
    network: Network,
    inputs: Inputs,
    layers: Arc<[CalibratedLayer]>,
    settings: CalibrationSettings,
    /// Images per run of the network, and per sample: a multiple of it.
    micro: usize,
    per_sample: usize,
    keep: bool,
    /// Multiplications of one sample.
    cost: f64,
    sum: Arc<Mutex<Sum>>,
}

/// What calibration found.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Per layer of the model.
    pub layers: Vec<Arc<LayerStatistics>>,
    /// Mean of `‖y‖²` over images: what distortions are compared with.
    pub output_energy: f64,
    /// For reports.
    pub summary: CalibrationSummary,
}

/// Samples, summed in order.
struct Sum {
    layers: Vec<Accumulator>,
    /// Sum of `‖y‖²`, and how many images it is of.
    energy: (f64, usize),
    /// Samples summed.
    done: usize,
    /// Samples that came before their turn.
    waiting: BTreeMap<usize, Squared>,
}

/// A sample of all layers.
struct Squared {
    layers: Vec<Moments>,
    energy: (f64, usize),
}

impl Sum {
    fn add(&mut self, index: usize, sample: Squared) {
        // One that a cancelled job left on its way may come twice; it is the same.
        if index >= self.done {
            self.waiting.insert(index, sample);
        }
        while let Some(sample) = self.waiting.remove(&self.done) {
            self.layers.iter_mut().zip(sample.layers).for_each(|(sum, moments)| sum.add(moments));
            self.energy = (self.energy.0 + sample.energy.0, self.energy.1 + sample.energy.1);
            self.done += 1;
        }
    }
}

fn lock(sum: &Mutex<Sum>) -> MutexGuard<'_, Sum> {
    // A task that panicked did so outside of the lock.
    sum.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calibrator {
    /// Binds a network to images.
    ///
    /// # Errors
    /// Those of [`Inputs::new`]; a network that cannot be run.
    pub fn new(
        runnable: &Runnable,
        layers: Vec<CalibratedLayer>,
        data: &Dataset,
        preprocessing: Preprocessing,
        settings: CalibrationSettings,
        memory: Memory,
    ) -> Result<Calibrator> {
        let inputs = Inputs::new(runnable, data, preprocessing, Some(settings.images))?;
        let draws = settings.draws.max(1);
        let weights: u64 = layers.iter().map(|l| l.shape.weights() as u64).sum();
        let fit = usize::try_from(memory.samples / (2 * weights).max(1)).unwrap_or(usize::MAX);
        let keep = fit >= FEWEST;
        let wanted = if keep { inputs.len().div_ceil((fit / draws).max(1)) } else { 1 };
        let micro = runnable.batch(&inputs.image, true, memory.activations, wanted)?.max(1);
        let network = runnable.network(micro, &inputs.image)?;
        let per_sample = wanted.next_multiple_of(micro);
        let cost = 3.0 * network.multiplications() as f64 / micro as f64 * per_sample as f64;
        let sum = Sum {
            layers: layers.iter().map(|l| Accumulator::new(l.shape, keep)).collect(),
            energy: (0.0, 0),
            done: 0,
            waiting: BTreeMap::new(),
        };
        Ok(Calibrator { network, inputs, layers: layers.into(), settings, micro, per_sample, keep, cost, sum: Arc::new(Mutex::new(sum)) })
    }

    /// Samples that are kept, once all are taken: errors are measured on them.
    pub fn kept(&self) -> usize {
        if self.keep { self.per_draw() * self.settings.draws.max(1) } else { 0 }
    }

    /// Samples of one pass over the images.
    fn per_draw(&self) -> usize {
        self.inputs.len().div_ceil(self.per_sample)
    }

    /// The job that takes all samples that are not taken yet.
    pub fn job(&self) -> Job<'_, ()> {
        let done = lock(&self.sum).done;
        let total = self.per_draw() * self.settings.draws.max(1);
        let items = (done..total).map(|i| Item { name: format!("sample {} of {total}", i + 1), cost: self.cost });
        Job {
            stage: "statistics",
            items: items.collect(),
            prepare: Box::new(move |item| {
                let index = done + item;
                let (draw, sample) = (index / self.per_draw(), index % self.per_draw());
                let first = sample * self.per_sample;
                let end = (first + self.per_sample).min(self.inputs.len());
                let micro = self.micro;
                let batch = |first: usize| {
                    let range = first..(first + micro).min(end);
                    Ok(Batch { images: range.clone(), encoded: self.inputs.read(range, micro)? })
                };
                let task = Task {
                    batches: (first..end).step_by(micro).map(batch).collect::<Result<_>>()?,
                    network: self.network.clone(),
                    layers: self.layers.clone(),
                    seed: self.settings.seed,
                    draw,
                    file: self.inputs.data.summary.name.clone(),
                };
                let sum = self.sum.clone();
                Ok(Box::new(move || {
                    let sample = task.run()?;
                    lock(&sum).add(index, sample);
                    Ok(())
                }))
            }),
        }
    }

    /// The statistics of the samples taken so far; at least one.
    pub fn statistics(&self) -> Statistics {
        let sum = lock(&self.sum);
        let layers: Vec<Arc<LayerStatistics>> = sum.layers.iter().map(|l| Arc::new(l.finish())).collect();
        let reached: Vec<f64> = layers.iter().filter(|l| l.reaches_output()).map(|l| l.sampling_error()).collect();
        let summary = CalibrationSummary {
            data: self.inputs.data.summary.clone(),
            preprocessing: self.inputs.preprocessing.clone(),
            settings: self.settings,
            images: self.inputs.len(),
            samples: sum.done,
            images_per_sample: self.per_sample,
            sampling_error: reached.iter().sum::<f64>() / reached.len().max(1) as f64,
            unreached: layers.iter().filter(|l| !l.reaches_output()).count(),
        };
        Statistics { layers, output_energy: sum.energy.0 / sum.energy.1.max(1) as f64, summary }
    }
}

/// Images of one run of the network, by their position among the chosen.
struct Batch {
    images: std::ops::Range<usize>,
    encoded: EncodedBatch,
}

/// Everything one sample needs.
struct Task {
    batches: Vec<Batch>,
    network: Network,
    layers: Arc<[CalibratedLayer]>,
    seed: u64,
    draw: usize,
    file: String,
}

impl Task {
    fn run(&self) -> Result<Squared> {
        let images: usize = self.batches.iter().map(|b| b.images.len()).sum();
        let scale = 1.0 / (images.max(1) as f32).sqrt();
        let layers = &*self.layers;
        let mut seen = Seen { layers, images: 0, batch: 1, moments: self.draw == 0, sums: vec![Sums::default(); layers.len()] };
        let mut energy = 0.0;
        for Batch { images, encoded } in &self.batches {
            let input = encoded.decode()?;
            let batch = input.shape[0];
            (seen.images, seen.batch) = (images.len(), batch);
            let mut finite = true;
            let mut seed = |outputs: &[Tensor]| {
                // One stream of signs per image runs through all outputs. Images that only fill the batch up have none.
                let per_image: usize = outputs.iter().map(|y| y.len() / batch).sum();
                let mut streams: Vec<_> = images.clone().map(|image| signs(self.seed, image as u64, self.draw as u64, per_image)).collect();
                let seeds = outputs.iter().map(|y| {
                    let size = y.len() / batch;
                    let mut v = vec![0.0; y.len()];
                    for (stream, part) in streams.iter_mut().zip(v.chunks_mut(size.max(1))) {
                        part.iter_mut().zip(stream).for_each(|(v, sign)| *v = sign * scale);
                    }
                    let real = &y.data[..images.len() * size];
                    finite &= real.iter().all(|y| y.is_finite());
                    energy += real.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>();
                    Tensor::new(y.shape.clone(), v)
                });
                seeds.collect()
            };
            self.network.gradient(vec![input], &[], &mut seed, &mut seen);
            if !finite {
                let advice = "check the preprocessing, and that the model is whole";
                return Err(bad(&self.file, "the network's output for its images has NaN or infinite values", advice));
            }
        }
        let moments = seen.sums.into_iter().zip(layers).map(|(sums, layer)| {
            let mut gradient = canonical(&layer.shape, &sums.gradient);
            if let (Some(factors), false) = (&layer.factors, gradient.is_empty()) {
                crate::container::fold::fold(&mut gradient, factors);
            }
            Moments::new(&layer.shape, Sample { gradient, input: sums.input, output: sums.output })
        });
        Ok(Squared { layers: moments.collect(), energy: (energy, images) })
    }
}

/// Sums over the micro-batches of a sample, of one layer.
#[derive(Debug, Clone, Default)]
struct Sums {
    gradient: Vec<f32>,
    input: Option<(Vec<Moment>, f64)>,
    output: Option<(Vec<(f64, f64)>, f64)>,
}

/// Watches the layers.
struct Seen<'a> {
    layers: &'a [CalibratedLayer],
    /// Real images of this batch, and its size.
    images: usize,
    batch: usize,
    /// Whether inputs and outputs are wanted.
    moments: bool,
    sums: Vec<Sums>,
}

impl Seen<'_> {
    /// A tensor as images of `channels × positions`: the real images' values, and the positions of each. Nothing when its channels are
    /// neither its second nor its last axis, or images its first.
    fn channels(&self, x: &Tensor, channels: usize) -> Option<(Vec<f32>, usize)> {
        let Channels { positions, last, .. } = Channels::of(&x.shape, self.batch, channels, false)?;
        let real = &x.data[..self.images * channels * positions];
        Some((if last { swap_channels(real, positions, channels, 1) } else { real.to_vec() }, positions))
    }
}

/// Where the channels of a batch's tensor are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Channels {
    /// How many there are.
    pub channels: usize,
    /// Positions of each, in an image.
    pub positions: usize,
    /// Whether they are the last axis and not the second.
    pub last: bool,
}

impl Channels {
    /// Finds the axis of so many channels in a tensor of this shape: the second or the last, of outputs of a `dense` layer the last. Nothing
    /// when it is neither, or images are not the first axis.
    pub fn of(shape: &[usize], batch: usize, channels: usize, dense: bool) -> Option<Channels> {
        if batch == 0 || shape.first() != Some(&batch) || shape.len() < 2 {
            return None;
        }
        let last = dense && shape.len() > 2 || shape[1] != channels;
        let positions = shape[1..].iter().product::<usize>() / channels.max(1);
        (!last || shape.last() == Some(&channels)).then_some(Channels { channels, positions, last })
    }

    /// Where the values of a channel of an image are: the index of the first, and the distance to the next.
    pub fn of_image(&self, image: usize, channel: usize) -> (usize, usize) {
        let first = image * self.channels * self.positions;
        if self.last { (first + channel, self.channels) } else { (first + channel * self.positions, 1) }
    }
}

impl Hooks for Seen<'_> {
    fn input(&mut self, layer: usize, x: &Tensor) {
        let shape = self.layers[layer].shape;
        let channels = shape.groups * shape.inputs;
        let Some((x, positions)) = self.channels(x, channels).filter(|_| self.moments) else { return };
        let sums = self.sums[layer].input.get_or_insert_with(|| ((0..shape.groups).map(|_| Moment::zeros(shape.inputs)).collect(), 0.0));
        for image in x.chunks((channels * positions).max(1)) {
            for (moment, group) in sums.0.iter_mut().zip(image.chunks((shape.inputs * positions).max(1))) {
                moment.add(group, positions);
            }
            sums.1 += positions as f64;
        }
    }

    fn output(&mut self, layer: usize, y: &Tensor) {
        let shape = self.layers[layer].shape;
        let channels = shape.groups * shape.outputs;
        let Some((y, positions)) = self.channels(y, channels).filter(|_| self.moments) else { return };
        let sums = self.sums[layer].output.get_or_insert_with(|| (vec![(0.0, 0.0); channels], 0.0));
        for image in y.chunks((channels * positions).max(1)) {
            for (sum, values) in sums.0.iter_mut().zip(image.chunks(positions.max(1))) {
                let square = crate::quantize::search::square_sum(values);
                *sum = (sum.0 + values.iter().map(|&v| f64::from(v)).sum::<f64>(), sum.1 + square);
            }
            sums.1 += positions as f64;
        }
    }

    fn gradient(&mut self, layer: usize, gradient: Tensor) {
        let sum = &mut self.sums[layer].gradient;
        if sum.is_empty() {
            *sum = gradient.data;
        } else {
            sum.iter_mut().zip(gradient.data).for_each(|(s, g)| *s += g);
        }
    }
}
