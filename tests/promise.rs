//! `waterfill compress --lose`: the file that is written keeps the promise when it is run by itself.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/samples").join(name)
}

fn waterfill(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waterfill")).args(words.iter().map(|w| w.as_ref())).output().expect("the tool starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_file_keeps_the_promise_by_its_own_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let [tq, report, again, evaluated] = ["a.tq", "a.json", "again.tq", "eval.json"].map(|name| folder.path().join(name));
    let (model, data) = (sample("resnet-digits.onnx"), sample("digits-test.npz"));
    let out = waterfill(&[&"compress", &model, &"-o", &tq, &"--lose", &"1", &"--test", &data, &"--report", &report]);
    assert!(out.status.success(), "{}", text(&out.stderr));

    let report = json(&report);
    let promise = &report["promise"];
    let tries = promise["tries"].as_array().unwrap();
    assert!((2..=8).contains(&tries.len()) && promise["of"] == "top1" && promise["images"] == 600, "{promise}");
    assert_eq!(text(&out.stderr).lines().filter(|l| l.contains(" bits: ")).count(), tries.len(), "{}", text(&out.stderr));
    let best = &tries[promise["best"].as_u64().unwrap() as usize];
    let kept = tries.iter().filter(|t| t["keeps"] == true).map(|t| t["bytes"].as_u64().unwrap());
    assert_eq!((kept.min(), best["bytes"].as_u64()), (Some(fs::metadata(&tq).unwrap().len()), report["allocation"]["bytes"].as_u64()));
    assert!(tries.iter().any(|t| t["keeps"] == false), "one more would be too many: {promise}");
    assert!(text(&out.stdout).contains("Kept at") && text(&out.stdout).contains("Chance alone is ±"), "{}", text(&out.stdout));

    // The file by itself, against the original.
    let out = waterfill(&[&"eval", &tq, &"--data", &data, &"--reference", &model, &"--report", &evaluated]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let evaluated = json(&evaluated);
    let top1 = |which: &str| evaluated[which]["top1"].as_f64().unwrap();
    assert!(top1("reference") - top1("compressed") <= 0.01 + 1e-9);
    assert_eq!((Some(top1("compressed")), Some(top1("reference"))), (best["has"].as_f64(), promise["full"].as_f64()));

    // The command of the report writes the same file, without a search.
    let asked = best["asked"].to_string();
    assert!(report["command"].as_str().unwrap().ends_with(&format!("--bits {asked}")), "{}", report["command"]);
    assert!(waterfill(&[&"compress", &model, &"-o", &again, &"--bits", &asked]).status.success());
    assert_eq!(fs::read(&again).unwrap(), fs::read(&tq).unwrap());
}

#[test]
fn without_labels_it_is_agreement_and_what_cannot_be_kept_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (tq, unlabelled, report) = (folder.path().join("a.tq"), folder.path().join("x.npy"), folder.path().join("a.json"));
    let model = sample("alexnet-digits.onnx");
    // 60 pictures of noise: nothing to be right about.
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (60, 8, 8)}";
    bytes.extend(format!("{header:<117}\n").bytes());
    let mut seed = 7u32;
    bytes.extend((0..60 * 64).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    }));
    fs::write(&unlabelled, bytes).unwrap();
    let words: [&dyn AsRef<std::ffi::OsStr>; 10] =
        [&"compress", &model, &"-o", &tq, &"--lose", &"5", &"--test", &unlabelled, &"--report", &report];
    let out = waterfill(&words);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(json(&report)["promise"]["of"], "agreement");
    assert!(text(&out.stdout).contains("have no labels"), "{}", text(&out.stdout));

    fs::remove_file(&tq).unwrap();
    // A layer without a bit is a network that knows nothing.
    let data = sample("digits-test.npz");
    let inspected: Value = serde_json::from_slice(&waterfill(&[&"inspect", &model, &"--json"]).stdout).unwrap();
    let lock = format!("{}=0", inspected["model"]["layers"][1]["name"].as_str().unwrap());
    let out = waterfill(&[&"compress", &model, &"-o", &tq, &"--lose", &"0.5", &"--test", &data, &"--lock", &lock]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    assert!(said.contains("error: alexnet-digits.onnx: Even at ") && said.contains("more than 0.5"), "{said}");
    assert!(!tq.exists());

    for words in [&["--lose", "1"][..], &["--lose", "101", "--test", "x"], &["--lose", "1", "--bits", "2", "--test", "x"]] {
        let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"compress", &model];
        all.extend(words.iter().map(|w| w as &dyn AsRef<std::ffi::OsStr>));
        assert_eq!(waterfill(&all).status.code(), Some(2), "{words:?}");
    }
}
