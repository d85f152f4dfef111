use proptest::prelude::*;

use super::*;
use crate::{
    io::{LayerShape, Order},
    rate::{cost::Cost, curve::layer_curves},
    report::{CurveSettings, TransformChoice},
    testing, transform,
};

/// Cubed noise: peaked at zero, as weights are.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    testing::noise(n, seed).iter().map(|v| v * v * v).collect()
}

/// A layer whose rows share one direction, so that the KLT has something to gain.
fn correlated(shape: &LayerShape, seed: u64) -> Vec<f32> {
    let own = noise(shape.weights(), seed);
    let width = shape.inputs * shape.taps;
    let common = noise(width, seed ^ 77);
    own.iter().enumerate().map(|(i, v)| v * 0.1 + common[i % width] * (1.0 + (i / width) as f32 / shape.outputs as f32)).collect()
}

fn shape(groups: usize, outputs: usize, inputs: usize, taps: usize) -> LayerShape {
    LayerShape { groups, outputs, inputs, taps, columns: taps, order: Order::OutIn }
}

fn model() -> Vec<LayerCurves> {
    [shape(1, 16, 3, 9), shape(16, 1, 1, 9), shape(1, 32, 16, 9), shape(1, 64, 32, 1), shape(2, 8, 8, 9), shape(1, 10, 64, 1)]
        .iter()
        .enumerate()
        .map(|(i, s)| {
            layer_curves(
                s,
                if i % 2 == 0 { correlated(s, i as u64) } else { noise(s.weights(), i as u64) },
                CurveSettings::default(),
                &Cost::Weights,
            )
        })
        .collect()
}

fn problem(curves: &[LayerCurves]) -> Problem<'_> {
    let layer = |curves| Layer { name: "layer", shape: &[1], exact_bytes: 4 * curves_weights(curves), curves };
    Problem { layers: curves.iter().map(layer).collect(), other_bytes: 321, original_bytes: 100_000, measure: Measure::Weights }
}

fn curves_weights(curves: &LayerCurves) -> u64 {
    curves.weights
}

fn bits(b: f64) -> AllocationSettings {
    AllocationSettings { budget: Budget::Bits(b), ..Default::default() }
}

#[test]
fn budgets_are_met_and_nearly_used() {
    let curves = model();
    let problem = problem(&curves);
    for b in [0.5, 1.0, 2.0, 3.3, 5.0, 8.0] {
        let a = problem.allocate(&bits(b)).unwrap();
        let report = problem.report(&a, &bits(b), None);
        assert!(a.not_reachable.is_none() && report.rate <= b, "{b}: {}", report.rate);
        assert!(report.rate > b - 0.1, "{b}: only {} used", report.rate);
        assert_eq!(report.bytes, 321 + report.layers.iter().map(|l| l.bytes).sum::<u64>());
        let size = AllocationSettings { budget: Budget::Size(report.bytes), ..Default::default() };
        assert!(problem.allocate(&size).unwrap().file_bytes <= report.bytes);
        let ratio = AllocationSettings { budget: Budget::Ratio(report.ratio * 0.999), ..Default::default() };
        assert!(problem.allocate(&ratio).unwrap().file_bytes as f64 <= report.bytes as f64 * 1.002);
    }
}

#[test]
fn what_is_out_of_reach_is_said_with_the_nearest() {
    let curves = model();
    let problem = problem(&curves);
    let far = problem.allocate(&bits(40.0)).unwrap();
    assert!(far.not_reachable.unwrap().to_string().contains("40 bits per weight is not reachable; the nearest is"));
    for budget in [Budget::Size(10), Budget::Ratio(1e6), Budget::Bits(1e-6)] {
        let a = problem.allocate(&AllocationSettings { budget, ..Default::default() }).unwrap();
        assert!(a.not_reachable.is_some(), "{budget:?}");
        assert_eq!(a.layer_bytes, problem.allocate(&bits(1e-9)).unwrap().layer_bytes);
    }
    for budget in [Budget::Bits(f64::NAN), Budget::Bits(0.0), Budget::Ratio(-1.0)] {
        assert!(matches!(problem.allocate(&AllocationSettings { budget, ..Default::default() }), Err(Error::Setting(_))));
    }
}

