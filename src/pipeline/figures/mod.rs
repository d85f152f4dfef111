//! The figures of the paper for the open model ([`crate::report::figure`]): one file a figure, or a few that are alike.
//!
//! A figure follows from the curves, what calibration found, and the settings of the allocation; where it needs more of a layer, that is a task of a job.

mod given;
mod histogram;
mod kernels;
mod pairs;
mod part;
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
        AllocationSettings,
        figure::{Figure, Which},
    },
};

use given::Given;

/// What a task of a figure's job has found.
pub enum Piece {
    /// A figure of one layer, whole.
    Figure(Box<Figure>),
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
            None => unreachable!("a job of one item has one result"),
        };
        Making { job, finish: Box::new(finish) }
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
            Which::Spectrum => self.spectrum(layer, settings),
            Which::Pairs => self.pairs(layer),
            Which::Histogram => self.histogram(layer, settings),
            Which::Steps => self.steps(layer, settings),
            Which::Kernels => self.kernels(layer, settings),
            Which::RowGains => self.row_gains(layer),
            Which::Intra => self.intra(layer),
        }
    }

    /// Name of a layer's weight tensor.
    fn layer_name(&self, layer: usize) -> String {
        self.model.tensors[self.layers[layer].0].name.clone()
    }
}

/// `10 log₁₀` of a ratio; NaN of what is not positive.
fn decibels(ratio: f64) -> f64 {
    if ratio > 0.0 { 10.0 * ratio.log10() } else { f64::NAN }
}

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod tests;
