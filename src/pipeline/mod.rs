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
pub mod command;
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
    io::{self, LayerShape, Model, Order, Role, Source, TensorReader, skeleton, source::BytesSource},
    quantize::{self, Gains, trellis::Trellis},
    rate::{
        Allocation, Layer, Plan, Problem,
        cost::Cost,
        curve::{self, Candidate, LayerCurves},
        hull::Vertex,
    },
    report::{
        AllocationReport, AllocationSettings, CalibrationSettings, Coding, CurveSettings, Distortion, LayerRow, LayerSummary, Measure,
        ModelSummary, Preprocessing, RdCurves, Report, TransformChoice,
    },
    transform::Geometry,
};
pub use command::quote;

use calibrate::{CalibratedLayer, Calibrator, Memory, Statistics};
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
        let (curve_settings, curves, encoded) = (CurveSettings::default(), Vec::new(), EncodedLast::default());
        Ok(Session { model: Rc::new(model), head, layers, statistics: None, curve_settings, curves, encoded, runnable: Rc::default() })
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

    /// Allocates bits; milliseconds at most.
    ///
    /// # Errors
    /// Settings that mean nothing. A budget out of reach is not an error here: the allocation says so.
    pub fn allocate(&self, settings: &AllocationSettings) -> Result<(Allocation, AllocationReport)> {
        let problem = self.problem();
        let allocation = problem.allocate(settings)?;
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

/// Encodes a layer and measures its error on what a decoder makes of it.
fn encode_layer(
    shape: &LayerShape,
    weights: Vec<f32>,
    curves: &LayerCurves,
    plan: &Plan,
    cost: &Cost,
    folded: bool,
    coding: Coding,
) -> EncodedLayer {
    let Plan::Quantized { candidate, blocks } = plan else { return EncodedLayer { body: None, error: 0.0 } };
    let candidate = &curves.candidates[*candidate];
    let mut normalized = weights.clone();
    let exponent = quantize::normalize(&mut normalized);
    let code = layer_code(candidate, shape, blocks, exponent, folded);
    let (code, indices) = indices(candidate, code, cost, shape, &normalized, coding);
    drop(normalized);
    let body = layer::encode(&code, coding.into(), &indices);
    // What a decoder makes of the body.
    let decoded = layer::reconstruct(&code, &indices, shape);
    drop(indices);
    let error = match cost {
        Cost::Weights => relative_error(&weights, &decoded),
        Cost::Output { statistics, unit, full } => {
            let error: Vec<f32> = decoded.iter().zip(&weights).map(|(d, w)| d - w).collect();
            unit * if *full { statistics.distortion(&error) } else { statistics.diagonal_distortion(&error) }
        }
    };
    EncodedLayer { error, body: Some(body) }
}

/// A layer's section body, and the weights that it gives.
pub(crate) type Recoded = (Vec<u8>, Vec<f32>);

/// Encodes a layer whose errors are fed back with others than its weights to be met, in the units of these: the body, and the weights that it gives. Nothing for another
/// plan.
pub(crate) fn encode_target(
    shape: &LayerShape,
    weights: &[f32],
    target: &[f32],
    curves: &LayerCurves,
    plan: &Plan,
    folded: bool,
) -> Option<Recoded> {
    let Plan::Quantized { candidate, blocks } = plan else { return None };
    let candidate = &curves.candidates[*candidate];
    let Some(feedback) = &candidate.feedback else { return None };
    // Steps are in units of the weights.
    let exponent = quantize::normalize(&mut weights.to_vec());
    let unit = quantize::power_of_two(-i32::from(exponent));
    let target: Vec<f32> = target.iter().map(|v| v * unit).collect();
    let code = layer_code(candidate, shape, blocks, exponent, folded);
    Some(layer::encode_feedback(&code, shape, &target, &feedback.factors))
}

/// The code of a layer as it is written, and its indices. `normalized` are the weights as they are quantized.
fn indices(
    candidate: &Candidate,
    code: layer::LayerCode,
    cost: &Cost,
    shape: &LayerShape,
    normalized: &[f32],
    coding: Coding,
) -> (layer::LayerCode, layer::Indices) {
    let coefficients = curve::coefficients(candidate, &code, cost, shape, normalized);
    let basis = candidate.basis.as_ref();
    let second = basis.and_then(|b| b.second.as_ref()).map_or(&[][..], |v| &v.rows);
    let basis = basis.map_or(&[][..], |b| &b.rows);
    match (coding, &candidate.feedback) {
        (Coding::Fixed | Coding::Depths, _) => {
            let indices = code.indices(&coefficients, basis, second);
            (code, indices)
        }
        (Coding::Entropy, Some(feedback)) => {
            layer::fed_back(&code, &feedback.columns.forward(shape, &coefficients), &feedback.factors, layer::FEEDBACK_PASSES)
        }
        (Coding::Entropy, None) => layer::trellis_coded(&code, &coefficients, basis, second),
    }
}

/// The side information of a layer under a candidate, with the depths of a plan.
pub(crate) fn layer_code(candidate: &Candidate, shape: &LayerShape, blocks: &[Vertex], exponent: i16, folded: bool) -> layer::LayerCode {
    let codes = blocks.iter().zip(&candidate.blocks).map(|(Vertex { taken, .. }, block)| {
        let of = block.coefficients[usize::from(taken.coefficient)];
        let basis = block.basis.get(usize::from(taken.basis)).filter(|_| taken.coefficient > 0);
        let (basis_depth, basis_step) = basis.map_or((0, quantize::Step(0)), |b| (b.depth, b.step));
        layer::BlockCode { depth: of.depth, step: of.step, basis_depth, basis_step }
    });
    layer::LayerCode {
        kind: candidate.kind,
        geometry: candidate.geometry,
        period: layer::period(shape, candidate.kind),
        exponent,
        block_of_row: candidate.block_of_row.clone(),
        scales: candidate.scales.clone(),
        columns: candidate.feedback.as_ref().map(|f| f.columns.clone()),
        gains: None,
        blocks: codes.collect(),
        second: candidate.second,
        folded,
        trellis: Trellis::None,
    }
}

/// `‖a − b‖²/‖a‖²`, in `f64`; 0 where `a` is zero.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let energy: f64 = a.iter().map(|&v| square(v.into())).sum();
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    if energy > 0.0 { error / energy } else { 0.0 }
}

