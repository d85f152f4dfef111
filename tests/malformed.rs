//! Damaged and hostile files: always an error in one sentence or a model, never a panic, a hang or memory without bounds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;

use proptest::prelude::*;
use waterfill::container::TqFile;
use waterfill::error::Result;
use waterfill::io::source::BytesSource;
use waterfill::io::{Model, Role, Source, TensorReader, open, skeleton};

/// Counts what this thread allocates, so that tests can say what opening a file may cost.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // Fails only while a thread ends, when nothing is measured.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` and returns the most memory it held at once, in bytes.
fn peak<T>(work: impl FnOnce() -> T) -> (T, isize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

/// What a file of a few kB may cost, with margin for deflate's ratio of 1032.
const MODEST: isize = 32 << 20;

const FIXTURES: [&str; 9] = [
    "typed.onnx",
    "unpacked.onnx",
    "fortran.npy",
    "deflated.npz",
    "stored.npz",
    "mixed.safetensors",
    "nested.pth",
    "overlap.pth",
    "external.onnx",
];

fn fixture(name: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", name].iter().collect();
    std::fs::read(path).unwrap()
}

fn source(name: &str, bytes: &[u8]) -> Rc<dyn Source> {
    Rc::new(BytesSource::new(name, bytes.to_vec()))
}

fn sources(name: &str, bytes: &[u8]) -> Vec<Rc<dyn Source>> {
    let mut list = vec![source(name, bytes)];
    if name == "external.onnx" {
        list.push(source("external.data", &fixture("external.data")));
    }
    list
}

/// Opens a file and does all that can be done with it. The error must be one sentence that starts with the file's name.
fn attempt(name: &str, bytes: &[u8]) -> Result<()> {
    let (result, memory) = peak(|| {
        let model = open(sources(name, bytes))?;
        exercise(&model)
    });
    assert!(memory < MODEST, "{name}: {memory} bytes of memory for a file of {}", bytes.len());
    if let Err(e) = &result {
        let e = e.to_string();
        assert!(e.contains(": ") && e.contains("; ") && e.ends_with('.') && !e.contains('\n'), "{e}");
    }
    result
}

fn exercise(model: &Model) -> Result<()> {
    model.summary();
    for (i, info) in model.tensors.iter().enumerate() {
        assert_eq!(model.reader.read(i)?.len(), info.bytes(), "{}", info.name);
        if matches!(info.role, Role::Layer(_)) {
            model.read_layer(i)?;
        }
    }
    skeleton::write(&model.skeleton, &*model.reader, &mut std::io::sink())
}

fn refusal(name: &str, bytes: &[u8]) -> String {
    match attempt(name, bytes) {
        Ok(()) => panic!("{name} was accepted"),
        Err(e) => e.to_string(),
    }
}

/// What fuzzing found: each file is refused, and that soon.
#[test]
fn what_fuzzing_found() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/malformed");
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (compressed, files): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().partition(|file| file.extension().is_some_and(|e| e == "tq"));
    assert!(files.len() >= 3 && compressed.len() >= 2);
    for file in compressed {
        let bytes = std::fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let whole = [TqFile::open, TqFile::recover].map(|open| {
            let tq = open(source(&name, &bytes))?;
            // A damaged file may have whole tensors: each is read or refused.
            let read: Vec<Result<Vec<u8>>> = (0..tq.tensors.len()).map(|index| tq.read(index)).collect();
            waterfill::pipeline::describe(&tq)?;
            read.into_iter().collect::<Result<Vec<_>>>()
        });
        assert!(whole.iter().all(Result::is_err), "{name} is taken for a whole file");
    }
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let bytes = std::fs::read(&file).unwrap();
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            done.send(attempt(&name, &bytes)).unwrap();
        });
        // Minutes are a hang on any machine; these take milliseconds.
        let outcome = wait.recv_timeout(std::time::Duration::from_secs(120));
        assert!(outcome.unwrap_or_else(|e| panic!("{name}: {e}")).is_err(), "{name} is taken for a model");
    }
}

#[test]
fn fixtures_are_sound() {
    for name in FIXTURES {
        attempt(name, &fixture(name)).unwrap();
    }
}

