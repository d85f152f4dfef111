//! Trellis-coded quantization (Marcellin, Fischer 1990; as "dependent quantization" in ISO/IEC 15938-17): two quantizers with steps twice as wide as
//! the grid of their levels together. Which of them an index belongs to follows from the parities of the indices before it, so that a decoder
//! knows. An encoder finds the path through the states that errs and costs least: in many dimensions its cells are rounder than cubes, which gains
//! up to 1.1 dB of the 1.53 that there are.

/// How many states there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Trellis {
    /// One quantizer: levels are indices.
    #[default]
    None = 0,
    /// Four.
    Four = 1,
    /// Eight.
    Eight = 2,
}

/// The state after an even and after an odd index, from each state.
const FOUR: [[u8; 2]; 4] = [[0, 2], [2, 0], [1, 3], [3, 1]];
const EIGHT: [[u8; 2]; 8] = [[0, 2], [5, 7], [1, 3], [6, 4], [2, 0], [4, 6], [3, 1], [7, 5]];
const ONE: [[u8; 2]; 1] = [[0, 0]];

impl Trellis {
    /// All of them, in the order of the file format's codes.
    pub const ALL: [Trellis; 3] = [Trellis::None, Trellis::Four, Trellis::Eight];

    /// The state after an even and after an odd index, from each state.
    pub(super) fn next(self) -> &'static [[u8; 2]] {
        match self {
            Trellis::None => &ONE,
            Trellis::Four => &FOUR,
            Trellis::Eight => &EIGHT,
        }
    }

    /// Which quantizer the next index belongs to.
    pub(super) fn quantizer(self, state: u8) -> usize {
        match self {
            Trellis::None => 0,
            Trellis::Four => usize::from(state >> 1),
            Trellis::Eight => usize::from(state & 1),
        }
    }
}

/// The level of an index in steps of the grid: even ones, or zero and odd ones.
pub(super) fn level(quantizer: usize, index: i32) -> i32 {
    2 * index - if quantizer == 1 { index.signum() } else { 0 }
}

/// Goes through the states, index after index, over all rows that are coded.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    trellis: Trellis,
    state: u8,
}

impl Walk {
    /// At the first index.
    pub fn new(trellis: Trellis) -> Walk {
        Walk { trellis, state: 0 }
    }

    /// Which quantizer the next index belongs to.
    pub fn quantizer(self) -> usize {
        self.trellis.quantizer(self.state)
    }

    /// Goes on by an index, and gives its level.
    pub fn pass(&mut self, index: i32) -> i32 {
        let quantizer = self.quantizer();
        self.state = self.trellis.next()[usize::from(self.state)][(index & 1) as usize];
        if self.trellis == Trellis::None { index } else { level(quantizer, index) }
    }
}

/// Most states of a trellis.
pub(super) const STATES: usize = 8;

/// Coefficients between two decisions of the search on a path.
const STRETCH: usize = 1 << 15;
/// Magnitudes of indices whose bits are counted; larger ones cost what the largest of these does, and two bits an octave.
const COUNTED: usize = 20;
/// Classes of neighbourhoods.
pub const CLASSES: usize = 16;
/// Greatest level.
const FARTHEST: f32 = 1e7;
/// How often the search is repeated with the bits of what it found.
const PASSES: usize = 3;

/// The class of a sum of magnitudes of neighbours.
pub fn class(sum: u32) -> u8 {
    // Half octaves.
    let octave = (sum + 1).ilog2();
    let class = if octave == 0 { 0 } else { 2 * octave - 1 + ((sum + 1) >> (octave - 1) & 1) };
    class.min(CLASSES as u32 - 1) as u8
}

/// Bits of an index by its quantizer, its class and its magnitude, as they were on average.
pub(super) struct Bits(Vec<[f32; COUNTED]>);

impl Bits {
    /// Of indices as they are, whose trellis begins anew after every `stretch` of them.
    pub(super) fn of(indices: &[i32], classes: &[u8], trellis: Trellis, stretch: usize) -> Bits {
        let mut counts = vec![[0.02f32; COUNTED]; 2 * CLASSES];
        let mut walk = Walk::new(trellis);
        for (i, (&index, &class)) in indices.iter().zip(classes).enumerate() {
            if i % stretch.max(1) == 0 {
                walk = Walk::new(trellis);
            }
            counts[walk.quantizer() * CLASSES + usize::from(class)][(index.unsigned_abs() as usize).min(COUNTED - 1)] += 1.0;
            walk.pass(index);
        }
        if trellis == Trellis::None {
            // What is known of one quantizer is what is known of both.
            counts.copy_within(..CLASSES, CLASSES);
        }
        for row in &mut counts {
            let all: f32 = row.iter().sum();
            for (magnitude, n) in row.iter_mut().enumerate() {
                *n = (all / *n).log2() + if magnitude > 0 { 1.0 } else { 0.0 };
            }
        }
        Bits(counts)
    }

