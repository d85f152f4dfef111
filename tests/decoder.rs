//! docs/tq.py, a decoder written with numpy from docs/format.md, gives the bits that this crate gives. `cargo xtask test` installs numpy for it
//! and names the folder in `WATERFILL_NUMPY`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{fs, path::Path, process::Command, rc::Rc};

use waterfill::{
    container::TqFile,
    io::{self, TensorReader, source::BytesSource, source::PathSource},
    pipeline::{Session, job::run},
    report::{AllocationSettings, Budget, Coding, CurveSettings, TransformChoice},
};

/// Runs the decoder on files; prints nothing but their checksums.
fn decoded(files: &[&Path]) -> Option<Vec<String>> {
    let Some(numpy) = std::env::var_os("WATERFILL_NUMPY") else {
        eprintln!("left out: WATERFILL_NUMPY is not set");
        return None;
    };
    let output = Command::new("python3").arg("docs/tq.py").args(files).env("PYTHONPATH", numpy).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect())
}

/// The CRC-32 over the bytes of all tensors in table order.
fn checksum(tq: &TqFile) -> String {
    let mut crc = crc32fast::Hasher::new();
    (0..tq.tensors.len()).for_each(|index| crc.update(&tq.read(index).unwrap()));
    format!("{:#010x}", crc.finalize())
}

#[test]
fn numpy_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut paths, mut expected) = (Vec::new(), Vec::new());
    // Both codings; without a transform, with a basis, within kernels, on both sides; dense layers and convolutions.
    let cases = [
        ("resnet-digits", TransformChoice::None, Coding::Depths),
        ("resnet-digits", TransformChoice::KltRow, Coding::Depths),
        ("resnet-digits", TransformChoice::IntraDct2, Coding::Depths),
        ("densenet-digits", TransformChoice::TwoSided, Coding::Depths),
        ("densenet-digits", TransformChoice::KltCol, Coding::Fixed),
        ("alexnet-digits", TransformChoice::IntraKlt, Coding::Depths),
        ("alexnet-digits", TransformChoice::KltRow, Coding::Entropy),
    ];
    for (name, transform, coding) in cases {
        let source = PathSource::open(Path::new(&format!("www/samples/{name}.onnx"))).unwrap();
        let mut session = Session::new(io::open(vec![Rc::new(source)]).unwrap()).unwrap();
        let curves = CurveSettings { coding, ..Default::default() };
        let found = run(session.curves_job(curves), &mut |_| Ok(())).unwrap();
        session.set_curves(curves, found);
        let settings = AllocationSettings { budget: Budget::Bits(3.0), transform, ..Default::default() };
        let (allocation, _) = session.allocate(&settings).unwrap();
        let layers = run(session.encode_job(&allocation), &mut |_| Ok(())).unwrap();
        let mut file = Vec::new();
        session.write(&layers, &mut file).unwrap();
        let path = folder.path().join(format!("{}.tq", paths.len()));
        fs::write(&path, &file).unwrap();
        expected.push(checksum(&TqFile::open(Rc::new(BytesSource::new("written.tq", file))).unwrap()));
        paths.push(path);
    }
    // Files of version 0.
    for entry in fs::read_dir("tests/golden_file").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "tq") {
            expected.push(checksum(&TqFile::open(Rc::new(PathSource::open(&path).unwrap())).unwrap()));
            paths.push(path);
        }
    }
    let Some(found) = decoded(&paths.iter().map(|p| &**p).collect::<Vec<_>>()) else { return };
    assert_eq!(found, expected);
}
