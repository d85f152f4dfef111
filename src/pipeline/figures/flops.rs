//! Multiplications of all layers for one input (Young et al. 2021, Table 3 and Section 4.3): with the weights as they are, and in the domain of the
//! transform, where rows of coefficients that are zero are left out.
//!
//! With `p` positions in the output and `q` in the input, a layer of `n` outputs, `m` inputs and `k` taps multiplies `nmkp` times. With `r` rows left,
//!
//! ```text
//! no transform   r m k p                outputs that are zero are left out
//! column         r m k p + n r p        y = S(Tx): r filters, then 1×1
//! row            m r q + n r k p        y = T(Sx): 1×1, then r inputs
//! two-sided      m v q + r v k p + n r p, with v columns in the second basis
//! within         m r k p + n m r p      every input by r kernels, then 1×1
//! ```
//!
//! in every group. The paper's eq. 14 is the second line over `nmkp`.

use super::{
    super::Session,
    Making, Piece, bars,
    rows::{RowCount, row_counts},
};
use crate::{
    error::Result,
    graph::Runnable,
    io::LayerShape,
    report::{
        AllocationSettings, TransformKind,
        figure::{Axis, Chart, Figure, Panel, Which},
    },
    transform::Geometry,
};

/// How often a layer's weights are used for one input: positions of the output and of the input.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Positions {
    output: f64,
    input: f64,
}

/// One position: what there is of a layer whose network cannot be run.
const ONE: Positions = Positions { output: 1.0, input: 1.0 };

/// Multiplications of a layer as it is.
fn full(shape: &LayerShape, at: Positions) -> f64 {
    shape.weights() as f64 * at.output
}

/// Multiplications of a layer in the domain of its transform, rows that are zero left out.
fn transformed(shape: &LayerShape, rows: RowCount, at: Positions) -> f64 {
    let [n, m, k, left] = [shape.outputs, shape.inputs, shape.taps, rows.left].map(|v| v as f64);
    // Where a kernel has one tap, inputs between those that it sees are not needed.
    let input = if shape.taps == 1 { at.input.min(at.output) } else { at.input };
    // Rows are those of all groups, and each meets the channels of its own.
    match rows.kind {
        TransformKind::None => left * m * k * at.output,
        TransformKind::KltCol | TransformKind::EltCol => left * (m * k + n) * at.output,
        TransformKind::KltRow | TransformKind::EltRow => left * (m * input + n * k * at.output),
        TransformKind::TwoSided => {
            let v = Geometry::second(shape, rows.kind).map_or(0, |v| v.rank) as f64;
            if left > 0.0 { m * v * input + left * (v * k + n) * at.output } else { 0.0 }
        }
        TransformKind::IntraDct1 | TransformKind::IntraDct2 | TransformKind::IntraKlt | TransformKind::IntraElt => {
            // One basis for all groups.
            let groups = shape.groups as f64;
            groups * left * (m * k + n * m) * at.output
        }
    }
}

/// A number of multiplications in words.
fn words(count: f64) -> String {
    match count {
        _ if count >= 1e9 => format!("{:.2} billion", count / 1e9),
        _ if count >= 1e6 => format!("{:.1} million", count / 1e6),
        _ if count >= 1e4 => format!("{:.1} thousand", count / 1e3),
        _ => format!("{count}"),
    }
}

/// The shape of an image, where the file or its template says all of it.
fn usual_image(runnable: &Runnable) -> Option<Vec<usize>> {
    let dims = runnable.image_dims();
    let crop = runnable.preprocessing.as_ref().and_then(|p| Some((p.crop?, p.channels_last)));
    let known = |axis: usize| match (dims.len(), crop) {
        // Height and width of images, where any do.
        (3, Some((crop, last))) if axis != if last { 2 } else { 0 } => Some(crop[usize::from(axis == if last { 1 } else { 2 })]),
        _ => None,
    };
    let image: Option<Vec<usize>> = dims.iter().enumerate().map(|(axis, d)| d.or_else(|| known(axis))).collect();
    image.filter(|image| !image.is_empty())
}

