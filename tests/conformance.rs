//! ONNX's own tests of its operators: each a model of mostly one node with inputs and expected outputs. They come with the `onnx`
//! package for Python; `cargo xtask test` fetches it and names the folder in `WATERFILL_ONNX`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, panic,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use waterfill::{
    graph::{Array, Graph, Values, lower::Lowering, lower::Weight},
    io::{self, source::BytesSource, tensor::to_f32},
    nn::{Network, NoHooks, Tensor},
};

/// Operators that have to pass, where nothing in [`EXCEPTIONS`] is asked of them.
#[rustfmt::skip]
const OPERATORS: &[&str] = &[
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose",
    "DepthToSpace", "Div", "Dropout", "Elu", "Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LayerNormalization",
    "LeakyRelu", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mul", "Neg", "PRelu", "Pad", "Pow", "Range", "Reciprocal",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Size", "Slice", "Softmax",
    "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Upsample", "Where",
];

/// What is not supported of those operators, by a part of the sentence that says so.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("spatial axes; one and two can be run", "convolutions and poolings over three axes"),
    ("which cannot be had", "further outputs: indices of MaxPool, masks, statistics"),
    ("training mode", "training"),
    ("mode cubic", "cubic interpolation"),
    ("tf_crop_and_resize", "cropping while resizing"),
    ("antialias", "antialiasing"),
    ("mode wrap", "wrapping pads"),
    ("would have to be known", "integers or booleans that depend on the data"),
    ("a cast to data type", "8-bit floats and 4-bit integers"),
    ("is the oldest that can be run", "opsets before 7"),
];

/// Tests whose answer is not taken, and why.
const DISPUTED: &[(&str, &str)] = &[(
    "test_resize_downsample_scales_linear_align_corners",
    "the last corners are aligned only if the fractional length 2.4 counts as the length; torch and onnxruntime count 2, as we do",
)];

/// The folder; without it these tests say that they were left out.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("WATERFILL_ONNX").map(PathBuf::from);
    match &folder {
        None => eprintln!("left out: WATERFILL_ONNX is not set"),
        Some(folder) => assert!(folder.join("node").is_dir(), "WATERFILL_ONNX is set, but {folder:?} has no folder `node`"),
    }
    folder
}

/// How a test went.
enum Verdict {
    Passed,
    /// It is about types of elements or of values that no network here has.
    Type(String),
    /// The sentence of lowering.
    Refused(String),
    Failed(String),
}

#[test]
fn onnx_operators() {
    let Some(folder) = folder() else { return };
    let mut tests: Vec<PathBuf> = Vec::new();
    for part in ["node", "simple", "pytorch-converted", "pytorch-operator"] {
        let entries = fs::read_dir(folder.join(part)).unwrap();
        tests.extend(entries.map(|e| e.unwrap().path()).filter(|p| p.join("model.onnx").is_file()));
    }
    tests.sort();
    assert!(tests.len() > 1000, "{} tests in {folder:?}", tests.len());

    let (mut passed, mut refused, mut disputed) = (0, 0, 0);
    let (mut types, mut reasons): (BTreeMap<String, usize>, BTreeMap<&str, usize>) = Default::default();
    let (mut without, mut failed): (BTreeSet<String>, Vec<String>) = Default::default();
    for path in &tests {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (verdict, operators) =
            panic::catch_unwind(|| run(path)).unwrap_or_else(|_| (Verdict::Failed("it panicked".into()), Vec::new()));
        let ours = operators.iter().all(|op| OPERATORS.contains(&&**op));
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Type(kind) => *types.entry(kind).or_default() += 1,
            Verdict::Refused(sentence) => match EXCEPTIONS.iter().find(|(part, _)| sentence.contains(part)) {
                Some((_, reason)) => *reasons.entry(reason).or_default() += 1,
                None if ours => failed.push(format!("{name}: {sentence}")),
                None => {
                    refused += 1;
                    without.extend(operators.into_iter().filter(|op| !OPERATORS.contains(&&**op)));
                }
            },
            Verdict::Failed(_) if DISPUTED.iter().any(|(test, _)| *test == name) => disputed += 1,
            Verdict::Failed(why) => failed.push(format!("{name} ({}): {why}", operators.join(", "))),
        }
    }
    println!(
        "{} tests of ONNX: {passed} passed, {} not supported, {disputed} disputed, {} failed",
        tests.len(),
        tests.len() - passed - disputed - failed.len(),
        failed.len()
    );
    println!("disputed: {DISPUTED:?}");
    println!("element types: {types:?}\noptions: {reasons:?}\noperators ({refused} tests): {without:?}");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(passed > 600, "only {passed} passed");
}

