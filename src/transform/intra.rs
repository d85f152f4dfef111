//! Transforms across the positions of a kernel (Young et al. 2021, Section 7.2): `X` is `taps × (groups·n·m)`, with one basis for the layer.

use super::{Basis, Coefficients, Geometry, dct, elt, klt, to_matrix};
use crate::{io::LayerShape, report::TransformKind, statistics::Moment};

/// One of the four transforms within kernels, of weights in canonical order. `moment` is the gradients' `C_γγ` across taps, which only the
/// ELT looks at. Nothing where the transform does not exist for the layer, or the moment is of no use.
pub fn intra(shape: &LayerShape, kind: TransformKind, weights: &[f32], moment: Option<&[Moment]>) -> Option<(Basis, Coefficients)> {
    if !kind.within_kernels() {
        return None;
    }
    let geometry = Geometry::new(shape, kind)?;
    let x = || to_matrix(shape, kind, weights);
    match kind {
        TransformKind::IntraKlt => Some(klt::klt(&x(), geometry)),
        TransformKind::IntraElt => elt::elt(&x(), geometry, moment?),
        _ => {
            let basis = Basis { geometry, rows: dct::basis(shape, kind)?, second: None };
            let coefficients = basis.forward(&x());
            Some((basis, coefficients))
        }
    }
}
