//! Recipes on the command line: what they come to is what the command line comes to that they stand for.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

const MODEL: &str = "resnet-digits.onnx";
const IMAGES: &str = "digits-test.npz";

/// A folder with a model and images, to run the tool in: command lines name files, not paths.
struct Kitchen(tempfile::TempDir);

impl Kitchen {
    fn new() -> Kitchen {
        let folder = tempfile::tempdir().unwrap();
        for name in [MODEL, IMAGES] {
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("www/samples").join(name), folder.path().join(name)).unwrap();
        }
        Kitchen(folder)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn run(&self, words: &str) -> Output {
        let tool = env!("CARGO_BIN_EXE_waterfill");
        Command::new(tool).args(words.split_whitespace()).current_dir(self.0.path()).output().expect("the tool starts")
    }
    fn done(&self, words: &str) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words}: {errors}");
        errors
    }
    /// The one sentence that a failing command ends with.
    fn error(&self, words: &str) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}: {errors}");
        errors.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default().to_string()
    }
    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }
    fn write(&self, name: &str, recipe: &Value) {
        fs::write(self.path(name), recipe.to_string()).unwrap();
    }
    /// Names of the model's layers.
    fn layers(&self) -> Vec<String> {
        let output = self.run(&format!("inspect {MODEL} --json"));
        let inspected: Value = serde_json::from_slice(&output.stdout).unwrap();
        inspected["model"]["layers"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap().to_string()).collect()
    }
}

/// Compresses with options, with the recipe that was saved, and by the command line that the report (and the page) says: three times the
/// same file.
fn three_times_the_same(kitchen: &Kitchen, options: &str, images: &str) -> Value {
    kitchen.done(&format!("compress {MODEL} -o a.tq --save-recipe r.json --report a.json {options} {images}"));
    kitchen.done(&format!("compress {MODEL} -o b.tq --recipe r.json --report b.json {images}"));
    assert!(kitchen.read("a.tq") == kitchen.read("b.tq"), "{options}: by the recipe {}", kitchen.json("r.json"));
    let said = kitchen.json("b.json")["command"].as_str().unwrap().to_string();
    assert_eq!(kitchen.json("a.json")["command"], said);
    kitchen.done(said.strip_prefix("waterfill ").unwrap());
    assert!(kitchen.read("a.tq") == kitchen.read("resnet-digits.tq"), "{options}: by {said}");
    kitchen.json("r.json")
}

#[test]
fn a_recipe_comes_to_the_same_file_as_its_command_line() {
    let kitchen = Kitchen::new();
    let layers = kitchen.layers();
    let [a, b, c] = [0, 2, 3].map(|i| &layers[i]);
    let options = format!("--bits 3.25 --transform klt-col --blocks 4 --coding depths --lock {b}=3 --lock {a}=10 --exclude {c}");
    let recipe = three_times_the_same(&kitchen, &options, "");
    let wanted = json!({
        "format": "waterfill-recipe", "version": 1, "budget": {"bits": 3.25}, "transform": "klt-col", "blocks": 4, "method": "transform",
        "coding": "depths", "locks": {a: 10, b: 3}, "excludes": [c],
    });
    assert_eq!(recipe, wanted);
    three_times_the_same(&kitchen, "--size 60000 --coding entropy", "");
    three_times_the_same(&kitchen, "--ratio 6", "");
}

#[test]
fn with_calibration_too() {
    let kitchen = Kitchen::new();
    let images = format!("--calibration {IMAGES}");
    let recipe = three_times_the_same(&kitchen, "--bits 2 --calibration-images 24 --draws 2 --seed 7", &images);
    let calibration = json!({"images": 24, "draws": 2, "seed": 7, "distortion": "model", "second-moment": "gradients"});
    assert_eq!((&recipe["method"], &recipe["calibration"]), (&json!("feedback"), &calibration));

    let edited = "--bits 3 --transform elt-row --distortion diagonal --calibration-images 16 --mean 0.25 --std 0.5 --matching";
    let recipe = three_times_the_same(&kitchen, edited, &images);
    assert_eq!((&recipe["calibration"]["matching"], &recipe["calibration"]["preprocessing"]["mean"]), (&json!(true), &json!([0.25])));

    // Images are not in a recipe.
    let error = kitchen.error(&format!("compress {MODEL} -o c.tq --recipe r.json"));
    assert_eq!(error, "r.json: the recipe calibrates, and holds no images; give images with --calibration.");
}

