//! Datasets of every format, as they should be and damaged: images and labels, or an error in one sentence.
#![cfg(not(target_arch = "wasm32"))]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    io::Write,
    path::{Path, PathBuf},
    rc::Rc,
};

use proptest::prelude::*;
use waterfill::{
    data::{self, Dataset, Entry, Image, Pixels, preprocess},
    error::Result,
    io::{
        Source,
        source::{BytesSource, PathSource},
    },
    report::{Channels, Preprocessing},
};

/// Counts what this thread allocates.
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

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn entry(path: &str, bytes: Vec<u8>) -> Entry {
    let name = path.rsplit('/').next().unwrap();
    Entry { path: path.into(), source: Rc::new(BytesSource::new(name, bytes)) }
}

fn open(names: &[&str]) -> Result<Dataset> {
    data::open(names.iter().map(|name| entry(name, fixture(name))).collect())
}

fn pictures() -> Vec<&'static str> {
    let names = ["cat/grey.png", "cat/rgb.png", "dog/alpha.png", "dog/lossless.webp", "dog/sixteen.png", "dog/smooth.jpg"];
    names.into_iter().map(|n| Box::leak(format!("pictures/{n}").into_boxed_str()) as &str).collect()
}

fn image(data: &Dataset, index: usize) -> Result<Image> {
    data::decode(data.images.read(index)?)
}

/// The picture of `make.py`.
fn pattern(i: usize, height: usize, width: usize, channels: usize) -> Vec<u8> {
    let value = |y, x, c| ((i * 40 + y * 31 + x * 17 + c * 73 + y * x * 5) % 256) as u8;
    (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..channels).map(move |c| value(y, x, c)))).collect()
}

fn is_pattern(data: &Dataset, count: usize, size: [usize; 3]) {
    assert_eq!((data.images.len(), data.summary.images, data.summary.size), (count, count, size));
    let [height, width, channels] = size;
    for i in 0..count {
        let pixels = Pixels::U8(pattern(i, height, width, channels));
        assert_eq!(image(data, i).unwrap(), Image { height, width, channels, pixels }, "image {i}");
    }
}

const LABELS: [u32; 5] = [0, 1, 2, 0, 1];

#[test]
fn arrays() {
    for (name, format) in [("stored.npz", "npz"), ("deflated.npz", "npz"), ("fortran.npy", "npy")] {
        let data = open(&[name]).unwrap();
        is_pattern(&data, 5, [4, 6, 3]);
        assert_eq!(data.summary.format, format);
        assert_eq!(data.labels.as_deref(), (format == "npz").then_some(&LABELS[..]), "{name}");
        // Four rows, three channels: that could be either.
        assert_eq!(data.summary.notes.iter().any(|n| n.contains("height × width × channels")), name != "deflated.npz", "{name}");
    }
    is_pattern(&open(&["grey.npy"]).unwrap(), 5, [4, 6, 1]);
    let both = open(&["grey.npy", "labels.npy"]).unwrap();
    is_pattern(&both, 5, [4, 6, 1]);
    assert_eq!(both.labels.as_deref(), Some(&LABELS[..]));
    let float = open(&["float.npz"]).unwrap();
    assert_eq!(float.labels.as_deref(), Some(&LABELS[..]));
    let Pixels::F32(values) = image(&float, 2).unwrap().pixels else { panic!("floats stay floats") };
    assert!(values.iter().zip(pattern(2, 4, 6, 3)).all(|(v, p)| (v - f32::from(p) / 255.0).abs() < 1e-3));
}