/// Algorithm 1: at the solution no block has a better vertex for λ, and no layer a better candidate.
#[test]
fn slopes_are_equal() {
    let curves = model();
    let problem = problem(&curves);
    let solver =
        Solver { problem: &problem, freedom: vec![Freedom::Free; curves.len()], admit: Admit { kinds: Kinds::Any, feedback: true } };
    let (lambda, best) = Way::default().bisect(&solver, 2000);
    let plans = solver.plans(&best);
    for (plan, layer) in plans.iter().zip(&curves) {
        let Plan::Quantized { candidate, blocks } = plan else { panic!("a free layer is quantized") };
        let cost = |blocks: &[Vertex], side: u64| {
            blocks.iter().map(|b| b.distortion).sum::<f64>() + lambda * (side + blocks.iter().map(|b| b.bits).sum::<u64>()) as f64
        };
        let mine = cost(blocks, layer.candidates[*candidate].side_bits);
        for other in &layer.candidates {
            let best: Vec<Vertex> = other.blocks.iter().map(|b| b.at(lambda)).collect();
            assert!(mine <= cost(&best, other.side_bits) + 1e-12);
        }
        for (vertex, block) in blocks.iter().zip(&layer.candidates[*candidate].blocks) {
            assert!(vertex.slope > lambda || vertex.bits == block.hull[0].bits);
            assert!(block.next(vertex.bits).is_none_or(|next| next.slope <= lambda));
        }
    }
}

/// What is not weighed again changes nothing of what plain bisection, over all candidates of all layers in every step, finds.
#[test]
fn bisection_is_that_over_all_layers() {
    let mut curves = model();
    // Two that a coder has learnt about, one of them in part.
    curves[2].learn(0, 1000, 1100);
    for candidate in 0..curves[3].candidates.len() {
        curves[3].learn(candidate, 1000, 900 + 10 * candidate as u64);
    }
    let problem = problem(&curves);
    let freedom = vec![Freedom::Free, Freedom::Free, Freedom::Locked(3), Freedom::Free, Freedom::Excluded, Freedom::Free];
    let solver = Solver { problem: &problem, freedom, admit: Admit { kinds: Kinds::Any, feedback: true } };
    let bytes = |lambda: f64| solver.layer_bytes(&solver.plans(&solver.best(lambda)));
    let (mut found, mut way) = (0, Way::default());
    for limit in (bytes(STEEPEST)..bytes(0.0)).step_by(97) {
        let (mut fits, mut too_much) = (STEEPEST, FLATTEST);
        while fits / too_much > 1.0 + 1e-6 {
            let middle = (fits * too_much).sqrt();
            if bytes(middle) <= limit { fits = middle } else { too_much = middle }
        }
        let (lambda, best) = Way::default().bisect(&solver, limit);
        assert_eq!((lambda, solver.plans(&best)), (fits, solver.plans(&solver.best(fits))), "{limit} bytes");
        assert_eq!(way.bisect(&solver, limit), (lambda, best), "{limit} bytes, after fewer");
        found += 1;
    }
    assert!(found > 50, "{found} budgets");
}

/// The way to a budget is that to the one before as far as both go, from either side, and begins anew for other settings.
#[test]
fn a_way_is_gone_once() {
    let mut curves = model();
    let alone = |problem: &Problem, settings: &AllocationSettings| problem.allocate(settings).unwrap();
    let mut way = Way::default();
    {
        let problem = problem(&curves);
        let locked = |b| AllocationSettings { locks: vec![(1, 2)], ..bits(b) };
        let none = |b| AllocationSettings { transform: TransformChoice::None, ..bits(b) };
        let asked = [3.0, 3.1, 3.05, 1e-9, 1.0, 7.5, 40.0, 0.4].map(bits).into_iter().chain([
            locked(3.0),
            locked(2.0),
            none(2.0),
            bits(2.0),
            bits(2.0),
        ]);
        for settings in asked {
            let allocation = problem.allocate_within(&settings, 1.0, &mut way).unwrap();
            assert_eq!(allocation, alone(&problem, &settings), "{settings:?}");
        }
    }
    // Gone before, nothing is weighed: not even curves that are others now, which is for who asks to know.
    let before = way.ends(&Solver { problem: &problem(&curves), freedom: vec![Freedom::Free; curves.len()], admit: (&bits(2.0)).into() });
    curves.iter_mut().for_each(|c| (0..c.candidates.len()).for_each(|candidate| c.learn(candidate, 1000, 2000)));
    let (problem, settings) = (problem(&curves), bits(2.0));
    let solver = Solver { problem: &problem, freedom: vec![Freedom::Free; curves.len()], admit: (&settings).into() };
    assert_eq!(way.ends(&solver), before);
    assert_ne!(Way::default().ends(&solver), before);
    let limit = problem.layer_limit(&settings).unwrap().unwrap();
    assert_ne!(way.bisect(&solver, limit), Way::default().bisect(&solver, limit));
}

