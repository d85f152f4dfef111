//! Transforms in two dimensions, in closed form: what the walk's second step and the geometry of cells (Young et al. 2021, Fig. 4) show.
//!
//! It is compiled always, unlike [`crate::transform`]: here a slider is followed frame by frame by the page, which is built without the core and
//! its linear algebra, and 2×2 needs none. The definitions are those of [`crate::transform`]; a test compares the two.

/// A symmetric 2×2 matrix, `[[a, b], [b, c]]`: a covariance, or a second moment of gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Of the first axis.
    pub a: f64,
    /// Of both.
    pub b: f64,
    /// Of the second axis.
    pub c: f64,
}

impl Moment {
    /// White: every direction alike.
    pub const WHITE: Moment = Moment { a: 1.0, b: 0.0, c: 1.0 };

    /// Unit variances with a correlation, −1 < `rho` < 1.
    pub fn correlated(rho: f64) -> Moment {
        Moment { a: 1.0, b: rho, c: 1.0 }
    }
    /// Second moment of pairs; [`Moment::WHITE`] without any.
    pub fn of(pairs: &[(f64, f64)]) -> Moment {
        let n = pairs.len() as f64;
        if pairs.is_empty() {
            return Moment::WHITE;
        }
        let sum = |f: fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>() / n;
        Moment { a: sum(|p| p.0 * p.0), b: sum(|p| p.0 * p.1), c: sum(|p| p.1 * p.1) }
    }
    /// The correlation, 0 where one axis does not vary.
    pub fn correlation(&self) -> f64 {
        let scale = (self.a * self.c).sqrt();
        if scale > 0.0 { (self.b / scale).clamp(-1.0, 1.0) } else { 0.0 }
    }
    /// `uᵗMu`: the variance along a direction.
    pub fn along(&self, [x, y]: [f64; 2]) -> f64 {
        self.a * x * x + 2.0 * self.b * x * y + self.c * y * y
    }
    /// The lower triangle `[[p, 0], [q, r]]` with `LLᵗ = M`. Of a matrix that is not positive definite the last is 0.
    pub fn cholesky(&self) -> (f64, f64, f64) {
        let p = self.a.max(0.0).sqrt();
        let q = if p > 0.0 { self.b / p } else { 0.0 };
        (p, q, (self.c - q * q).max(0.0).sqrt())
    }
    /// Points of the ellipse `xᵗM⁻¹x = r²`, `n` of them, around.
    pub fn ellipse(&self, r: f64, n: usize) -> Vec<(f64, f64)> {
        let (p, q, s) = self.cholesky();
        let turn = |i| std::f64::consts::TAU * i as f64 / n as f64;
        (0..n).map(turn).map(|t| (r * p * t.cos(), r * (q * t.cos() + s * t.sin()))).collect()
    }
    /// `n` points that lie as Gaussian ones of this covariance would: the same at every call, by golden angles.
    pub fn cloud(&self, n: usize) -> Vec<(f64, f64)> {
        let (p, q, s) = self.cholesky();
        let golden = std::f64::consts::PI * (3.0 - 5f64.sqrt());
        let point = |i: usize| {
            let radius = (-2.0 * (1.0 - (i as f64 + 0.5) / n as f64).ln()).sqrt();
            let (x, y) = (radius * (golden * i as f64).cos(), radius * (golden * i as f64).sin());
            (p * x, q * x + s * y)
        };
        (0..n).map(point).collect()
    }
}

/// A transform `t = Uᵗx`, `x = St`, `S = U⁻ᵗ`: the columns of `U`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Basis {
    /// The columns: what coefficients are the products with.
    pub u: [[f64; 2]; 2],
}