#[test]
fn cifar() {
    let ten = open(&["cifar10.bin"]).unwrap();
    is_pattern(&ten, 2, [32, 32, 3]);
    assert_eq!((ten.summary.format.as_str(), ten.labels), ("cifar-10", Some(vec![0, 1])));
    let hundred = open(&["cifar100.bin"]).unwrap();
    is_pattern(&hundred, 2, [32, 32, 3]);
    assert_eq!((hundred.summary.format.as_str(), hundred.labels), ("cifar-100", Some(vec![90, 91])));

    let batch = fixture("cifar10.bin");
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    let file = |name: &str, bytes: &[u8]| entry(&format!("cifar-10-batches-bin/{name}"), bytes.to_vec());
    let two = || vec![file("data_batch_2.bin", &batch[3073..]), file("data_batch_1.bin", &batch), file("readme.html", b"<html>")];
    let data = data::open(two()).unwrap();
    assert_eq!((data.labels, data.summary.name.as_str()), (Some(vec![0, 1, 1]), "cifar-10-batches-bin"));
    assert!(data.summary.notes[0].contains("readme.html is not used"));
    let mut with_test = two();
    with_test.extend([file("test_batch.bin", &batch[3073..]), file("batches.meta.txt", names.as_bytes())]);
    let data = data::open(with_test).unwrap();
    assert_eq!((data.images.len(), data.summary.classes.len()), (1, 10));
    assert!(data.summary.notes.iter().any(|n| n.starts_with("2 of the batches are not used")), "{:?}", data.summary.notes);
    let mut mixed = two();
    mixed.push(file("train.bin", &fixture("cifar100.bin")));
    assert!(data::open(mixed).err().unwrap().to_string().contains("CIFAR-100"));
}

#[test]
fn mnist() {
    for end in ["", ".gz"] {
        let names = [format!("t10k-images-idx3-ubyte{end}"), format!("t10k-labels-idx1-ubyte{end}")];
        let data = open(&[&names[0], &names[1]]).unwrap();
        is_pattern(&data, 5, [4, 6, 1]);
        assert_eq!((data.summary.format.as_str(), data.labels.as_deref()), ("idx", Some(&LABELS[..])));
        assert_eq!(open(&[&names[0]]).unwrap().labels, None);
        assert!(open(&[&names[1]]).err().unwrap().to_string().contains("labels without images"));
    }
    // Training files beside them are left out, and their labels are not taken.
    let (images, labels) = (fixture("t10k-images-idx3-ubyte"), fixture("t10k-labels-idx1-ubyte"));
    let mut other = labels.clone();
    other[8] = 9;
    let files = [("train-images.idx3-ubyte", &images), ("t10k-images.idx3-ubyte", &images), ("train-labels.idx1-ubyte", &other)];
    let mut entries: Vec<Entry> = files.iter().map(|(name, bytes)| entry(name, bytes.to_vec())).collect();
    entries.push(entry("t10k-labels.idx1-ubyte", labels));
    let data = data::open(entries).unwrap();
    assert_eq!(data.labels.as_deref(), Some(&LABELS[..]));
    assert!(data.summary.notes[0].contains("train-images.idx3-ubyte is not used"));
}

#[test]
fn folders_and_zips_of_images() {
    for data in [open(&pictures()).unwrap(), open(&["pictures.zip"]).unwrap()] {
        assert_eq!((data.images.len(), data.labels.as_deref()), (6, Some(&[0, 0, 1, 1, 1, 1][..])));
        assert_eq!(data.summary.classes, ["cat", "dog"]);
        assert_eq!(data.images.name(1), "pictures/cat/rgb.png");
        let of =
            |i, channels, pixels| assert_eq!(image(&data, i).unwrap(), Image { height: 4, width: 6, channels, pixels: Pixels::U8(pixels) });
        of(0, 1, pattern(1, 4, 6, 1));
        of(1, 3, pattern(0, 4, 6, 3));
        // Transparency is dropped, the colours below it stay.
        of(2, 3, pattern(2, 4, 6, 4).chunks(4).flat_map(|p| [p[0], p[1], p[2]]).collect());
        of(3, 3, pattern(3, 4, 6, 3));
        of(4, 1, pattern(4, 4, 6, 1));
        // Pillow's decoder, every fifth row and seventh column.
        let pillow = [
            1, 0, 124, 2, 55, 125, 3, 110, 126, 4, 166, 127, 38, 2, 126, 40, 57, 127, 40, 112, 127, 39, 168, 127, 78, 2, 128, 79, 57, 129,
            79, 112, 129, 80, 168, 128, 114, 2, 126, 115, 58, 129, 116, 114, 128, 117, 169, 130,
        ];
        let Image { pixels: Pixels::U8(pixels), .. } = image(&data, 5).unwrap() else { panic!("bytes") };
        let ours = (0..16).step_by(5).flat_map(|y| (0..24).step_by(7).flat_map(move |x| (0..3).map(move |c| (y * 24 + x) * 3 + c)));
        assert!(ours.zip(pillow).all(|(at, p): (usize, i32)| (i32::from(pixels[at]) - p).abs() <= 2));
    }
    // From disk, as the command line opens them.
    let path = folder().join("pictures/cat/rgb.png");
    let one = data::open(vec![Entry { path: "rgb.png".into(), source: Rc::new(PathSource::open(path).unwrap()) }]).unwrap();
    assert_eq!((one.summary.name.as_str(), one.summary.labelled, one.summary.size), ("rgb.png", false, [4, 6, 3]));
}

