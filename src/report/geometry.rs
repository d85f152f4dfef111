//! Cells of the KLT and of the ELT in two dimensions (Young et al. 2021, Fig. 4): a figure of no model.
//!
//! A vector of two weights has the covariance `C_θθ = [[1, ρs], [ρs, s²]]`, and an error `e` of it costs `eᵗC_γγe`. A transform `x = St` quantized by steps
//! has parallelograms for cells, whose sides lie along the columns of `S`. Steps are those at which errors along both sides cost the same, and all cells
//! have the same area here: so many bits for so many cells. What the cells cost differs.
//!
//! It is compiled always, as [`super::plane`] is: the page follows a slider by it frame by frame.

use super::{
    figure::{Axis, Chart, Content, Figure, Panel, Series, Shape, Which},
    plane::{Basis, Moment},
};

/// Standard deviation of the second weight; that of the first is 1.
pub const SPREAD: f64 = 0.7;
/// Half the side of the window that is shown.
pub const WINDOW: f64 = 2.6;
/// Area of a cell.
const AREA: f64 = 0.5;
/// Points of an ellipse.
const POINTS: usize = 72;
/// Standard deviations at which the ellipse of the weights is drawn.
const DEVIATIONS: f64 = 2.0;
/// Least and greatest correlation.
pub const CORRELATIONS: [f64; 2] = [-0.95, 0.95];
/// Least and greatest ratio of sensitivities.
pub const RATIOS: [f64; 2] = [1.0, 16.0];
/// Least and greatest [`Plane::angle`].
pub const ANGLES: [f64; 2] = [-90.0, 90.0];

/// What the weights are, and what their errors cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plane {
    /// Correlation `ρ` of the weights.
    pub correlation: f64,
    /// How many times more an error costs along the sensitive direction than across it.
    pub ratio: f64,
    /// Angle of the sensitive direction, in degrees.
    pub angle: f64,
}

impl Default for Plane {
    fn default() -> Self {
        Plane { correlation: 0.8, ratio: 4.0, angle: -70.0 }
    }
}

impl Plane {
    /// `C_θθ`.
    pub fn weights(&self) -> Moment {
        let rho = self.correlation.clamp(CORRELATIONS[0], CORRELATIONS[1]);
        Moment { a: 1.0, b: rho * SPREAD, c: SPREAD * SPREAD }
    }

    /// `C_γγ`, of determinant 1.
    pub fn gradients(&self) -> Moment {
        let (sin, cos) = self.angle.to_radians().sin_cos();
        let along = self.ratio.clamp(RATIOS[0], RATIOS[1]).sqrt();
        let across = 1.0 / along;
        Moment { a: along * cos * cos + across * sin * sin, b: (along - across) * sin * cos, c: along * sin * sin + across * cos * cos }
    }

    /// Where the long axis of the ellipse of the weights ends: what is dragged for the correlation.
    pub fn weights_end(&self) -> [f64; 2] {
        let weights = self.weights();
        let (sin, cos) = Basis::klt_angle(&weights).sin_cos();
        let length = DEVIATIONS * weights.along([cos, sin]).sqrt();
        [length * cos, length * sin]
    }

    /// Where the long axis of the ellipse of equal cost ends, across the sensitive direction: what is dragged for ratio and angle.
    pub fn cost_end(&self) -> [f64; 2] {
        let (sin, cos) = (self.angle + 90.0).to_radians().sin_cos();
        let length = self.ratio.clamp(RATIOS[0], RATIOS[1]).powf(0.25);
        [length * cos, length * sin]
    }

    /// The same with the axis of the weights through a point.
    #[must_use]
    pub fn with_weights_end(self, [x, y]: [f64; 2]) -> Plane {
        // The axis has no direction, and is within 45 degrees as the first weight varies most.
        let [x, y] = if x < 0.0 { [-x, -y] } else { [x, y] };
        let twice = (2.0 * y.atan2(x)).clamp(-1.5, 1.5);
        let correlation = twice.tan() * (1.0 - SPREAD * SPREAD) / (2.0 * SPREAD);
        Plane { correlation: (100.0 * correlation.clamp(CORRELATIONS[0], CORRELATIONS[1])).round() / 100.0, ..self }
    }

    /// The same with the axis of equal cost ending at a point.
    #[must_use]
    pub fn with_cost_end(self, [x, y]: [f64; 2]) -> Plane {
        let ratio = x.hypot(y).powi(4).clamp(RATIOS[0], RATIOS[1]);
        let angle = y.atan2(x).to_degrees() - 90.0;
        // From -90 to 90.
        let angle = (angle + 90.0).rem_euclid(180.0) - 90.0;
        Plane { ratio: (10.0 * ratio).round() / 10.0, angle: angle.round(), ..self }
    }

