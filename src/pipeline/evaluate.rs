//! Networks run on data, as jobs: one item per micro-batch, in the order of the images.
//!
//! ```text
//! Evaluator ─ reference_job ─→ reference ─ compressed_job ─→ compressed ─→ EvaluationReport
//!                                  └────── damage_job ─────→ damage ────────────↑
//! ```
//!
//! The thread that owns the files reads encoded images; tasks decode, preprocess, run the network, and keep what is small: scores, and
//! of the reference its outputs, as long as they fit [`KEEP`] (otherwise the reference runs again next to the network that is
//! compared with it). Images that are decoded once are kept in the same bounds.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, OnceLock},
};

use super::{
    Session,
    inputs::{self, EncodedBatch, Inputs},
    job::{Item, Job},
    matching,
};
use crate::{
    container::TqFile,
    data::{Dataset, preprocess},
    error::{Error, Result, bad},
    evaluate::{self, ImageScore, Output},
    graph::Runnable,
    io::{self, Model, Role, TensorInfo, source::BytesSource, tensor},
    nn::{Network, NoHooks, Tensor, kernel},
    report::{AllocationReport, CalibrationSettings, DataSummary, Evaluation, EvaluationReport, LayerDamage, Preprocessing},
};

/// How the network itself is called in an [`Evaluation`].
pub const FULL: &str = "full precision";

/// Most bytes of a reference's outputs, and of decoded images, that are kept.
pub const KEEP: usize = 256 << 20;

/// How much a task may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Most images to run, evenly spaced among those there are; none: all.
    pub limit: Option<usize>,
    /// Bytes of activations per task.
    pub memory: u64,
    /// Multiplications per task, so that progress and cancelling stay alive. A task has one image at least.
    pub work: u64,
}

impl Default for Options {
    /// For one thread in a browser: about a tenth of a second.
    fn default() -> Self {
        Options { limit: None, memory: 128 << 20, work: 300_000_000 }
    }
}

/// A network bound to images.
pub struct Evaluator {
    pub(super) runnable: Runnable,
    pub(super) images: Inputs,
    output: Output,
    /// Images per item; what is short is filled up, so that one network serves all.
    batch: usize,
    /// Multiplications of one item.
    cost: f64,
    network: Network,
    /// Inputs that were made, by item; empty when they would not fit [`KEEP`].
    made: Arc<[OnceLock<Tensor>]>,
    notes: Vec<String>,
}

/// What a micro-batch gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Per image.
    pub scores: Vec<ImageScore>,
    /// The outputs, image after image, where they are kept.
    outputs: Vec<f32>,
}

/// What the reference gave: the other networks are compared with it.
#[derive(Debug, Clone)]
pub struct Reference {
    scores: Vec<ImageScore>,
    /// Outputs by item; none when they would not fit [`KEEP`].
    outputs: Option<Vec<Arc<Vec<f32>>>>,
}

/// Tensors as a `.tq` gives them back.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// Float tensors, by position in the model's table, in the order of the file: for [`Runnable::with_tensors`].
    pub tensors: Vec<(usize, Vec<f32>)>,
    /// The layers among them.
    pub layers: Vec<DecodedLayer>,
}

/// A layer of a [`Decoded`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedLayer {
    /// Name of its weight tensor.
    pub name: String,
    /// Position in [`Decoded::tensors`]; none for a layer that was kept bit for bit.
    pub at: Option<usize>,
}

/// How images become inputs of a network: as the model says, or else as is likely for it and the first image.
///
/// # Errors
/// An image that cannot be decoded.
pub fn preprocessing(runnable: &Runnable, data: &Dataset) -> Result<Preprocessing> {
    if let Some(p) = &runnable.preprocessing {
        return Ok(p.clone());
    }
    let first = inputs::first_image(data)?;
    let guess = preprocess::guess(&runnable.image_dims(), Some(&first));
    // Networks from images to images are rarely normalized. A network that cannot be built says so when it is run.
    let shape = inputs::shape(runnable, data, &guess, &first);
    let network = shape.and_then(|shape| runnable.network(runnable.batch(&shape, false, u64::MAX, 1)?, &shape));
    let picture = network.is_ok_and(|n| {
        let (input, output) = (n.input_shapes(), n.output_shapes());
        output.first().zip(input.first()).is_some_and(|(o, i)| matches!(Output::of(o, i[0]), Ok(Output::Picture(_))))
    });
    Ok(if picture { preprocess::plain(guess, &first) } else { guess })
}