#[test]
fn locks_and_excludes_hold() {
    let curves = model();
    let problem = problem(&curves);
    let settings = AllocationSettings { locks: vec![(0, 8), (2, 0)], excludes: vec![3], ..bits(3.0) };
    let report = problem.report(&problem.allocate(&settings).unwrap(), &settings, None);
    assert!(report.layers[0].depths.iter().all(|d| *d == 8) && report.layers[0].locked == Some(8));
    assert!(report.layers[2].depths.iter().all(|d| *d == 0) && (report.layers[2].error - 1.0).abs() < 1e-5);
    assert!(report.layers[3].excluded && report.layers[3].transform.is_none());
    assert_eq!(report.layers[3].bytes, container::section_bytes(4 * curves[3].weights));
    assert!(report.rate <= 3.0);
    let all: Vec<usize> = (0..curves.len()).collect();
    let none_left = AllocationSettings { excludes: all, ..bits(3.0) };
    assert_eq!(problem.report(&problem.allocate(&none_left).unwrap(), &none_left, None).rate, 0.0);
    assert!(problem.allocate(&AllocationSettings { locks: vec![(99, 1)], ..bits(3.0) }).is_err());
    assert!(problem.allocate(&AllocationSettings { locks: vec![(0, 11)], ..bits(3.0) }).is_err());
}

#[test]
fn curves_fall_and_auto_is_never_above() {
    let curves = model();
    let lines = problem(&curves).curves(&AllocationSettings::default()).unwrap().lines;
    for line in &lines {
        assert!(line.points.len() > 20);
        assert!(line.points.windows(2).all(|w| w[0].rate < w[1].rate && w[0].db >= w[1].db), "{}", line.label);
    }
    let at = |line: &RdLine, rate: f64| line.points.iter().filter(|p| p.rate <= rate).map(|p| p.db).fold(0.0, f64::min);
    for p in &lines[0].points {
        assert!(at(&lines[2], p.rate + 0.05) <= p.db + 0.3, "auto is above none at {} bits", p.rate);
    }
}

#[test]
fn a_chosen_transform_is_used_where_it_pays_and_no_other_is() {
    let curves = model();
    let problem = problem(&curves);
    for choice in TransformChoice::ALL.into_iter().filter(|c| !c.needs_calibration()) {
        let Some(kind) = choice.kind() else { continue };
        let settings = AllocationSettings { transform: choice, ..bits(4.0) };
        let report = problem.report(&problem.allocate(&settings).unwrap(), &settings, None);
        let none = problem.allocate(&AllocationSettings { transform: TransformChoice::None, ..bits(4.0) }).unwrap();
        let none = problem.report(&none, &settings, None);
        assert!(report.db <= none.db + 0.1, "{kind:?} is {} dB, none {} dB", report.db, none.db);
        for (row, curves) in report.layers.iter().zip(&curves) {
            let has = curves.candidates.iter().any(|c| c.kind == kind);
            assert!(row.transform == Some(TransformKind::None) || has && row.transform == Some(kind));
            assert_eq!(has, transform::Geometry::new(&curves.shape, kind).is_some(), "{kind:?} {:?}", curves.shape);
        }
    }
    // On these correlated layers the transform pays somewhere.
    let auto = problem.report(&problem.allocate(&bits(2.0)).unwrap(), &bits(2.0), None);
    assert!(auto.layers.iter().any(|l| l.transform != Some(TransformKind::None)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn more_bits_never_hurt(seed in any::<u64>(), n in 1usize..20, m in 1usize..20, k in 1usize..10, blocks in 1usize..12) {
        let s = shape(1, n, m, k);
        let curves = [layer_curves(&s, noise(s.weights(), seed), CurveSettings { blocks, ..CurveSettings::default() }, &Cost::Weights)];
        let problem = problem(&curves);
        let mut last = f64::INFINITY;
        for b in 1..40 {
            let a = problem.allocate(&bits(f64::from(b) * 0.5)).unwrap();
            let d: f64 = a.plans.iter().map(Plan::distortion).sum();
            // Leftover bytes go to whatever fits, which may differ: nearly monotone.
            prop_assert!(d <= last * 1.35 + 1e-9, "{} after {}", d, last);
            last = last.min(d);
        }
    }
}