#[test]
fn truncated_anywhere() {
    for name in FIXTURES {
        let bytes = fixture(name);
        for len in (0..bytes.len()).step_by((bytes.len() / 600).max(1)) {
            let result = attempt(name, &bytes[..len]);
            // An ONNX file has no end of its own: cut between two fields it is a shorter model.
            assert!(result.is_err() || name.ends_with(".onnx"), "{name} cut to {len} bytes was accepted");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits(which in 0..FIXTURES.len(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6)) {
        let mut bytes = fixture(FIXTURES[which]);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = attempt(FIXTURES[which], &bytes);
    }

    #[test]
    fn overwritten_bytes(which in 0..FIXTURES.len(), at in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 1..24)) {
        let mut bytes = fixture(FIXTURES[which]);
        let at = at.index(bytes.len());
        let end = (at + with.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&with[..end - at]);
        let _ = attempt(FIXTURES[which], &bytes);
    }

    #[test]
    fn noise_behind_a_magic_number(magic in 0usize..6, noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let magic: &[u8] = [&b""[..], b"\x93NUMPY\x01\0", b"PK\x03\x04", b"\x40\0\0\0\0\0\0\0{", b"\x08\x08\x3a", b"\x08\x08\x3a\x20\x0a\x10"][magic];
        let _ = attempt("noise", &[magic, &noise].concat());
    }

    #[test]
    fn pickles_of_noise(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = attempt("noise.pth", &checkpoint(&noise, &[]));
    }
}

// safetensors

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn safetensors_claims() {
    let mut huge = safetensors("{}", 1000);
    huge[..8].copy_from_slice(&10_000_000_000u64.to_le_bytes());
    assert!(refusal("a.safetensors", &huge).contains("10000000000"));

    let f32s = |shape: &str, end: u64| format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#);
    attempt("a.safetensors", &safetensors(&f32s("[2,3]", 24), 24)).unwrap();
    refusal("a.safetensors", &safetensors(&f32s("[2,3]", 24), 23));
    refusal("a.safetensors", &safetensors(&f32s("[2,3]", 24), 25));
    refusal("a.safetensors", &safetensors(&f32s("[2,3]", 20), 20));
    let e = refusal("a.safetensors", &safetensors(&f32s("[50000,50000]", 10_000_000_000), 100));
    assert!(e.contains("`w`") && e.contains("[50000, 50000]"), "{e}");
    refusal("a.safetensors", &safetensors(&f32s("[4294967296,4294967296,4294967296]", 0), 0));
    refusal("a.safetensors", &safetensors(&f32s("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", 4), 4));
    let twice = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let e = refusal("a.safetensors", &safetensors(twice, 4));
    assert!(e.contains("`w`") && e.contains("two tensors have this name"), "{e}");
    let overlap = r#"{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    refusal("a.safetensors", &safetensors(overlap, 8));
    refusal("a.safetensors", &safetensors(&format!("{{\"a\":{}", "[".repeat(100_000)), 0));
}

// npy and npz

fn npy(dictionary: &str, data: usize) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x02\0".to_vec();
    bytes.extend((dictionary.len() as u32).to_le_bytes());
    bytes.extend(dictionary.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn npy_claims() {
    let array = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    attempt("a.npy", &npy(&array("(2, 3)"), 24)).unwrap();
    for (shape, data) in [
        ("(2, 3)", 23),
        ("(2, 3)", 28),
        ("(50000, 50000)", 1000),
        ("(4294967296, 4294967296)", 0),
        ("(0, 4294967296, 4294967296)", 0),
        ("(18446744073709551616,)", 0),
        ("(-1,)", 4),
        ("(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)", 4),
        ("()()", 4),
    ] {
        refusal("a.npy", &npy(&array(shape), data));
    }
    refusal("a.npy", &npy(&array(&"(".repeat(50_000)), 0));
    refusal("a.npy", &npy(&array(&"-".repeat(50_000)), 0));
    refusal("a.npy", &npy("{'descr': [('a', '<f4', (4000000000, 4000000000, 4000000000))], 'fortran_order': True, 'shape': (2, 2)}", 0));
    let mut huge = npy(&array("(2,)"), 8);
    huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    refusal("a.npy", &huge);
}

fn zipped(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let method = if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn a_large_array_of_zeros_is_not_inflated_before_it_is_read() {
    let array = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5000, 5000), }", 100_000_000);
    let file = zipped(&[("w.npy", &array)], true);
    assert!(file.len() < 200_000);
    drop(array);
    let (model, memory) = peak(|| open(vec![source("zeros.npz", &file)]).unwrap());
    assert!(memory < 4 << 20, "{memory}");
    assert_eq!(model.layers().len(), 1);
    let (values, memory) = peak(|| model.read_layer(0).unwrap());
    assert_eq!(values.len(), 25_000_000);
    assert!(memory < 512 << 20, "{memory}");
}

#[test]
fn a_zip_that_claims_more_than_deflate_can_hold() {
    let file = zipped(&[("w.npy", &npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", 20))], true);
    // The sizes in the central directory.
    let directory = file.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    let mut bomb = file.clone();
    bomb[directory + 24..directory + 28].copy_from_slice(&4_000_000_000u32.to_le_bytes());
    let e = refusal("bomb.npz", &bomb);
    assert!(e.contains("w.npy") && e.contains("4000000000"), "{e}");
    let mut longer = file.clone();
    longer[directory + 24] += 4;
    refusal("longer.npz", &longer);
    let mut outside = file;
    outside[directory + 20..directory + 24].copy_from_slice(&1_000_000u32.to_le_bytes());
    refusal("outside.npz", &outside);
}

#[test]
fn zip_members_with_one_name() {
    let array = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", 20);
    let mut file = zipped(&[("a.npy", &array), ("b.npy", &array)], false);
    let names: Vec<usize> = (0..file.len() - 5).filter(|&i| &file[i..i + 5] == b"b.npy").collect();
    for at in names {
        file[at] = b'a';
    }
    let e = refusal("twice.npz", &file);
    assert!(e.contains("same name"), "{e}");
}

#[test]
fn a_damaged_array_is_noticed_by_its_checksum() {
    let mut file = zipped(&[("w.npy", &npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", 20))], false);
    let at = file.windows(8).position(|w| w == b"(5,), }\0").unwrap();
    file[at + 12] ^= 1;
    let e = refusal("damaged.npz", &file);
    assert!(e.contains("`w`") && e.contains("damaged"), "{e}");
}

// PyTorch

fn checkpoint(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut members = vec![("m/data.pkl", pickle)];
    members.extend(storages);
    zipped(&members, false)
}

/// Name, key of its storage, offset, shape and strides of a matrix.
type View = (&'static str, &'static str, i32, [i32; 2], [i32; 2]);

/// The pickle of a dict of float tensors.
fn tensors(list: &[View]) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let integer = |out: &mut Vec<u8>, i: i32| {
        out.push(b'J');
        out.extend(i.to_le_bytes());
    };
    let mut out = b"\x80\x02}(".to_vec();
    for (name, key, offset, shape, strides) in list {
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, key);
        text(&mut out, "cpu");
        integer(&mut out, 8);
        out.extend(b"tQ");
        integer(&mut out, *offset);
        for pair in [shape, strides] {
            integer(&mut out, pair[0]);
            integer(&mut out, pair[1]);
            out.push(0x86);
        }
        out.extend(b"\x89}tR");
    }
    out.extend(b"u.");
    out
}

#[test]
fn pytorch_claims() {
    let data: (&str, &[u8]) = ("m/data/0", &[0; 32]);
    attempt("a.pth", &checkpoint(&tensors(&[("w", "0", 0, [2, 4], [4, 1])]), &[data])).unwrap();
    for (name, bad) in [
        ("missing", ("w", "1", 0, [2, 4], [4, 1])),
        ("beyond", ("w", "0", 1, [2, 4], [4, 1])),
        ("strided beyond", ("w", "0", 0, [2, 4], [5, 1])),
        ("overflow", ("w", "0", i32::MAX, [i32::MAX, i32::MAX], [i32::MAX, i32::MAX])),
        ("large", ("w", "0", 0, [50_000, 50_000], [0, 0])),
    ] {
        let e = refusal(name, &checkpoint(&tensors(&[bad]), &[data]));
        assert!(e.contains("`w`"), "{e}");
    }
    let e = refusal("negative", &checkpoint(&tensors(&[("w", "0", -1, [2, 4], [4, 1])]), &[data]));
    assert!(e.contains("no tensors") || e.contains("_rebuild_tensor"), "{e}");
    // A view with all its elements in one place is no block of memory: kept as it is.
    attempt("a.pth", &checkpoint(&tensors(&[("w", "0", 0, [2, 4], [0, 0])]), &[data])).unwrap();
    let two: [(&str, &[u8]); 2] = [data, ("m/data/1", &[0; 32])];
    let e = refusal("a.pth", &checkpoint(&tensors(&[("w", "0", 0, [2, 4], [4, 1]), ("w", "1", 0, [2, 4], [4, 1])]), &two));
    assert!(e.contains("two tensors have this name"), "{e}");
    let order: [(&str, &[u8]); 2] = [data, ("m/byteorder", b"big")];
    assert!(refusal("a.pth", &checkpoint(&tensors(&[("w", "0", 0, [2, 4], [4, 1])]), &order)).contains("big-endian"));
}

#[test]
fn pickles_that_grow_nest_or_circle() {
    let pth = |pickle: &[u8]| checkpoint(pickle, &[]);
    // Lists in lists, 200,000 deep.
    let depth = 200_000;
    let deep = [&b"\x80\x02"[..], &b"]".repeat(depth), &b"a".repeat(depth - 1), b"."].concat();
    refusal("deep.pth", &pth(&deep));
    // Tuples of tuples of themselves: 2^1000 leaves.
    let laughs = [&b"\x80\x02)"[..], &b"2\x86".repeat(1000), b"."].concat();
    refusal("laughs.pth", &pth(&laughs));
    // A dict in itself.
    refusal("circle.pth", &pth(b"\x80\x02}q\0X\x05\0\0\0modelh\0s."));
    // A call that copies a list, over and over.
    let mut copies = b"\x80\x02ccollections\nOrderedDict\nq\0](".to_vec();
    copies.extend(b"K\x01K\x02\x86".repeat(10_000));
    copies.extend(b"e\x85q\x01");
    copies.extend(b"h\0h\x01R0".repeat(10_000));
    copies.push(b'.');
    let (e, memory) = peak(|| open(vec![source("copies.pth", &pth(&copies))]).err().unwrap().to_string());
    assert!(e.contains("again and again"), "{e}");
    assert!(memory < 512 << 20, "{memory}");
    // Lengths beyond the end.
    refusal("long.pth", &pth(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc."));
    refusal("long.pth", &pth(b"\x80\x04\x8b\xff\xff\xff\xffabc."));
}

// ONNX

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = content.len();
    while len > 0x7f {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend(content);
    out
}

/// A TensorProto of floats: dimensions as varints, name, raw data.
fn tensor(name: &str, dims: &[u8], raw: usize) -> Vec<u8> {
    [field(1, dims), vec![0x10, 1], field(8, name.as_bytes()), field(9, &vec![0; raw])].concat()
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
    let attributes: Vec<u8> = attributes.iter().flat_map(|a| field(5, a)).collect();
    [inputs, field(2, output.as_bytes()), field(4, op.as_bytes()), attributes].concat()
}

fn model(graph: &[u8]) -> Vec<u8> {
    [vec![0x08, 8], field(7, graph)].concat()
}

#[test]
fn onnx_claims() {
    let matmul = field(1, &node("MatMul", &["x", "w"], "y", &[]));
    let with = |tensor: &[u8]| model(&[matmul.clone(), field(5, tensor)].concat());
    attempt("a.onnx", &with(&tensor("w", &[2, 3], 24))).unwrap();
    for (name, dims, raw) in [
        ("too few", &[2, 3][..], 20),
        ("too many", &[2, 3], 28),
        ("10 GB", &[0xd0, 0x86, 3, 0xd0, 0x86, 3], 100),
        ("overflow", &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 0),
        ("negative", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 0),
        ("dimensions", &[1; 40], 4),
    ] {
        let e = refusal(name, &with(&tensor("w", dims, raw)));
        assert!(e.contains("`w`") || name == "dimensions", "{e}");
    }
    let e = refusal("a.onnx", &model(&[field(5, &tensor("w", &[1], 4)), field(5, &tensor("w", &[1], 4))].concat()));
    assert!(e.contains("`w`") && e.contains("two tensors have this name"), "{e}");
    // A float tensor with its shape and no data.
    refusal("a.onnx", &with(&[field(1, &[2, 3]), vec![0x10, 1], field(8, b"w")].concat()));
    // A group that does not divide the channels.
    let group = [field(1, b"group"), vec![0x18, 3]].concat();
    let conv = field(1, &node("Conv", &["x", "w"], "y", &[group]));
    let e = refusal("a.onnx", &model(&[conv, field(5, &tensor("w", &[2, 1, 1, 1], 8))].concat()));
    assert!(e.contains("`w`") && e.contains("3 groups"), "{e}");
    // Lengths that are enormous, or wrap around.
    for length in [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..], &[0x80, 0xc8, 0xaf, 0xa0, 0x25]] {
        refusal("a.onnx", &[&[0x08, 8, 0x3a], length, &[0; 100]].concat());
        refusal("a.onnx", &model(&[&[0x2a], length, &[0; 100]].concat()));
    }
}

#[test]
fn onnx_graphs_in_graphs() {
    let mut graph = field(5, &tensor("w", &[1], 4));
    for _ in 0..200 {
        let branch = [field(1, b"body"), field(6, &graph)].concat();
        graph = field(1, &node("If", &["c"], "y", &[branch]));
    }
    assert!(refusal("deep.onnx", &model(&graph)).contains("nested"));
}

#[test]
fn onnx_external_claims() {
    let entry = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let with = |entries: &[Vec<u8>]| {
        let tensor = [field(1, &[2, 3]), vec![0x10, 1], field(8, b"w"), entries.concat(), vec![0x70, 1]].concat();
        model(&[field(1, &node("MatMul", &["x", "w"], "y", &[])), field(5, &tensor)].concat())
    };
    let run = |entries: &[Vec<u8>]| open(vec![source("a.onnx", &with(entries)), source("a.data", &[0; 64])]).and_then(|m| exercise(&m));
    run(&[entry("location", "folder\\a.data"), entry("offset", "40")]).unwrap();
    for (entries, expected) in [
        (vec![], "not named"),
        (vec![entry("location", "b.data")], "b.data"),
        (vec![entry("location", "a.data"), entry("offset", "41")], "64 bytes"),
        (vec![entry("location", "a.data"), entry("offset", "18446744073709551615")], "64 bytes"),
        (vec![entry("location", "a.data"), entry("offset", "-1")], "not a number"),
        (vec![entry("location", "a.data"), entry("length", "20")], "20 bytes"),
    ] {
        let e = run(&entries).unwrap_err().to_string();
        // A file that is missing is missing for all tensors; otherwise the tensor is named.
        assert!(e.contains(expected) && (e.contains("`w`") || e.contains("is missing")), "{e}");
    }
}

// Skeletons come out of `.tq` files, which are input too.

#[test]
fn skeletons_that_do_not_fit_their_tensors() {
    struct Short;
    impl TensorReader for Short {
        fn read(&self, _: usize) -> Result<Vec<u8>> {
            Ok(vec![0; 12])
        }
    }
    let piece = |shape: &[usize], element: u8, axes: &[u8]| {
        let piece = skeleton::Piece::Permuted { tensor: 0, shape: shape.to_vec(), element, axes: axes.to_vec() };
        skeleton::write(&skeleton::Skeleton::Flat(vec![piece]), &Short, &mut std::io::sink())
    };
    piece(&[3, 1], 4, &[1, 0]).unwrap();
    for (shape, element, axes) in
        [(&[3, 2][..], 4, &[1, 0][..]), (&[3, 1], 4, &[0, 0]), (&[3, 1], 4, &[1]), (&[3, 1], 4, &[1, 2]), (&[usize::MAX, 2], 4, &[1, 0])]
    {
        piece(shape, element, axes).unwrap_err();
    }
}
