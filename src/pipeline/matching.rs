//! Gain and offset of every output channel of the quantized layers, matched to the full-precision network on calibration images.
//!
//! ```text
//! Matcher ─ run ─→ Matched ─ corrections ─→ the layers' weights
//!                     └───── tensors ─────→ Session::with_small
//! ```
//!
//! Both networks run the same images in lockstep, from layer to layer. Of each output channel, over all images and positions, `f` is what the
//! full-precision network has before the activation, and `o` what the quantized one has, whose earlier layers are corrected already. Then
//!
//! ```text
//! a = σ(f)/σ(o),   c = mean(f) − a·mean(o),
//! ```
//!
//! `a` clipped to 0.5 … 4; dense layers, which have no positions to average over, take the regression `cov(f, o)/var(o)`. What the next layers expect is the
//! deviation that they were trained with: with errors fed back, ResNet-20's squared error at 1 bit is 27.9, of the regression 34.5, of the mean of both 29.6;
//! at 3 bits 0.684, 0.727, 0.700. The layer's output becomes `a·o + c`:
//! the weights are multiplied by `a`, and `c` goes into a small tensor of the file that is added there ([`crate::graph::offsets`]). Where there
//! is none, `c` is 0, and the layers after it are matched to that.
//!
//! The same pass can quantize layers again, for inputs that the quantized network has: [`targets`].
//!
//! One pass over the images does for all layers. Sums are taken per micro-batch and added in the order of the images: the same bits for any
//! number of threads.

pub mod targets;

use std::{cell::RefCell, collections::HashMap, ops::Range, rc::Rc, sync::Arc};

use super::{
    Session,
    calibrate::Channels,
    evaluate::Decoded,
    inputs::{EncodedBatch, Inputs},
    job::{self, Item, Job, Runner, Span},
};
use targets::Targets;

use crate::{
    container::Head,
    data::Dataset,
    error::{Error, Result},
    graph::{Runnable, batch_norm, offsets::Added},
    io::{Model, Order, Role},
    nn::{Network, Tensor, Walk},
    report::Preprocessing,
};

/// Least and greatest of what a gain is the mean of.
const CLIP: (f64, f64) = (0.5, 4.0);

/// Most images per item: enough for a matrix product, few enough for several threads.
const MICRO: usize = 16;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Most images, evenly spaced among those there are.
    pub images: usize,
    /// Bytes of activations: those of all images are held at once, and fewer images are taken where they would be more.
    pub memory: u64,
}

impl Default for Options {
    /// For a browser.
    fn default() -> Self {
        Options { images: 256, memory: 256 << 20 }
    }
}

/// What the output channels of a layer get: `gain·output + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Correction {
    /// Factor of each output channel's weights; channels in the order of the groups.
    pub gains: Vec<f32>,
    /// What is added to each output channel, as the file keeps it.
    pub offsets: Vec<f32>,
}

impl Correction {
    /// The one that changes nothing.
    fn none(channels: usize) -> Correction {
        Correction { gains: vec![1.0; channels], offsets: vec![0.0; channels] }
    }
}

/// What a pass found.
#[derive(Debug, Clone, PartialEq)]
pub struct Matched {
    /// Per layer of the model.
    pub corrections: Vec<Correction>,
    /// The small tensors that hold the offsets, by index in the model's table, rising: for [`Session::with_small`].
    pub tensors: Vec<(usize, Vec<f32>)>,
    /// Images that were run.
    pub images: usize,
}

impl Matched {
    /// Corrects what was decoded of a file: the weights of layers times their gains, and the small tensors that hold the offsets.
    pub fn apply(&self, model: &Model, decoded: &mut Decoded) {
        let layers: HashMap<usize, &Correction> = model.layers().into_iter().zip(&self.corrections).collect();
        for (index, values) in &mut decoded.tensors {
            if let (Some(correction), Role::Layer(shape)) = (layers.get(index), model.tensors[*index].role) {
                batch_norm::multiply(values, &shape, &correction.gains);
            } else if let Some((_, new)) = self.tensors.iter().find(|(tensor, _)| tensor == index) {
                values.clone_from(new);
            }
        }
    }
}

/// What is added to a layer's output, with its values as the quantized network has them.
#[derive(Debug, Clone)]
enum Place {
    /// Nothing that takes an offset.
    Nowhere,
    /// This tensor times the factor, part of the output.
    Own { tensor: usize, values: Vec<f32>, factor: f64 },
    /// `beta`, of a batch norm whose folded bias is part of the output.
    Folded { tensor: usize, beta: Vec<f32>, bias: Vec<f32> },
    /// This tensor, which is no part of the output; `full` are its values in the full-precision network.
    After { tensor: usize, values: Vec<f32>, full: Vec<f32> },
}