    /// The KLT and the ELT.
    pub fn bases(&self) -> [(&'static str, Basis); 2] {
        let (weights, gradients) = (self.weights(), self.gradients());
        [("KLT", Basis::klt(&weights)), ("ELT", Basis::elt(&weights, &gradients))]
    }

    /// Coding gains (eq. 11) of KLT and ELT over no transform, in dB.
    pub fn gains(&self) -> [f64; 2] {
        self.bases().map(|(_, basis)| basis.gain_db(&self.weights(), &self.gradients()))
    }

    /// The sides of a cell: along the columns of `S`, costing the same.
    pub fn sides(&self, basis: &Basis) -> [[f64; 2]; 2] {
        let gradients = self.gradients();
        let [a, b] = basis.dual().u.map(|s| {
            let cost = gradients.along(s).sqrt();
            [s[0] / cost, s[1] / cost]
        });
        let step = (AREA / (a[0] * b[1] - a[1] * b[0]).abs()).sqrt();
        [a.map(|v| step * v), b.map(|v| step * v)]
    }

    /// The figure.
    pub fn figure(&self) -> Figure {
        let gains = self.gains();
        let panels = self.bases().into_iter().zip(gains).map(|((name, basis), gain)| Panel {
            name: format!("{name}: {gain:.2} dB, {:.2} bits per weight saved", super::plane::bits_saved(gain)),
            content: Content::Chart(self.chart(&basis)),
        });
        Figure {
            which: Which::Geometry,
            title: format!("Cells of KLT and ELT: coding gains of {:.2} and {:.2} dB", gains[0], gains[1]),
            caption: "Both transforms make coefficients that are not correlated, and all cells have the same area, which takes as many bits. The KLT's are rectangles along the \
                      axes of the weights; the ELT's are wide where errors cost little and narrow where they cost much. Where all errors cost alike, both are the same."
                .into(),
            source: "Young et al. 2021, Fig. 4".into(),
            layer: None,
            panels: panels.collect(),
        }
    }

    fn chart(&self, basis: &Basis) -> Chart {
        let sides = self.sides(basis);
        let pairs = |points: Vec<(f64, f64)>| points.into_iter().map(|(x, y)| [x, y]).collect();
        let g = self.gradients();
        // Of determinant 1: the inverse is the adjugate.
        let cost = Moment { a: g.c, b: -g.b, c: g.a };
        let [a, b] = sides;
        let corner = |i: f64, j: f64| [i * a[0] + j * b[0], i * a[1] + j * b[1]];
        let cell = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)].map(|(i, j)| corner(i, j)).to_vec();
        let axis = |title: &str| Axis { at_least: Some([-WINDOW, WINDOW]), ..Axis::new(title, "") };
        Chart {
            x: axis("first weight"),
            y: axis("second weight"),
            equal: true,
            series: vec![
                Series::line("cells", lattice(sides)).faint(),
                Series::line("weights, 2 deviations", pairs(self.weights().ellipse(DEVIATIONS, POINTS))).drawn(Shape::Outline),
                Series::line("errors of equal cost", pairs(cost.ellipse(1.0, POINTS))).drawn(Shape::Outline),
                Series::line("a cell", cell).drawn(Shape::Outline),
            ],
            marks: Vec::new(),
        }
    }
}

/// The lines between cells of these sides within the window, one cell around 0: two points and a gap each.
fn lattice([a, b]: [[f64; 2]; 2]) -> Vec<[f64; 2]> {
    let det = (a[0] * b[1] - a[1] * b[0]).abs();
    let mut points = Vec::new();
    for (across, along) in [(a, b), (b, a)] {
        // Lines are so far apart; the farthest corner of the window is √2 of its half side away.
        let apart = det / along[0].hypot(along[1]);
        let count = ((2f64.sqrt() * WINDOW / apart).ceil() as i64).clamp(1, 400);
        for i in -count..count {
            let at = i as f64 + 0.5;
            if let Some([from, to]) = clipped([at * across[0], at * across[1]], along) {
                points.extend([from, to, [f64::NAN; 2]]);
            }
        }
    }
    points
}

