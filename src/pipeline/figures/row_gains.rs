//! Variances of a layer's rows before and after transforms (Young et al. 2021, Fig. 3), and what transforms within kernels gain (Section 7.2 and
//! Table 6).

use super::{
    super::{Session, curve_cost, job::Item},
    Making, Piece,
    kernels::Grid,
};
use crate::{
    error::{Error, Result},
    io::LayerShape,
    report::{
        RowVariances, TransformGain, TransformKind,
        figure::{Axis, Chart, Content, Figure, Panel, Series, Shape, Which},
    },
    transform::{Geometry, gain},
};

/// Transforms across the same channels, and what those are called.
pub(super) const SIDES: [(&str, [TransformKind; 2]); 2] = [
    ("across input channels", [TransformKind::KltRow, TransformKind::EltRow]),
    ("across output channels", [TransformKind::KltCol, TransformKind::EltCol]),
];

/// Says that there is no transform across channels of which variances could be shown.
pub(super) fn across_channels(name: &str, shape: &LayerShape) -> Result<()> {
    let dims: Vec<usize> = SIDES.iter().filter_map(|(_, kinds)| Geometry::new(shape, kinds[0])).map(|g| g.dim).collect();
    let reason = match dims.iter().min() {
        Some(&dim) if dim <= gain::MOST_CHANNELS => return Ok(()),
        Some(_) => {
            format!("has more than {} channels, across which variances are not computed; choose a smaller layer", gain::MOST_CHANNELS)
        }
        None if shape.weights() > crate::transform::KLT_WEIGHTS => {
            "is too large for a transform across channels; choose a smaller layer".into()
        }
        None => "has one channel on each side, across which there is no transform; choose a layer with more channels".into(),
    };
    Err(Error::Setting(format!("{name} {reason}.")))
}