/// A layer that is matched.
#[derive(Debug, Clone)]
struct Site {
    channels: usize,
    dense: bool,
    place: Place,
}

/// Where both networks halt for a layer that is matched.
#[derive(Debug, Clone, Copy)]
struct Halt {
    layer: usize,
    /// How many layers further it is than the halt before.
    steps: usize,
    /// Multiplications of both networks on the way there.
    cost: f64,
}

/// Both networks bound to images.
pub struct Matcher {
    model: Rc<Model>,
    head: Rc<Head>,
    full: Network,
    quantized: Network,
    images: Inputs,
    /// Images per item.
    micro: usize,
    halts: Vec<Halt>,
    /// Per layer of the model; nothing for those that are left as they are.
    sites: Vec<Option<Site>>,
    gains: Box<dyn Fn(usize, Vec<f32>) -> Vec<f32>>,
}

impl Matcher {
    /// Binds a session's network and `quantized`, the same with what its compressed file decodes to ([`Runnable::with_tensors`]), to images.
    ///
    /// Layers are left as they are (gain 1, offset 0) if several operators use their weights, if it is not clear which of their channels are
    /// outputs, or if something is added to their output that cannot be changed.
    ///
    /// # Errors
    /// Those of [`Inputs::new`]; networks that cannot be run, or are not the same.
    pub fn new(session: &Session, quantized: &Runnable, data: &Dataset, preprocessing: Preprocessing, options: Options) -> Result<Matcher> {
        let (model, full) = (&session.model, session.runnable()?);
        let all = Inputs::new(&full, data, preprocessing.clone(), Some(options.images))?;
        // An item has a sixteenth of the images at most, and of the memory.
        let micro = full.batch(&all.image, false, options.memory / 32, MICRO.min(all.len()))?.max(1);
        let networks = (full.network(micro, &all.image)?, quantized.network(micro, &all.image)?);
        let halts = networks.0.halts();
        if halts != networks.1.halts() {
            return Err(Error::Setting(format!("{} and {} are not the same network.", full.file(), quantized.file())));
        }
        let per_image = (networks.0.peak_bytes(false) + networks.1.peak_bytes(false)) / micro as u64;
        let fit = usize::try_from(options.memory / per_image.max(1)).unwrap_or(usize::MAX);
        let images = if fit < all.len() { Inputs::new(&full, data, preprocessing, Some(fit.max(1)))? } else { all };

        let sites = sites(session, &full, quantized, &halts);
        let mut matched: Vec<Halt> = Vec::new();
        let (mut steps, mut cost) = (0, 0.0);
        for (layer, work) in halts {
            (steps, cost) = (steps + 1, cost + 2.0 * work as f64);
            if sites[layer].is_some() {
                matched.push(Halt { layer, steps: std::mem::take(&mut steps), cost: std::mem::take(&mut cost) });
            }
        }
        Ok(Matcher {
            model: model.clone(),
            head: session.head.clone(),
            full: networks.0,
            quantized: networks.1,
            images,
            micro,
            halts: matched,
            sites,
            gains: Box::new(|_, gains| gains),
        })
    }

    /// With gains as a file keeps them: `kept` gets a layer and its gains, and gives what will be decoded. Offsets, and the layers after it,
    /// are matched to that.
    #[must_use]
    pub fn keeping_gains(mut self, kept: impl Fn(usize, Vec<f32>) -> Vec<f32> + 'static) -> Matcher {
        self.gains = Box::new(kept);
        self
    }

    /// How many images are run.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// What the pass costs, in multiplications.
    pub fn cost(&self) -> f64 {
        self.halts.iter().map(|halt| halt.cost).sum::<f64>() * self.items() as f64
    }

    fn items(&self) -> usize {
        self.images.len().div_ceil(self.micro)
    }

    /// Runs the pass: a job per layer, an item per micro-batch.
    ///
    /// # Errors
    /// Those of reading and decoding images, and of the runner.
    pub async fn run(&self, span: Span, runner: &mut impl Runner) -> Result<Matched> {
        self.run_with(None, span, runner).await
    }