    fn of_index(&self, quantizer: usize, class: u8, index: i32) -> f32 {
        let (magnitude, row) = (index.unsigned_abs() as usize, &self.0[quantizer * CLASSES + usize::from(class)]);
        match row.get(magnitude) {
            Some(bits) if magnitude < COUNTED - 1 => *bits,
            _ => row[COUNTED - 1] + 2.0 * (magnitude as f32 / (COUNTED - 1) as f32).log2(),
        }
    }
}

/// The indices of least `Σ (x − level)² + price · bits`. `values` are in steps of the grid, in the order of coding; `classes` say of each how
/// large its neighbours are, `price` is what a bit is worth in squares of a step.
pub fn indices(values: &[f32], classes: &[u8], trellis: Trellis, price: f32) -> Vec<i32> {
    // To begin with: one quantizer of twice the step.
    let mut found: Vec<i32> = values.iter().map(|v| super::nearest(*v, 0.5)).collect();
    let mut bits = Bits::of(&found, classes, Trellis::None, usize::MAX);
    for pass in 0..PASSES {
        if pass > 0 {
            bits = Bits::of(&found, classes, trellis, usize::MAX);
        }
        found = search(values, classes, trellis, price, &bits);
    }
    found
}

/// The best of some indices of one parity.
#[derive(Clone, Copy)]
pub(super) struct Best {
    /// Error and bits.
    pub(super) cost: f32,
    /// The index.
    pub(super) index: i32,
}

impl Bits {
    /// For a value and a quantizer, the best even and the best odd index.
    #[inline]
    pub(super) fn options(&self, value: f32, quantizer: usize, class: u8, price: f32) -> [Best; 2] {
        let mut best = [Best { cost: f32::INFINITY, index: 0 }; 2];
        let mut consider = |index: i32| {
            let error = value - level(quantizer, index) as f32;
            let cost = error * error + price * self.of_index(quantizer, class, index);
            let best = &mut best[(index & 1) as usize];
            if cost < best.cost {
                *best = Best { cost, index };
            }
        };
        // The two around the value, and one nearer to zero.
        let sign = if value < 0.0 { -1 } else { 1 };
        let low = ((value.abs().min(FARTHEST) + quantizer as f32) * 0.5) as i32;
        consider(sign * (low + 1));
        consider(sign * low);
        if low > 0 {
            consider(sign * (low - 1));
        }
        if low > 1 && low < 4 {
            consider(0);
        }
        best
    }
}