#[test]
fn error_feedback_waits_for_images_as_on_the_page() {
    let kitchen = Kitchen::new();
    // As the page saves it before a calibration.
    kitchen.write(
        "r.json",
        &json!({"format": "waterfill-recipe", "version": 1, "budget": {"bits": 2.0}, "method": "feedback", "coding": "fixed"}),
    );
    kitchen.done(&format!("compress {MODEL} -o a.tq --recipe r.json"));
    kitchen.done(&format!("compress {MODEL} -o b.tq --bits 2"));
    assert!(kitchen.read("a.tq") == kitchen.read("b.tq"));
    let images = format!("--calibration {IMAGES} --calibration-images 16");
    kitchen.done(&format!("compress {MODEL} -o a.tq --recipe r.json {images} --report a.json"));
    kitchen.done(&format!("compress {MODEL} -o b.tq --bits 2 {images}"));
    assert!(kitchen.read("a.tq") == kitchen.read("b.tq"));
    assert_eq!(kitchen.json("a.json")["curve_settings"]["method"], "feedback");
}

#[test]
fn options_that_are_given_go_before_the_recipe() {
    let kitchen = Kitchen::new();
    let layers = kitchen.layers();
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| layers[i].clone());
    let recipe = json!({
        "format": "waterfill-recipe", "budget": {"ratio": 6.0}, "transform": "klt-row", "blocks": 2, "coding": "depths",
        "locks": {&a: 4, &b: 5}, "excludes": [&c, &d],
    });
    kitchen.write("r.json", &recipe);
    kitchen.done(&format!("compress {MODEL} -o a.tq --recipe r.json --bits 5 --transform auto --blocks 8 --lock {a}=7 --lock {c}=6 --exclude {b} --report a.json"));
    let report = kitchen.json("a.json");
    assert_eq!((&report["settings"]["budget"], &report["settings"]["transform"]), (&json!({"bits": 5.0}), &json!("auto")));
    assert_eq!((&report["curve_settings"]["blocks"], &report["curve_settings"]["coding"]), (&json!(8), &json!("depths")));
    let rows = report["allocation"]["layers"].as_array().unwrap();
    let found: Vec<(&Value, &Value)> = rows[..4].iter().map(|row| (&row["locked"], &row["excluded"])).collect();
    let (no, yes) = (json!(false), json!(true));
    assert_eq!(found, [(&json!(7), &no), (&Value::Null, &yes), (&json!(6), &no), (&Value::Null, &yes)]);

    // A coding that error feedback has not goes before the method.
    kitchen.write("r.json", &json!({"format": "waterfill-recipe", "method": "feedback", "budget": {"bits": 4}}));
    let images = format!("--calibration {IMAGES} --calibration-images 8");
    kitchen.done(&format!("compress {MODEL} -o a.tq --recipe r.json --coding fixed {images} --report a.json"));
    let curves = &kitchen.json("a.json")["curve_settings"];
    assert_eq!((&curves["method"], &curves["coding"]), (&json!("transform"), &json!("fixed")));
}

#[test]
fn what_is_wrong_with_a_recipe_is_said_in_one_sentence() {
    let kitchen = Kitchen::new();
    let with = |recipe: &str| format!("compress {MODEL} -o a.tq --recipe {recipe}");
    assert!(kitchen.error(&with("nothing.json")).starts_with("nothing.json cannot be read: "));
    assert!(kitchen.error(&with(MODEL)).starts_with("resnet-digits.onnx: it is no recipe, nor any JSON; choose a file that"));
    kitchen.write("r.json", &json!({"format": "waterfill-recipe", "version": 9}));
    assert_eq!(kitchen.error(&with("r.json")), "r.json: it is a recipe of a later version; use a newer Waterfill.");
    kitchen.write("r.json", &json!({"format": "waterfill-recipe", "locks": {"conv99": 3}}));
    assert!(kitchen.error(&with("r.json")).starts_with("resnet-digits.onnx has no layer `conv99`"));
    let preprocessing = json!({"resize": null, "crop": null, "channels": "grey", "scale": 1.0, "mean": [0.0], "std": [0.0], "channels_last": false, "origin": "edited"});
    kitchen.write("r.json", &json!({"format": "waterfill-recipe", "calibration": {"preprocessing": preprocessing}}));
    let error = kitchen.error(&format!("{} --calibration {IMAGES}", with("r.json")));
    assert!(error.starts_with("Preprocessing: ") && error.ends_with('.'), "{error}");
    kitchen.write("r.json", &json!({"format": "waterfill-recipe", "bugdet": {"bits": 2}}));
    assert!(kitchen.done(&with("r.json")).contains("note: r.json: `bugdet` is not known in a recipe; it was left out."));
}

#[test]
fn several_models_get_a_recipe_each() {
    let kitchen = Kitchen::new();
    fs::copy(kitchen.path(MODEL), kitchen.path("other.onnx")).unwrap();
    kitchen.done(&format!("compress {MODEL} other.onnx -o out --bits 3 --save-recipe out"));
    assert_eq!(kitchen.json("out/other.recipe.json")["budget"], json!({"bits": 3.0}));
    assert_eq!(kitchen.json("out/other.recipe.json"), kitchen.json("out/resnet-digits.recipe.json"));
}