    /// As [`Matcher::run`]; layers are first quantized again for their [`targets`], if there are such.
    ///
    /// # Errors
    /// Those of reading and decoding images, of encoding, and of the runner.
    pub async fn run_with(&self, targets: Option<&Targets<'_>>, span: Span, runner: &mut impl Runner) -> Result<Matched> {
        let model_layers = self.model.layers();
        let channels = |index: &usize| match self.model.tensors[*index].role {
            Role::Layer(shape) => shape.groups * shape.outputs,
            _ => 0,
        };
        let mut corrections: Vec<Correction> = model_layers.iter().map(|index| Correction::none(channels(index))).collect();
        let mut tensors = Vec::new();
        let total: f64 = self.halts.iter().map(|halt| halt.cost).sum::<f64>().max(f64::MIN_POSITIVE);
        let mut done = 0.0;
        let pairs: RefCell<Vec<Option<Pair>>> = RefCell::new((0..self.items()).map(|_| None).collect());
        let mut correction = None;
        for halt in &self.halts {
            let Some(site) = &self.sites[halt.layer] else { continue };
            let part = span.part(done / total, (done + halt.cost) / total);
            done += halt.cost;
            let name = &self.model.tensors[model_layers[halt.layer]].name;
            let (mut halt, mut part, mut weights) = (*halt, part, None);
            if let Some(targets) = targets.filter(|targets| targets.wants(halt.layer)) {
                weights = targets.layer(self, halt, name, &pairs, correction.take(), part.part(0.0, 0.8), runner).await?;
                (halt.steps, part) = (1, part.part(0.8, 1.0));
            }
            let results = runner.run(part, self.job(halt, site, name, &pairs, correction.take(), weights)).await?;
            let mut sums: Option<Vec<Moments>> = Some(vec![Moments::default(); site.channels]);
            for (item, (pair, moments)) in results.into_iter().enumerate() {
                pairs.borrow_mut()[item] = Some(pair);
                sums = sums.zip(moments).map(|(mut sums, moments)| {
                    sums.iter_mut().zip(moments).for_each(|(sum, m)| sum.add(m));
                    sums
                });
            }
            // Without its channels there is nothing to be matched.
            let Some(sums) = sums else { continue };
            let (found, tensor) = self.correction(halt.layer, site, &sums);
            tensors.extend(tensor);
            correction = Some(found.clone());
            corrections[halt.layer] = found;
        }
        tensors.sort_by_key(|tensor: &(usize, _)| tensor.0);
        Ok(Matched { corrections, tensors, images: self.images.len() })
    }

    /// The images of an item.
    fn range(&self, item: usize) -> Range<usize> {
        item * self.micro..((item + 1) * self.micro).min(self.images.len())
    }

    /// Where an item stands.
    fn start(&self, item: usize, pairs: &RefCell<Vec<Option<Pair>>>) -> Result<Start> {
        let before = pairs.borrow_mut()[item].take();
        Ok(match before {
            Some(pair) => Start::Walks(pair),
            None => Start::Images(self.images.read(self.range(item), self.micro)?, self.full.clone(), self.quantized.clone()),
        })
    }

