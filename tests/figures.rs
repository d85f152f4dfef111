//! `waterfill figure` as a user runs it: the same numbers in every form in which a figure is written.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{fs, path::Path, process::Command, rc::Rc};

use waterfill::{
    io::source::PathSource,
    pipeline::{self, Opened, figures::Making, job},
    report::{
        AllocationSettings, CurveSettings,
        figure::{Content, Figure, Which},
        plot::{Palette, figure::figure_svg},
    },
};

fn waterfill(args: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_waterfill")).args(args).output().expect("the tool starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn sample() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/samples/resnet-digits.onnx").to_string_lossy().into_owned()
}

/// The layers of the sample, and their shapes.
fn layers() -> Vec<(String, Vec<u64>)> {
    let (_, out, _) = waterfill(&["inspect", &sample(), "--json"]);
    let model: serde_json::Value = serde_json::from_str(&out).unwrap();
    let layers = model["layers"].as_array().or_else(|| model["model"]["layers"].as_array()).expect("a table of layers");
    let shape = |l: &serde_json::Value| l["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    layers.iter().map(|l| (l["name"].as_str().unwrap().to_string(), shape(l))).collect()
}

#[test]
fn a_transform_that_needs_images_is_refused_without() {
    let (done, out, err) = waterfill(&["figure", "slopes", &sample(), "--transform", "elt-row"]);
    assert!(!done && out.is_empty() && err.contains("elt-row") && err.contains("--calibration") && err.lines().count() == 1, "{err}");
}

#[test]
fn every_form_has_the_same_figure() {
    let folder = tempfile::tempdir().unwrap();
    let (layer, _) = layers().into_iter().find(|(_, s)| s.len() == 4 && s[1] > 4 && s[2] == 3).unwrap();
    // The limit is known with calibration alone, and says so.
    let (done, _, err) = waterfill(&["figure", "limits", &sample()]);
    assert!(!done && err.contains("The limit of all coders follows from calibration"), "{err}");
    for which in Which::ALL.into_iter().filter(|w| *w != Which::Limits) {
        let paths =
            ["json", "csv", "svg", "png"].map(|e| folder.path().join(format!("{}.{e}", which.name())).to_string_lossy().into_owned());
        let mut args = vec!["figure", which.name(), "", "--layer", &layer, "--bits", "3"];
        let model = sample();
        args[2] = &model;
        paths.iter().for_each(|p| args.extend(["-o", p]));
        let (done, out, err) = waterfill(&args);
        assert!(done, "{which:?}: {err}");

        let figure: Figure = serde_json::from_slice(&fs::read(&paths[0]).unwrap()).unwrap();
        assert_eq!(figure.which, which);
        assert!(out.contains(&figure.title) && out.contains(&figure.caption), "{out}");
        assert_eq!(fs::read_to_string(&paths[1]).unwrap(), figure.csv(), "{which:?}");
        let svg = fs::read_to_string(&paths[2]).unwrap();
        let size = size(&svg);
        assert_eq!(svg, figure_svg(&figure, (960, 540), &Palette::LIGHT), "{which:?}");
        let pictures = figure.panels.iter().filter(|p| matches!(p.content, Content::Picture(_))).count();
        assert!(svg.matches("<rect").count() > 40 * pictures);
        // Twice as many pixels, from the same drawing.
        let png = fs::read(&paths[3]).unwrap();
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((&png[1..4], number(16), number(20)), (&b"PNG"[..], 2 * size.0, 2 * size.1));

        // Without a file the numbers are printed.
        let (_, printed, _) = waterfill(&args[..7]);
        assert_eq!(printed, figure.csv());
    }
}

fn size(svg: &str) -> (u32, u32) {
    let number = |name: &str| svg.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
    (number("width"), number("height"))
}

#[test]
fn a_layer_without_what_a_figure_shows_says_so() {
    let (layer, _) = layers().into_iter().find(|(_, s)| s.len() == 2).unwrap();
    let (done, out, err) = waterfill(&["figure", "intra", &sample(), "--layer", &layer]);
    assert!(!done && out.is_empty());
    assert!(
        err.contains(&format!("{layer} has kernels of one position")) && err.trim().ends_with("choose a layer with larger kernels."),
        "{err}"
    );
}

/// Of a real network: `resnet20.onnx` of the folder named by `WATERFILL_DATA`.
#[test]
fn every_layer_of_a_real_network_has_every_figure_or_a_sentence() {
    let Some(folder) = std::env::var_os("WATERFILL_DATA") else { return };
    let source = Rc::new(PathSource::open(Path::new(&folder).join("resnet20.onnx")).unwrap());
    let Opened::Model(mut session) = pipeline::open(vec![source]).unwrap() else { panic!("a model") };
    let curves = CurveSettings::default();
    let found = job::run(session.curves_job(curves), &mut |_| Ok(())).unwrap();
    session.set_curves(curves, found);
    for (layer, name) in session.summary().layers.into_iter().map(|l| l.name).enumerate() {
        for which in Which::ALL {
            match session.figure(which, layer, &AllocationSettings::default()) {
                Ok(Making { job, finish }) => {
                    let figure = finish(job::run(job, &mut |_| Ok(())).unwrap());
                    assert!(figure.csv().lines().count() > 3 && figure.caption.ends_with('.'), "{which:?} of {name}");
                }
                Err(error) if which == Which::Limits => assert!(error.to_string().starts_with("The limit"), "{error}"),
                Err(error) => assert!(error.to_string().starts_with(&name), "{which:?}: {error}"),
            }
        }
    }
}
