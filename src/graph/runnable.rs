//! A graph with its weights in memory.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use super::{
    Graph,
    batch_norm::{self, Fold},
    lower::{Lowering, Weight},
    offsets::{self, Site},
    templates,
};
use crate::{
    error::{Error, Result, bad},
    io::{Model, Role, tensor::to_f32},
    limits,
    nn::{Network, NoHooks, Tensor},
    report::Preprocessing,
};

/// Advice for models that cannot be run.
const DATA_FREE: &str = "it can still be compressed without being run";

/// A model that can be run: its graph with batch norms folded, its float tensors in memory. Clones share both.
#[derive(Debug, Clone)]
pub struct Runnable {
    file: String,
    /// The graph that runs: batch norms are folded.
    graph: Rc<Graph>,
    /// The graph of the file.
    unfolded: Rc<Graph>,
    /// Float tensors by name; weights of folded layers, and their biases under [`Fold::bias_name`], are the folded ones.
    weights: Rc<HashMap<String, Weight>>,
    folds: Rc<[Fold]>,
    /// Names of the tensors of the model's table.
    names: Rc<[String]>,
    /// What the file or its template says of preprocessing.
    pub preprocessing: Option<Preprocessing>,
    /// Networks made before, with the batch and the image they are for.
    made: RefCell<Vec<(usize, Vec<usize>, Network)>>,
    /// Whether a batch size that the file fixes may be changed; found out once.
    flexible: Cell<Option<bool>>,
}

impl Runnable {
    /// Reads all float tensors of a model that has a graph, or for which there is a template.
    ///
    /// # Errors
    /// No graph and no template; more than one input; more tensors than memory; damaged tensors.
    pub fn new(model: &Model) -> Result<Runnable> {
        let (graph, mut preprocessing) = match &model.graph {
            Some(graph) => (graph.clone(), None),
            None => match templates::recognise(&model.tensors) {
                Some(known) => (Rc::new(known.graph), Some(known.preprocessing)),
                None => {
                    let reason =
                        "it holds weights, but not the network they belong to, and they are of no network that is known by its weights";
                    return Err(bad(&model.name, reason, format!("open the network's ONNX file to run it; {DATA_FREE}")));
                }
            },
        };
        if graph.inputs.len() != 1 {
            let names: Vec<&str> = graph.inputs.iter().take(4).map(|i| i.name.as_str()).collect();
            let reason =
                format!("its network has {} inputs ({}), and only networks with one can be run", graph.inputs.len(), names.join(", "));
            return Err(bad(&model.name, reason, DATA_FREE));
        }
        if let Some(said) = graph.metadata.get("preprocessing").and_then(|json| serde_json::from_str(json).ok()) {
            preprocessing = Some(said);
        }
        let names: Rc<[String]> = model.tensors.iter().map(|t| t.name.clone()).collect();
        let bytes: u64 = model.tensors.iter().filter(|t| t.dtype.is_float()).map(|t| 4 * t.elements() as u64).sum();
        if bytes > limits::RUN_WEIGHTS {
            let reason = format!("its weights take {bytes} bytes of memory to run, more than {}", limits::RUN_WEIGHTS);
            return Err(bad(&model.name, reason, DATA_FREE));
        }
        let folds: Rc<[Fold]> = batch_norm::folds(&graph, &|name| names.iter().any(|n| n == name)).into();
        let mut weights = HashMap::new();
        let mut layers = 0..;
        for (i, info) in model.tensors.iter().enumerate().filter(|(_, t)| t.dtype.is_float()) {
            let number = matches!(info.role, Role::Layer(_)).then(|| layers.next()).flatten();
            let data = to_f32(&model.reader.read(i)?, info.dtype);
            if data.len() != info.elements() {
                let reason = format!("{} values were read instead of {}", data.len(), info.elements());
                return Err(bad(&model.name, reason, "export the model again").tensor(&info.name));
            }
            let tensor = Arc::new(Tensor::new(info.shape.clone(), data));
            weights.insert(info.name.clone(), Weight { tensor, layer: number });
        }
        batch_norm::fold(&folds, &graph, &mut weights)
            .map_err(|(name, reason)| bad(&model.name, reason, "export the model again").tensor(name))?;
        let unfolded = graph;
        let graph = if folds.is_empty() { unfolded.clone() } else { Rc::new(batch_norm::rewrite(&unfolded, &folds)) };
        Ok(Runnable {
            file: model.name.clone(),
            graph,
            unfolded,
            weights: Rc::new(weights),
            folds,
            names,
            preprocessing,
            made: RefCell::default(),
            flexible: Cell::new(None),
        })
    }