impl Evaluator {
    /// Binds a network to images.
    ///
    /// # Errors
    /// No images; images that do not become what the network takes; a network that cannot be run; labels it has no classes for.
    pub fn new(runnable: &Runnable, data: &Dataset, preprocessing: Preprocessing, options: Options) -> Result<Evaluator> {
        let images = Inputs::new(runnable, data, preprocessing, options.limit)?;
        let (image, count) = (&images.image, images.len());
        let notes: Vec<String> = images.note().into_iter().collect();

        let least = runnable.batch(image, false, options.memory, 1)?;
        let mut network = runnable.network(least, image)?;
        let per_image = (network.multiplications() / least.max(1) as u64).max(1);
        let mut batch = least;
        if least == 1 {
            let most = usize::try_from(options.work / per_image).unwrap_or(usize::MAX).clamp(1, 256.min(count));
            batch = runnable.batch(image, false, options.memory, most)?.max(1);
            if batch > 1 {
                network = runnable.network(batch, image)?;
            }
        }
        let shape = network.output_shapes().into_iter().next().unwrap_or_default();
        let name = &data.summary.name;
        let output = Output::of(&shape, batch).map_err(|reason| {
            bad(name, format!("the network cannot be judged by its images: {reason}"), "choose a network with an output per image")
        })?;
        if let (Output::Classes(classes), Some(labels)) = (output, &data.labels)
            && let Some(&at) = images.chosen.iter().find(|&&i| labels[i] as usize >= classes)
        {
            let reason = format!("its label is {}, but the network tells {classes} classes apart, 0 to {}", labels[at], classes - 1);
            let advice = "choose data of the classes it was trained on, or count labels from 0";
            return Err(bad(name, reason, advice).tensor(data.images.name(at)));
        }
        let items = count.div_ceil(batch);
        let input_bytes = items.saturating_mul(batch).saturating_mul(4 * image.iter().product::<usize>());
        Ok(Evaluator {
            runnable: runnable.clone(),
            output,
            batch,
            cost: per_image as f64 * batch as f64,
            network,
            made: if input_bytes <= KEEP { (0..items).map(|_| OnceLock::new()).collect() } else { Arc::new([]) },
            images,
            notes,
        })
    }

    /// Binds a network to the images that it was calibrated on, as many of them, to measure what was predicted. Calibration needs no
    /// labels: those that do not fit the network are left aside.
    ///
    /// # Errors
    /// Those of [`Evaluator::new`] but for labels.
    pub fn of_calibration(
        runnable: &Runnable,
        data: &Dataset,
        preprocessing: Preprocessing,
        settings: CalibrationSettings,
        options: Options,
    ) -> Result<Evaluator> {
        let options = Options { limit: Some(settings.images), ..options };
        match Evaluator::new(runnable, data, preprocessing.clone(), options) {
            Err(_) if data.labels.is_some() => {
                let mut data = Dataset { labels: None, ..data.clone() };
                data.summary.labelled = false;
                Evaluator::new(runnable, &data, preprocessing, options)
            }
            bound => bound,
        }
    }

    /// What a run of a network on all images costs, in multiplications.
    pub fn cost(&self) -> f64 {
        self.cost * self.count() as f64
    }

    /// Binds the network and what its compressed file decodes to, to the same images, to match their channels.
    ///
    /// # Errors
    /// Those of [`Session::matcher`].
    pub fn matcher(&self, session: &Session, decoded: &Decoded, options: matching::Options) -> Result<matching::Matcher> {
        session.matcher(decoded, &self.images.data, self.images.preprocessing.clone(), options)
    }

    /// How many images are run.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// Images per item.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// What the network's output is.
    pub fn output(&self) -> Output {
        self.output
    }