/// Runs one test; the second result lists the operators of its model.
fn run(path: &Path) -> (Verdict, Vec<String>) {
    let bytes = fs::read(path.join("model.onnx")).unwrap();
    let model = match io::open(vec![Rc::new(BytesSource::new("model.onnx", bytes))]) {
        Ok(model) => model,
        Err(e) => return (Verdict::Failed(e.to_string()), Vec::new()),
    };
    let Some(graph) = &model.graph else { return (Verdict::Failed(format!("no graph: {:?}", model.notes)), Vec::new()) };
    let mut graph = Graph::clone(graph);
    // Opset 7 differs from 6 in how operators broadcast.
    let broadcasts = graph
        .nodes
        .iter()
        .any(|n| n.attributes.contains_key("broadcast") || n.op == "PRelu" || n.op == "Add" && n.attributes.contains_key("axis"));
    if graph.opset == 6 && !broadcasts {
        graph.opset = 7;
    }
    let mut operators: Vec<String> = graph.nodes.iter().map(|n| n.op.clone()).collect();
    operators.sort();
    operators.dedup();
    let mut weights = HashMap::new();
    for (i, info) in model.tensors.iter().enumerate().filter(|(_, t)| t.dtype.is_float()) {
        let tensor = Tensor::new(info.shape.clone(), to_f32(&model.reader.read(i).unwrap(), info.dtype));
        weights.insert(info.name.clone(), Weight { tensor: Arc::new(tensor), layer: model.layers().iter().position(|&l| l == i) });
    }
    let mut sets: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    sets.sort();
    for set in sets {
        match run_set(&graph, &weights, &set) {
            Verdict::Passed => {}
            other => return (other, operators),
        }
    }
    (Verdict::Passed, operators)
}

fn run_set(graph: &Graph, weights: &HashMap<String, Weight>, set: &Path) -> Verdict {
    let read = |kind: &str| -> Result<Vec<(String, Array)>, String> {
        let files = (0..).map(|i| set.join(format!("{kind}_{i}.pb"))).take_while(|p| p.is_file());
        files.map(|p| proto::tensor(&fs::read(p).unwrap())).collect()
    };
    let (inputs, expected) = match (read("input"), read("output")) {
        (Ok(inputs), Ok(outputs)) => (inputs, outputs),
        (Err(kind), _) | (_, Err(kind)) => return Verdict::Type(kind),
    };
    // Inputs are in the order of the graph's; tests leave optional ones out, and then names tell.
    let mut given: HashMap<String, Array> = HashMap::new();
    for (i, (name, array)) in inputs.into_iter().enumerate() {
        match graph.inputs.iter().find(|input| input.name == name).or(graph.inputs.get(i)) {
            Some(input) => given.insert(input.name.clone(), array),
            None => return Verdict::Failed(format!("input `{name}` is not in the graph")),
        };
    }
    /// Whether the input with this number is free.
    type Free = fn(usize, &Array) -> bool;
    let attempts: [Free; 3] = [|_, array| matches!(array.values, Values::Float(_)), |i, _| i == 0, |_, _| false];
    let mut refusal = String::new();
    for free in attempts {
        let mut feeds = HashMap::new();
        let mut tensors = Vec::new();
        for (i, input) in graph.inputs.iter().enumerate() {
            let Some(array) = given.get(&input.name) else { continue };
            match free(i, array) {
                true => tensors.push(tensor(array)),
                false => {
                    feeds.insert(input.name.clone(), array.clone());
                }
            }
        }
        let shapes: Vec<Vec<usize>> = tensors.iter().map(|t| t.shape.clone()).collect();
        match (Lowering { file: "model.onnx", graph, weights, feeds: &feeds }.lower(&shapes)) {
            Ok(network) => {
                let outputs = network.forward(tensors.clone(), &mut NoHooks);
                return match compare(&outputs, &expected).and_then(|()| backward(&network, tensors)) {
                    Ok(()) => Verdict::Passed,
                    Err(why) => Verdict::Failed(why),
                };
            }
            Err(e) => {
                refusal = e.to_string();
                if !refusal.contains("would have to be known") {
                    break;
                }
            }
        }
    }
    Verdict::Refused(refusal)
}

fn tensor(array: &Array) -> Tensor {
    let data = match &array.values {
        Values::Float(f) => f.clone(),
        Values::Int(i) => i.iter().map(|&i| i as f32).collect(),
    };
    Tensor::new(array.shape.clone(), data)
}

/// ONNX's own tolerances: 10⁻³ relative, 10⁻⁷ absolute.
fn compare(outputs: &[Tensor], expected: &[(String, Array)]) -> Result<(), String> {
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), expected.len()));
    }
    for (y, (name, wanted)) in outputs.iter().zip(expected) {
        let wanted = tensor(wanted);
        if y.shape != wanted.shape {
            return Err(format!("`{name}` has shape {:?} instead of {:?}", y.shape, wanted.shape));
        }
        let close = |a: f32, b: f32| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-7 + 1e-3 * b.abs();
        if let Some(i) = (0..y.len()).find(|&i| !close(y.data[i], wanted.data[i])) {
            return Err(format!("`{name}`[{i}] is {} instead of {}", y.data[i], wanted.data[i]));
        }
    }
    Ok(())
}