impl Basis {
    /// A rotation, by an angle in radians.
    pub fn rotation(angle: f64) -> Basis {
        let (sin, cos) = angle.sin_cos();
        Basis { u: [[cos, sin], [-sin, cos]] }
    }
    /// The angle of the KLT of a covariance: that of its longest axis, −π/2 < angle ≤ π/2.
    pub fn klt_angle(weights: &Moment) -> f64 {
        (2.0 * weights.b).atan2(weights.a - weights.c) / 2.0
    }
    /// The KLT: `UᵗCU` is diagonal, `UᵗU = I`.
    pub fn klt(weights: &Moment) -> Basis {
        Basis::rotation(Basis::klt_angle(weights))
    }
    /// The ELT (Theorem 3): `UᵗC_θθU` is diagonal, `UᵗC_γγ⁻¹U = I`. With `C_γγ = LLᵗ` it is `U = LV`, `V` the KLT of `LᵗC_θθL`.
    pub fn elt(weights: &Moment, gradients: &Moment) -> Basis {
        let (p, q, r) = gradients.cholesky();
        let columns = [[p, q], [0.0, r]];
        let cross = weights.a * p * columns[1][0] + weights.b * (p * columns[1][1] + q * columns[1][0]) + weights.c * q * columns[1][1];
        let inner = Moment { a: weights.along(columns[0]), b: cross, c: weights.along(columns[1]) };
        Basis { u: Basis::klt(&inner).u.map(|[x, y]| [p * x, q * x + r * y]) }
    }
    /// The columns of `S = U⁻ᵗ`: the sides of a cell, for steps of 1.
    pub fn dual(&self) -> Basis {
        let [[a, b], [c, d]] = self.u;
        let det = a * d - b * c;
        Basis { u: [[d / det, -c / det], [-b / det, a / det]] }
    }
    /// Variances of the coefficients, `diag UᵗC_θθU`.
    pub fn variances(&self, weights: &Moment) -> [f64; 2] {
        self.u.map(|u| weights.along(u))
    }
    /// The coding gain (eq. 11) in dB.
    pub fn gain_db(&self, weights: &Moment, gradients: &Moment) -> f64 {
        let product = |v: [f64; 2]| v[0] * v[1];
        let before = weights.a * weights.c * gradients.a * gradients.c;
        let after = product(self.variances(weights)) * product(self.dual().variances(gradients));
        // The exponent 1/n of eq. 11, n = 2.
        5.0 * (before / after).log10()
    }
}

