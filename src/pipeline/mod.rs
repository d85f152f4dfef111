//! The stages strung together, for the page's worker and for the command line alike:
//!
//! ```text
//! open ─→ Session ─ calibrator ─→ set_statistics ─ curves_job ─→ set_curves ─ allocate ─→ encode_job ─→ write ─→ .tq ─ decode_job ─→ rebuild
//! ```
//!
//! A [`Session`] keeps what did not change: moving the budget re-runs only [`Session::allocate`]. Heavy work is handed out as
//! [`job::Job`]s, so that the worker can post progress and be cancelled between layers.

pub mod batch;
pub mod calibrate;
mod coding;
pub mod command;
mod decoding;
pub mod evaluate;
pub mod figures;
pub mod gains;
pub mod inputs;
pub mod job;
pub mod matching;
pub mod measure;
pub mod pictures;
pub mod promise;
pub mod settle;
pub mod sweep;

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    io::Write,
    rc::Rc,
    sync::Arc,
};

use crate::{
    container::{self, Fold, Head, TqFile, fold, layer},
    data::Dataset,
    error::{Error, Result, bad},
    graph::{Runnable, batch_norm, templates},
    io::{self, LayerShape, Model, Order, Role, Source, source::BytesSource},
    quantize::Gains,
    rate::{
        Allocation, Layer, Plan, Problem, Way,
        cost::Cost,
        curve::{self, LayerCurves},
    },
    report::{
        AllocationReport, AllocationSettings, CalibrationSettings, CurveSettings, Distortion, Measure, ModelSummary, Preprocessing,
        RdCurves, Report, TransformChoice,
    },
    transform::Geometry,
};
pub use coding::relative_error;
pub(crate) use coding::{Recoded, encode_target, layer_code};
pub use command::quote;
pub use decoding::{decode_job, describe, rebuild, recover_job};

use calibrate::{CalibratedLayer, Calibrator, Memory, Statistics};
use coding::{encode_layer, indices};
use evaluate::Decoded;
use job::{Item, Job};
use matching::Matcher;

/// What a file turned out to be.
pub enum Opened {
    /// A model to compress.
    Model(Box<Session>),
    /// A compressed model.
    Tq(Box<TqFile>),
}

/// Recognises and opens a file (with its external data, if it is an ONNX that has some).
pub fn open(sources: Vec<Rc<dyn Source>>) -> Result<Opened> {
    if let [source] = &sources[..] {
        let mut magic = [0; 7];
        if source.len() >= 8 && source.read_at(0, &mut magic).is_ok() && magic == container::MAGIC {
            return Ok(Opened::Tq(Box::new(TqFile::open(source.clone())?)));
        }
    }
    Ok(Opened::Model(Box::new(Session::new(io::open(sources)?)?)))
}

/// An open model and what has been computed about it. A clone shares both.
#[derive(Clone)]
pub struct Session {
    /// The model.
    pub model: Rc<Model>,
    head: Rc<Head>,
    /// Index in the table of tensors and shape of every layer.
    layers: Rc<[(usize, LayerShape)]>,
    statistics: Option<Rc<Statistics>>,
    curve_settings: CurveSettings,
    curves: Vec<Arc<LayerCurves>>,
    /// Entropy-coded layers as they were encoded last, and their plans: [`settle::encode`].
    encoded: EncodedLast,
    /// The way to the budget that was allocated last, and the curves it is of.
    allocated: Rc<RefCell<(Vec<Arc<LayerCurves>>, Way)>>,
    runnable: Rc<OnceCell<Rc<Runnable>>>,
}

/// Per layer of the curves that there are; nothing yet of those that were not encoded.
type EncodedLast = Rc<RefCell<Vec<Option<(Plan, EncodedLayer)>>>>;

/// A layer's section body, and its relative weight error measured on the decoded weights.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedLayer {
    /// The body; none for a layer that is kept bit for bit.
    pub body: Option<Vec<u8>>,
    /// `‖dΘ‖²/‖Θ‖²`, of a layer with a batch norm after it on the folded weights; with calibration the error that it causes in the output,
    /// over the output's power, in the form that [`CurveSettings::distortion`] says, before gains and biases are matched.
    pub error: f64,
}

