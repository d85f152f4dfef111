//! Recipes on the page ([`crate::report::recipe`]): what was chosen, saved as a file and loaded again. Images are not in it, so that a
//! calibration is prepared and left to the user.

use leptos::{html, prelude::*, task::spawn_local};
use wasm_bindgen_futures::JsFuture;
use web_sys::File;

use super::{
    address::Waiting,
    dom,
    engine::in_words,
    files,
    format::Unit,
    state::{App, CurveChoice, Settings},
};
use crate::{
    error::bad,
    report::{
        AllocationSettings, CurveSettings, SecondMoment,
        recipe::{MOST_BYTES, Recipe, RecipeCalibration},
    },
};

/// What of a recipe only the command line does, in sentences.
fn not_here(calibration: &RecipeCalibration) -> Vec<&'static str> {
    let inputs = (calibration.second_moment != SecondMoment::Gradients)
        .then_some("Its second moment is for the command line alone: here errors that are fed back are weighed by gradients.");
    let matching = calibration
        .matching
        .map(|_| "Its matching is for the command line alone: here gains are matched with error feedback, and only then.");
    inputs.into_iter().chain(matching).collect()
}

impl App {
    /// What is chosen now, as a recipe.
    fn recipe(&self) -> Recipe {
        let Settings { budget, transform, curves, .. } = self.settings.get_untracked();
        let settings = AllocationSettings {
            budget,
            transform,
            locks: self.locks.with_untracked(|l| l.iter().map(|(&index, &depth)| (index, depth)).collect()),
            excludes: self.excludes.with_untracked(|e| e.iter().copied().collect()),
            ..AllocationSettings::default()
        };
        let made = self.accuracy.calibration.made.get_untracked();
        // What is wanted of a calibration that is not made yet stays in the recipe.
        let CurveChoice { blocks, coding, method } = curves;
        let waiting = CurveSettings { blocks, coding, method, ..CurveSettings::default() };
        let curves = if made.is_some() { untrack(|| self.curve_settings()) } else { waiting };
        let model = self.model.get_untracked();
        let layers: Vec<&str> = model.iter().flat_map(|m| m.layers.iter().map(|l| l.name.as_str())).collect();
        Recipe::new(&settings, curves, made.as_ref().map(|m| &m.summary), &layers)
    }

    /// Saves what is chosen.
    pub fn save_recipe(self) {
        let name = Recipe::file_name(&self.model.with_untracked(|m| m.as_ref().map_or(String::new(), |m| m.name.clone())));
        let blob = self.recipe().to_json().map_err(|e| e.to_string()).and_then(|text| dom::text_blob(&text, "application/json"));
        self.save(blob, &name);
    }

    /// Loads a recipe.
    pub fn load_recipe(self, file: File) {
        let name = file.name();
        if file.size() > MOST_BYTES as f64 {
            return self.fail(bad(name, "it is too large for a recipe", "choose the recipe").to_string());
        }
        spawn_local(async move {
            let text = match JsFuture::from(file.text()).await {
                Ok(text) => text.as_string().unwrap_or_default(),
                Err(why) => return self.fail(format!("{name} cannot be read: {}.", in_words(why))),
            };
            match Recipe::parse(&name, &text) {
                Ok((recipe, left_out)) => self.take_recipe(&name, recipe, left_out),
                Err(why) => self.fail(why.to_string()),
            }
        });
    }

    fn take_recipe(self, name: &str, recipe: Recipe, left_out: Option<String>) {
        let (method, coding) = recipe.choice();
        let curves = CurveChoice { blocks: recipe.blocks, coding, method };
        let settings = Settings { unit: Unit::of(recipe.budget), transform: recipe.transform, curves, ..self.settings.get_untracked() };
        let mut notes = vec![format!("{name} is loaded.")];
        notes.extend(left_out);
        if let Some(calibration) = &recipe.calibration {
            self.accuracy.calibration.prepare(calibration);
            let again =
                if untrack(|| self.is_calibrated()) { "calibrate again, if it was otherwise" } else { "choose images, and calibrate" };
            notes.push(format!("It calibrates, and has no images: {again}."));
            notes.extend(not_here(calibration).into_iter().map(str::to_string));
        }
        let Recipe { budget, locks, excludes, calibration, .. } = recipe;
        let preprocessing = calibration.and_then(|c| c.preprocessing);
        let waiting = Waiting { from: "recipe", locks, excludes, preprocessing, note: Some(notes.join(" ")), ..Waiting::default() };
        // A sentence of before is not what the page says now.
        self.settle();
        self.take_over(settings, Some(budget), waiting, false);
    }
}

/// Save and load.
#[component]
pub fn RecipeButtons(app: App) -> impl IntoView {
    let input: NodeRef<html::Input> = NodeRef::new();
    let chosen = move |_| {
        if let Some(input) = input.get() {
            let file = files::of_list(input.files()).into_iter().next();
            // Choosing the same file again is a change, too.
            input.set_value("");
            file.into_iter().for_each(|file| app.load_recipe(file));
        }
    };
    view! {
        <button type="button" class="button" data-testid="recipe-save" disabled=move || app.is_tq() on:click=move |_| app.save_recipe()>
            "Save recipe"</button>
        <span class="file">
            <input id="recipe-file" data-testid="recipe-load" type="file" accept=".json,application/json" node_ref=input on:change=chosen/>
            <label for="recipe-file" class="button">"Load a recipe"</label>
        </span>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_does_not_do_is_said() {
        assert!(not_here(&RecipeCalibration::default()).is_empty());
        let all = RecipeCalibration { second_moment: SecondMoment::Inputs, matching: Some(false), ..RecipeCalibration::default() };
        let said = not_here(&all);
        assert!(said.len() == 2 && said.iter().all(|s| s.ends_with('.')), "{said:?}");
    }
}
