//! The figures of the paper for the open model ([`crate::report::figure`]): one file a figure, or a few that are alike.
//!
//! A figure follows from the curves, what calibration found, and the settings of the allocation; where it needs more of a layer, that is a task of a job.

mod flops;
mod gains;
mod given;
mod histogram;
mod kernels;
mod limits;
mod overhead;
mod pairs;
mod part;
mod row_gains;
mod rows;
mod slopes;
mod spectrum;
mod steps;

use super::{
    Session,
    job::{Item, Job},
};
use crate::{
    error::{Error, Result},
    report::{
        AllocationSettings, LayerGains,
        figure::{Axis, Figure, Series, Shape, Which},
    },
};

use given::Given;

/// What a task of a figure's job has found.
pub enum Piece {
    /// A figure of one layer, whole.
    Figure(Box<Figure>),
    /// Coding gains of a layer.
    Gains(LayerGains),
    /// Rows of a layer: of all, those that are not zero; nothing of a layer that is kept as it is.
    Rows(Option<rows::RowCount>),
}

/// What puts the pieces of a figure together.
type Finish<'a> = Box<dyn FnOnce(Vec<Piece>) -> Figure + 'a>;

/// A figure in the making.
pub struct Making<'a> {
    /// The work that it needs; without an item where it needs none.
    pub job: Job<'a, Piece>,
    /// Puts the results together.
    pub finish: Finish<'a>,
}

impl<'a> Making<'a> {
    /// A figure that is there at once.
    fn ready(figure: Figure) -> Making<'a> {
        let job = Job { stage: "figure", items: Vec::new(), prepare: Box::new(|_| unreachable!("there is no item")) };
        Making { job, finish: Box::new(move |_| figure) }
    }

    /// A figure of one layer, by a task that makes all of it.
    fn of_layer(item: Item, prepare: impl Fn() -> Result<super::job::Task<Piece>> + 'a) -> Making<'a> {
        let job = Job { stage: "figure", items: vec![item], prepare: Box::new(move |_| prepare()) };
        let finish = |mut pieces: Vec<Piece>| match pieces.pop() {
            Some(Piece::Figure(figure)) => *figure,
            _ => unreachable!("a job of one item has one figure as its result"),
        };
        Making { job, finish: Box::new(finish) }
    }

    /// A figure of all layers, by a job of another stage.
    fn of_layers<T: 'static>(job: Job<'a, T>, piece: fn(T) -> Piece, finish: impl FnOnce(Vec<Piece>) -> Figure + 'a) -> Making<'a> {
        let Job { items, prepare, .. } = job;
        let prepare = move |item: usize| -> Result<super::job::Task<Piece>> {
            let task = prepare(item)?;
            Ok(Box::new(move || Ok(piece(task()?))))
        };
        Making { job: Job { stage: "figure", items, prepare: Box::new(prepare) }, finish: Box::new(finish) }
    }
}

impl Session {
    /// A figure of the open model, by its curves: of the allocation of these settings, as it is predicted; of this layer, or this layer stands out.
    ///
    /// # Errors
    /// No such layer, or a figure that the model has not. Settings that mean nothing.
    pub fn figure(&self, which: Which, layer: usize, settings: &AllocationSettings) -> Result<Making<'_>> {
        if layer >= self.layers.len() {
            return Err(Error::Setting(format!("There is no layer {layer}: the model has {}.", self.layers.len())));
        }
        match which {
            Which::Slopes => self.slopes(layer, settings).map(Making::ready),
            _ => self.other_figure(which, layer, settings),
        }
    }

    /// All but the first that the page shows: in the browser they are in the rest of the engine.
    #[inline(never)]
    fn other_figure(&self, which: Which, layer: usize, settings: &AllocationSettings) -> Result<Making<'_>> {
        match which {
            Which::Slopes => self.slopes(layer, settings).map(Making::ready),
            Which::Spectrum => self.spectrum(layer, settings),
            Which::Pairs => self.pairs(layer),
            Which::Histogram => self.histogram(layer, settings),
            Which::Steps => self.steps(layer, settings),
            Which::Kernels => self.kernels(layer, settings),
            Which::RowGains => self.row_gains(layer),
            Which::Intra => self.intra(layer),
            Which::Gains => Ok(self.gains(layer)),
            Which::Overhead => self.overhead(layer, settings).map(Making::ready),
            Which::Rows => self.rows(layer, settings),
            Which::Flops => self.flops(layer, settings),
            Which::Limits => self.limits(layer, settings).map(Making::ready),
            Which::Geometry => Err(Error::Setting("The geometry of cells is of no model: leave the file out.".into())),
        }
    }

    /// Name of a layer's weight tensor.
    fn layer_name(&self, layer: usize) -> String {
        self.model.tensors[self.layers[layer].0].name.clone()
    }

    /// The axis of layers.
    fn layer_axis(&self) -> Axis {
        Axis::layers((0..self.layers.len()).map(|layer| self.layer_name(layer)).collect())
    }
}

/// A bar for every layer; none where there is no number.
fn bars(name: &str, values: impl Iterator<Item = Option<f64>>) -> Series {
    let points: Vec<[f64; 2]> = values.enumerate().map(|(i, v)| [i as f64, v.unwrap_or(f64::NAN)]).collect();
    let layers = (0..points.len()).collect();
    Series::line(name, points).drawn(Shape::Bars).of(layers)
}

/// `1 layer`, `20 layers`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// `10 log₁₀` of a ratio; NaN of what is not positive.
fn decibels(ratio: f64) -> f64 {
    if ratio > 0.0 { 10.0 * ratio.log10() } else { f64::NAN }
}

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod tests;