    /// Name of the model's file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The factor of each output channel that the batch norm after a layer multiplies it by, where it is folded into the weights that run;
    /// by the index of the layer's tensor.
    pub fn factors(&self, tensor: usize) -> Option<Vec<f32>> {
        let fold = self.folds.iter().find(|fold| Some(&fold.weight) == self.names.get(tensor))?;
        let [gamma, _, _, variance] = &fold.parameters;
        Some(fold.scale(&self.weights.get(gamma)?.tensor.data, &self.weights.get(variance)?.tensor.data))
    }

    /// The layers whose channels can be scaled, and what is added to their output.
    pub fn sites(&self) -> Vec<Site> {
        offsets::sites(&self.unfolded, &self.folds, &|name| Some(&self.weights.get(name)?.tensor.shape[..]))
    }

    /// The values of a tensor as they are run, by its name in the model's table, or of a folded bias by [`Fold::bias_name`].
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        self.weights.get(name).map(|weight| &weight.tensor.data[..])
    }

    /// The shape of one image that the network takes, without the batch axis (`[C, H, W]`, or whatever its input has); `None` where
    /// any length does. Empty when the file does not say.
    pub fn image_dims(&self) -> Vec<Option<usize>> {
        self.graph.inputs[0].dims.get(1..).unwrap_or_default().to_vec()
    }

    /// The batch size that the file fixes.
    fn fixed(&self) -> Option<usize> {
        self.graph.inputs[0].dims.first().copied().flatten()
    }

    fn lower(&self, batch: usize, image: &[usize]) -> Result<Network> {
        let fits = |dims: &[Option<usize>]| {
            dims.is_empty() || dims.len() == image.len() && dims.iter().zip(image).all(|(d, &n)| d.is_none_or(|d| d == n))
        };
        let dims = self.image_dims();
        if !fits(&dims) {
            let words: Vec<String> = dims.iter().map(|d| d.map_or("any".into(), |d| d.to_string())).collect();
            let reason = format!("its network takes inputs of {}, not of {image:?}", words.join(" × "));
            return Err(bad(&self.file, reason, "set the preprocessing so that images get that size"));
        }
        let shape: Vec<usize> = std::iter::once(batch).chain(image.iter().copied()).collect();
        let lowering = Lowering { file: &self.file, graph: &self.graph, weights: &self.weights, feeds: &HashMap::new() };
        let network = lowering.lower(&[shape])?;
        let bytes = network.peak_bytes(false);
        if bytes > limits::ACTIVATIONS {
            let reason = format!("running it on {batch} inputs of {image:?} takes {bytes} bytes, more than {}", limits::ACTIVATIONS);
            return Err(bad(&self.file, reason, "choose smaller images"));
        }
        Ok(network)
    }

    /// The network for a batch of inputs of this shape (without the batch axis). A batch size that the file fixes is changed if
    /// that changes nothing but the number of outputs.
    ///
    /// # Errors
    /// Operators that are not supported, shapes that do not fit, a batch size that has to be what the file says
    /// ([`Runnable::batch`]).
    pub fn network(&self, batch: usize, image: &[usize]) -> Result<Network> {
        if let Some((.., network)) = self.made.borrow().iter().find(|(b, i, _)| *b == batch && i == image) {
            return Ok(network.clone());
        }
        if let Some(fixed) = self.fixed()
            && fixed != batch
            && !self.is_flexible(fixed, image)?
        {
            let reason = format!("its network runs on batches of {fixed} only, not of {batch}");
            return Err(bad(&self.file, reason, "export it with a free batch size"));
        }
        let network = self.lower(batch, image)?;
        let mut made = self.made.borrow_mut();
        // A full batch, the rest of a set, one more of each for other images.
        if made.len() >= 4 {
            made.remove(0);
        }
        made.push((batch, image.to_vec(), network.clone()));
        Ok(network)
    }

    /// Whether two batches at once give what they give one by one.
    fn is_flexible(&self, fixed: usize, image: &[usize]) -> Result<bool> {
        if let Some(known) = self.flexible.get() {
            return Ok(known);
        }
        let one = self.lower(fixed, image)?;
        let flexible = self.lower(2 * fixed, image).is_ok_and(|two| {
            let doubled = |(a, b): (Vec<usize>, Vec<usize>)| a.first().zip(b.first()).is_some_and(|(a, b)| 2 * a == *b) && a[1..] == b[1..];
            if !one.output_shapes().into_iter().zip(two.output_shapes()).all(doubled) {
                return false;
            }
            let n = fixed * image.iter().product::<usize>();
            let shape = |batch: usize| -> Vec<usize> { std::iter::once(batch).chain(image.iter().copied()).collect() };
            // Values without a pattern that a network could be blind to.
            let data: Vec<f32> =
                (0..2 * n as u32).map(|i| ((i.wrapping_mul(2_654_435_761) >> 8) as f32) / (1 << 24) as f32 - 0.5).collect();
            let run =
                |network: &Network, batch, data: &[f32]| network.forward(vec![Tensor::new(shape(batch), data.to_vec())], &mut NoHooks);
            let (first, second) = (run(&one, fixed, &data[..n]), run(&one, fixed, &data[n..]));
            let both = run(&two, 2 * fixed, &data);
            first.iter().zip(&second).zip(&both).all(|((a, b), both)| {
                let apart = a.data.iter().chain(&b.data);
                let largest = apart.clone().fold(0f32, |m, v| m.max(v.abs()));
                apart.zip(&both.data).all(|(a, b)| (a - b).abs() <= 1e-4 * largest)
            })
        });
        self.flexible.set(Some(flexible));
        Ok(flexible)
    }

    /// How many images are run at once: as many as fit `memory` bytes of activations (1 at least, `most` at most), or what the file fixes.
    ///
    /// # Errors
    /// As [`Runnable::network`].
    pub fn batch(&self, image: &[usize], gradient: bool, memory: u64, most: usize) -> Result<usize> {
        if let Some(fixed) = self.fixed()
            && !self.is_flexible(fixed, image)?
        {
            return Ok(fixed);
        }
        let one = self.network(1, image)?.peak_bytes(gradient).max(1);
        Ok(((memory / one) as usize).clamp(1, most.max(1)))
    }

    /// The same network with other values for some tensors (by index in the model's table, in file order): what a `.tq` decodes to.
    /// With a parameter of a folded batch norm the weights of its layer have to be given too, unless they stay as they are.
    ///
    /// # Errors
    /// A tensor that the network does not have, or of another size.
    pub fn with_tensors(&self, tensors: &[(usize, Vec<f32>)]) -> Result<Runnable> {
        let mut weights = (*self.weights).clone();
        let mut replaced = Vec::new();
        for (index, data) in tensors {
            let (name, weight) = match self.names.get(*index).and_then(|n| Some((n, weights.get_mut(n)?))) {
                Some(found) => found,
                None => return Err(Error::Setting(format!("{} has no tensor {index} of numbers.", self.file))),
            };
            if data.len() != weight.tensor.len() {
                let reason = format!("{} values were given instead of {}", data.len(), weight.tensor.len());
                return Err(bad(&self.file, reason, "use the file it was compressed from").tensor(name));
            }
            weight.tensor = Arc::new(Tensor::new(weight.tensor.shape.clone(), data.clone()));
            replaced.push(name.clone());
        }
        batch_norm::refold(&self.folds, &self.unfolded, &self.weights, &mut weights, &replaced)
            .map_err(|(name, reason)| bad(&self.file, reason, "use the file it was compressed from").tensor(name))?;
        Ok(Runnable { weights: Rc::new(weights), made: RefCell::default(), ..self.clone() })
    }
}