    /// The job of one layer: every item corrects the layer before by `correction`, goes on to this layer, and sums.
    fn job<'a>(
        &'a self,
        halt: Halt,
        site: &'a Site,
        name: &str,
        pairs: &'a RefCell<Vec<Option<Pair>>>,
        correction: Option<Correction>,
        weights: Option<Arc<Tensor>>,
    ) -> Job<'a, (Pair, Option<Vec<Moments>>)> {
        let items = (0..self.items()).map(|_| Item { name: name.into(), cost: halt.cost }).collect();
        let correction = correction.map(Arc::new);
        let prepare = move |item: usize| -> Result<job::Task<(Pair, Option<Vec<Moments>>)>> {
            let real = self.range(item).len();
            let start = self.start(item, pairs)?;
            let (channels, dense, batch) = (site.channels, site.dense, self.micro);
            let (correction, weights) = (correction.clone(), weights.clone());
            Ok(Box::new(move || {
                let mut pair = start.walks()?;
                if let Some(correction) = correction {
                    pair.correct(&correction, batch);
                }
                let moments = pair.advance(halt.steps, weights.as_deref(), channels, dense, batch, real);
                Ok((pair, moments))
            }))
        };
        Job { stage: "matching", items, prepare: Box::new(prepare) }
    }

    /// What a layer gets, and the tensor that holds its offsets.
    fn correction(&self, layer: usize, site: &Site, sums: &[Moments]) -> (Correction, Option<(usize, Vec<f32>)>) {
        let gains: Vec<f32> = sums.iter().map(|m| m.gain(site.dense) as f32).collect();
        let gains = (self.gains)(layer, gains);
        let a = |i: usize| f64::from(gains[i]);
        let c = |i: usize| sums[i].offset(a(i));
        let all = 0..site.channels;
        let (tensor, wanted): (usize, Vec<f64>) = match &site.place {
            Place::Nowhere => return (Correction { offsets: vec![0.0; gains.len()], gains }, None),
            Place::Own { tensor, values, factor } => (*tensor, all.map(|i| a(i) * f64::from(values[i]) + c(i) / factor).collect()),
            Place::Folded { tensor, beta, bias } => {
                (*tensor, all.map(|i| f64::from(beta[i]) + (a(i) - 1.0) * f64::from(bias[i]) + c(i)).collect())
            }
            Place::After { tensor, full, .. } => (*tensor, all.map(|i| f64::from(full[i]) + c(i)).collect()),
        };
        let wanted: Vec<f32> = wanted.into_iter().map(|v| v as f32).collect();
        let kept = self.head.kept(&self.model.tensors[tensor], tensor, &wanted);
        // The offsets that the rounded values make.
        let offset = |i: usize| {
            let new = f64::from(kept[i]);
            match &site.place {
                Place::Nowhere => 0.0,
                Place::Own { values, factor, .. } => factor * (new - a(i) * f64::from(values[i])),
                Place::Folded { beta, bias, .. } => new - f64::from(beta[i]) - (a(i) - 1.0) * f64::from(bias[i]),
                Place::After { values, .. } => new - f64::from(values[i]),
            }
        };
        let offsets = (0..site.channels).map(|i| offset(i) as f32).collect();
        (Correction { gains, offsets }, Some((tensor, kept)))
    }
}

/// The layers that can be matched, and where their offsets go.
fn sites(session: &Session, full: &Runnable, quantized: &Runnable, halts: &[(usize, u64)]) -> Vec<Option<Site>> {
    let model = &session.model;
    let index: HashMap<&str, usize> = model.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    // A small tensor of the table, and its values as they are decoded.
    let small = |name: &str| {
        let tensor = *index.get(name)?;
        let info = &model.tensors[tensor];
        (info.role == Role::Small && info.dtype.is_float()).then_some(())?;
        Some((tensor, quantized.tensor(name)?.to_vec()))
    };
    let layers: HashMap<usize, usize> = session.layers.iter().enumerate().map(|(layer, l)| (l.0, layer)).collect();
    let mut sites: Vec<Option<Site>> = vec![None; session.layers.len()];
    for site in quantized.sites() {
        let Some(&layer) = index.get(&*site.weight).and_then(|tensor| layers.get(tensor)) else { continue };
        let role = session.layers[layer].1;
        // Without a graph grouped convolutions look like others: their output channels come in the same order.
        let same = site.shape == role || site.shape.order == Order::OutIn && role.order == Order::OutIn;
        let channels = role.groups * role.outputs;
        if !same || channels != site.shape.groups * site.shape.outputs || halts.iter().filter(|halt| halt.0 == layer).count() != 1 {
            continue;
        }
        let place = match &site.added {
            Added::Fixed => None,
            Added::Nothing => Some(Place::Nowhere),
            Added::Own { tensor, factor } => {
                small(tensor).map(|(tensor, values)| Place::Own { tensor, values, factor: f64::from(*factor) })
            }
            Added::Folded { beta, bias } => {
                small(beta).zip(quantized.tensor(bias)).map(|((tensor, beta), bias)| Place::Folded { tensor, beta, bias: bias.to_vec() })
            }
            Added::After { tensor } => {
                let found = small(tensor).zip(full.tensor(tensor));
                Some(found.map_or(Place::Nowhere, |((tensor, values), full)| Place::After { tensor, values, full: full.to_vec() }))
            }
        };
        sites[layer] = place.map(|place| Site { channels, dense: site.dense, place });
    }
    sites
}

/// Where an item starts.
enum Start {
    /// With images.
    Images(EncodedBatch, Network, Network),
    /// At the layer before.
    Walks(Pair),
}

impl Start {
    fn walks(self) -> Result<Pair> {
        match self {
            Start::Walks(pair) => Ok(pair),
            Start::Images(encoded, full, quantized) => {
                let input = encoded.decode()?;
                Ok(Pair { full: full.begin(vec![input.clone()]), quantized: quantized.begin(vec![input]), channels: None })
            }
        }
    }
}

