//! A layer's kernels as pictures: before quantization, as they are decoded, and the difference; and the same under its transform.

use super::{
    super::{Session, code_cost, indices, job::Item, layer_code},
    Given, Making, Piece,
    part::{MOST, Part},
};
use crate::{
    container::layer,
    error::Result,
    io::LayerShape,
    quantize,
    rate::cost::Cost,
    report::{
        AllocationSettings, Coding,
        figure::{Content, Figure, Panel, Picture, Which},
    },
};

/// Kernels that are shown, each way.
const KERNELS: usize = 16;
/// Numbers that are shown each way where kernels are of one position, and rows of coefficients.
const NUMBERS: usize = 64;

/// Where kernels stand in a picture.
pub(super) struct Grid {
    /// Index of the first weight of each kernel, line after line of kernels.
    kernels: Vec<Vec<usize>>,
    /// How many of a line are of one output channel: the next one stands apart.
    together: usize,
    /// Rows and columns of a kernel.
    size: [usize; 2],
    names: [&'static str; 2],
}

impl Grid {
    /// The first kernels of a layer: output channels down, input channels across. Output channels of few kernels stand side by side, as many as a line has room for.
    pub fn new(shape: &LayerShape) -> Grid {
        let LayerShape { groups, outputs, inputs, taps, .. } = *shape;
        let columns = if shape.columns > 0 && taps.is_multiple_of(shape.columns) { shape.columns } else { taps.max(1) };
        let size = [taps.max(1) / columns, columns];
        let most = if taps > 1 { KERNELS } else { NUMBERS };
        let (rows, together) = (groups * outputs, inputs.clamp(1, most));
        // Of single numbers the picture is the matrix.
        let beside = if taps > 1 || inputs == 1 { (most / together).min(rows).max(1) } else { 1 };
        let of_row = |row: usize| (0..inputs.min(most)).map(move |i| (row * inputs + i) * taps);
        let shown: Vec<usize> = (0..rows.min(beside * most)).collect();
        let kernels = shown.chunks(beside).map(|line| line.iter().flat_map(|&row| of_row(row)).collect()).collect();
        let names = match (beside, inputs) {
            (1, _) => ["output channel", "input channel"],
            (_, 1) => ["line of channels", "channel"],
            _ => ["line of channels", "channel, its inputs"],
        };
        Grid { kernels, together, size, names }
    }

    /// The picture of weights in canonical order, with a gap between kernels of more than one position, and a wider one between output channels that stand side by side.
    pub fn picture(&self, weights: &[f32], full: f32) -> Picture {
        let [rows, columns] = self.size;
        let gap = usize::from(rows * columns > 1);
        let apart = if self.together > 1 { 2 * gap } else { 0 };
        let left = |across: usize| across * (columns + gap) + across / self.together * apart;
        let width = self.kernels.first().and_then(|line| line.len().checked_sub(1)).map_or(0, |last| left(last) + columns);
        let height = (self.kernels.len() * (rows + gap)).saturating_sub(gap);
        let mut values = vec![f32::NAN; width * height];
        for (down, line) in self.kernels.iter().enumerate() {
            for (across, &first) in line.iter().enumerate() {
                for tap in 0..rows * columns {
                    let (y, x) = (down * (rows + gap) + tap / columns, left(across) + tap % columns);
                    values[y * width + x] = weights.get(first + tap).copied().unwrap_or(f32::NAN);
                }
            }
        }
        let name = |of: &str, part: &str| if gap > 0 { format!("{of}, {part} of its kernel") } else { of.into() };
        Picture { width, values, full, rows: name(self.names[0], "line"), columns: name(self.names[1], "column") }
    }