fn search(values: &[f32], classes: &[u8], trellis: Trellis, price: f32, bits: &Bits) -> Vec<i32> {
    let next = trellis.next();
    let mut found = Vec::with_capacity(values.len());
    let mut first = 0u8;
    for (values, classes) in values.chunks(STRETCH).zip(classes.chunks(STRETCH)) {
        let mut costs = [f32::INFINITY; STATES];
        costs[usize::from(first)] = 0.0;
        // For each coefficient and state the state before it, and what indices there were.
        let mut before = Vec::with_capacity(values.len());
        let mut all = Vec::with_capacity(values.len());
        for (&value, &class) in values.iter().zip(classes) {
            let options = [0, 1].map(|quantizer| bits.options(value, quantizer, class, price));
            let (mut after, mut from) = ([f32::INFINITY; STATES], [0u8; STATES]);
            for (state, [even, odd]) in next.iter().enumerate() {
                let options = &options[trellis.quantizer(state as u8)];
                for (parity, to) in [even, odd].into_iter().enumerate() {
                    let (cost, to) = (costs[state] + options[parity].cost, usize::from(*to));
                    if cost < after[to] {
                        (after[to], from[to]) = (cost, (state << 1 | parity) as u8);
                    }
                }
            }
            // Only differences matter, and small numbers are exact.
            let least = after.iter().fold(f32::INFINITY, |m, c| m.min(*c));
            costs = after.map(|c| c - least);
            before.push(from);
            all.push(options.map(|o| o.map(|b| b.index)));
        }
        let end = (0..next.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0) as u8;
        let mut state = end;
        let at = found.len();
        found.resize(at + values.len(), 0);
        for (j, (from, all)) in before.iter().zip(&all).enumerate().rev() {
            let step = from[usize::from(state)];
            let (parity, previous) = (usize::from(step & 1), step >> 1);
            found[at + j] = all[trellis.quantizer(previous)][parity];
            state = previous;
        }
        first = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;

    fn levels(indices: &[i32], trellis: Trellis) -> Vec<i32> {
        let mut walk = Walk::new(trellis);
        indices.iter().map(|&k| walk.pass(k)).collect()
    }

    fn error(values: &[f32], indices: &[i32], trellis: Trellis) -> f64 {
        levels(indices, trellis).iter().zip(values).map(|(l, v)| f64::from(*v - *l as f32).powi(2)).sum::<f64>() / values.len() as f64
    }

    /// Of a uniform source, against cells of the width of one quantizer's: about 1 dB with four states, and more with eight (Marcellin, Fischer 1990: 0.99 and 1.09 dB; the
    /// first state is known to a decoder, the last is free).
    #[test]
    fn cells_are_rounder_than_cubes() {
        let values: Vec<f32> = noise(40_000, 3).iter().map(|v| 60.0 * v).collect();
        let gains = [Trellis::Four, Trellis::Eight].map(|trellis| {
            let indices = indices(&values, &vec![0; values.len()], trellis, 0.0);
            10.0 * (4.0 / 12.0 / error(&values, &indices, trellis)).log10()
        });
        // 1.53 dB is what a sphere of many dimensions gains.
        assert!(gains[0] > 0.97 && gains[1] > gains[0] && gains[1] < 1.3, "{gains:?} dB");
    }

    /// Every state is reached from two, by one step each; and both quantizers are reached from every state.
    #[test]
    fn tables_are_trellises() {
        for trellis in [Trellis::Four, Trellis::Eight] {
            let next = trellis.next();
            let mut reached = vec![0; next.len()];
            next.iter().flatten().for_each(|s| reached[usize::from(*s)] += 1);
            assert!(reached.iter().all(|n| *n == 2) && next.iter().all(|[even, odd]| even != odd));
        }
        assert_eq!(levels(&[1, -2, 3], Trellis::None), [1, -2, 3]);
        // Four states: 0, then 2 (odd levels), then 3 after an odd index.
        assert_eq!(levels(&[1, 1, -2, 0], Trellis::Four), [2, 1, -3, 0]);
    }

    proptest! {
        /// No path is better than the one found: against all paths of short sequences.
        #[test]
        fn the_path_is_the_best(seed in any::<u64>(), price in prop::sample::select(vec![0f32, 0.3]), eight in any::<bool>()) {
            let trellis = if eight { Trellis::Eight } else { Trellis::Four };
            let values: Vec<f32> = noise(5, seed).iter().map(|v| 8.0 * v).collect();
            let bits = Bits(vec![std::array::from_fn(|m| m as f32); 2 * CLASSES]);
            let cost = |indices: &[i32]| {
                let count: u32 = indices.iter().map(|k| k.unsigned_abs()).sum();
                error(&values, indices, trellis) * 5.0 + f64::from(price) * f64::from(count)
            };
            let found = search(&values, &[0; 5], trellis, price, &bits);
            for i in 0..7usize.pow(5) {
                let other: Vec<i32> = (0..5).map(|k| (i / 7usize.pow(k) % 7) as i32 - 3).collect();
                prop_assert!(cost(&found) <= cost(&other) + 1e-4, "{:?} {} is worse than {:?} {}", found, cost(&found), other, cost(&other));
            }
        }

        #[test]
        fn any_values(values in prop::collection::vec(prop::num::f32::NORMAL, 0..50)) {
            let values: Vec<f32> = values.iter().map(|v| v.clamp(-1e6, 1e6)).collect();
            let found = indices(&values, &vec![0; values.len()], Trellis::Eight, 0.3);
            prop_assert_eq!(found.len(), values.len());
        }
    }

    #[test]
    fn classes_rise() {
        let all: Vec<u8> = (0..1000).map(class).collect();
        assert!(
            all.is_sorted()
                && all[0] == 0
                && all[999] == CLASSES as u8 - 1
                && all[..8].iter().collect::<std::collections::BTreeSet<_>>().len() > 4
        );
    }
}