#[test]
fn labels_of_their_own() {
    let text = |data: &str| -> Rc<dyn Source> { Rc::new(BytesSource::new("labels.csv", data.as_bytes().to_vec())) };
    let grey = || open(&["grey.npy"]).unwrap();
    let of = |data: Dataset, labels| data::with_labels(data, labels).map(|d| (d.labels.unwrap(), d.summary.classes));
    assert_eq!(of(grey(), text("0\n1\n2\n0\n1")).unwrap(), (LABELS.to_vec(), vec![]));
    assert_eq!(of(grey(), text("label\r\n0\r\n1\r\n2\r\n0\r\n1\r\n\r\n")).unwrap().0, LABELS);
    assert_eq!(of(grey(), text("b\na\nc\nb\na")).unwrap(), (vec![1, 0, 2, 1, 0], vec!["a".into(), "b".into(), "c".into()]));
    let npy = Rc::new(BytesSource::new("labels.npy", fixture("labels.npy")));
    assert_eq!(of(grey(), npy).unwrap().0, LABELS);
    let npz = Rc::new(BytesSource::new("stored.npz", fixture("stored.npz")));
    assert_eq!(of(grey(), npz).unwrap().0, LABELS);

    let zip = || open(&["pictures.zip"]).unwrap();
    let named = "file,label\nrgb.png,5\ngrey.png,4\nalpha.png,3\nlossless.webp,2\npictures/dog/sixteen.png,1\nsmooth.jpg,0\nnone.png,9\n";
    assert_eq!(of(zip(), text(named)).unwrap().0, [4, 5, 3, 2, 1, 0]);
    let spaced = named.replace(',', " ").replacen("file label\n", "", 1);
    assert_eq!(of(zip(), text(&spaced)).unwrap().0, [4, 5, 3, 2, 1, 0]);

    let wrong = |data, labels| of(data, text(labels)).unwrap_err().to_string();
    assert!(wrong(grey(), "0\n1\n2\n0").contains("4 labels for 5 images"));
    assert!(wrong(grey(), named).contains("the images of grey.npy are numbered"));
    assert!(wrong(zip(), "rgb.png,5\ngrey.png,4\n").contains("no label for pictures/dog/alpha.png"));
    assert!(wrong(grey(), "\u{fffd}").contains("1 labels for 5 images"));
    let binary = Rc::new(BytesSource::new("labels.txt", vec![0xff; 100]));
    assert!(of(grey(), binary).unwrap_err().to_string().contains("no text"));
}

/// What Pillow makes of the pattern; printed by `make.py`. Size, shorter side, crop, size of the result, its first 24 values, its sum.
type Resized = ([usize; 2], usize, Option<[usize; 2]>, [usize; 2], [i32; 24], i64);

