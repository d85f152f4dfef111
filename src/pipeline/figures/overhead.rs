//! What bases take (Young et al. 2021, Fig. 5 and Section 4.3): in numbers, before anything is quantized, and in the bytes of the file.

use super::{super::Session, bars, counted};
use crate::{
    error::Result,
    report::{
        AllocationSettings, TransformKind,
        figure::{Axis, Chart, Content, Figure, Panel, Which},
    },
    transform::gain,
};

/// Transforms with a basis, one of each side, and how they are called here.
const SIDES: [(&str, TransformKind); 2] =
    [("across input channels", TransformKind::KltRow), ("across output channels", TransformKind::KltCol)];

impl Session {
    pub(super) fn overhead(&self, layer: usize, settings: &AllocationSettings) -> Result<Figure> {
        let report = self.allocate(settings)?.1;
        let numbers = SIDES.map(|(name, kind)| {
            let percent = self.layers.iter().map(|(_, shape)| {
                // One number is for every weight there anyway.
                gain::overhead(shape, kind).map(|more| 100.0 * more as f64 / shape.weights().max(1) as f64)
            });
            bars(name, percent)
        });
        let spent = report.layers.iter().map(|row| (!row.excluded).then(|| 100.0 * row.basis_bytes as f64 / row.bytes.max(1) as f64));
        let panel = |name: &str, unit: &str, series| {
            let chart = Chart { x: self.layer_axis(), y: Axis::new("basis", unit), series, ..Chart::default() };
            Panel { name: name.into(), content: Content::Chart(chart) }
        };
        let quantized: Vec<_> = report.layers.iter().filter(|row| !row.excluded).collect();
        let sum = |of: fn(&crate::report::LayerRow) -> u64| quantized.iter().map(|row| of(row)).sum::<u64>();
        let share = 100.0 * sum(|row| row.basis_bytes) as f64 / sum(|row| row.bytes).max(1) as f64;
        let with = quantized.iter().filter(|row| row.basis_bytes > 0).count();
        Ok(Figure {
            which: Which::Overhead,
            title: format!("What bases take: {share:.1} % of the bytes of {}", counted(quantized.len(), "layer")),
            caption: format!(
                "First, how many more numbers a transform stores than there are weights: its basis grows with the square of the channels that it acts across, and is \
                 dear where these are many and the layer is small. Where a layer has more channels than the weights\u{2019} rank, only the rows that the rank needs are \
                 stored. Then what the file spends: of {}, {} a basis, where it pays.",
                counted(quantized.len(), "quantized layer"),
                match with {
                    0 => "none has".into(),
                    1 => "1 has".into(),
                    n => format!("{n} have"),
                }
            ),
            source: "Young et al. 2021, Fig. 5 and Section 4.3".into(),
            layer: Some(layer),
            panels: vec![
                panel("numbers more than weights", "% of the weights", numbers.to_vec()),
                panel("in the file", "% of the layer's bytes", vec![bars("basis", spent)]),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{chart, made, series, session},
        *,
    };

    #[test]
    fn a_square_basis_takes_its_square_and_the_file_what_the_table_says() {
        let session = session();
        // Few bits: the sample's layers are small, and at more a basis does not pay.
        let settings = AllocationSettings { budget: crate::report::Budget::Bits(2.0), excludes: vec![1], ..AllocationSettings::default() };
        let figure = made(&session, Which::Overhead, 0, &settings);
        let numbers = chart(&figure, 0);
        for (i, (_, shape)) in session.layers.iter().enumerate() {
            for (name, dim, width) in [
                ("across input channels", shape.inputs, shape.outputs * shape.taps),
                ("across output channels", shape.outputs, shape.inputs * shape.taps),
            ] {
                let found = series(numbers, name).points[i][1];
                // Coefficients and basis of as many rows as the rank can have, over the weights.
                let rank = dim.min(width);
                let expected = 100.0 * ((rank * (dim + width)) as f64 / (dim * width) as f64 - 1.0);
                if dim < 2 { assert!(found.is_nan()) } else { assert!((found - expected).abs() < 1e-9, "{i} {name}: {found} {expected}") }
            }
        }
        let report = session.allocate(&settings).unwrap().1;
        let spent = series(chart(&figure, 1), "basis");
        for (row, point) in report.layers.iter().zip(&spent.points) {
            if row.excluded {
                assert!(point[1].is_nan());
            } else {
                assert!((point[1] / 100.0 * row.bytes as f64 - row.basis_bytes as f64).abs() < 1e-6);
            }
        }
        assert!(spent.points.iter().any(|p| p[1] > 0.0));
    }
}