    /// The network itself on all images.
    pub fn reference_job(&self) -> Job<'_, Batch> {
        let keep = self.keeps_outputs();
        let network = self.network.clone();
        Job {
            stage: "running",
            items: self.items(),
            prepare: Box::new(move |item| {
                let (work, network) = (self.work(item, None)?, network.clone());
                Ok(Box::new(move || work.run(&network, keep)))
            }),
        }
    }

    /// Takes the results of [`Evaluator::reference_job`].
    pub fn reference(&self, results: Vec<Batch>) -> Reference {
        let scores = results.iter().flat_map(|b| b.scores.iter().copied()).collect();
        let outputs = self.keeps_outputs().then(|| results.into_iter().map(|b| Arc::new(b.outputs)).collect());
        Reference { scores, outputs }
    }

    /// Another network on all images, compared with the reference. It may be that of another file; it must take and give the same shapes.
    ///
    /// # Errors
    /// It does not, or cannot be run.
    pub fn compressed_job<'a>(&'a self, compressed: &Runnable, reference: &'a Reference) -> Result<Job<'a, Batch>> {
        let network = self.network_of(compressed)?;
        Ok(Job {
            stage: "comparing",
            items: self.items(),
            prepare: Box::new(move |item| {
                let (work, network) = (self.work(item, Some(reference))?, network.clone());
                Ok(Box::new(move || work.run(&network, false)))
            }),
        })
    }

    /// The network with one layer decoded at a time, on all images: an item per layer and micro-batch, layer after layer. Layers kept
    /// bit for bit do no damage and are not run. With `most` multiplications as a limit, on some images, evenly spaced, but on one micro-batch in any case.
    pub fn damage_job<'a>(&'a self, decoded: &'a Decoded, reference: &'a Reference, most: Option<f64>) -> Job<'a, Batch> {
        let layers: Vec<&DecodedLayer> = decoded.layers.iter().filter(|l| l.at.is_some()).collect();
        let all = self.count();
        let fit = |most: f64| (most / (self.cost * layers.len() as f64).max(1.0)) as usize;
        let batches = most.map_or(all, |most| fit(most).clamp(1, all.max(1)));
        // All of one cost: a job hands out its dearest items first, and a layer's should follow each other, as they share a network.
        let item = |layer: &&DecodedLayer| vec![Item { name: layer.name.clone(), cost: self.cost }; batches];
        let items = layers.iter().flat_map(item).collect();
        let held: RefCell<Option<(usize, Network)>> = RefCell::new(None);
        let network = move |layer: usize| -> Result<Network> {
            let mut held = held.borrow_mut();
            if let Some((of, network)) = &*held
                && *of == layer
            {
                return Ok(network.clone());
            }
            // The one before is freed first.
            *held = None;
            let at = layers[layer].at.unwrap_or_default();
            let network = self.network_of(&self.runnable.with_tensors(std::slice::from_ref(&decoded.tensors[at]))?)?;
            *held = Some((layer, network.clone()));
            Ok(network)
        };
        Job {
            stage: "damage",
            items,
            prepare: Box::new(move |item| {
                let (work, network) = (self.work(item % batches * all / batches, Some(reference))?, network(item / batches)?);
                Ok(Box::new(move || work.run(&network, false)))
            }),
        }
    }

    /// What the reference gave. `seconds` it took.
    pub fn finish_reference(&self, what: impl Into<String>, seconds: f64, reference: &Reference) -> Evaluation {
        evaluate::evaluation(what, seconds, self.output, &reference.scores)
    }

    /// What a compressed network gave. `what` names it, by rate and size; `seconds` it took.
    pub fn finish(&self, what: impl Into<String>, seconds: f64, results: &[Batch]) -> Evaluation {
        let scores: Vec<ImageScore> = results.iter().flat_map(|b| b.scores.iter().copied()).collect();
        evaluate::evaluation(what, seconds, self.output, &scores)
    }

    /// Takes the results of [`Evaluator::damage_job`]: every layer, in the order of the model.
    pub fn damage(&self, decoded: &Decoded, results: &[Batch]) -> Vec<LayerDamage> {
        let run = decoded.layers.iter().filter(|l| l.at.is_some()).count();
        let mut runs = results.chunks((results.len() / run.max(1)).max(1));
        let mut damage: Vec<LayerDamage> = Vec::with_capacity(decoded.layers.len());
        for (index, layer) in decoded.layers.iter().enumerate() {
            let e = layer.at.and_then(|_| runs.next()).map(|results| self.finish("", 0.0, results));
            let classes = matches!(self.output, Output::Classes(_));
            damage.push(LayerDamage {
                index,
                name: layer.name.clone(),
                distortion: e.as_ref().and_then(|e| e.distortion).unwrap_or(0.0),
                share: 0.0,
                changed: classes.then(|| e.and_then(|e| e.agreement).map_or(0.0, |a| 1.0 - a)),
            });
        }
        let sum: f64 = damage.iter().map(|d| d.distortion).sum();
        if sum > 0.0 {
            damage.iter_mut().for_each(|d| d.share = d.distortion / sum);
        }
        damage
    }

    /// The report of it all.
    pub fn report(&self, reference: Option<Evaluation>, compressed: Option<Evaluation>, damage: Vec<LayerDamage>) -> EvaluationReport {
        let data: DataSummary = self.images.data.summary.clone();
        let judged = compressed.as_ref().and_then(|e| e.pictures).map(|p| p.words());
        EvaluationReport {
            data,
            preprocessing: self.images.preprocessing.clone(),
            reference,
            compressed,
            damage,
            notes: self.notes.iter().cloned().chain(judged).collect(),
        }
    }

    fn count(&self) -> usize {
        self.images.len().div_ceil(self.batch)
    }

    fn keeps_outputs(&self) -> bool {
        self.images.len().saturating_mul(4 * self.output.len()) <= KEEP
    }

    fn items(&self) -> Vec<Item> {
        let name = |item: usize| {
            let (first, end) = (item * self.batch, ((item + 1) * self.batch).min(self.images.len()));
            if end - first == 1 { format!("image {end}") } else { format!("images {} to {end}", first + 1) }
        };
        (0..self.count()).map(|item| Item { name: name(item), cost: self.cost }).collect()
    }

    fn network_of(&self, runnable: &Runnable) -> Result<Network> {
        let network = runnable.network(self.batch, &self.images.image)?;
        let (asked, given) = (self.network.output_shapes(), network.output_shapes());
        if asked.first() != given.first() {
            let text = |shapes: &[Vec<usize>]| shapes.first().map_or("nothing".into(), |s| format!("{s:?}"));
            return Err(Error::Setting(format!(
                "The two networks cannot be compared: one gives {}, the other {}.",
                text(&asked),
                text(&given)
            )));
        }
        Ok(network)
    }

    /// Reads what the task of an item needs.
    fn work(&self, item: usize, reference: Option<&Reference>) -> Result<Work> {
        let range = item * self.batch..((item + 1) * self.batch).min(self.images.len());
        let chosen = &self.images.chosen[range.clone()];
        let data = &self.images.data;
        // Nothing is read for what was decoded before.
        let made = self.made.get(item).is_some_and(|slot| slot.get().is_some());
        Ok(Work {
            encoded: if made { self.images.batch(self.batch) } else { self.images.read(range, self.batch)? },
            file: data.summary.name.clone(),
            names: chosen.iter().map(|&i| data.images.name(i)).collect(),
            labels: data.labels.as_ref().map(|labels| chosen.iter().map(|&i| labels[i]).collect()),
            output: self.output,
            made: self.made.clone(),
            item,
            against: match reference {
                None => With::Nothing,
                Some(Reference { outputs: Some(outputs), .. }) => With::Outputs(outputs[item].clone()),
                Some(_) => With::Network(self.network.clone()),
            },
        })
    }
}