/// The part of a line through a point that is in the window.
fn clipped(point: [f64; 2], direction: [f64; 2]) -> Option<[[f64; 2]; 2]> {
    let (mut from, mut to) = (f64::NEG_INFINITY, f64::INFINITY);
    for axis in 0..2 {
        if direction[axis].abs() < 1e-12 {
            if point[axis].abs() > WINDOW {
                return None;
            }
            continue;
        }
        let ends = [-WINDOW, WINDOW].map(|edge| (edge - point[axis]) / direction[axis]);
        (from, to) = (from.max(ends[0].min(ends[1])), to.min(ends[0].max(ends[1])));
    }
    (from < to).then(|| [from, to].map(|t| [0, 1].map(|axis| (point[axis] + t * direction[axis]).clamp(-WINDOW, WINDOW))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes() -> impl Iterator<Item = Plane> {
        let of = |correlation| {
            [1.0, 2.5, 16.0]
                .into_iter()
                .flat_map(move |ratio| [-90.0, -35.0, 0.0, 30.0, 77.0].map(|angle| Plane { correlation, ratio, angle }))
        };
        [-0.95, -0.4, 0.0, 0.8, 0.95].into_iter().flat_map(of)
    }

    fn cross(m: &Moment, u: [f64; 2], v: [f64; 2]) -> f64 {
        m.a * u[0] * v[0] + m.b * (u[0] * v[1] + u[1] * v[0]) + m.c * u[1] * v[1]
    }

    #[test]
    fn all_cells_have_the_same_area_and_sides_that_cost_alike() {
        for plane in planes() {
            for (name, basis) in plane.bases() {
                let [a, b] = plane.sides(&basis);
                assert!(((a[0] * b[1] - a[1] * b[0]).abs() - AREA).abs() < 1e-9, "{name} {plane:?}");
                let gradients = plane.gradients();
                assert!((gradients.along(a) / gradients.along(b) - 1.0).abs() < 1e-9, "{name} {plane:?}");
                // Sides along the columns of S: coefficients change one by one.
                let coefficients = |x: [f64; 2]| basis.u.map(|u| u[0] * x[0] + u[1] * x[1]);
                assert!(coefficients(a)[1].abs() < 1e-9 && coefficients(b)[0].abs() < 1e-9);
            }
        }
    }

    /// Theorem 3, and what follows: errors in a cell of the ELT cost least, by the difference of the gains.
    #[test]
    fn the_elt_gains_no_less_and_its_cells_cost_so_much_less() {
        for plane in planes() {
            let [(_, klt), (_, elt)] = plane.bases();
            let [klt_db, elt_db] = plane.gains();
            assert!(elt_db >= klt_db - 1e-9 && elt_db >= -1e-9, "{plane:?}");
            let (weights, g) = (plane.weights(), plane.gradients());
            assert!((g.a * g.c - g.b * g.b - 1.0).abs() < 1e-9);
            let inverse = Moment { a: g.c, b: -g.b, c: g.a };
            let [u, v] = elt.u;
            assert!((inverse.along(u) - 1.0).abs() < 1e-9 && (inverse.along(v) - 1.0).abs() < 1e-9 && cross(&inverse, u, v).abs() < 1e-9);
            assert!(cross(&weights, u, v).abs() < 1e-9);
            // Errors are even over a cell: what they cost is a twelfth of what its sides do.
            let cost = |basis| plane.sides(basis).map(|side| g.along(side)).iter().sum::<f64>();
            let saved = 10.0 * (cost(&klt) / cost(&elt)).log10();
            assert!((saved - (elt_db - klt_db)).abs() < 1e-6, "{plane:?}: {saved}");
            if plane.ratio == 1.0 {
                assert!((elt_db - klt_db).abs() < 1e-9 && klt_db >= -1e-9);
            }
        }
    }

    /// Dragging a handle to where it is changes nothing, and the other end of an axis is as good.
    #[test]
    fn handles_are_where_dragging_puts_them() {
        for plane in planes() {
            let same = |to: Plane| {
                let turned = (to.angle - plane.angle).rem_euclid(180.0);
                assert!((to.correlation - plane.correlation).abs() < 0.006 && (to.ratio - plane.ratio).abs() < 0.051, "{plane:?} {to:?}");
                // A circle has any angle.
                assert!(plane.ratio == 1.0 || turned.min(180.0 - turned) < 0.51, "{plane:?} {to:?}");
            };
            let (weights, cost) = (plane.weights_end(), plane.cost_end());
            same(plane.with_weights_end(weights));
            same(plane.with_weights_end(weights.map(|v| -v)));
            same(plane.with_cost_end(cost));
            same(plane.with_cost_end(cost.map(|v| -v)));
            // They are on the ellipses.
            let w = plane.weights();
            let inside = (w.c * weights[0] * weights[0] - 2.0 * w.b * weights[0] * weights[1] + w.a * weights[1] * weights[1])
                / (w.a * w.c - w.b * w.b);
            assert!((inside - DEVIATIONS * DEVIATIONS).abs() < 1e-6 && (plane.gradients().along(cost) - 1.0).abs() < 1e-9);
        }
        // Anywhere else is bounded.
        let far = Plane::default().with_weights_end([0.0, 9.0]).with_cost_end([50.0, -50.0]);
        assert_eq!((far.correlation, far.ratio), (0.95, 16.0));
    }

    #[test]
    fn lines_are_a_cell_apart_and_within_the_window() {
        for plane in planes() {
            let figure = plane.figure();
            assert_eq!(figure.panels.len(), 2);
            for panel in &figure.panels {
                let Content::Chart(chart) = &panel.content else { panic!() };
                let lines = &chart.series[0].points;
                assert!(lines.len() > 30 && lines.iter().flatten().all(|v| v.is_nan() || v.abs() <= WINDOW));
                // Long lines over all cells: area of the window over that of a cell, both ways.
                let [a, b] = plane.sides(&plane.bases()[usize::from(panel.name.starts_with("ELT"))].1);
                let length: f64 = lines.chunks(3).map(|l| (l[1][0] - l[0][0]).hypot(l[1][1] - l[0][1])).sum();
                let expected = 4.0 * WINDOW * WINDOW / AREA * (a[0].hypot(a[1]) + b[0].hypot(b[1]));
                assert!((length / expected - 1.0).abs() < 0.15, "{plane:?}: {length} {expected}");
            }
        }
    }
}