/// The reverse pass gives derivatives in the shapes of the inputs.
fn backward(network: &Network, tensors: Vec<Tensor>) -> Result<(), String> {
    let shapes: Vec<Vec<usize>> = tensors.iter().map(|t| t.shape.clone()).collect();
    let wanted = vec![true; tensors.len()];
    let ones = &mut |outputs: &[Tensor]| outputs.iter().map(|y| Tensor::new(y.shape.clone(), vec![1.0; y.len()])).collect();
    let (_, derivatives) = network.gradient(tensors, &wanted, ones, &mut NoHooks);
    for (i, derivative) in derivatives.iter().enumerate() {
        if let Some(d) = derivative.as_ref().filter(|d| d.shape != shapes[i]) {
            return Err(format!("the derivative by input {i} has shape {:?} instead of {:?}", d.shape, shapes[i]));
        }
    }
    Ok(())
}

/// Just enough Protocol Buffers for a `TensorProto` that is known to be well-formed.
mod proto {
    use half::f16;
    use waterfill::graph::{Array, Values};

    /// What messages hold that are no tensors.
    const OTHER: &str = "sequences, optional values";

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    /// Name and elements, or what it holds instead.
    pub fn tensor(mut bytes: &[u8]) -> Result<(String, Array), String> {
        let (mut name, mut shape, mut kind) = (String::new(), Vec::new(), 0);
        let (mut raw, mut floats, mut ints): (Option<&[u8]>, Vec<f32>, Vec<i64>) = (None, Vec::new(), Vec::new());
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let (number, value, content) = match tag & 7 {
                0 => (tag >> 3, varint(&mut bytes), &[][..]),
                wire => {
                    let length = match wire {
                        1 => 8,
                        5 => 4,
                        _ => varint(&mut bytes) as usize,
                    };
                    let Some((content, rest)) = bytes.split_at_checked(length) else { return Err(OTHER.into()) };
                    bytes = rest;
                    (tag >> 3, 0, content)
                }
            };
            let mut packed = content;
            match (number, tag & 7) {
                (1, 0) => shape.push(value as usize),
                (1, 2) => {
                    while !packed.is_empty() {
                        shape.push(varint(&mut packed) as usize);
                    }
                }
                (2, 0) => kind = value,
                (4, _) => floats.extend(content.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
                // A sequence or an optional value has a message here.
                (3, 2) => return Err(OTHER.into()),
                (5 | 7 | 11, 0) => ints.push(value as i64),
                (5 | 7 | 11, _) => {
                    while !packed.is_empty() {
                        ints.push(varint(&mut packed) as i64);
                    }
                }
                (8, 2) => name = String::from_utf8_lossy(content).into_owned(),
                (9, 2) => raw = Some(content),
                (10, _) => floats.extend(content.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32)),
                _ => {}
            }
        }
        let Some(raw) = raw else {
            let held = floats.len().max(ints.len());
            let values = match kind {
                1 | 11 => Values::Float(floats),
                2..=7 | 9 | 12 | 13 => Values::Int(ints),
                _ => return Err(type_name(kind)),
            };
            // The name of an empty sequence was read as a shape.
            let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            return if elements == Some(held) { Ok((name, Array { shape, values })) } else { Err(OTHER.into()) };
        };
        let values = match kind {
            1 => Values::Float(raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
            10 => Values::Float(raw.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()),
            11 => Values::Float(raw.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect()),
            2 | 9 => Values::Int(raw.iter().map(|&b| b.into()).collect()),
            3 => Values::Int(raw.iter().map(|&b| (b as i8).into()).collect()),
            4 => Values::Int(raw.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b).into()).collect()),
            5 => Values::Int(raw.as_chunks().0.iter().map(|&b| i16::from_le_bytes(b).into()).collect()),
            6 => Values::Int(raw.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect()),
            7 | 13 => Values::Int(raw.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect()),
            12 => Values::Int(raw.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b).into()).collect()),
            _ => return Err(type_name(kind)),
        };
        Ok((name, Array { shape, values }))
    }

    fn type_name(kind: u64) -> String {
        match kind {
            8 => "strings".into(),
            14 | 15 => "complex numbers".into(),
            16 => "bfloat16".into(),
            17..=20 | 24 => "8-bit floats".into(),
            21..=23 | 25 | 26 => "integers of 2 and 4 bits, 4-bit floats".into(),
            _ => OTHER.into(),
        }
    }
}