/// What a panel takes of the variances of rows.
type Part = (&'static str, fn(&RowVariances) -> &Vec<f64>);

/// Panels of one side: variances of every row before (`none`) and under each of its transforms.
pub(super) fn row_panels(gains: &[TransformGain], calibrated: bool) -> Vec<Panel> {
    let parts: [Part; 3] = [("weights", |v| &v.weight_db), ("gradients", |v| &v.gradient_db), ("both", |v| &v.product_db)];
    // Without calibration gradients are white, and both are the weights alone.
    let parts = if calibrated { &parts[..] } else { &parts[..1] };
    let mut panels = Vec::new();
    for (side, kinds) in SIDES {
        let rows = |kind: TransformKind| gains.iter().find(|g| g.transform == kind).and_then(|g| g.rows.as_ref());
        let Some(first) = rows(kinds[0]) else { continue };
        for (name, values) in parts {
            let line = |name: &str, of: &RowVariances| {
                let points: Vec<[f64; 2]> = values(of).iter().enumerate().map(|(i, db)| [i as f64 + 1.0, *db]).collect();
                let shape = if points.len() > 1 { Shape::Line } else { Shape::Dots };
                Series::line(name, points).drawn(shape)
            };
            let mut series = vec![line(TransformKind::None.name(), &first.before)];
            series.extend(kinds.into_iter().filter_map(|kind| Some(line(kind.name(), &rows(kind)?.after))));
            let x = Axis::counted("row, by falling variance of weights times gradients");
            let y = Axis::new("variance", "dB over the mean");
            panels.push(Panel { name: format!("{name}, {side}"), content: Content::Chart(Chart { x, y, series, ..Chart::default() }) });
        }
    }
    panels
}

/// What transforms within kernels gain, as bars.
pub(super) fn gain_bars(gains: &[TransformGain]) -> Chart {
    let within: Vec<&TransformGain> = gains.iter().filter(|g| g.transform.within_kernels()).collect();
    let bars = |name: &str, value: fn(&TransformGain) -> f64| {
        let points = within.iter().enumerate().map(|(i, g)| [i as f64, value(g)]);
        Series::line(name, points.collect()).drawn(Shape::Bars)
    };
    let names = within.iter().map(|g| g.transform.name().to_string()).collect();
    Chart {
        x: Axis { names, ..Axis::new("transform", "") },
        y: Axis::new("coding gain", "dB"),
        series: vec![bars("gradients", |g| g.gradient_db), bars("weights", |g| g.weight_db), bars("total", |g| g.total_db)],
        ..Chart::default()
    }
}

impl Session {
    pub(super) fn row_gains(&self, layer: usize) -> Result<Making<'_>> {
        let (tensor, shape) = self.layers[layer];
        let name = self.layer_name(layer);
        across_channels(&name, &shape)?;
        let item = Item { name: name.clone(), cost: curve_cost(&shape, 0) };
        Ok(Making::of_layer(item, move || {
            let (weights, name) = (self.read(tensor)?, name.clone());
            let statistics = self.statistics.as_ref().map(|s| s.layers[layer].clone());
            Ok(Box::new(move || {
                let gains = gain::layer_gains(&shape, &weights, statistics.as_deref(), true);
                let panels = row_panels(&gains, statistics.is_some());
                let best = gains.iter().filter(|g| g.rows.is_some() && !g.transform.within_kernels());
                let best = best.max_by(|a, b| a.total_db.total_cmp(&b.total_db));
                let gains = best.map_or(String::new(), |g| {
                    format!(" The most is gained by {}, {:.2} dB or {:.2} bits a weight.", g.transform.name(), g.total_db, g.bits_saved)
                });
                let white =
                    if statistics.is_some() { "" } else { " Without calibration gradients count as white, and have no part in it." };
                Ok(Piece::Figure(Box::new(Figure {
                    which: Which::RowGains,
                    title: format!("Rows of {name} before and after transforms"),
                    caption: format!(
                        "A transform makes the variances of rows unequal: few stay high, most fall. How far a curve falls below that without a transform, on average, is the coding gain.{gains}{white}"
                    ),
                    source: "Young et al. 2021, Fig. 3 and eq. 11".into(),
                    layer: Some(layer),
                    panels,
                })))
            }))
        }))
    }

    pub(super) fn intra(&self, layer: usize) -> Result<Making<'_>> {
        let (tensor, shape) = self.layers[layer];
        let name = self.layer_name(layer);
        if shape.taps < 2 {
            let reason = "has kernels of one position, across which there is no transform; choose a layer with larger kernels";
            return Err(Error::Setting(format!("{name} {reason}.")));
        }
        if Geometry::new(&shape, TransformKind::IntraKlt).is_none() || shape.taps > gain::MOST_CHANNELS {
            return Err(Error::Setting(format!("{name} is too large for transforms within its kernels; choose a smaller layer.")));
        }
        let bases: Vec<(TransformKind, Vec<f32>)> = [TransformKind::IntraKlt, TransformKind::IntraElt]
            .into_iter()
            .filter_map(|kind| {
                let of = self.curves[layer].candidates.iter().find(|c| c.kind == kind)?;
                Some((kind, of.basis.as_ref()?.rows.clone()))
            })
            .collect();
        let item = Item { name: name.clone(), cost: curve_cost(&shape, 0) };
        Ok(Making::of_layer(item, move || {
            let (weights, name, bases) = (self.read(tensor)?, name.clone(), bases.clone());
            let statistics = self.statistics.as_ref().map(|s| s.layers[layer].clone());
            Ok(Box::new(move || {
                let gains = gain::layer_gains(&shape, &weights, statistics.as_deref(), false);
                let chart = gain_bars(&gains);
                let mut panels = vec![Panel { name: "coding gains".into(), content: Content::Chart(chart) }];
                for (kind, rows) in bases {
                    // Kernels that weights are sums of, each as one of a layer with so many output channels.
                    let grid = Grid::new(&LayerShape { groups: 1, outputs: rows.len() / shape.taps, inputs: 1, ..shape });
                    let mut picture = grid.picture(&rows, grid.greatest(&rows));
                    picture.rows = "line".into();
                    picture.columns = "basis kernels by strength".into();
                    panels.push(Panel { name: format!("basis of {}", kind.name()), content: Content::Picture(picture) });
                }
                let within = gains.iter().filter(|g| g.transform.within_kernels());
                let best = within.max_by(|a, b| a.total_db.total_cmp(&b.total_db));
                let best = best.map_or(String::new(), |g| {
                    format!(
                        " Of this layer's {} positions {} makes the most: {:.2} dB, or {:.2} bits a weight.",
                        shape.taps,
                        g.transform.name(),
                        g.total_db,
                        g.bits_saved
                    )
                });
                let white = if statistics.is_some() { "" } else { " Without calibration gradients count as white, and gain nothing." };
                Ok(Piece::Figure(Box::new(Figure {
                    which: Which::Intra,
                    title: format!("Transforms within the kernels of {name}"),
                    caption: format!(
                        "What a transform across the positions of kernels gains. Every kernel is a sum of the basis kernels below: the first of a smooth layer is flat, later ones have \
                         edges.{best}{white}"
                    ),
                    source: "Young et al. 2021, Section 7.2 and Table 6".into(),
                    layer: Some(layer),
                    panels,
                })))
            }))
        }))
    }
}
