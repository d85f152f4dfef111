//! A recipe: all that a compression was asked for, and nothing of the model or the images, to be used again. The page saves and loads it;
//! on the command line it is `waterfill compress --recipe` and `--save-recipe`.
//!
//! What a recipe does not say is as on the command line where an option is left out: recipes can be written by hand.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AllocationSettings, Budget, CalibrationSettings, CalibrationSummary, Coding, CurveSettings, Distortion, Method, Preprocessing,
    SecondMoment, TransformChoice,
};
use crate::error::{Error, Result, bad};

/// Deepest lock of a layer, in bits.
pub const DEEPEST_LOCK: u8 = 10;
/// Most blocks per layer.
pub const MOST_BLOCKS: usize = 256;
/// Most bytes of a recipe.
pub const MOST_BYTES: usize = 16 << 20;

/// What says that a file is a recipe.
const FORMAT: &str = "waterfill-recipe";
/// Version that is written; files of later ones are not read.
const VERSION: u64 = 1;

/// What a compression is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// Says that this is a recipe.
    format: String,
    /// Version of its form.
    version: u64,
    /// What is asked for.
    pub budget: Budget,
    /// Allowed transforms.
    pub transform: TransformChoice,
    /// Most blocks of rows per layer.
    pub blocks: usize,
    /// What layers may be compressed by; not said: by error feedback too, once there is a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// How indices are coded; not said: as is usual with the method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coding: Option<Coding>,
    /// How statistics are taken, where they are; the images are not in a recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<RecipeCalibration>,
    /// Layers locked to a depth in bits, by name.
    pub locks: BTreeMap<String, u8>,
    /// Layers kept as they are, by name.
    pub excludes: BTreeSet<String>,
}

/// How a recipe calibrates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RecipeCalibration {
    /// Most images.
    pub images: usize,
    /// Random directions per image.
    pub draws: usize,
    /// Of the random directions.
    pub seed: u64,
    /// What an error costs.
    pub distortion: Distortion,
    /// What errors that are fed back are weighed by.
    pub second_moment: SecondMoment,
    /// Whether gains and biases are matched; not said: with error feedback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<bool>,
    /// How images become inputs, where the user said so; else it is guessed from the model and the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
}

impl Default for Recipe {
    fn default() -> Self {
        let AllocationSettings { budget, transform, .. } = AllocationSettings::default();
        Recipe {
            format: FORMAT.into(),
            version: VERSION,
            budget,
            transform,
            blocks: CurveSettings::default().blocks,
            method: None,
            coding: None,
            calibration: None,
            locks: BTreeMap::new(),
            excludes: BTreeSet::new(),
        }
    }
}

impl Default for RecipeCalibration {
    fn default() -> Self {
        let CalibrationSettings { images, draws, seed } = CalibrationSettings::default();
        let CurveSettings { distortion, second_moment, .. } = CurveSettings::default();
        RecipeCalibration { images, draws, seed, distortion, second_moment, matching: None, preprocessing: None }
    }
}

impl RecipeCalibration {
    /// How statistics are sampled.
    pub fn settings(&self) -> CalibrationSettings {
        CalibrationSettings { images: self.images, draws: self.draws, seed: self.seed }
    }
}

impl Recipe {
    /// What a model was compressed by, with the names of its layers.
    pub fn new(settings: &AllocationSettings, curves: CurveSettings, calibration: Option<&CalibrationSummary>, layers: &[&str]) -> Recipe {
        let name = |index: usize| layers.get(index).map(|name| name.to_string());
        let calibration = calibration.map(|found| {
            let CalibrationSettings { images, draws, seed } = found.settings;
            let preprocessing = (found.preprocessing.origin == Preprocessing::EDITED).then(|| found.preprocessing.clone());
            let matching = (curves.matching != (curves.method == Method::Feedback)).then_some(curves.matching);
            let CurveSettings { distortion, second_moment, .. } = curves;
            RecipeCalibration { images, draws, seed, distortion, second_moment, matching, preprocessing }
        });
        Recipe {
            budget: settings.budget,
            transform: settings.transform,
            blocks: curves.blocks,
            method: Some(curves.method),
            coding: Some(curves.coding),
            calibration,
            locks: settings.locks.iter().filter_map(|&(index, depth)| Some((name(index)?, depth))).collect(),
            excludes: settings.excludes.iter().filter_map(|&index| name(index)).collect(),
            ..Recipe::default()
        }
    }