/// A tensor's bytes, or why there are none.
type DecodeTask = Box<dyn FnOnce() -> Result<Vec<u8>> + Send>;

/// The task that decodes one tensor of a `.tq`.
fn decode_task(tq: &TqFile, index: usize) -> Result<DecodeTask> {
    let (body, info, file) = (tq.body(index)?, tq.tensors[index].clone(), tq.name().to_string());
    Ok(Box::new(move || container::decode(body, &info).map_err(|reason| bad(file, reason, crate::error::FETCH_AGAIN).tensor(&info.name))))
}

/// What is decoded of a `.tq`, and about how long each tensor takes.
fn decode_items<'a>(tq: &'a TqFile, tensors: impl Iterator<Item = usize> + 'a) -> Vec<Item> {
    let cost = |t: &io::TensorInfo| if let Role::Layer(shape) = t.role { code_cost(&shape) } else { t.elements() as f64 };
    tensors.map(|i| &tq.tensors[i]).map(|t| Item { name: t.name.clone(), cost: cost(t) }).collect()
}

/// The job that decodes every tensor of a `.tq` to its bytes.
pub fn decode_job(tq: &TqFile) -> Job<'_, Vec<u8>> {
    Job { stage: "decoding", items: decode_items(tq, 0..tq.tensors.len()), prepare: Box::new(move |i| decode_task(tq, i)) }
}

/// The job that decodes some tensors of a `.tq` to their bytes: no other layer is read. Each has its own result.
pub fn recover_job(tq: &TqFile, tensors: Vec<usize>) -> Job<'_, Result<Vec<u8>>> {
    Job {
        stage: "decoding",
        items: decode_items(tq, tensors.iter().copied()),
        prepare: Box::new(move |i| {
            let task = decode_task(tq, tensors[i]);
            Ok(Box::new(move || Ok(task.and_then(|task| task()))))
        }),
    }
}

/// Writes the original's format again from a `.tq` and its decoded tensors.
pub fn rebuild(tq: &TqFile, tensors: Vec<Vec<u8>>, out: &mut dyn Write) -> Result<()> {
    struct Decoded(Vec<Vec<u8>>);
    impl TensorReader for Decoded {
        fn read(&self, index: usize) -> Result<Vec<u8>> {
            Ok(self.0[index].clone())
        }
    }
    skeleton::write(&tq.skeleton, &Decoded(tensors), out)
}

/// What a `.tq` says of itself: the original's table, and the allocation in the file.
pub fn describe(tq: &TqFile) -> Result<(ModelSummary, AllocationReport)> {
    let mut notes = vec![format!("{} holds {}, compressed.", tq.name(), tq.original_name)];
    notes.extend(folds_note((0..tq.tensors.len()).filter(|&i| tq.is_folded(i)).count()));
    let summary = io::tensor::summary(&tq.original_name, tq.format, tq.original_bytes, &tq.tensors, notes);
    let mut rows = Vec::new();
    let (mut bytes, mut weights) = (0u64, 0u64);
    let layers = tq.tensors.iter().enumerate().filter(|(_, t)| matches!(t.role, Role::Layer(_)));
    for ((tensor, _), LayerSummary { index, name, shape, weights: count }) in layers.zip(&summary.layers) {
        let read = tq.layer(tensor)?;
        let mut row = LayerRow {
            index: *index,
            name: name.clone(),
            shape: shape.clone(),
            weights: *count,
            transform: None,
            feedback: false,
            bits: 8.0 * tq.tensors[tensor].dtype.size() as f64,
            bytes: container::section_bytes(tq.tensors[tensor].bytes() as u64),
            basis_bytes: 0,
            error: f64::NAN,
            gap: None,
            locked: None,
            excluded: read.is_none(),
            depths: Vec::new(),
        };
        if let Some((layer::Read { code, coding, basis_bytes, .. }, section)) = read {
            (row.transform, row.feedback) = (Some(code.kind), code.columns.is_some());
            row.bytes = section;
            row.bits = 8.0 * section as f64 / (*count).max(1) as f64;
            row.basis_bytes = basis_bytes;
            if coding == layer::Coding::Fixed {
                row.depths = code.blocks.iter().map(|b| b.depth).collect();
            }
            bytes += section;
            weights += count;
        }
        rows.push(row);
    }
    let rate = 8.0 * bytes as f64 / weights.max(1) as f64;
    let report = AllocationReport {
        rate,
        bytes: tq.file_bytes(),
        ratio: tq.original_bytes as f64 / tq.file_bytes().max(1) as f64,
        measure: Measure::Weights,
        db: f64::NAN,
        gap: None,
        lambda: f64::NAN,
        measured: false,
        other_bytes: tq.file_bytes() - rows.iter().map(|r| r.bytes).sum::<u64>(),
        not_reachable: None,
        rate_range: (rate, rate),
        layers: rows,
    };
    Ok((summary, report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Order;

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
