//! Recipes on the command line: where options come from that are not given, and what was asked for, saved.

use std::{fs, path::Path};

use clap::ValueEnum;
use waterfill::{
    data::preprocess,
    error::{Error, Result, bad},
    report::{
        Budget, Coding, Distortion, Method, Report,
        recipe::{MOST_BYTES, Recipe},
    },
};

use crate::{
    compress::Compress,
    files::{output, unwritable, write_file},
    options::{CodingOption, DistortionModel, MethodOption},
};

/// The options, with those that are not given taken from the recipe, if one is named.
pub fn filled(args: &Compress) -> Result<Compress> {
    let Some(path) = &args.recipe else { return Ok(args.clone()) };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let unreadable = |e| Error::Setting(format!("{} cannot be read: {e}.", path.display()));
    if fs::metadata(path).map_err(unreadable)?.len() > MOST_BYTES as u64 {
        return Err(bad(name, "it is too large for a recipe", "choose the recipe"));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let (recipe, left_out) = Recipe::parse(&name, &String::from_utf8_lossy(&bytes))?;
    left_out.iter().for_each(|note| eprintln!("note: {note}"));
    let calibrated = !args.calibration.sampling.calibration.is_empty();
    if recipe.calibration.is_some() && !calibrated {
        return Err(bad(name, "the recipe calibrates, and holds no images", "give images with --calibration"));
    }
    if let Some(Err(why)) = recipe.calibration.as_ref().and_then(|c| c.preprocessing.as_ref()).map(preprocess::check) {
        return Err(Error::Setting(why));
    }
    Ok(with(args, &recipe, calibrated))
}

/// The option of this name.
fn option<T: ValueEnum>(name: &str) -> Option<T> {
    T::from_str(name, false).ok()
}

/// The options with those of a recipe. What is given goes before it, and what of the recipe cannot be had beside that gives way.
fn with(args: &Compress, recipe: &Recipe, calibrated: bool) -> Compress {
    let mut all = args.clone();
    let asked = &args.allocation;
    if asked.bits.is_none() && asked.size.is_none() && asked.ratio.is_none() {
        match recipe.budget {
            Budget::Bits(bits) => all.allocation.bits = Some(bits),
            Budget::Size(size) => all.allocation.size = Some(size),
            Budget::Ratio(ratio) => all.allocation.ratio = Some(ratio),
        }
    }
    all.allocation.transform = asked.transform.or_else(|| option(recipe.transform.name()));
    all.curve.blocks = args.curve.blocks.or(u16::try_from(recipe.blocks).ok());

    let fixed = matches!(args.coding.coding, Some(CodingOption::Fixed | CodingOption::Depths));
    let measured = matches!(args.calibration.distortion, Some(DistortionModel::Measured));
    let calibration = recipe.calibration.clone().unwrap_or_default();
    let (method, coding) = recipe.choice();
    // Error feedback waits for images, and is entropy-coded once there are some.
    let method = if method == Method::Feedback && (!calibrated || fixed || measured) { Method::Transform } else { method };
    all.coding.method = args.coding.method.or_else(|| option(method.name()));
    let feedback = matches!(all.coding.method, Some(MethodOption::Feedback));
    let coding = if feedback { Coding::Entropy } else { coding };
    all.coding.coding = args.coding.coding.or_else(|| option(coding.name()));
    if !calibrated {
        return with_layers(all, args, recipe);
    }
    let entropy = matches!(all.coding.coding, Some(CodingOption::Entropy));
    let distortion = Some(calibration.distortion).filter(|d| *d != Distortion::Measured || !entropy);
    all.calibration.distortion = args.calibration.distortion.or_else(|| distortion.and_then(|d| option(d.name())));
    all.coding.second_moment = args.coding.second_moment.or_else(|| option(calibration.second_moment.name()));
    all.coding.matching = args.coding.matching.or(calibration.matching);
    let sampling = &mut all.calibration.sampling;
    sampling.calibration_images = sampling.calibration_images.or(u32::try_from(calibration.images).ok());
    sampling.draws = sampling.draws.or(u16::try_from(calibration.draws).ok());
    sampling.seed = sampling.seed.or(Some(calibration.seed));
    all.data.recipe = calibration.preprocessing;
    with_layers(all, args, recipe)
}

/// Locks and excludes: those of the recipe, but of layers that are named here.
fn with_layers(mut all: Compress, args: &Compress, recipe: &Recipe) -> Compress {
    let asked = &args.allocation;
    let named = |layer: &String| asked.lock.iter().any(|(name, _)| name == layer) || asked.exclude.contains(layer);
    all.allocation.lock.extend(recipe.locks.iter().filter(|(layer, _)| !named(layer)).map(|(layer, depth)| (layer.clone(), *depth)));
    all.allocation.exclude.extend(recipe.excludes.iter().filter(|layer| !named(layer)).cloned());
    all
}

/// Saves what was asked for.
pub fn save(path: &Path, several: bool, report: &Report) -> Result<()> {
    let layers: Vec<&str> = report.model.layers.iter().map(|l| l.name.as_str()).collect();
    let recipe = Recipe::new(&report.settings, report.curve_settings, report.calibration.as_ref(), &layers);
    let file = output(Some(path), several, Path::new(&report.model.name), &Recipe::file_name(&report.model.name))?;
    let text = recipe.to_json()?;
    write_file(&file, |out| out.write_all(text.as_bytes()).map_err(unwritable(&file)))
}

#[cfg(test)]
mod tests {
    use waterfill::report::{SecondMoment, TransformChoice};

    use super::*;
    use crate::options::{SecondMomentOption, Transform};

    #[test]
    fn what_a_recipe_names_is_an_option() {
        for choice in TransformChoice::ALL {
            assert!(option::<Transform>(choice.name()).is_some_and(|t| TransformChoice::from(t) == choice), "{choice:?}");
        }
        for coding in Coding::ALL {
            assert!(option::<CodingOption>(coding.name()).is_some_and(|c| Coding::from(c) == coding), "{coding:?}");
        }
        for method in Method::ALL {
            assert!(option::<MethodOption>(method.name()).is_some_and(|m| Method::from(m) == method), "{method:?}");
        }
        for moment in [SecondMoment::Gradients, SecondMoment::Inputs] {
            assert!(option::<SecondMomentOption>(moment.name()).is_some_and(|m| SecondMoment::from(m) == moment), "{moment:?}");
        }
        for distortion in Distortion::ALL {
            assert!(option::<DistortionModel>(distortion.name()).is_some(), "{distortion:?}");
        }
    }
}