impl Session {
    /// Takes a model in. Reads its small tensors. Layers with a batch norm after them are compressed with it folded in.
    ///
    /// # Errors
    /// A model without a layer to compress.
    pub fn new(model: Model) -> Result<Session> {
        let layer = |(index, t): (usize, &io::TensorInfo)| if let Role::Layer(shape) = t.role { Some((index, shape)) } else { None };
        let layers: Rc<[_]> = model.tensors.iter().enumerate().filter_map(layer).collect();
        if layers.is_empty() {
            let reason = "it has no weights of convolutions or dense layers";
            return Err(bad(&model.name, reason, "choose a file with floating-point weight tensors of two or more dimensions"));
        }
        let head = Rc::new(Head::new(&model, &folds(&model))?);
        Ok(Session {
            model: Rc::new(model),
            head,
            layers,
            statistics: None,
            curve_settings: CurveSettings::default(),
            curves: Vec::new(),
            encoded: EncodedLast::default(),
            allocated: Rc::default(),
            runnable: Rc::default(),
        })
    }

    /// Index of a layer by name.
    ///
    /// # Errors
    /// No such layer; the sentence names the nearest ones.
    pub fn layer_index(&self, name: &str) -> Result<usize> {
        let names: Vec<&str> = self.layers.iter().map(|l| self.model.tensors[l.0].name.as_str()).collect();
        names.iter().position(|n| *n == name).ok_or_else(|| {
            let part = names.iter().filter(|n| n.contains(name) || name.contains(**n)).take(3).copied().collect::<Vec<_>>();
            let hint = if part.is_empty() { names.iter().take(3).copied().collect() } else { part };
            Error::Setting(format!(
                "{} has no layer `{name}`; it has {}, … (`waterfill inspect` lists them).",
                self.model.name,
                hint.join(", ")
            ))
        })
    }

    /// Binds the network to calibration images, to take statistics of all layers.
    ///
    /// # Errors
    /// Those of [`Session::runnable`] and [`Calibrator::new`].
    pub fn calibrator(
        &self,
        data: &Dataset,
        preprocessing: Preprocessing,
        settings: CalibrationSettings,
        memory: Memory,
    ) -> Result<Calibrator> {
        let runnable = self.runnable()?;
        let layers = self.calibrated_layers(&runnable);
        Calibrator::new(&runnable, layers, data, preprocessing, settings, memory)
    }

    /// The layers, and how the weights that are coded become those that run.
    fn calibrated_layers(&self, runnable: &Runnable) -> Vec<CalibratedLayer> {
        let layers = self.layers.iter().map(|&(tensor, shape)| {
            // The derivative is by weights with the batch norm folded in exactly; those that are coded have it as a decoder can.
            let (exact, coded) = (runnable.factors(tensor), self.head.factors(tensor));
            let factors = exact.map(|exact| match coded {
                None => exact,
                Some(coded) => exact.iter().zip(&**coded).map(|(e, c)| if *c == 0.0 { 0.0 } else { e / c }).collect(),
            });
            CalibratedLayer { shape, factors }
        });
        layers.collect()
    }

    /// Keeps what calibration found, or nothing of it any more. Curves have to be computed again.
    pub fn set_statistics(&mut self, statistics: Option<Statistics>) {
        self.statistics = statistics.map(Rc::new);
        self.curves.clear();
    }

    /// What calibration found.
    pub fn statistics(&self) -> Option<&Statistics> {
        self.statistics.as_deref()
    }

    /// What errors of layer `i` cost.
    fn cost(&self, i: usize, settings: CurveSettings) -> Cost {
        match &self.statistics {
            None => Cost::Weights,
            Some(found) => {
                let unit = if found.output_energy > 0.0 { 1.0 / found.output_energy } else { 1.0 };
                Cost::Output { statistics: found.layers[i].clone(), unit, full: settings.distortion != Distortion::Diagonal }
            }
        }
    }