#[test]
fn resizes_as_pillow_does() {
    #[rustfmt::skip]
    let known: [Resized; 8] = [
        ([4, 6], 3, None, [3, 4], [16, 89, 162, 42, 115, 188, 69, 142, 190, 95, 168, 164, 56, 129, 202, 90, 163, 151, 126, 199, 101, 160, 153, 50], 4600),
        ([13, 10], 3, None, [3, 3], [100, 141, 135, 137, 133, 123, 140, 120, 117, 136, 112, 122, 122, 131, 128, 120, 123, 128, 125, 126, 126, 126, 120, 122], 3378),
        ([4, 6], 9, None, [9, 13], [0, 73, 146, 3, 76, 149, 11, 84, 157, 19, 92, 165, 27, 100, 173, 35, 108, 181, 43, 116, 189, 50, 123, 196], 44762),
        ([13, 10], 9, None, [11, 9], [8, 81, 154, 28, 101, 174, 48, 121, 194, 68, 141, 193, 88, 161, 182, 107, 180, 202, 127, 165, 82, 146, 168, 36], 37211),
        ([4, 6], 5, Some([5, 4]), [5, 4], [28, 101, 174, 43, 116, 189, 57, 130, 203, 72, 145, 218, 55, 128, 201, 73, 146, 219, 91, 164, 172, 108, 181, 75], 7718),
        ([13, 10], 5, Some([5, 4]), [5, 4], [40, 113, 179, 77, 150, 169, 119, 169, 122, 155, 132, 101, 106, 172, 131, 155, 137, 81, 165, 101, 115, 131, 112, 148], 7545),
        ([4, 6], 7, None, [7, 10], [0, 73, 146, 7, 80, 153, 17, 90, 163, 27, 100, 173, 37, 110, 183, 48, 121, 194, 58, 131, 204, 68, 141, 214], 26782),
        ([13, 10], 7, None, [9, 7], [18, 91, 164, 42, 115, 188, 68, 141, 194, 96, 169, 151, 123, 181, 152, 149, 135, 45, 173, 156, 63, 60, 133, 201], 23667),
    ];
    for ([height, width], side, crop, [h, w], first, sum) in known {
        let p = Preprocessing {
            resize: Some(side),
            crop,
            channels: Channels::Rgb,
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
            channels_last: true,
            origin: String::new(),
        };
        let picture = Image { height, width, channels: 3, pixels: Pixels::U8(pattern(0, height, width, 3)) };
        assert_eq!(preprocess::shape(&p, &picture).unwrap(), [h, w, 3]);
        let out: Vec<i32> = preprocess::apply(&p, &picture).unwrap().into_iter().map(|v| v as i32).collect();
        assert!(out.iter().zip(first).all(|(a, b)| (a - b).abs() <= 1), "{height}×{width} to {side}: {:?}, not {first:?}", &out[..24]);
        let off = (out.iter().map(|&v| i64::from(v)).sum::<i64>() - sum).abs();
        assert!(off as usize <= out.len() / 20, "{height}×{width} to {side}: off by {off} in all");
    }
}

/// Reads everything of a dataset.
fn read_all(files: Vec<Entry>) -> Result<usize> {
    let data = data::open(files)?;
    for i in 0..data.images.len() {
        let image = image(&data, i)?;
        let values = match &image.pixels {
            Pixels::U8(v) => v.len(),
            Pixels::F32(v) => v.len(),
        };
        assert_eq!(values, image.height * image.width * image.channels);
    }
    if let Some(labels) = &data.labels {
        assert_eq!(labels.len(), data.images.len());
    }
    Ok(data.images.len())
}

fn one_sentence(e: waterfill::error::Error) -> String {
    let text = e.to_string();
    assert!(text.ends_with('.') && !text.contains('\n') && text.len() < 1500, "{text}");
    text
}

const ALL: [&str; 13] = [
    "stored.npz",
    "deflated.npz",
    "float.npz",
    "grey.npy",
    "fortran.npy",
    "cifar10.bin",
    "t10k-images-idx3-ubyte",
    "t10k-images-idx3-ubyte.gz",
    "pictures.zip",
    "pictures/cat/rgb.png",
    "pictures/dog/lossless.webp",
    "pictures/dog/sixteen.png",
    "pictures/dog/smooth.jpg",
];

