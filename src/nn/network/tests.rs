use super::*;
use crate::testing::noise;

/// `a·b` elementwise, for equal shapes; overwrites what it owns, and reads on the way back only what it said it needs.
#[derive(Debug)]
struct Times;

impl Operator for Times {
    fn name(&self) -> &'static str {
        "Times"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        if inputs.len() == 2 && inputs[0] == inputs[1] { Ok(vec![inputs[0].to_vec()]) } else { Err("its shapes differ".into()) }
    }
    fn forward(&self, inputs: Vec<Value<'_>>, aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        if let Some(aux) = aux {
            aux.push(7);
        }
        let mut inputs = inputs.into_iter();
        let (mut a, b) = (inputs.next().unwrap().into_owned(), inputs.next().unwrap());
        a.data.iter_mut().zip(&b.data).for_each(|(a, b)| *a *= b);
        vec![a]
    }
    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![wanted[1], wanted[0]], outputs: vec![] }
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        assert_eq!(tape.aux, [7]);
        let dy = cotangents[0].as_ref().unwrap();
        let by = |other: usize| {
            let mut d = dy.clone();
            d.data.iter_mut().zip(&tape.input(other).data).for_each(|(d, o)| *d *= o);
            d
        };
        vec![wanted[0].then(|| by(1)), wanted[1].then(|| by(0))]
    }
    fn multiplications(&self, inputs: &[&[usize]], _: &[&[usize]]) -> u64 {
        inputs[0].iter().product::<usize>() as u64
    }
}

/// The halves of a vector.
#[derive(Debug)]
struct Halves;

impl Operator for Halves {
    fn name(&self) -> &'static str {
        "Halves"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        Ok(vec![vec![inputs[0][0] / 2]; 2])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        inputs[0].data.chunks(inputs[0].len() / 2).map(|h| Tensor::new([h.len()], h.to_vec())).collect()
    }
    fn needs(&self, _: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, _: &[bool]) -> Vec<Option<Tensor>> {
        let half = |c: &Option<Tensor>| c.as_ref().map_or(vec![0.0; tape.output_shapes[0][0]], |c| c.data.clone());
        vec![Some(Tensor::new(tape.input_shapes[0], cotangents.iter().flat_map(half).collect()))]
    }
}

#[derive(Default)]
struct Seen {
    inputs: Vec<(usize, Vec<f32>)>,
    outputs: Vec<(usize, Vec<f32>)>,
    gradients: Vec<(usize, Vec<f32>)>,
}

impl Hooks for Seen {
    fn input(&mut self, layer: usize, x: &Tensor) {
        self.inputs.push((layer, x.data.clone()));
    }
    fn output(&mut self, layer: usize, y: &Tensor) {
        self.outputs.push((layer, y.data.clone()));
    }
    fn gradient(&mut self, layer: usize, gradient: Tensor) {
        self.gradients.push((layer, gradient.data));
    }
}

fn vector(data: &[f32]) -> Tensor {
    Tensor::new([data.len()], data.to_vec())
}

/// `y = (x·w)·(c·w)·x` with one weight used twice, once through a product with a constant.
fn shared_weight(w: &[f32], c: &[f32]) -> Network {
    let mut b = Builder::default();
    let x = b.input(vec![w.len()]);
    let (weight, constant) = (b.constant(Arc::new(vector(w)), Some(3)), b.constant(Arc::new(vector(c)), None));
    assert_eq!(b.constant(Arc::new(vector(w)), Some(3)), weight, "one layer, one value");
    let mut times = |a, v| b.push(Arc::new(Times), "times", &[a, v]).unwrap()[0];
    let (first, other) = (times(x, weight), times(constant, weight));
    let unused = times(first, first);
    let second = times(first, other);
    let y = times(second, x);
    let _ = unused;
    b.finish(&[y, y])
}

#[test]
fn other_weights_of_a_layer_give_what_a_network_built_with_them_gives() {
    let (x, w, c) = (noise(6, 1), noise(6, 2), noise(6, 3));
    let network = shared_weight(&w, &c);
    let others: Vec<Vec<f32>> = (10..13).map(|seed| noise(6, seed)).collect();
    let (mut next, mut found) = (others.iter(), Vec::new());
    let mut weights = |own: &Tensor| {
        assert_eq!(own.data, w);
        next.next().map(|w| vector(w))
    };
    network.forward_with(vec![vector(&x)], 3, &mut weights, &mut |y| found.push(y));
    let built: Vec<_> = others.iter().map(|w| shared_weight(w, &c).forward(vec![vector(&x)], &mut NoHooks)).collect();
    assert_eq!(found, built);
    // The layer is read by the first product; there is no other layer.
    assert_eq!((network.multiplications_from(3), network.multiplications_from(4)), (4 * 6, 0));
    network.forward_with(vec![vector(&x)], 4, &mut |_| panic!("not asked"), &mut |_| panic!("not run"));
}