    /// The job that computes the curves of all layers.
    pub fn curves_job(&self, settings: CurveSettings) -> Job<'_, LayerCurves> {
        let kept = self.statistics.as_ref().and_then(|s| s.layers.first()).map_or(0, |l| l.kept());
        let samples = if settings.distortion != Distortion::Diagonal { kept } else { 0 };
        let items =
            self.layers.iter().map(|&(t, shape)| Item { name: self.model.tensors[t].name.clone(), cost: curve_cost(&shape, samples) });
        Job {
            stage: "curves",
            items: items.collect(),
            prepare: Box::new(move |i| {
                let (tensor, shape) = self.layers[i];
                let (weights, cost) = (self.read(tensor)?, self.cost(i, settings));
                Ok(Box::new(move || Ok(curve::layer_curves(&shape, weights, settings, &cost))))
            }),
        }
    }

    /// Cost of [`Session::curves_job`] once errors are measured on so many samples.
    pub fn curves_cost(&self, samples: usize) -> f64 {
        self.layers.iter().map(|(_, shape)| curve_cost(shape, samples)).sum()
    }

    /// Keeps the result of [`Session::curves_job`].
    pub fn set_curves(&mut self, settings: CurveSettings, curves: Vec<LayerCurves>) {
        self.curve_settings = settings;
        self.curves = curves.into_iter().map(Arc::new).collect();
        self.encoded = EncodedLast::default();
    }

    /// Whether there are curves.
    pub fn has_curves(&self) -> bool {
        !self.curves.is_empty()
    }

    /// The weights of a layer as they are compressed: in canonical order, with its batch norm folded in.
    fn read(&self, tensor: usize) -> Result<Vec<f32>> {
        let mut weights = self.model.read_layer(tensor)?;
        if let Some(factors) = self.head.factors(tensor) {
            fold::fold(&mut weights, factors);
        }
        Ok(weights)
    }

    /// The factor by which each output channel of layer `index` is multiplied before it is compressed, if a batch norm is folded into
    /// it ([`container::fold`]).
    pub fn factors(&self, index: usize) -> Option<&[f32]> {
        self.layers.get(index).and_then(|l| self.head.factors(l.0)).map(|f| &**f)
    }

    fn problem(&self) -> Problem<'_> {
        let layers = self.layers.iter().zip(&self.curves).map(|(&(tensor, _), curves)| {
            let info = &self.model.tensors[tensor];
            Layer { name: &info.name, shape: &info.shape, exact_bytes: info.bytes() as u64, curves }
        });
        let measure = if self.statistics.is_some() { Measure::Output } else { Measure::Weights };
        Problem { layers: layers.collect(), other_bytes: self.head.other_bytes(), original_bytes: self.model.file_bytes, measure }
    }

    /// Allocates bits; milliseconds at most, and less for a budget near the one before.
    ///
    /// # Errors
    /// Settings that mean nothing. A budget out of reach is not an error here: the allocation says so.
    pub fn allocate(&self, settings: &AllocationSettings) -> Result<(Allocation, AllocationReport)> {
        let problem = self.problem();
        let mut allocated = self.allocated.borrow_mut();
        let (curves, way) = &mut *allocated;
        // Clones share it, and may have other curves.
        if curves.iter().map(Arc::as_ptr).ne(self.curves.iter().map(Arc::as_ptr)) {
            (*curves, *way) = (self.curves.clone(), Way::default());
        }
        let allocation = problem.allocate_within(settings, 1.0, way)?;
        let report = problem.report(&allocation, settings, None);
        Ok((allocation, report))
    }

    /// The lines of the rate–distortion plot.
    pub fn rd_curves(&self, settings: &AllocationSettings) -> Result<RdCurves> {
        self.problem().curves(settings)
    }

    /// The job that encodes an allocation.
    pub fn encode_job<'a>(&'a self, allocation: &'a Allocation) -> Job<'a, EncodedLayer> {
        self.encode_some_job(allocation, (0..self.layers.len()).collect())
    }

    /// The job that encodes some layers of an allocation.
    pub fn encode_some_job<'a>(&'a self, allocation: &'a Allocation, some: Vec<usize>) -> Job<'a, EncodedLayer> {
        let layers = some.iter().map(|&i| self.layers[i]);
        let items = layers.map(|(t, shape)| Item { name: self.model.tensors[t].name.clone(), cost: code_cost(&shape) });
        Job {
            stage: "encoding",
            items: items.collect(),
            prepare: Box::new(move |item| self.encode_task(some[item], allocation.plans[some[item]].clone())),
        }
    }

    /// The task that encodes a layer by a plan.
    fn encode_task(&self, i: usize, plan: Plan) -> Result<job::Task<EncodedLayer>> {
        if plan == Plan::Exact {
            return Ok(Box::new(|| Ok(EncodedLayer { body: None, error: 0.0 })));
        }
        let (tensor, shape) = self.layers[i];
        let (weights, curves, cost) = (self.read(tensor)?, self.curves[i].clone(), self.cost(i, self.curve_settings));
        let (folded, coding) = (self.head.factors(tensor).is_some(), self.curve_settings.coding);
        Ok(Box::new(move || Ok(encode_layer(&shape, weights, &curves, &plan, &cost, folded, coding))))
    }

    /// The session with other values for some small tensors, by index in the model's table, in what it writes and in the sizes it tells:
    /// [`matching::Matched::tensors`]. They replace all that were given before.
    ///
    /// # Errors
    /// Those of [`Head::with_small`].
    pub fn with_small(&self, small: &[(usize, Vec<f32>)]) -> Result<Session> {
        Ok(Session { head: Rc::new(self.head.with_small(&self.model, small)?), encoded: EncodedLast::default(), ..self.clone() })
    }

    /// Binds the network and what was decoded of its compressed file to calibration images, to find the gain and the offset of every output
    /// channel.
    ///
    /// # Errors
    /// Those of [`Session::runnable`], [`Runnable::with_tensors`] and [`Matcher::new`].
    pub fn matcher(&self, decoded: &Decoded, data: &Dataset, preprocessing: Preprocessing, options: matching::Options) -> Result<Matcher> {
        let quantized = self.runnable()?.with_tensors(&decoded.tensors)?;
        Matcher::new(self, &quantized, data, preprocessing, options)
    }

    /// The job that gives encoded layers gains. Their errors stay what they were before: a model of single layers knows nothing of offsets, which go with gains.
    pub fn matched_job<'a>(&'a self, layers: &'a [EncodedLayer], gains: &'a [Option<Gains>]) -> Job<'a, EncodedLayer> {
        let items = self.layers.iter().map(|&(t, shape)| Item { name: self.model.tensors[t].name.clone(), cost: code_cost(&shape) });
        Job {
            stage: "encoding",
            items: items.collect(),
            prepare: Box::new(move |i| {
                let EncodedLayer { body, error } = layers[i].clone();
                let (shape, gains, file) = (self.layers[i].1, gains[i].clone(), self.model.name.clone());
                Ok(Box::new(move || {
                    let body = match (body, gains) {
                        (Some(body), Some(gains)) => {
                            Some(layer::with_gains(&body, &shape, gains).map_err(|reason| bad(file, reason, "report this as a bug"))?)
                        }
                        (body, _) => body,
                    };
                    Ok(EncodedLayer { body, error })
                }))
            }),
        }
    }

    /// Writes the `.tq` of encoded layers; returns its length, which is that of their report ([`Session::encoded_report`]).
    pub fn write(&self, layers: &[EncodedLayer], out: &mut dyn Write) -> Result<u64> {
        // Layers are in table order.
        let body = |tensor: usize| {
            let i = self.layers.binary_search_by_key(&tensor, |l| l.0).ok()?;
            layers[i].body.as_deref()
        };
        self.head.write(&self.model, &body, out)
    }

    /// The `.tq` of encoded layers, in memory: what a download would hold, to be decoded ([`decode_job`]) as a download would be.
    pub fn tq(&self, layers: &[EncodedLayer]) -> Result<TqFile> {
        let mut file = Vec::new();
        self.write(layers, &mut file)?;
        TqFile::open(Rc::new(BytesSource::new(tq_name(&self.model.name), file)))
    }

    /// The model's network, with its weights in memory. Made once.
    ///
    /// # Errors
    /// There is none, or it cannot be run.
    pub fn runnable(&self) -> Result<Rc<Runnable>> {
        if let Some(runnable) = self.runnable.get() {
            return Ok(runnable.clone());
        }
        let runnable = Rc::new(Runnable::new(&self.model)?);
        Ok(self.runnable.get_or_init(|| runnable).clone())
    }

    /// The readouts of encoded layers: [`Report::allocation`].
    pub fn encoded_report(&self, allocation: &Allocation, settings: &AllocationSettings, layers: &[EncodedLayer]) -> AllocationReport {
        let encoded: Vec<(f64, Option<u64>)> = layers.iter().map(|l| (l.error, l.body.as_ref().map(|b| b.len() as u64))).collect();
        self.problem().report(allocation, settings, Some(&encoded))
    }

    /// The whole report, errors measured on the decoded weights.
    pub fn report(&self, allocation: &Allocation, settings: &AllocationSettings, layers: &[EncodedLayer]) -> Result<Report> {
        Ok(Report {
            program: format!("waterfill {}", env!("CARGO_PKG_VERSION")),
            command: self.command(settings),
            model: self.summary(),
            curve_settings: self.curve_settings,
            settings: settings.clone(),
            allocation: self.encoded_report(allocation, settings, layers),
            curves: self.problem().curves(settings)?,
            calibration: self.statistics.as_ref().map(|s| s.summary.clone()),
            check: None,
            alternatives: Vec::new(),
            evaluation: None,
            promise: None,
        })
    }

    /// Settings of the curves.
    pub fn curve_settings(&self) -> CurveSettings {
        self.curve_settings
    }

    /// The model's table.
    pub fn summary(&self) -> ModelSummary {
        let mut summary = self.model.summary();
        summary.notes.extend(folds_note((0..self.layers.len()).filter(|&i| self.factors(i).is_some()).count()));
        summary.notes.extend(depthwise_note(self.layers.iter().map(|(_, shape)| shape)));
        summary
    }

    /// The command line that does the same.
    pub fn command(&self, settings: &AllocationSettings) -> String {
        let layers: Vec<&str> = self.layers.iter().map(|l| self.model.tensors[l.0].name.as_str()).collect();
        let calibration = self.statistics.as_ref().map(|s| &s.summary);
        command::Compress { model: &self.model.name, layers: &layers, settings, curves: self.curve_settings, calibration }.line()
    }
}