#[test]
fn wrong_labels_and_strange_files() {
    for (name, part) in [("short-labels.npz", "4 labels for 5 images"), ("half-label.npz", "a label is 0.5")] {
        let text = one_sentence(open(&[name]).err().unwrap());
        assert!(text.contains(part), "{text}");
    }
    let strange: [(&str, &[u8], &str); 6] = [
        ("a.npz", b"", "it is empty"),
        ("notes.txt", b"hello", "no images of a known format"),
        ("a.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x04\0\x43\xbe\xb7\xe8\x01\0\0\0", "not one of MNIST's"),
        ("a.png", b"<!doctype html>", "not a PNG, JPEG or WebP"),
        ("a.zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "without arrays or images"),
        (".DS_Store", b"1234", "it has no files"),
    ];
    for (name, bytes, part) in strange {
        let text = one_sentence(read_all(vec![entry(name, bytes.to_vec())]).unwrap_err());
        assert!(text.contains(part), "{text}");
    }
    assert!(one_sentence(data::open(Vec::new()).err().unwrap()).contains("it has no files"));
    let text = one_sentence(open(&["stored.npz", "cifar10.bin"]).err().unwrap());
    assert!(text.contains("different formats"), "{text}");
}

#[test]
fn files_cut_short() {
    for name in ALL {
        let bytes = fixture(name);
        let whole = read_all(vec![entry(name, bytes.clone())]).unwrap();
        for cut in (0..bytes.len()).step_by(bytes.len() / 200 + 1) {
            let (result, peak) = peak(|| read_all(vec![entry(name, bytes[..cut].to_vec())]));
            assert!(peak < 20 << 20, "{name} cut at {cut}: {peak} bytes");
            match result {
                Err(e) => drop(one_sentence(e)),
                // A decoder may make do with what is there; a batch may be cut between two images.
                Ok(n) => assert!(n < whole || name.contains("pictures"), "{name} cut at {cut}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn files_with_wrong_bytes(which in 0..ALL.len(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = fixture(ALL[which]);
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        let (result, peak) = peak(|| read_all(vec![entry(ALL[which], bytes)]));
        prop_assert!(peak < 1200 << 20, "{}: {peak} bytes", ALL[which]);
        if let Err(e) = result {
            one_sentence(e);
        }
    }

    #[test]
    fn labels_of_any_text(text in ".{0,200}") {
        let data = open(&["grey.npy"]).unwrap();
        match data::with_labels(data, Rc::new(BytesSource::new("labels.txt", text.into_bytes()))) {
            Ok(data) => prop_assert_eq!(data.labels.unwrap().len(), 5),
            Err(e) => drop(one_sentence(e)),
        }
    }
}

#[test]
fn claims_that_no_file_keeps() {
    let refused = |name: &str, bytes: Vec<u8>| {
        let (result, peak) = peak(|| read_all(vec![entry(name, bytes)]));
        assert!(peak < 8 << 20, "{name}: {peak} bytes");
        one_sentence(result.unwrap_err())
    };
    // An array of petabytes.
    let mut npy = fixture("grey.npy");
    let at = npy.windows(9).position(|w| w == b"(5, 4, 6)").unwrap();
    npy.splice(at..at + 9, *b"(500000, 400000, 6)");
    let moved = npy.iter().position(|&b| b == b'\n').unwrap();
    npy.drain(moved - 10..moved);
    refused("a.npy", npy);
    // A PNG of 30000×30000 and of 4 billion pixels a side.
    for side in [30_000u32, u32::MAX] {
        let mut png = fixture("pictures/cat/rgb.png");
        png[16..20].copy_from_slice(&side.to_be_bytes());
        png[20..24].copy_from_slice(&side.to_be_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&png[12..29]);
        let crc = crc.finalize();
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        refused("a.png", png);
    }
    // A gzip file that claims, and one that holds, more images than it says.
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    let header = |n: u32| [&[0, 0, 8, 3][..], &n.to_be_bytes(), &[0, 0, 0, 28, 0, 0, 0, 28]].concat();
    refused("a.gz", gzip(&[header(60_000), vec![0; 1000]].concat()));
    refused("b.gz", gzip(&[header(1), vec![0; 4 << 20]].concat()));
    // An archive that inflates to two gigabytes, or says so.
    let mut npz = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    npz.start_file("images.npy", zip::write::SimpleFileOptions::default()).unwrap();
    let mut npy = b"\x93NUMPY\x01\0\x76\0{'descr': '|u1', 'fortran_order': False, 'shape': (2048, 1024, 1024, 1), }".to_vec();
    npy.resize(127, b' ');
    npy.push(b'\n');
    npz.write_all(&npy).unwrap();
    let zeros = vec![0u8; 1 << 20];
    (0..2048).for_each(|_| npz.write_all(&zeros).unwrap());
    let bytes = npz.finish().unwrap().into_inner();
    let text = refused("bomb.npz", bytes);
    assert!(text.contains("inflates to 2147483776 bytes"), "{text}");
}