/// Both networks, halted at the same layer, on a micro-batch.
#[derive(Debug)]
struct Pair {
    full: Walk,
    quantized: Walk,
    /// Where the channels of the layer's output are.
    channels: Option<Channels>,
}

impl Pair {
    /// Corrects the quantized network's output of the layer.
    fn correct(&mut self, correction: &Correction, batch: usize) {
        let (Some(of), Some((_, output))) = (self.channels, self.quantized.layer()) else { return };
        for image in 0..batch {
            for (channel, (&a, &c)) in correction.gains.iter().zip(&correction.offsets).enumerate() {
                let (first, step) = of.of_image(image, channel);
                output.data[first..].iter_mut().step_by(step).take(of.positions).for_each(|o| *o = a * *o + c);
            }
        }
    }

    /// Goes on so many layers, the last of the quantized network perhaps with other weights, and sums over the `real` images of the batch, per channel. Nothing where channels cannot be found.
    fn advance(
        &mut self,
        steps: usize,
        weights: Option<&Tensor>,
        channels: usize,
        dense: bool,
        batch: usize,
        real: usize,
    ) -> Option<Vec<Moments>> {
        for _ in 1..steps {
            self.full.next_layer();
            self.quantized.next_layer();
        }
        let (_, f) = self.full.next_layer()?;
        let (_, o) = match weights {
            Some(weights) => self.quantized.next_layer_with(weights)?,
            None => self.quantized.next_layer()?,
        };
        self.channels = Channels::of(&o.shape, batch, channels, dense);
        let of = self.channels?;
        let mut sums = vec![Moments::default(); channels];
        for image in 0..real {
            for (channel, sum) in sums.iter_mut().enumerate() {
                let (first, step) = of.of_image(image, channel);
                let pairs = f.data[first..].iter().zip(&o.data[first..]).step_by(step).take(of.positions);
                sum.add(Moments::of(pairs.map(|(&f, &o)| (f.into(), o.into()))));
            }
        }
        Some(sums)
    }
}

/// Means of pairs, and sums of the squares and products of their deviations from these.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    count: f64,
    f: f64,
    o: f64,
    ff: f64,
    oo: f64,
    fo: f64,
}

impl Moments {
    /// Of some pairs `(f, o)`. Deviations are summed from the first pair: of a constant they are exactly 0.
    fn of(mut pairs: impl Iterator<Item = (f64, f64)>) -> Moments {
        let Some((f0, o0)) = pairs.next() else { return Moments::default() };
        let (mut count, mut sums) = (1.0, [0.0; 5]);
        for (f, o) in pairs {
            let (f, o) = (f - f0, o - o0);
            count += 1.0;
            sums[0] += f;
            sums[1] += o;
            sums[2] += f * f;
            sums[3] += o * o;
            sums[4] += f * o;
        }
        let [f, o, ff, oo, fo] = sums;
        // Rounding may leave a square below 0.
        Moments {
            count,
            f: f0 + f / count,
            o: o0 + o / count,
            ff: (ff - f * f / count).max(0.0),
            oo: (oo - o * o / count).max(0.0),
            fo: fo - f * o / count,
        }
    }

    /// Adds other pairs (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
    fn add(&mut self, other: Moments) {
        if self.count == 0.0 {
            *self = other;
            return;
        }
        let count = self.count + other.count;
        let (f, o, weight) = (other.f - self.f, other.o - self.o, self.count * other.count / count);
        self.ff += other.ff + f * f * weight;
        self.oo += other.oo + o * o * weight;
        self.fo += other.fo + f * o * weight;
        self.f += f * other.count / count;
        self.o += o * other.count / count;
        self.count = count;
    }

    /// The gain; 1 for a channel that is constant, or is not finite.
    fn gain(&self, dense: bool) -> f64 {
        let clip = |v: f64| v.clamp(CLIP.0, CLIP.1);
        let (regression, ratio) = (clip(self.fo / self.oo), clip((self.ff / self.oo).sqrt()));
        let gain = if dense { regression } else { ratio };
        if self.oo > 0.0 && gain.is_finite() { gain } else { 1.0 }
    }

    /// The offset beside a gain; 0 for a channel that is not finite.
    fn offset(&self, gain: f64) -> f64 {
        let offset = self.f - gain * self.o;
        if offset.is_finite() { offset } else { 0.0 }
    }
}

#[cfg(test)]
mod tests;