#[test]
fn shared_weights_are_differentiated_once_and_hooks_see_both_uses() {
    let (x, w, c) = (noise(6, 1), noise(6, 2), noise(6, 3));
    let network = shared_weight(&w, &c);
    assert_eq!((network.layers(), network.multiplications()), (vec![3], 4 * 6), "one of five products is not needed");
    let y: Vec<f32> = (0..6).map(|i| x[i] * w[i] * (c[i] * w[i]) * x[i]).collect();
    let mut seen = Seen::default();
    let outputs = network.forward(vec![vector(&x)], &mut seen);
    assert_eq!(outputs, [vector(&y), vector(&y)]);
    let (first, second): (Vec<f32>, Vec<f32>) =
        ((0..6).map(|i| x[i] * w[i]).collect(), (0..6).map(|i| x[i] * w[i] * (c[i] * w[i])).collect());
    assert_eq!(seen.inputs, [(3, x.clone()), (3, first.clone())]);
    assert_eq!(seen.outputs, [(3, first), (3, second)]);

    let seed = noise(6, 4);
    let mut seen = Seen::default();
    let (again, by_input) = network.gradient(vec![vector(&x)], &[true], &mut |_| vec![vector(&seed), vector(&[0.0; 6])], &mut seen);
    assert_eq!(again, outputs);
    let close = |a: &[f32], b: &dyn Fn(usize) -> f32| a.iter().enumerate().all(|(i, a)| (a - b(i)).abs() < 1e-6);
    assert_eq!(seen.gradients.len(), 1);
    assert!(close(&seen.gradients[0].1, &|i| seed[i] * 2.0 * x[i] * x[i] * c[i] * w[i]));
    assert!(close(&by_input[0].as_ref().unwrap().data, &|i| seed[i] * 2.0 * x[i] * c[i] * w[i] * w[i]));
}

#[test]
fn a_walk_halts_at_layers_and_what_follows_sees_what_it_leaves() {
    let (x, w, c) = (noise(6, 1), noise(6, 2), noise(6, 3));
    let network = shared_weight(&w, &c);
    // The product of weight and constant is no halt; it runs before the second.
    assert_eq!(network.halts(), [(3, 6), (3, 2 * 6)]);
    let mut walk = network.begin(vec![vector(&x)]);
    assert!(walk.layer().is_none());
    let mut seen = Seen::default();
    let outputs = network.forward(vec![vector(&x)], &mut seen);
    for expected in seen.outputs {
        let (layer, output) = walk.next_layer().unwrap();
        assert_eq!((layer, &output.data), (expected.0, &expected.1));
    }
    assert_eq!(walk.bytes(), 2 * 4 * 6, "the input, and the output of the layer");
    let mut changed = walk.clone();
    assert!(walk.next_layer().is_none());
    assert_eq!(walk.finish(), outputs);

    let (layer, output) = changed.layer().unwrap();
    assert_eq!(layer, 3);
    output.data = vec![2.0; 6];
    let twice: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
    assert_eq!(changed.finish(), [vector(&twice), vector(&twice)]);
}

#[test]
fn what_is_not_wanted_is_not_computed() {
    let network = shared_weight(&noise(4, 1), &noise(4, 2));
    let (_, by_input) = network.gradient(vec![vector(&noise(4, 3))], &[], &mut |y| y.to_vec(), &mut NoHooks);
    assert_eq!(by_input, [None]);
}

#[test]
fn outputs_may_be_halves_inputs_and_constants() {
    let mut b = Builder::default();
    let x = b.input(vec![4]);
    let c = b.constant(Arc::new(vector(&[5.0])), None);
    let halves = b.push(Arc::new(Halves), "halves", &[x]).unwrap();
    let network = b.finish(&[halves[1], x, c]);
    let outputs = network.forward(vec![vector(&[1.0, 2.0, 3.0, 4.0])], &mut NoHooks);
    assert_eq!(outputs, [vector(&[3.0, 4.0]), vector(&[1.0, 2.0, 3.0, 4.0]), vector(&[5.0])]);
    let seeds = || vec![vector(&[1.0, 10.0]), vector(&[100.0; 4]), vector(&[0.0])];
    let (_, by_input) = network.gradient(vec![vector(&[1.0, 2.0, 3.0, 4.0])], &[true], &mut |_| seeds(), &mut NoHooks);
    assert_eq!(by_input[0].as_ref().unwrap().data, [100.0, 100.0, 101.0, 110.0]);
}

#[test]
fn what_is_known_is_computed_while_building() {
    let mut b = Builder::default();
    let (c, d) = (b.constant(Arc::new(vector(&[2.0, 3.0])), None), b.constant(Arc::new(vector(&[4.0, 5.0])), None));
    let product = b.push(Arc::new(Times), "times", &[c, d]).unwrap()[0];
    assert_eq!(b.known(product).unwrap().data, [8.0, 15.0]);
    let w = b.constant(Arc::new(vector(&[1.0, 1.0])), Some(0));
    let scaled = b.push(Arc::new(Times), "times", &[w, c]).unwrap()[0];
    assert!(b.known(w).is_none() && b.known(scaled).is_none(), "a layer's weights may change");
    assert_eq!(b.push(Arc::new(Times), "times", &[c, product]).map(|_| ()), Ok(()));
    let other = b.constant(Arc::new(vector(&[1.0])), None);
    assert!(b.push(Arc::new(Times), "times", &[c, other]).is_err());
}

/// A chain of products of `n` numbers: two values at a time forward, all of them for the way back.
#[test]
fn peak_memory_follows_the_plan() {
    let (n, long) = (1000, 20);
    let mut b = Builder::default();
    let mut v = b.input(vec![n]);
    for i in 0..long {
        let w = b.constant(Arc::new(vector(&noise(n, i))), Some(i as usize));
        v = b.push(Arc::new(Times), "times", &[v, w]).unwrap()[0];
    }
    let network = b.finish(&[v]);
    assert_eq!(network.peak_bytes(false), 2 * 4 * n as u64);
    let all = network.peak_bytes(true);
    assert!((long * 4 * n as u64..(long + 4) * 4 * n as u64).contains(&all), "{all}");
}
