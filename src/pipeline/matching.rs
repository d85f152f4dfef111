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
//! One pass over the images does for all layers. Sums are taken per micro-batch and added in the order of the images: the same bits for any
//! number of threads.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use super::{
    Session,
    calibrate::Channels,
    evaluate::Decoded,
    inputs::{EncodedBatch, Inputs},
    job::{self, Item, Job, Runner, Span},
};
use crate::{
    container::Head,
    data::Dataset,
    error::{Error, Result},
    graph::{Runnable, batch_norm, offsets::Added},
    io::{Model, Order, Role},
    nn::{Network, Walk},
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
            let results = runner.run(part, self.job(*halt, site, name, &pairs, correction.take())).await?;
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

    /// The job of one layer: every item corrects the layer before by `correction`, goes on to this layer, and sums.
    fn job<'a>(
        &'a self,
        halt: Halt,
        site: &'a Site,
        name: &str,
        pairs: &'a RefCell<Vec<Option<Pair>>>,
        correction: Option<Correction>,
    ) -> Job<'a, (Pair, Option<Vec<Moments>>)> {
        let items = (0..self.items()).map(|_| Item { name: name.into(), cost: halt.cost }).collect();
        let correction = correction.map(Arc::new);
        let prepare = move |item: usize| -> Result<job::Task<(Pair, Option<Vec<Moments>>)>> {
            let range = item * self.micro..((item + 1) * self.micro).min(self.images.len());
            let real = range.len();
            let before = pairs.borrow_mut()[item].take();
            let start = match before {
                Some(pair) => Start::Walks(pair),
                None => Start::Images(self.images.read(range, self.micro)?, self.full.clone(), self.quantized.clone()),
            };
            let (channels, dense, batch, correction) = (site.channels, site.dense, self.micro, correction.clone());
            Ok(Box::new(move || {
                let mut pair = start.walks()?;
                if let Some(correction) = correction {
                    pair.correct(&correction, batch);
                }
                let moments = pair.advance(halt.steps, channels, dense, batch, real);
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

    /// Goes on so many layers, and sums over the `real` images of the batch, per channel. Nothing where channels cannot be found.
    fn advance(&mut self, steps: usize, channels: usize, dense: bool, batch: usize, real: usize) -> Option<Vec<Moments>> {
        for _ in 1..steps {
            self.full.next_layer();
            self.quantized.next_layer();
        }
        let (_, f) = self.full.next_layer()?;
        let (_, o) = self.quantized.next_layer()?;
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        data::{Encoded, Image, Images, Pixels},
        graph::{Graph, Input, Node},
        io::{Dtype, Format, LayerShape, TensorInfo, TensorReader, skeleton::Skeleton},
        nn::{Hooks, NoHooks, Tensor},
        pipeline::job::{Waiting, wait},
        report::DataSummary,
        testing::noise,
    };

    struct Tensors(Vec<Vec<f32>>);

    impl TensorReader for Tensors {
        fn read(&self, index: usize) -> Result<Vec<u8>> {
            Ok(self.0[index].iter().flat_map(|v| v.to_le_bytes()).collect())
        }
    }

    /// Images of 4×4 pixels and three channels.
    struct Pictures(usize);

    impl Images for Pictures {
        fn len(&self) -> usize {
            self.0
        }
        fn read(&self, index: usize) -> Result<Encoded> {
            let pixels = Pixels::F32(noise(48, 1000 + index as u64));
            Ok(Encoded::Image { name: self.name(index), image: Image { height: 4, width: 4, channels: 3, pixels } })
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
    }

    fn pictures(n: usize) -> Dataset {
        let summary = DataSummary {
            name: "pictures".into(),
            several: false,
            format: "images".into(),
            images: n,
            size: [4, 4, 3],
            labelled: false,
            classes: Vec::new(),
            notes: Vec::new(),
        };
        Dataset { summary, images: Rc::new(Pictures(n)), labels: None }
    }

    fn preprocessing() -> Preprocessing {
        Preprocessing {
            resize: None,
            crop: None,
            channels: Default::default(),
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
            channels_last: false,
            origin: String::new(),
        }
    }

    const W1: usize = 0;
    const B1: usize = 1;
    const W2: usize = 2;
    const BETA: usize = 4;
    const W3: usize = 7;
    const B3: usize = 8;

    /// A convolution with a bias, one with a batch norm, a convolution without anything, and a dense layer with an Add.
    fn model() -> Model {
        let node = |op: &str, inputs: &[&str], output: &str| Node {
            op: op.into(),
            inputs: inputs.iter().map(|s| s.to_string()).collect(),
            outputs: vec![output.into()],
            ..Default::default()
        };
        let nodes = vec![
            node("Conv", &["x", "w1", "b1"], "1"),
            node("Relu", &["1"], "2"),
            node("Conv", &["2", "w2"], "3"),
            node("BatchNormalization", &["3", "gamma", "beta", "mean", "variance"], "4"),
            node("Relu", &["4"], "5"),
            node("Conv", &["5", "w4"], "6"),
            node("GlobalAveragePool", &["6"], "7"),
            node("Flatten", &["7"], "8"),
            node("MatMul", &["8", "w3"], "9"),
            node("Add", &["b3", "9"], "y"),
        ];
        let graph = Graph {
            opset: 13,
            inputs: vec![Input { name: "x".into(), dims: vec![None, Some(3), Some(4), Some(4)] }],
            outputs: vec!["y".into()],
            nodes,
            ..Default::default()
        };
        let conv = |outputs, inputs| Role::Layer(LayerShape { groups: 1, outputs, inputs, taps: 1, columns: 1, order: Order::OutIn });
        let dense = Role::Layer(LayerShape { groups: 1, outputs: 2, inputs: 5, taps: 1, columns: 1, order: Order::InOut });
        let scaled = |n, seed, by: f32, to: f32| noise(n, seed).iter().map(|v| v * by + to).collect::<Vec<f32>>();
        let table: Vec<(&str, Vec<usize>, Role, Vec<f32>)> = vec![
            ("w1", vec![6, 3, 1, 1], conv(6, 3), scaled(18, 1, 2.0, 0.0)),
            ("b1", vec![6], Role::Small, scaled(6, 2, 1.0, 0.3)),
            ("w2", vec![4, 6, 1, 1], conv(4, 6), scaled(24, 3, 2.0, 0.0)),
            ("gamma", vec![4], Role::Small, scaled(4, 4, 0.5, 1.0)),
            ("beta", vec![4], Role::Small, scaled(4, 5, 1.0, 0.2)),
            ("mean", vec![4], Role::Small, scaled(4, 6, 1.0, 0.0)),
            ("variance", vec![4], Role::Small, scaled(4, 7, 0.2, 0.5)),
            ("w3", vec![5, 2], dense, scaled(10, 8, 2.0, 0.0)),
            ("b3", vec![2], Role::Small, scaled(2, 9, 1.0, 0.0)),
            ("w4", vec![5, 4, 1, 1], conv(5, 4), scaled(20, 10, 2.0, 0.0)),
        ];
        let info = |(name, shape, role, _): &(&str, Vec<usize>, Role, Vec<f32>)| TensorInfo {
            name: name.to_string(),
            dtype: Dtype::F32,
            shape: shape.clone(),
            role: *role,
        };
        Model {
            name: "small.onnx".into(),
            format: Format::Onnx,
            file_bytes: 1000,
            tensors: table.iter().map(info).collect(),
            skeleton: Skeleton::Flat(Vec::new()),
            reader: Rc::new(Tensors(table.into_iter().map(|t| t.3).collect())),
            notes: Vec::new(),
            graph: Some(Rc::new(graph)),
        }
    }

    /// The tensors of the model, changed.
    fn decoded(model: &Model, change: impl Fn(usize, &mut Vec<f32>)) -> Decoded {
        let mut decoded = crate::pipeline::evaluate::decoded_model(model).unwrap();
        decoded.tensors.iter_mut().for_each(|(index, values)| change(*index, values));
        decoded
    }

    /// Memory for items of `micro` images.
    fn options(session: &Session, images: usize, micro: u64) -> Options {
        let peak = session.runnable().unwrap().network(1, &[3, 4, 4]).unwrap().peak_bytes(false);
        Options { images, memory: 32 * micro * peak }
    }

    fn matched(session: &Session, decoded: &Decoded, images: usize, micro: u64) -> Matched {
        let matcher = session.matcher(decoded, &pictures(images), preprocessing(), options(session, images, micro)).unwrap();
        assert_eq!((matcher.images(), matcher.micro as u64), (images, micro));
        wait(matcher.run(Span::WHOLE, &mut Waiting::new(|_, _| Ok(())))).unwrap()
    }

    fn outputs(runnable: &Runnable) -> Vec<f32> {
        let network = runnable.network(3, &[3, 4, 4]).unwrap();
        network.forward(vec![Tensor::new([3, 3, 4, 4], noise(144, 77))], &mut NoHooks).remove(0).data
    }

    fn near(a: &[f32], b: &[f32], bound: f32) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= bound)
    }

    /// Weights of shrunken channels, and biases that are off, are found again exactly: no noise is in between.
    #[test]
    fn scaled_channels_and_shifted_biases_are_undone() {
        let session = Session::new(model()).unwrap();
        let runnable = session.runnable().unwrap();
        let scales: [(usize, &[f32]); 3] = [(W1, &[0.8, 0.5, 1.6, 1.0, 0.9, 1.25]), (W2, &[2.0, 0.8, 0.4, 1.0]), (W3, &[0.8, 1.25])];
        let change = |index: usize, values: &mut Vec<f32>| {
            if let Some((_, scales)) = scales.iter().find(|s| s.0 == index) {
                let Role::Layer(shape) = session.model.tensors[index].role else { panic!("a layer") };
                batch_norm::multiply(values, &shape, scales);
            }
            let shift = match index {
                B1 => 0.3,
                BETA => -0.2,
                B3 => 1.0,
                _ => 0.0,
            };
            values.iter_mut().for_each(|v| *v += shift);
        };
        let mut decoded = decoded(&session.model, change);
        let before = outputs(&runnable.with_tensors(&decoded.tensors).unwrap());
        let found = matched(&session, &decoded, 30, 16);
        // Layers in the order of the table.
        for (correction, scales) in found.corrections.iter().zip(scales.iter().map(|s| s.1).chain([&[1.0f32; 5][..]])) {
            let inverse: Vec<f32> = scales.iter().map(|s| 1.0 / s).collect();
            assert!(near(&correction.gains, &inverse, 5e-3), "{:?} {inverse:?}", correction.gains);
        }
        assert_eq!(found.corrections[3].offsets, [0.0; 5], "nothing takes them");
        assert_eq!(found.tensors.iter().map(|t| t.0).collect::<Vec<_>>(), [B1, BETA, B3]);
        for (index, values) in &found.tensors {
            let info = &session.model.tensors[*index];
            let own = crate::io::tensor::to_f32(&session.model.reader.read(*index).unwrap(), info.dtype);
            assert!(near(values, &own, 5e-3), "{}: {values:?} {own:?}", info.name);
            // 16-bit floats.
            assert_eq!(session.head.kept(info, *index, values), *values);
        }
        found.apply(&session.model, &mut decoded);
        let (wanted, after) = (outputs(&runnable), outputs(&runnable.with_tensors(&decoded.tensors).unwrap()));
        assert!(!near(&before, &wanted, 0.5) && near(&after, &wanted, 0.02), "{wanted:?} {after:?}");
    }

    #[test]
    fn a_channel_without_weights_keeps_its_mean_and_gains_are_clipped() {
        let session = Session::new(model()).unwrap();
        // Of the first layer: channel 0 is empty, 1 is too small to be made good, 2 too large, 3 of the wrong sign.
        let factors = [0.0, 0.01, 100.0, -1.0, 1.0, 1.0];
        let change = |index: usize, values: &mut Vec<f32>| {
            if index == W1 {
                values.chunks_mut(3).zip(factors).for_each(|(row, f)| row.iter_mut().for_each(|v| *v *= f));
            }
        };
        let decoded = decoded(&session.model, change);
        let found = matched(&session, &decoded, 30, 16);
        // The deviation of the fourth is what it should be.
        assert!(near(&found.corrections[0].gains, &[1.0, 4.0, 0.5, 1.0, 1.0, 1.0], 1e-3), "{:?}", found.corrections[0]);
        // The mean of its products with the images, which are around 0.
        let weights = &session.model.read_layer(W1).unwrap()[..3];
        let mut mean = [0.0; 3];
        (0..30).flat_map(|i| noise(48, 1000 + i)).enumerate().for_each(|(i, v)| mean[i % 3] += v / 480.0);
        let expected: f32 = weights.iter().zip(mean).map(|(w, m)| w * m).sum();
        assert!((found.corrections[0].offsets[0] - expected).abs() < 2e-3, "{:?} {expected}", found.corrections[0]);
    }

    struct Outputs(Vec<(usize, Tensor)>);

    impl Hooks for Outputs {
        fn output(&mut self, layer: usize, y: &Tensor) {
            self.0.push((layer, y.clone()));
        }
    }

    /// The pass against what its definition says, computed with networks made anew for each layer.
    #[test]
    fn a_pass_is_what_layers_corrected_one_after_the_other_give() {
        let session = Session::new(model()).unwrap();
        let runnable = session.runnable().unwrap();
        let change = |index: usize, values: &mut Vec<f32>| {
            if let Role::Layer(_) = session.model.tensors[index].role {
                values.iter_mut().zip(noise(64, 50 + index as u64)).for_each(|(v, n)| *v = 0.8 * *v + 0.6 * n);
            }
        };
        let (count, decoded) = (10, decoded(&session.model, change));
        // Three batches, of 4, 4, and 2 and two that fill it up.
        let found = matched(&session, &decoded, count, 4);
        assert_eq!(found, matched(&session, &decoded, count, 4));

        let images: Vec<f32> = (0..count as u64).flat_map(|i| crate::io::tensor::transpose(&noise(48, 1000 + i), 16, 3)).collect();
        let run = |runnable: &Runnable| {
            let mut seen = Outputs(Vec::new());
            let network = runnable.network(count, &[3, 4, 4]).unwrap();
            network.forward(vec![Tensor::new([count, 3, 4, 4], images.clone())], &mut seen);
            seen.0
        };
        let reference = run(&runnable);
        let order: Vec<usize> = reference.iter().map(|r| r.0).collect();
        assert_eq!(order, [0, 1, 3, 2]);
        let mut corrected = decoded.clone();
        for (at, layer) in order.iter().enumerate() {
            let outputs = run(&runnable.with_tensors(&corrected.tensors).unwrap());
            let (f, o) = (&reference[at].1, &outputs[at].1);
            let (channels, dense) = (f.shape[1], *layer == 2);
            for channel in 0..channels {
                let of = |t: &Tensor| -> Vec<f64> {
                    let positions = t.len() / count / channels;
                    let rows = t.data.chunks(positions).skip(channel).step_by(channels);
                    rows.flatten().map(|&v| f64::from(v)).collect()
                };
                let (f, o) = (of(f), of(o));
                let n = f.len() as f64;
                let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
                let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / n - mean(a) * mean(b);
                let clip = |v: f64| v.clamp(0.5, 4.0);
                let regression = clip(product(&f, &o) / product(&o, &o));
                let ratio = clip((product(&f, &f) / product(&o, &o)).sqrt());
                let a = if dense { regression } else { ratio };
                let c = if *layer == 3 { 0.0 } else { mean(&f) - a * mean(&o) };
                let correction = &found.corrections[*layer];
                let (gain, offset) = (f64::from(correction.gains[channel]), f64::from(correction.offsets[channel]));
                assert!((gain - a).abs() < 2e-3 && (offset - c).abs() < 2e-3, "layer {layer}: {gain} {a}, {offset} {c}");
            }
            // The corrections so far, and none of those to come.
            let part = Matched {
                corrections: (0..4)
                    .map(|l| match order[..=at].contains(&l) {
                        true => found.corrections[l].clone(),
                        false => Correction::none(found.corrections[l].gains.len()),
                    })
                    .collect(),
                tensors: found
                    .tensors
                    .iter()
                    .filter(|t| order[..=at].iter().any(|l| [B1, BETA, B3][(*l).min(2)] == t.0 && *l != 3))
                    .cloned()
                    .collect(),
                images: count,
            };
            corrected = decoded.clone();
            part.apply(&session.model, &mut corrected);
        }
    }

    #[test]
    fn offsets_are_matched_to_gains_as_they_are_kept() {
        let session = Session::new(model()).unwrap();
        let decoded = decoded(&session.model, |index, values| {
            if index == W1 {
                values.iter_mut().for_each(|v| *v *= 0.8);
            }
        });
        let matcher = session.matcher(&decoded, &pictures(20), preprocessing(), Options::default()).unwrap();
        let matcher = matcher.keeping_gains(|_, gains| vec![1.5; gains.len()]);
        let found = wait(matcher.run(Span::WHOLE, &mut Waiting::new(|_, _| Ok(())))).unwrap();
        assert!(found.corrections.iter().flat_map(|c| &c.gains).all(|&g| g == 1.5));
        let exact = matched(&session, &decoded, 20, 16);
        assert_ne!(found.tensors, exact.tensors);
    }

    #[test]
    fn few_images_where_memory_is_short_and_another_network_is_refused() {
        let session = Session::new(model()).unwrap();
        let decoded = decoded(&session.model, |_, _| {});
        let peak = session.runnable().unwrap().network(1, &[3, 4, 4]).unwrap().peak_bytes(false);
        let options = Options { images: 50, memory: 2 * 7 * peak };
        let matcher = session.matcher(&decoded, &pictures(50), preprocessing(), options).unwrap();
        assert_eq!((matcher.images(), matcher.micro), (7, 1));
        assert!(matcher.cost() > 0.0);
        let found = wait(matcher.run(Span::WHOLE, &mut Waiting::new(|_, _| Ok(())))).unwrap();
        // The same network on both sides: nothing but what 16 bits lose.
        assert!(found.corrections.iter().all(|c| near(&c.gains, &vec![1.0; c.gains.len()], 1e-2)));

        let mut other = model();
        let graph = Rc::make_mut(other.graph.as_mut().unwrap());
        graph.nodes.truncate(7);
        graph.outputs = vec!["7".into()];
        let other = Runnable::new(&other).unwrap();
        let refused = Matcher::new(&session, &other, &pictures(5), preprocessing(), Options::default()).err().unwrap();
        assert_eq!(refused.to_string(), "small.onnx and small.onnx are not the same network.");
    }

    #[test]
    fn channels_are_the_second_axis_or_of_dense_layers_the_last() {
        let of = |shape: &[usize], channels, dense| Channels::of(shape, 2, channels, dense).map(|c| (c.positions, c.last));
        assert_eq!(of(&[2, 5, 3, 3], 5, false), Some((9, false)));
        assert_eq!(of(&[2, 5], 5, true), Some((1, false)));
        // Positions that are as many as channels.
        assert_eq!((of(&[2, 5, 5], 5, false), of(&[2, 5, 5], 5, true)), (Some((5, false)), Some((5, true))));
        assert_eq!((of(&[2, 7, 5], 5, false), of(&[2, 5, 7], 5, true)), (Some((7, true)), None));
        assert_eq!((of(&[3, 5, 7], 5, false), of(&[2], 5, false), of(&[2, 4, 6], 5, false)), (None, None, None));
        assert_eq!(Channels { channels: 5, positions: 7, last: true }.of_image(1, 2), (37, 5));
        assert_eq!(Channels { channels: 5, positions: 7, last: false }.of_image(1, 2), (49, 1));
    }

    proptest! {
        /// Sums of parts are sums of the whole, also far from 0; a constant has no variance at all.
        #[test]
        fn moments_add(n in 1usize..200, cut in 0usize..200, seed in 0u64..1000, far in -1e4f64..1e4) {
            let (f, o) = (noise(n, seed), noise(n, seed + 1));
            let pairs: Vec<(f64, f64)> = f.iter().zip(&o).map(|(&f, &o)| (f64::from(f) + far, 2.0 * f64::from(o) + f64::from(f))).collect();
            let (first, second) = pairs.split_at(cut.min(n));
            let mut sum = Moments::of(first.iter().copied());
            sum.add(Moments::of(second.iter().copied()));
            let whole = Moments::of(pairs.iter().copied());
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + far.abs());
            prop_assert!(close(sum.f, whole.f) && close(sum.o, whole.o) && close(sum.ff, whole.ff) && close(sum.oo, whole.oo) && close(sum.fo, whole.fo));
            for dense in [false, true] {
                let gain = sum.gain(dense);
                prop_assert!((0.5..=4.0).contains(&gain));
                prop_assert!((gain * sum.o + sum.offset(gain) - sum.f).abs() <= 1e-9 * (1.0 + far.abs()));
            }
            let mut constant = Moments::of(first.iter().map(|p| (p.0, far)));
            constant.add(Moments::of(second.iter().map(|p| (p.0, far))));
            prop_assert_eq!((constant.oo, constant.gain(false)), (0.0, 1.0));
        }
    }
}
