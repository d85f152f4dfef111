//! The command line tool as a user runs it.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/samples").join(name)
}

type Word<'a> = &'a dyn AsRef<std::ffi::OsStr>;

fn waterfill(args: &[Word]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waterfill")).args(args.iter().map(|a| a.as_ref())).output().expect("the tool starts")
}

/// Output that is closed before the end (`| head`) is no failure of the program's.
#[cfg(unix)]
#[test]
fn nobody_has_to_read_all_that_is_printed() {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_waterfill"))
        .args([&"inspect" as Word, &sample("alexnet-digits.onnx"), &"--json"].map(|a| a.as_ref().to_os_string()))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the tool starts");
    drop(tool.stdout.take());
    let output = tool.wait_with_output().expect("the tool ends");
    assert_eq!(stderr(&output), "");
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn compress_inspect_decompress() {
    let folder = tempfile::tempdir().unwrap();
    let (tq, back, report) = (folder.path().join("a.tq"), folder.path().join("back.onnx"), folder.path().join("r.json"));
    let model = sample("resnet-digits.onnx");
    let out = waterfill(&[&"compress", &model, &"-o", &tq, &"--bits", &"4", &"--report", &report, &"--layers"]);
    assert!(out.status.success(), "{}", stderr(&out));
    let bytes = fs::metadata(&tq).unwrap().len();
    assert!(stdout(&out).contains(&format!("{bytes} bytes")), "{}", stdout(&out));

    let report: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["allocation"]["bytes"], bytes);
    assert!(report["allocation"]["rate"].as_f64().unwrap() <= 4.0);
    assert_eq!(report["allocation"]["measured"], true);
    assert!(report["command"].as_str().unwrap().starts_with("waterfill compress resnet-digits.onnx -o resnet-digits.tq --bits 4"));

    let inspected: serde_json::Value = serde_json::from_slice(&waterfill(&[&"inspect", &tq, &"--json"]).stdout).unwrap();
    assert_eq!(inspected["allocation"]["bytes"], bytes);
    assert_eq!(inspected["model"]["layers"], report["model"]["layers"]);
    let other = inspected["allocation"]["other_bytes"].as_u64().unwrap();
    let said = stdout(&waterfill(&[&"inspect", &tq]));
    assert!(said.contains(&format!("{} bytes in layers", bytes - other)) && said.contains(&format!("{other} in the graph")), "{said}");

    let out = waterfill(&[&"decompress", &tq, &"-o", &back]);
    assert!(out.status.success(), "{}", stderr(&out));
    let original: serde_json::Value = serde_json::from_slice(&waterfill(&[&"inspect", &model, &"--json"]).stdout).unwrap();
    let rebuilt: serde_json::Value = serde_json::from_slice(&waterfill(&[&"inspect", &back, &"--json"]).stdout).unwrap();
    assert_eq!(original["model"]["layers"], rebuilt["model"]["layers"]);
    // Without -o an existing file is never overwritten.
    fs::copy(&back, folder.path().join("resnet-digits.onnx")).unwrap();
    let out = waterfill(&[&"decompress", &tq]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("exists; name the output with -o"));
}