/// The name of the `.tq` of a model: its extension replaced.
pub fn tq_name(model: &str) -> String {
    let stem = model.rsplit_once('.').map_or(model, |(stem, _)| if stem.is_empty() { model } else { stem });
    format!("{stem}.tq")
}

/// Says that a transform needs calibration.
pub fn uncalibrated(transform: TransformChoice) -> Error {
    let reason = "is learned from how errors of the weights reach the output; give images with --calibration";
    Error::Setting(format!("The transform {} {reason}.", transform.name()))
}

/// Multiplications, roughly: Gram matrices, eigenproblems, coefficients, and histograms; and errors of all transforms and depths, seen by
/// so many samples.
fn curve_cost(shape: &LayerShape, samples: usize) -> f64 {
    let transform = |kind| {
        Geometry::new(shape, kind).map_or(0.0, |g| {
            let (dim, width, rank) = (g.dim as f64, g.width as f64, g.rank as f64);
            g.groups as f64 * (dim * width * rank * 2.0 + 40.0 * rank.powi(3))
        })
    };
    transform(crate::report::TransformKind::KltRow)
        + transform(crate::report::TransformKind::KltCol)
        + (500.0 + 200.0 * samples as f64) * shape.weights() as f64
}

fn code_cost(shape: &LayerShape) -> f64 {
    let side = shape.outputs.min(shape.inputs * shape.taps) as f64;
    shape.weights() as f64 * (side + 20.0)
}