/// What the outputs of a task are compared with.
enum With {
    Nothing,
    Outputs(Arc<Vec<f32>>),
    Network(Network),
}

/// Everything a task needs but the network.
struct Work {
    file: String,
    encoded: EncodedBatch,
    names: Vec<String>,
    labels: Option<Vec<u32>>,
    output: Output,
    made: Arc<[OnceLock<Tensor>]>,
    item: usize,
    against: With,
}

impl Work {
    fn run(self, network: &Network, keep: bool) -> Result<Batch> {
        let forward = |network: &Network, x: Tensor| kernel::fastest(|| network.forward(vec![x], &mut NoHooks).swap_remove(0).data);
        let input = match self.made.get(self.item) {
            None => self.encoded.decode()?,
            Some(slot) => match slot.get() {
                Some(made) => made.clone(),
                None => {
                    let made = self.encoded.decode()?;
                    // Another task may have been first; both made the same.
                    let _ = slot.set(made.clone());
                    made
                }
            },
        };
        let beside = match &self.against {
            With::Network(reference) => Some(Arc::new(forward(reference, input.clone()))),
            With::Outputs(outputs) => Some(outputs.clone()),
            With::Nothing => None,
        };
        let mut outputs = forward(network, input);
        let n = self.output.len();
        let mut scores = Vec::with_capacity(self.names.len());
        for (i, name) in self.names.iter().enumerate() {
            let at = i * n..(i + 1) * n;
            let label = self.labels.as_ref().map(|labels| labels[i]);
            let score = evaluate::score(self.output, &outputs[at.clone()], label, beside.as_ref().map(|b| &b[at]));
            scores.push(score.ok_or_else(|| {
                let advice = "check the preprocessing, and that the model is whole";
                bad(&self.file, "the network's output for it has NaN or infinite values", advice).tensor(name)
            })?);
        }
        outputs.truncate(if keep { self.names.len() * n } else { 0 });
        outputs.shrink_to_fit();
        Ok(Batch { scores, outputs })
    }
}