/// One tensor alone is that of the whole file; of a damaged file all but the damaged tensor come back, and it is named.
#[test]
fn some_tensors_and_damaged_files() {
    let folder = tempfile::tempdir().unwrap();
    let [tq, damaged, whole, part, back] =
        ["a.tq", "damaged.tq", "whole.safetensors", "part.safetensors", "back.onnx"].map(|name| folder.path().join(name));
    assert!(waterfill(&[&"compress", &sample("resnet-digits.onnx"), &"-o", &tq, &"--bits", &"4"]).status.success());
    let inspected: serde_json::Value = serde_json::from_slice(&waterfill(&[&"inspect", &tq, &"--json"]).stdout).unwrap();
    let names: Vec<&str> = inspected["model"]["layers"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    let mut all: Vec<Word> = vec![&"decompress", &tq, &"-o", &whole];
    names.iter().for_each(|name| all.extend([&"--tensor" as Word, name]));
    assert!(waterfill(&all).status.success());
    let read = |path: &Path| fs::read(path).unwrap();
    let tensor = |file: &[u8], name: &str| safetensors::SafeTensors::deserialize(file).unwrap().tensor(name).unwrap().data().to_vec();
    let out = waterfill(&[&"decompress", &tq, &"-o", &part, &"--tensor", &names[1]]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(safetensors::SafeTensors::deserialize(&read(&part)).unwrap().names(), [names[1]]);
    assert_eq!(tensor(&read(&part), names[1]), tensor(&read(&whole), names[1]));
    let out = waterfill(&[&"decompress", &tq, &"-o", &part, &"--tensor", &"nobody"]);
    assert!(!out.status.success() && stderr(&out).contains("no tensor `nobody`"), "{}", stderr(&out));

    // The last section before the end's is that of the last layer.
    let mut bytes = read(&tq);
    let at = bytes.len() - 13 - 8;
    bytes[at] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let out = waterfill(&[&"decompress", &damaged, &"-o", &back]);
    assert!(!out.status.success() && !back.exists());
    let lost = names.iter().filter(|name| stderr(&out).contains(&format!("`{name}`"))).copied().collect::<Vec<_>>();
    assert_eq!(lost.len(), 1, "{}", stderr(&out));
    let out = waterfill(&[&"decompress", &damaged, &"-o", &back, &"--recover"]);
    assert!(out.status.success() && stderr(&out).contains(lost[0]) && stdout(&out).contains("1 of"), "{}{}", stdout(&out), stderr(&out));
    assert!(waterfill(&[&"inspect", &back]).status.success());
    all[1] = &damaged;
    all.push(&"--recover");
    assert!(waterfill(&all).status.success());
    let rest = read(&whole);
    for name in &names {
        let bytes = tensor(&rest, name);
        assert_eq!(bytes.iter().all(|b| *b == 0), *name == lost[0], "{name}");
    }
}

/// Entropy-coded indices of the same depths: a smaller file that gives back the same model.
#[test]
fn codings() {
    let folder = tempfile::tempdir().unwrap();
    let model = sample("resnet-digits.onnx");
    let mut files = Vec::new();
    for coding in ["fixed", "depths"] {
        let [tq, back, report] = ["tq", "onnx", "json"].map(|e| folder.path().join(format!("{coding}.{e}")));
        let out = waterfill(&[&"compress", &model, &"-o", &tq, &"--bits", &"3", &"--coding", &coding, &"--report", &report]);
        assert!(out.status.success(), "{}", stderr(&out));
        let bytes = fs::metadata(&tq).unwrap().len();
        assert!(stdout(&out).contains(&format!("{bytes} bytes")), "{}", stdout(&out));
        let report: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        assert_eq!((&report["allocation"]["bytes"], &report["curve_settings"]["coding"]), (&bytes.into(), &coding.into()));
        assert_eq!(report["command"].as_str().unwrap().contains("--coding depths"), coding == "depths");
        let inspected: serde_json::Value = serde_json::from_slice(&waterfill(&[&"inspect", &tq, &"--json"]).stdout).unwrap();
        assert_eq!(inspected["allocation"]["bytes"], bytes);
        assert_eq!(inspected["allocation"]["rate"], report["allocation"]["rate"]);
        assert!(waterfill(&[&"decompress", &tq, &"-o", &back]).status.success());
        files.push((bytes, fs::read(&back).unwrap()));
    }
    assert!(files[1].0 < files[0].0, "{} bytes entropy-coded, {} in fixed lengths", files[1].0, files[0].0);
    assert!(files[0].1 == files[1].1, "both give back the same file");
}

#[test]
fn budgets_locks_and_excludes() {
    let folder = tempfile::tempdir().unwrap();
    let model = sample("alexnet-digits.onnx");
    let tq = folder.path().join("a.tq");
    assert!(waterfill(&[&"compress", &model, &"-o", &tq, &"--size", &"40000"]).status.success());
    let bytes = fs::metadata(&tq).unwrap().len();
    assert!((39_000..=40_000).contains(&bytes), "{bytes}");
    assert!(waterfill(&[&"compress", &model, &"-o", &tq, &"--ratio", &"6"]).status.success());
    assert!(fs::metadata(&tq).unwrap().len() * 6 <= fs::metadata(&model).unwrap().len());

    let layers: serde_json::Value = serde_json::from_slice(&waterfill(&[&"inspect", &model, &"--json"]).stdout).unwrap();
    let name = |i: usize| layers["model"]["layers"][i]["name"].as_str().unwrap().to_string();
    let lock = format!("{}=8", name(0));
    let out = waterfill(&[
        &"compress",
        &model,
        &"-o",
        &tq,
        &"--bits",
        &"3",
        &"--lock",
        &lock,
        &"--exclude",
        &name(1),
        &"--transform",
        &"klt-col",
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    let inspected: serde_json::Value = serde_json::from_slice(&waterfill(&[&"inspect", &tq, &"--json"]).stdout).unwrap();
    let layer = &inspected["allocation"]["layers"];
    assert!(layer[0]["depths"].as_array().unwrap().iter().all(|d| *d == 8));
    assert!(layer.as_array().unwrap().iter().all(|l| l["excluded"] == true || l["transform"] == "klt-col" || l["transform"] == "none"));
    assert_eq!(layer[1]["excluded"], true);

    let out = waterfill(&[&"compress", &model, &"-o", &tq, &"--bits", &"60"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("is not reachable; the nearest is"), "{}", stderr(&out));
    let out = waterfill(&[&"compress", &model, &"-o", &tq, &"--exclude", &"nonsense"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("has no layer `nonsense`"), "{}", stderr(&out));
}

#[test]
fn several_models_and_one_that_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.onnx");
    fs::write(&broken, b"not a model").unwrap();
    let out = waterfill(&[&"compress", &sample("resnet-digits.onnx"), &broken, &sample("densenet-digits.onnx"), &"-o", &folder.path()]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).starts_with("error: broken.onnx"), "{}", stderr(&out));
    assert!(folder.path().join("resnet-digits.tq").exists() && folder.path().join("densenet-digits.tq").exists());
    assert!(!folder.path().join("broken.tq").exists());
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "part")).collect();
    assert!(left.is_empty());
}

#[test]
fn curves() {
    let folder = tempfile::tempdir().unwrap();
    let (svg, png, bars) = (folder.path().join("c.svg"), folder.path().join("c.png"), folder.path().join("bars.svg"));
    let drawn = waterfill(&[&"curve", &sample("alexnet-digits.onnx"), &"--plot", &svg, &"--plot", &png]);
    assert!(drawn.status.success(), "{}", stderr(&drawn));
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg") && fs::read(&png).unwrap().starts_with(b"\x89PNG"));
    let tq = folder.path().join("a.tq");
    assert!(waterfill(&[&"compress", &sample("alexnet-digits.onnx"), &"-o", &tq, &"--report", &bars]).status.success());
    assert!(fs::read_to_string(&bars).unwrap().starts_with("<svg"));
    let out = waterfill(&[&"curve", &sample("densenet-digits.onnx"), &"--json"]);
    let curves: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let labels: Vec<_> = curves["curves"]["lines"].as_array().unwrap().iter().map(|l| l["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["none", "KLT", "auto"]);
    let csv = stdout(&waterfill(&[&"curve", &sample("densenet-digits.onnx")]));
    assert!(csv.starts_with("line,bits_per_weight,bytes,distortion_db\nnone,"));
}

#[test]
fn usage_errors_exit_with_2() {
    let model = sample("resnet-digits.onnx");
    let wrong: [&[Word]; 7] = [
        &[&"compress"],
        &[&"compress", &model, &"--bits", &"0"],
        &[&"compress", &model, &"--bits", &"3", &"--ratio", &"4"],
        &[&"compress", &model, &"--lock", &"a=11"],
        &[&"compress", &model, &"--blocks", &"0"],
        &[&"frobnicate"],
        &[],
    ];
    for args in wrong {
        assert_eq!(waterfill(args).status.code(), Some(2));
    }
    let help = waterfill(&[&"--help"]);
    assert!(help.status.success() && stdout(&help).contains("Examples:"));
}

#[test]
fn a_missing_file_is_one_sentence() {
    let out = waterfill(&[&"inspect", &"/nonexistent/model.onnx"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(stderr(&out).trim().lines().count(), 1);
    assert!(stderr(&out).contains("model.onnx"));
}

#[test]
fn gains_are_printed_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let (json, csv) = (folder.path().join("gains.json"), folder.path().join("gains.csv"));
    let (model, data) = (sample("resnet-digits.onnx"), sample("digits-test.npz"));
    let layers: serde_json::Value = serde_json::from_slice(&waterfill(&[&"inspect", &model, &"--json"]).stdout).unwrap();
    let first = layers["model"]["layers"][1]["name"].as_str().unwrap();
    let plain = waterfill(&[&"gains", &model, &"--json", &json, &"--rows", &first]);
    assert!(plain.status.success(), "{}", stderr(&plain));
    let read = || -> serde_json::Value { serde_json::from_slice(&fs::read(&json).unwrap()).unwrap() };
    let gains = |report: &serde_json::Value| {
        report["layers"].as_array().unwrap().iter().flat_map(|l| l["transforms"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    let report = read();
    assert!(
        report.get("calibration").is_none()
            && report["layers"].as_array().unwrap().len() == layers["model"]["layers"].as_array().unwrap().len()
    );
    for gain in gains(&report) {
        assert!(gain["gradient_db"].as_f64().unwrap().abs() < 1e-4, "{gain}");
        assert!(gain["transform"] != "klt-row" || gain["weight_db"].as_f64().unwrap() > 0.0);
        assert!(!gain["transform"].as_str().unwrap().contains("elt"));
    }
    let with_rows = |l: &&serde_json::Value| l["transforms"].as_array().unwrap().iter().any(|t| !t["rows"].is_null());
    let chosen: Vec<_> = report["layers"].as_array().unwrap().iter().filter(with_rows).map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(chosen, [first]);
    assert!(stdout(&plain).contains(&format!("{first}, intra-dct2: dB over the mean before")), "{}", stdout(&plain));

    let out = waterfill(&[&"gains", &model, &"--calibration", &data, &"--calibration-images", &"60", &"--json", &json, &"--csv", &csv]);
    assert!(out.status.success(), "{}", stderr(&out));
    let report = read();
    assert_eq!(report["calibration"]["images"], 60);
    let of =
        |name: &str| gains(&report).iter().filter(|g| g["transform"] == name).map(|g| g["total_db"].as_f64().unwrap()).collect::<Vec<_>>();
    for (klt, elt) in of("klt-row").iter().zip(of("elt-row")) {
        assert!(elt >= *klt - 1e-3 && elt > 0.0);
    }
    let text = fs::read_to_string(&csv).unwrap();
    assert_eq!(text.lines().count(), 1 + gains(&report).len());
    assert!(
        text.starts_with("layer,shape,weights,transform,gradient_db,weight_db,total_db,bits_saved,full_rank,overhead,overhead_percent\n")
    );

    let wrong = waterfill(&[&"gains", &model, &"--rows", &"no such layer"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("has no layer `no such layer`"));
}