impl Session {
    /// Positions of all layers for one image, if the network can be run on one of a size that the file says.
    fn positions(&self) -> Option<Vec<Positions>> {
        let runnable = self.runnable().ok()?;
        let image = usual_image(&runnable)?;
        let batch = runnable.batch(&image, false, u64::MAX, 1).ok()?;
        let network = runnable.network(batch, &image).ok()?;
        let mut positions = vec![Positions { output: 0.0, input: 0.0 }; self.layers.len()];
        for (layer, multiplications, data) in network.layer_steps() {
            let shape = &self.layers.get(layer)?.1;
            let at = &mut positions[layer];
            at.output += multiplications as f64 / (shape.weights() * batch) as f64;
            at.input += data.iter().product::<usize>() as f64 / (shape.groups * shape.inputs * batch) as f64;
        }
        Some(positions)
    }

    pub(super) fn flops(&self, layer: usize, settings: &AllocationSettings) -> Result<Making<'_>> {
        let (allocation, report) = self.allocate(settings)?;
        let (rate, positions) = (report.rate, self.positions());
        Ok(Making::of_layers(self.rows_job(allocation.plans), Piece::Rows, move |pieces| {
            self.flops_figure(layer, rate, positions.as_deref(), &row_counts(pieces))
        }))
    }

    fn flops_figure(&self, layer: usize, rate: f64, positions: Option<&[Positions]>, rows: &[Option<RowCount>]) -> Figure {
        let at = |i: usize| positions.map_or(ONE, |p| p[i]);
        let whole: Vec<f64> = self.layers.iter().enumerate().map(|(i, (_, shape))| full(shape, at(i))).collect();
        let layers = self.layers.iter().zip(rows).enumerate();
        let transformed: Vec<Option<f64>> = layers.map(|(i, ((_, shape), rows))| Some(transformed(shape, (*rows)?, at(i)))).collect();
        let total: f64 = whole.iter().sum();
        let least: f64 = whole.iter().zip(&transformed).map(|(full, t)| t.map_or(*full, |t| t.min(*full))).sum();
        let unit = if positions.is_some() { "for one input" } else { "for one position of each output" };
        let why = if positions.is_some() { "" } else { " The network cannot be run, so how many positions there are is not known." };
        // In thousands or millions, so that labels are short.
        let most = whole.iter().copied().chain(transformed.iter().flatten().copied()).fold(0.0, f64::max);
        let (scale, named) = match most {
            _ if most >= 1e7 => (1e6, "million"),
            _ if most >= 1e4 => (1e3, "thousand"),
            _ => (1.0, ""),
        };
        let series = vec![
            bars("as it is", whole.iter().map(|v| Some(v / scale))),
            bars("without zero rows", transformed.iter().map(|v| v.map(|v| v / scale))),
        ];
        let chart = Chart { x: self.layer_axis(), y: Axis::new("multiplications", named), series, ..Chart::default() };
        Figure {
            which: Which::Flops,
            title: format!("{} multiplications {unit}, {} with zero rows left out", words(total), words(least)),
            caption: format!(
                "At {rate:.2} bits per weight: a layer can be run on its coefficients, without the rows that are zero, and by its basis besides. That pays where more rows are \
                 zero than the basis costs; the sum takes the cheaper way in each layer.{why}"
            ),
            source: "Young et al. 2021, Table 3 and eq. 14".into(),
            layer: Some(layer),
            panels: vec![Panel::chart(chart)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{chart, made, series, session},
        *,
    };
    use crate::{
        io::Order,
        pipeline::{Opened, open},
        report::Budget,
    };

    const ALL: [TransformKind; 10] = TransformKind::ALL;

    fn count(kind: TransformKind, left: usize) -> RowCount {
        RowCount { kind, all: left, left }
    }

    /// The paper's ratio, `r/n + r/(mab)`, and the formulas of the other sides by hand.
    #[test]
    fn the_ratio_is_that_of_equation_14() {
        let shape = LayerShape { groups: 1, outputs: 32, inputs: 16, taps: 9, columns: 3, order: Order::OutIn };
        let at = Positions { output: 64.0, input: 256.0 };
        for r in [0, 1, 7, 32] {
            let ratio = transformed(&shape, count(TransformKind::KltCol, r), at) / full(&shape, at);
            assert!((ratio - (r as f64 / 32.0 + r as f64 / (16.0 * 9.0))).abs() < 1e-12);
        }
        assert_eq!(full(&shape, at), 32.0 * 16.0 * 9.0 * 64.0);
        assert_eq!(transformed(&shape, count(TransformKind::None, 30), at), 30.0 * 144.0 * 64.0);
        assert_eq!(transformed(&shape, count(TransformKind::EltRow, 5), at), 16.0 * 5.0 * 256.0 + 32.0 * 5.0 * 9.0 * 64.0);
        assert_eq!(transformed(&shape, count(TransformKind::IntraKlt, 4), at), (16.0 * 4.0 * 9.0 + 32.0 * 16.0 * 4.0) * 64.0);
        assert_eq!(transformed(&shape, count(TransformKind::TwoSided, 3), at), 16.0 * 16.0 * 256.0 + 3.0 * (16.0 * 9.0 + 32.0) * 64.0);
        ALL.into_iter().for_each(|kind| assert_eq!(transformed(&shape, count(kind, 0), at), 0.0, "{kind:?}"));
    }

    /// A grouped layer is as many layers; a 1×1 of stride 2 needs a quarter of its inputs.
    #[test]
    fn groups_add_up_and_skipped_inputs_are_not_transformed() {
        let one = LayerShape { groups: 1, outputs: 6, inputs: 5, taps: 4, columns: 2, order: Order::OutIn };
        let three = LayerShape { groups: 3, ..one };
        let at = Positions { output: 10.0, input: 20.0 };
        for (kind, rows) in ALL.into_iter().filter(|k| *k != TransformKind::TwoSided).map(|k| (k, if k.within_kernels() { 1 } else { 3 })) {
            assert_eq!(transformed(&three, count(kind, 2 * rows), at), 3.0 * transformed(&one, count(kind, 2), at), "{kind:?}");
        }
        let pointwise = LayerShape { taps: 1, columns: 1, ..one };
        assert_eq!(transformed(&pointwise, count(TransformKind::KltRow, 2), at), 2.0 * 11.0 * 10.0);
    }

    #[test]
    fn the_whole_is_what_the_network_counts() {
        let session = session();
        let settings = AllocationSettings { budget: Budget::Bits(1.0), excludes: vec![2], ..AllocationSettings::default() };
        let figure = made(&session, Which::Flops, 0, &settings);
        let runnable = session.runnable().unwrap();
        let image = usual_image(&runnable).expect("the sample says its size");
        let network = runnable.network(1, &image).unwrap();
        let chart = chart(&figure, 0);
        let scale = if chart.y.unit == "million" { 1e6 } else { 1e3 };
        let sum: f64 = series(chart, "as it is").points.iter().map(|p| scale * p[1]).sum();
        assert!((sum - network.multiplications() as f64).abs() < 1e-3, "{sum} {}", network.multiplications());
        assert!(figure.title.starts_with(&words(sum)), "{}", figure.title);
        let domain = series(chart, "without zero rows");
        assert!(domain.points[2][1].is_nan(), "it is kept");
        assert!(domain.points.iter().zip(&series(chart, "as it is").points).any(|(d, f)| d[1] < 0.9 * f[1]));
    }

    /// Weights alone: one position each, and the caption says so.
    #[test]
    fn weights_without_a_network_are_counted_by_position() {
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        let header = format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 10), }");
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.bytes());
        npy.extend(crate::testing::noise(120, 1).iter().flat_map(|v| v.to_le_bytes()));
        let source = std::rc::Rc::new(crate::io::source::BytesSource::new("w.npy", npy));
        let Ok(Opened::Model(mut session)) = open(vec![source]) else { panic!("a model") };
        let curves = crate::pipeline::job::run(session.curves_job(Default::default()), &mut |_| Ok(())).unwrap();
        session.set_curves(Default::default(), curves);
        let figure = made(&session, Which::Flops, 0, &AllocationSettings::default());
        assert!(figure.title.starts_with("120 multiplications for one position") && figure.caption.contains("cannot be run"), "{figure:?}");
    }
}