/// The float tensors of a `.tq`, from the results of [`super::decode_job`].
pub fn decoded(tq: &TqFile, bytes: &[Vec<u8>]) -> Decoded {
    let mut out = Decoded::default();
    tq.tensors.iter().zip(bytes).enumerate().for_each(|(index, (info, bytes))| out.push(index, info, bytes, tq.is_coded(index)));
    out
}

/// The float tensors of a model, as if all its layers had been compressed: for a file that was decompressed before.
///
/// # Errors
/// A tensor that cannot be read.
pub fn decoded_model(model: &Model) -> Result<Decoded> {
    let mut out = Decoded::default();
    for (index, info) in model.tensors.iter().enumerate().filter(|(_, info)| info.dtype.is_float()) {
        out.push(index, info, &model.reader.read(index)?, true);
    }
    Ok(out)
}

impl Decoded {
    fn push(&mut self, index: usize, info: &TensorInfo, bytes: &[u8], coded: bool) {
        if matches!(info.role, Role::Layer(_)) {
            self.layers.push(DecodedLayer { name: info.name.clone(), at: coded.then_some(self.tensors.len()) });
        }
        if info.dtype.is_float() {
            self.tensors.push((index, tensor::to_f32(bytes, info.dtype)));
        }
    }
}

/// Whether the tensors of `file`, a `.tq` or a model, are those of this model, by name, type and shape: then its layers can be put
/// into the model one at a time.
///
/// # Errors
/// They are not; the sentence names the first difference.
pub fn same_tensors(file: &str, tensors: &[TensorInfo], model: &Model) -> Result<()> {
    let other = |what: String| Err(bad(file, format!("it was not made from {}: {what}", model.name), "name the file it was made from"));
    if tensors.len() != model.tensors.len() {
        return other(format!("it has {} tensors, that file {}", tensors.len(), model.tensors.len()));
    }
    match tensors.iter().zip(&model.tensors).find(|(a, b)| a.name != b.name || a.shape != b.shape || a.dtype != b.dtype) {
        Some((a, b)) => other(format!("`{}` {:?} is `{}` {:?} there", a.name, a.shape, b.name, b.shape)),
        None => Ok(()),
    }
}

/// How a compressed network is called in an [`Evaluation`]: its rate and size.
pub fn what(allocation: &AllocationReport) -> String {
    format!("{:.2} bits per weight, {} bytes", allocation.rate, allocation.bytes)
}

/// The network of a `.tq` alone, from the results of [`super::decode_job`]: the original file is written again, in memory.
///
/// # Errors
/// Those of [`Runnable::new`].
pub fn tq_runnable(tq: &TqFile, tensors: Vec<Vec<u8>>) -> Result<Runnable> {
    let mut file = Vec::new();
    super::rebuild(tq, tensors, &mut file)?;
    Runnable::new(&io::open(vec![Rc::new(BytesSource::new(&tq.original_name, file))])?)
}