/// Bits per weight that a coding gain saves: `½ log₂ G`.
pub fn bits_saved(gain_db: f64) -> f64 {
    gain_db / (20.0 * 2f64.log10())
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9 * (1.0 + a.abs())
    }

    #[test]
    fn a_correlation_is_worth_what_the_formula_says() {
        for rho in [-0.95f64, -0.3, 0.0, 0.6, 0.8, 0.99] {
            let weights = Moment::correlated(rho);
            let gain = Basis::klt(&weights).gain_db(&weights, &Moment::WHITE);
            assert!(close(gain, -5.0 * (1.0 - rho * rho).log10()), "{rho}");
            assert!(close(bits_saved(gain), -0.25 * (1.0 - rho * rho).log2()), "{rho}");
            assert!(close(Basis::rotation(0.0).gain_db(&weights, &Moment::WHITE), 0.0));
            assert!(close(weights.correlation(), rho));
        }
        assert!(close(bits_saved(6.020_599_913_279_624), 1.0));
    }

    #[test]
    fn no_other_angle_gains_more_than_the_klt() {
        for weights in [Moment::correlated(0.7), Moment { a: 3.0, b: -0.8, c: 0.5 }, Moment { a: 0.2, b: 0.1, c: 2.0 }] {
            let best = Basis::klt(&weights).gain_db(&weights, &Moment::WHITE);
            for i in 0..360 {
                let gain = Basis::rotation(f64::from(i) * PI / 180.0).gain_db(&weights, &Moment::WHITE);
                assert!(gain <= best + 1e-9, "{weights:?} at {i}°");
            }
            let [u, v] = Basis::klt(&weights).u;
            let cross = weights.a * u[0] * v[0] + weights.b * (u[0] * v[1] + u[1] * v[0]) + weights.c * u[1] * v[1];
            assert!(cross.abs() < 1e-12, "coefficients are not correlated");
            assert!(weights.along(u) >= weights.along(v), "the first axis is the longest");
        }
    }

    #[test]
    fn the_elt_is_what_theorem_3_says_and_gains_most() {
        let (weights, gradients) = (Moment { a: 2.0, b: 0.9, c: 0.7 }, Moment { a: 0.3, b: 0.2, c: 1.5 });
        let elt = Basis::elt(&weights, &gradients);
        // UᵗC_γγ⁻¹U = I.
        let det = gradients.a * gradients.c - gradients.b * gradients.b;
        let inverse = Moment { a: gradients.c / det, b: -gradients.b / det, c: gradients.a / det };
        let cross = |m: &Moment, u: [f64; 2], v: [f64; 2]| m.a * u[0] * v[0] + m.b * (u[0] * v[1] + u[1] * v[0]) + m.c * u[1] * v[1];
        let [u, v] = elt.u;
        assert!(close(inverse.along(u), 1.0) && close(inverse.along(v), 1.0));
        assert!(cross(&inverse, u, v).abs() < 1e-12 && cross(&weights, u, v).abs() < 1e-12);
        let best = elt.gain_db(&weights, &gradients);
        assert!(best > Basis::klt(&weights).gain_db(&weights, &gradients));
        for i in 0..180 {
            for skew in [0.5, 1.0, 2.0] {
                let (a, b) = (f64::from(i) * PI / 180.0, f64::from(i) * PI / 180.0 + 0.3 + skew);
                let other = Basis { u: [[a.cos(), a.sin()], [b.cos(), b.sin()]] };
                assert!(other.gain_db(&weights, &gradients) <= best + 1e-9);
            }
        }
        // With white gradients it is the KLT, but for signs.
        let (klt, white) = (Basis::klt(&weights), Basis::elt(&weights, &Moment::WHITE));
        assert!(close(klt.gain_db(&weights, &Moment::WHITE), white.gain_db(&weights, &Moment::WHITE)));
    }

    #[test]
    fn the_dual_inverts() {
        let basis = Basis { u: [[1.0, 2.0], [-0.5, 3.0]] };
        let s = basis.dual();
        let x = [0.7, -1.3];
        let t = basis.u.map(|u| u[0] * x[0] + u[1] * x[1]);
        let back = [s.u[0][0] * t[0] + s.u[1][0] * t[1], s.u[0][1] * t[0] + s.u[1][1] * t[1]];
        assert!(close(back[0], x[0]) && close(back[1], x[1]), "{back:?}");
    }

    #[test]
    fn ellipse_and_cloud_are_of_the_covariance() {
        let weights = Moment { a: 2.0, b: -0.9, c: 0.7 };
        let det = weights.a * weights.c - weights.b * weights.b;
        for (x, y) in weights.ellipse(2.0, 24) {
            assert!(close((weights.c * x * x - 2.0 * weights.b * x * y + weights.a * y * y) / det, 4.0));
        }
        let found = Moment::of(&weights.cloud(400));
        for (expected, found) in [(weights.a, found.a), (weights.b, found.b), (weights.c, found.c)] {
            assert!((expected - found).abs() < 0.05, "{expected} {found}");
        }
        assert_eq!((Moment::of(&[]), Moment { a: 0.0, b: 0.0, c: 1.0 }.correlation()), (Moment::WHITE, 0.0));
    }

    #[cfg(feature = "core")]
    #[test]
    fn it_is_the_same_as_in_many_dimensions() {
        use nalgebra::DMatrix;

        let (weights, gradients) = (Moment { a: 2.0, b: 0.9, c: 0.7 }, Moment { a: 0.3, b: 0.2, c: 1.5 });
        let matrix = |m: &Moment| DMatrix::from_row_slice(2, 2, &[m.a, m.b, m.b, m.c]);
        let l = matrix(&gradients).cholesky().unwrap().l();
        let eigen = (l.transpose() * matrix(&weights) * &l).symmetric_eigen();
        let (mut expected, mut found) = (eigen.eigenvalues.as_slice().to_vec(), Basis::elt(&weights, &gradients).variances(&weights));
        expected.sort_by(f64::total_cmp);
        found.sort_by(f64::total_cmp);
        assert!(close(expected[0], found[0]) && close(expected[1], found[1]), "{expected:?} {found:?}");
    }
}