    /// The greatest magnitude that it shows.
    pub fn greatest(&self, weights: &[f32]) -> f32 {
        let taps = self.size[0] * self.size[1];
        let seen = self.kernels.iter().flatten().flat_map(|&first| weights.get(first..first + taps).unwrap_or(&[]));
        seen.fold(0f32, |m, v| m.max(v.abs()))
    }
}

/// Rows of coefficients by falling energy, the first numbers of each.
fn rows(order: &[usize], coefficients: &[f32], width: usize, unit: f32) -> Vec<f32> {
    let shown = width.min(2 * NUMBERS);
    order.iter().flat_map(|&row| coefficients[row * width..row * width + shown].iter().map(|v| v * unit)).collect()
}

fn greatest(values: &[f32]) -> f32 {
    values.iter().fold(0f32, |m, v| m.max(v.abs()))
}

/// What is seen of a layer, weights in canonical order and coefficients of rows, in units of a weight.
pub(super) struct Seen {
    pub shape: LayerShape,
    pub before: Vec<f32>,
    pub after: Vec<f32>,
    /// Coefficients before and after, and the width of their rows; none without a transform.
    pub coefficients: Option<[Vec<f32>; 2]>,
    pub width: usize,
    pub whole: bool,
}

/// Codes a layer as [`super::super::encode_layer`] does, of a large one the first `most` channels that can be coded alone, and decodes it.
pub(super) fn seen(given: &Given, shape: &LayerShape, mut weights: Vec<f32>, cost: Cost, coding: Coding, most: usize) -> Seen {
    let exponent = quantize::normalize(&mut weights);
    let part = Part::first(shape, weights, &given.candidate, most);
    let cost = cost.normalized(exponent);
    let code = layer_code(&part.candidate, &part.shape, &given.blocks, exponent, false);
    let (code, found) = indices(&part.candidate, code, &cost, &part.shape, &part.weights, coding);
    let after = layer::reconstruct(&code, &found, &part.shape);
    let unit = quantize::power_of_two(exponent.into());
    let coefficients = part.candidate.basis.is_some().then(|| {
        let after = layer::coefficients(&code, &found, &part.shape);
        [part.coefficients(&cost), after].map(|c| c.into_iter().map(|v| v * unit).collect())
    });
    let mut before = part.weights;
    quantize::scale(&mut before, exponent.into());
    Seen { shape: part.shape, before, after, coefficients, width: part.candidate.geometry.width.max(1), whole: part.share >= 1.0 }
}

impl Session {
    pub(super) fn kernels(&self, layer: usize, settings: &AllocationSettings) -> Result<Making<'_>> {
        let given = self.given(layer, settings)?;
        let (tensor, shape) = self.layers[layer];
        let name = self.layer_name(layer);
        let item = Item { name: name.clone(), cost: code_cost(&shape) };
        Ok(Making::of_layer(item, move || {
            let (weights, given, name) = (self.read(tensor)?, given.clone(), name.clone());
            let (cost, coding) = (self.cost(layer, self.curve_settings), self.curve_settings.coding);
            Ok(Box::new(move || {
                let grid = Grid::new(&shape);
                let panel = |name: &str, picture: Picture| Panel { name: name.into(), content: Content::Picture(picture) };
                let full = grid.greatest(&weights);
                let Some(given) = given else {
                    let caption = "The layer is kept bit for bit: what is decoded is what was there. Blue is below zero, orange above; the scale is in units of a weight.";
                    return Ok(figure(&name, layer, caption.into(), vec![panel("weights", grid.picture(&weights, full))]));
                };
                let most = if weights.len() > 4 * MOST { KERNELS } else { usize::MAX };
                let seen = seen(&given, &shape, weights, cost, coding, most);
                // Of a part the same kernels, which are elsewhere in it.
                let grid = Grid::new(&seen.shape);
                let full = grid.greatest(&seen.before);
                let difference: Vec<f32> = seen.after.iter().zip(&seen.before).map(|(a, b)| a - b).collect();
                let error = grid.greatest(&difference);
                let mut panels = vec![
                    panel("weights, before", grid.picture(&seen.before, full)),
                    panel("weights, decoded", grid.picture(&seen.after, full)),
                ];
                let mut words = format!(
                    "The first kernels of the layer before quantization and as they are decoded, on one scale in units of a weight: blue is below zero, orange above. The greatest \
                     difference is {:.3} of the greatest weight.",
                    f64::from(error) / f64::from(full.max(f32::MIN_POSITIVE))
                );
                if let Some([before, after]) = &seen.coefficients {
                    let energy = |row: usize| quantize::search::square_sum(&before[row * seen.width..(row + 1) * seen.width]);
                    let mut order: Vec<usize> = (0..before.len() / seen.width).collect();
                    order.sort_by(|&a, &b| energy(b).total_cmp(&energy(a)).then(a.cmp(&b)));
                    order.truncate(NUMBERS);
                    let [before, after] = [before, after].map(|c| rows(&order, c, seen.width, 1.0));
                    let (full, kind) = (greatest(&before), given.candidate.kind.name());
                    let picture = |values| Picture {
                        width: seen.width.min(2 * NUMBERS),
                        values,
                        full,
                        rows: "row, by falling energy".into(),
                        columns: "coefficient".into(),
                    };
                    panels.push(panel(&format!("coefficients under {kind}, before"), picture(before)));
                    panels.push(panel(&format!("coefficients under {kind}, quantized"), picture(after)));
                    words += " Under the transform few rows are strong; the weak ones take few bits, or none.";
                }
                // Pairs stand side by side.
                panels.push(panel("decoded less before, on a scale of its own", grid.picture(&difference, error)));
                if !seen.whole {
                    words += " Of this large layer only the channels that are shown are coded.";
                }
                Ok(figure(&name, layer, words, panels))
            }))
        }))
    }
}