/// The batch norms after layers, by the index of the layer's tensor, with the graph of the file or of its template.
fn folds(model: &Model) -> Vec<(usize, Fold)> {
    let graph = match &model.graph {
        Some(graph) => graph.clone(),
        None => match templates::recognise(&model.tensors) {
            Some(known) => Rc::new(known.graph),
            None => return Vec::new(),
        },
    };
    let index: HashMap<&str, usize> = model.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let folds = batch_norm::folds(&graph, &|name| index.contains_key(name));
    let indexed = folds.iter().filter_map(|fold| {
        let [gamma, _, _, variance] = &fold.parameters;
        let (tensor, scale, variance) = (*index.get(&*fold.weight)?, *index.get(&**gamma)?, *index.get(&**variance)?);
        let info = &model.tensors[tensor];
        let (Role::Layer(role), used) = (info.role, fold.layer_shape(&graph, &info.shape)?) else { return None };
        // Without a graph grouped convolutions look like others: their output channels come in the same order.
        let same = used == role || used.order == Order::OutIn && role.order == Order::OutIn;
        same.then_some((tensor, Fold { scale, variance, epsilon: fold.epsilon }))
    });
    indexed.collect()
}

fn folds_note(count: usize) -> Option<String> {
    match count {
        0 => None,
        1 => Some("One batch norm is folded into the layer before it while compressing; the file keeps it.".into()),
        n => Some(format!("{n} batch norms are folded into the layers before them while compressing; the file keeps them.")),
    }
}