    /// What layers may be compressed by, and how indices are coded where errors are not fed back. Error feedback waits for a calibration; not
    /// said, it is wanted unless something is that asks for transforms, as on the command line.
    pub fn choice(&self) -> (Method, Coding) {
        let measured = self.calibration.as_ref().is_some_and(|c| c.distortion == Distortion::Measured);
        let open = self.transform == TransformChoice::Auto && matches!(self.coding, None | Some(Coding::Entropy)) && !measured;
        (self.method.unwrap_or(if open { Method::Feedback } else { Method::Transform }), self.coding.unwrap_or_default())
    }

    /// Reads a recipe, and what in it is not known and was left out: one sentence. `file` is its name.
    ///
    /// # Errors
    /// It is none, or of a later version, or a value means nothing: one sentence.
    pub fn parse(file: &str, text: &str) -> Result<(Recipe, Option<String>)> {
        let wrong = |reason: String| bad(file, reason, "correct it, or save the recipe again");
        let none = |what: &str| {
            bad(
                file,
                format!("it is {what}"),
                "choose a file that was saved as a recipe by the page, or by `waterfill compress --save-recipe`",
            )
        };
        let value: Value = serde_json::from_str(text).map_err(|_| none("no recipe, nor any JSON"))?;
        if value.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(none("JSON, but no recipe"));
        }
        match value.get("version").map(|v| v.as_u64().unwrap_or(u64::MAX)) {
            None | Some(0..=VERSION) => {}
            Some(_) => return Err(bad(file, "it is a recipe of a later version", "use a newer Waterfill")),
        }
        let recipe: Recipe = Recipe::deserialize(&value).map_err(|e| wrong(format!("the recipe has a value that means nothing ({e})")))?;
        recipe.check().map_err(wrong)?;
        let unknown = recipe.unknown(&value);
        let left_out = (!unknown.is_empty()).then(|| {
            let error = bad(file, format!("{} is not known in a recipe", unknown.join(", ")), "it was left out");
            error.to_string()
        });
        Ok((recipe, left_out))
    }

    /// What is out of range: a clause.
    fn check(&self) -> std::result::Result<(), String> {
        let budget = match self.budget {
            Budget::Bits(bits) => bits.is_finite() && bits >= 0.0,
            Budget::Size(_) => true,
            Budget::Ratio(ratio) => ratio.is_finite() && ratio > 0.0,
        };
        if !budget {
            return Err("its budget is not a positive number".into());
        }
        if !(1..=MOST_BLOCKS).contains(&self.blocks) {
            return Err(format!("{} blocks per layer are not from 1 to {MOST_BLOCKS}", self.blocks));
        }
        if let Some((layer, depth)) = self.locks.iter().find(|(_, depth)| **depth > DEEPEST_LOCK) {
            return Err(format!("`{layer}` is locked to {depth} bits, and {DEEPEST_LOCK} are the most"));
        }
        let most = usize::from(u16::MAX);
        match &self.calibration {
            Some(c) if c.images == 0 || c.draws == 0 => Err("it calibrates on nothing".into()),
            Some(c) if c.draws > most => Err(format!("{} draws per image are more than {most}", c.draws)),
            _ => Ok(()),
        }
    }

    /// Names in a file that are none of a recipe's.
    fn unknown(&self, value: &Value) -> Vec<String> {
        // As if everything had been said.
        let all = RecipeCalibration { matching: Some(true), ..RecipeCalibration::default() };
        let full = Recipe { method: Some(Method::Transform), coding: Some(Coding::Fixed), calibration: Some(all), ..Recipe::default() };
        let known = serde_json::to_value(full).unwrap_or_default();
        let names = |value: &Value, known: &Value, before: &str| -> Vec<String> {
            let Some(map) = value.as_object() else { return Vec::new() };
            map.keys()
                .filter(|name| known.get(name).is_none() && *name != "preprocessing")
                .map(|name| format!("`{before}{name}`"))
                .collect()
        };
        let mut unknown = names(value, &known, "");
        // Preprocessing is a calibration's.
        unknown.extend(value.get("preprocessing").map(|_| "`preprocessing`".to_string()));
        unknown.extend(names(&value["calibration"], &known["calibration"], "calibration."));
        unknown
    }

    /// The file's text.
    ///
    /// # Errors
    /// A number that JSON has not.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Setting(format!("The recipe cannot be written: {e}.")))?;
        Ok(text + "\n")
    }

    /// Name of the file for a model's.
    pub fn file_name(model: &str) -> String {
        let stem = model.rsplit_once('.').map_or(model, |(stem, _)| stem);
        format!("{stem}.recipe.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::calibration::tests::summary;

    fn read(text: &str) -> Result<(Recipe, Option<String>)> {
        Recipe::parse("r.json", text)
    }

    fn full() -> Recipe {
        let settings = AllocationSettings {
            budget: Budget::Ratio(7.5),
            transform: TransformChoice::KltRow,
            locks: vec![(1, 8), (0, 3)],
            excludes: vec![2],
            ..AllocationSettings::default()
        };
        let mut found = summary();
        found.settings = CalibrationSettings { images: 50, draws: 3, seed: 7 };
        found.preprocessing.origin = Preprocessing::EDITED.into();
        let curves = CurveSettings {
            blocks: 4,
            distortion: Distortion::Diagonal,
            coding: Coding::Entropy,
            method: Method::Feedback,
            second_moment: SecondMoment::Inputs,
            matching: false,
        };
        Recipe::new(&settings, curves, Some(&found), &["conv1.weight", "fc \"weight\"", "head"])
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let recipe = full();
        assert_eq!(recipe.locks, BTreeMap::from([("conv1.weight".into(), 3), ("fc \"weight\"".into(), 8)]));
        assert_eq!(recipe.excludes, BTreeSet::from(["head".into()]));
        let calibration = recipe.calibration.as_ref().unwrap();
        assert_eq!((calibration.matching, calibration.preprocessing.is_some(), calibration.settings().draws), (Some(false), true, 3));
        assert_eq!(read(&recipe.to_json().unwrap()).unwrap(), (recipe, None));
        let plain = Recipe::new(&AllocationSettings::default(), CurveSettings::default(), None, &[]);
        assert_eq!(plain, Recipe { method: Some(Method::Transform), coding: Some(Coding::Fixed), ..Recipe::default() });
        assert_eq!(read(&plain.to_json().unwrap()).unwrap(), (plain, None));
        // Matching that goes with the method is not said, nor inputs that were guessed.
        let fed_back = CurveSettings { coding: Coding::Entropy, method: Method::Feedback, matching: true, ..CurveSettings::default() };
        let recipe = Recipe::new(&AllocationSettings::default(), fed_back, Some(&summary()), &[]);
        assert_eq!(recipe.calibration, Some(RecipeCalibration::default()));
    }

    #[test]
    fn what_is_missing_is_as_without_the_option() {
        assert_eq!(read(r#"{"format": "waterfill-recipe"}"#).unwrap(), (Recipe::default(), None));
        let text = r#"{"format": "waterfill-recipe", "version": 1, "budget": {"bits": 2}, "calibration": {"draws": 2}, "locks": {"a": 0}}"#;
        let (recipe, left_out) = read(text).unwrap();
        let calibration = Some(RecipeCalibration { draws: 2, ..RecipeCalibration::default() });
        assert_eq!(
            recipe,
            Recipe { budget: Budget::Bits(2.0), calibration, locks: BTreeMap::from([("a".into(), 0)]), ..Recipe::default() }
        );
        assert_eq!(left_out, None);
    }

    #[test]
    fn the_method_is_that_of_the_command_line_where_it_is_not_said() {
        let of = |method, coding, transform| Recipe { method, coding, transform, ..Recipe::default() }.choice();
        assert_eq!(of(None, None, TransformChoice::Auto), (Method::Feedback, Coding::Fixed));
        assert_eq!(of(None, Some(Coding::Entropy), TransformChoice::Auto), (Method::Feedback, Coding::Entropy));
        assert_eq!(of(None, Some(Coding::Fixed), TransformChoice::Auto), (Method::Transform, Coding::Fixed));
        assert_eq!(of(None, None, TransformChoice::KltRow), (Method::Transform, Coding::Fixed));
        assert_eq!(of(Some(Method::Feedback), Some(Coding::Depths), TransformChoice::KltRow), (Method::Feedback, Coding::Depths));
        let calibration = Some(RecipeCalibration { distortion: Distortion::Measured, ..RecipeCalibration::default() });
        assert_eq!(Recipe { calibration, ..Recipe::default() }.choice().0, Method::Transform);
    }

    #[test]
    fn what_is_unknown_is_left_out_and_said() {
        let text = r#"{"format": "waterfill-recipe", "lock": {"a": 1}, "method": "feedback", "preprocessing": {}, "calibration": {"image": 3, "matching": true}}"#;
        let (recipe, left_out) = read(text).unwrap();
        assert_eq!((recipe.method, recipe.calibration.and_then(|c| c.matching)), (Some(Method::Feedback), Some(true)));
        let said = "r.json: `lock`, `preprocessing`, `calibration.image` is not known in a recipe; it was left out.";
        assert_eq!(left_out.as_deref(), Some(said));
        let with = full();
        assert_eq!(read(&with.to_json().unwrap()).unwrap().1, None);
    }

    #[test]
    fn what_is_no_recipe_is_said_in_one_sentence() {
        let of = |rest: &str| format!(r#"{{"format": "waterfill-recipe", {rest}}}"#);
        let wrong = [
            (String::new(), "no recipe, nor any JSON"),
            ("PK\u{3}\u{4}".into(), "no recipe, nor any JSON"),
            ("[1, 2]".into(), "JSON, but no recipe"),
            ("null".into(), "JSON, but no recipe"),
            (r#"{"program": "waterfill 0.1", "settings": {}}"#.into(), "JSON, but no recipe"),
            (of(r#""version": 2"#), "of a later version; use a newer Waterfill"),
            (of(r#""version": "two""#), "of a later version"),
            (of(r#""budget": {"bits": "x"}"#), "means nothing"),
            (of(r#""budget": {"bits": -1}"#), "not a positive number"),
            (of(r#""budget": {"ratio": 0}"#), "not a positive number"),
            (of(r#""transform": "fft""#), "means nothing"),
            (of(r#""blocks": 0"#), "0 blocks per layer"),
            (of(r#""locks": {"a": 11}"#), "`a` is locked to 11 bits"),
            (of(r#""locks": {"a": -1}"#), "means nothing"),
            (of(r#""locks": ["a"]"#), "means nothing"),
            (of(r#""calibration": {"images": 0}"#), "calibrates on nothing"),
            (of(r#""calibration": {"draws": 70000}"#), "more than 65535"),
        ];
        for (text, words) in wrong {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.starts_with("r.json: ") && error.contains(words) && error.ends_with('.'), "{text}: {error}");
        }
    }

    #[cfg(feature = "core")]
    #[test]
    fn bounds_are_the_quantizers() {
        assert_eq!(DEEPEST_LOCK, crate::quantize::MAX_DEPTH);
    }

    #[test]
    fn files_are_named_after_models() {
        assert_eq!([Recipe::file_name("a.b.onnx"), Recipe::file_name("net")], ["a.b.recipe.json", "net.recipe.json"]);
    }
}