fn figure(name: &str, layer: usize, caption: String, panels: Vec<Panel>) -> Piece {
    Piece::Figure(Box::new(Figure {
        which: Which::Kernels,
        title: format!("Kernels of {name}"),
        caption,
        source: "Young et al. 2021, Section 4 and eq. 5".into(),
        layer: Some(layer),
        panels,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Order;

    /// The picture of a layer whose weights are their own numbers, from 1.
    fn numbered(groups: usize, outputs: usize, inputs: usize, [lines, columns]: [usize; 2]) -> Picture {
        let shape = LayerShape { groups, outputs, inputs, taps: lines * columns, columns, order: Order::OutIn };
        let weights: Vec<f32> = (1..=groups * outputs * inputs * lines * columns).map(|i| i as f32).collect();
        Grid::new(&shape).picture(&weights, 1.0)
    }

    fn at(p: &Picture, y: usize, x: usize) -> f32 {
        p.values[y * p.width + x]
    }

    #[test]
    fn a_first_convolution_shows_all_its_channels_side_by_side() {
        let p = numbered(1, 64, 3, [7, 7]);
        // Five channels of three kernels a line, 13 lines.
        assert_eq!((p.width, p.values.len() / p.width), (5 * (3 * 8 - 1) + 4 * 3, 13 * 8 - 1));
        assert_eq!(p.values.iter().filter(|v| v.is_finite()).count(), 64 * 3 * 49);
        assert_eq!((at(&p, 0, 0), at(&p, 0, 8), at(&p, 1, 0)), (1.0, 50.0, 8.0));
        // Channel 1 stands apart, channel 5 begins the next line.
        assert!((23..26).all(|x| at(&p, 0, x).is_nan()));
        assert_eq!((at(&p, 0, 26), at(&p, 8, 0)), (148.0, (5 * 147 + 1) as f32));
        assert_eq!(
            (p.rows.as_str(), p.columns.as_str()),
            ("line of channels, line of its kernel", "channel, its inputs, column of its kernel")
        );
    }

    #[test]
    fn many_inputs_have_a_line_for_each_output_and_matrices_stay_matrices() {
        for (picture, size) in [
            (numbered(1, 40, 20, [3, 3]), (16 * 4 - 1, 16 * 4 - 1)),
            (numbered(1, 3, 9, [3, 3]), (9 * 4 - 1, 3 * 4 - 1)),
            (numbered(1, 10, 5, [1, 1]), (5, 10)),
            (numbered(1, 1, 2, [3, 3]), (2 * 4 - 1, 3)),
        ] {
            assert_eq!((picture.width, picture.values.len() / picture.width), size);
            assert!(picture.rows.starts_with("output channel") && picture.columns.starts_with("input channel"), "{picture:?}");
        }
        // Depthwise: a kernel a channel.
        let p = numbered(20, 1, 1, [3, 3]);
        assert_eq!((p.width, p.values.len() / p.width, at(&p, 4, 0)), (16 * 4 - 1, 7, 145.0));
        assert!(p.rows.starts_with("line of channels") && p.columns.starts_with("channel"));
        assert!(numbered(1, 0, 3, [3, 3]).values.is_empty() && numbered(1, 3, 0, [3, 3]).values.is_empty());
    }
}