/// Says of a network with depthwise layers that it suffers early, and what helps: few weights make a channel, and no other channel makes good what they err.
fn depthwise_note<'a>(shapes: impl Iterator<Item = &'a LayerShape>) -> Option<String> {
    let depthwise = shapes.filter(|s| s.groups > 1 && s.inputs == 1 && s.taps > 1);
    let (count, weights) = depthwise.fold((0, 0), |(count, weights), s| (count + 1, weights + s.weights()));
    // A single one may be the first layer of a network for grey images, whose weights have the same shape.
    (count > 1).then(|| {
        format!(
            "{count} depthwise layers, of {weights} weights together: networks like this lose accuracy there first. Calibration helps; so does excluding these layers, for few bytes."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{io::Order, report::Budget};

    /// Clones share what was found on the way to the last budget, and what they find is theirs.
    #[test]
    fn an_allocation_is_that_of_its_own_curves_whatever_was_asked_before() {
        let bytes = include_bytes!("../../www/samples/resnet-digits.onnx").to_vec();
        let Ok(Opened::Model(mut one)) = open(vec![Rc::new(BytesSource::new("resnet-digits.onnx", bytes))]) else {
            panic!("the sample is a model")
        };
        let curves = |session: &Session, blocks| {
            let settings = CurveSettings { blocks, ..CurveSettings::default() };
            (settings, job::run(session.curves_job(settings), &mut |_| Ok(())).unwrap())
        };
        let (settings, found) = curves(&one, 1);
        one.set_curves(settings, found);
        let mut other = one.clone();
        let (settings, found) = curves(&other, 8);
        other.set_curves(settings, found);
        for bits in [4.0, 4.05, 3.0, 3.0, 0.5] {
            let settings = AllocationSettings { budget: Budget::Bits(bits), ..AllocationSettings::default() };
            let [of_one, of_other] = [&one, &other].map(|session| session.allocate(&settings).unwrap().0);
            assert_eq!(of_one, one.problem().allocate(&settings).unwrap(), "{bits} bits");
            assert_eq!(of_other, other.problem().allocate(&settings).unwrap(), "{bits} bits");
            assert_ne!(of_one.plans, of_other.plans);
            // Begun anew after the other, and gone on.
            for _ in 0..2 {
                assert_eq!(of_one, one.allocate(&settings).unwrap().0);
            }
        }
    }

    #[test]
    fn networks_with_depthwise_layers_are_warned_of() {
        let shape = |groups, outputs, inputs, taps| LayerShape { groups, outputs, inputs, taps, columns: taps, order: Order::OutIn };
        let said = |shapes: &[LayerShape]| depthwise_note(shapes.iter());
        // A pointwise layer, a grouped one, a single layer that looks depthwise, dense weights of a norm's kind.
        assert_eq!(said(&[shape(1, 8, 4, 1), shape(4, 2, 2, 9), shape(8, 1, 1, 9), shape(5, 1, 1, 1)]), None);
        let note = said(&[shape(8, 1, 1, 9), shape(1, 16, 8, 1), shape(16, 1, 1, 25)]).unwrap();
        assert!(note.starts_with("2 depthwise layers, of 472 weights together: "), "{note}");
    }
}
