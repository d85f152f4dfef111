//! The page's address holds its settings ([`link`](super::link)): read when the page is opened and when another link is followed, written
//! when something has been chosen. What is said of layers waits for a model that has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use leptos::{ev, html, prelude::*, task::spawn_local};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::File;

use super::{
    choices::Choices,
    clock::Later,
    dom,
    format::Unit,
    link::{Link, not_understood},
    samples,
    state::{App, Settings},
};
use crate::report::{Budget, ModelSummary, Preprocessing, TransformChoice, figure::Which, geometry::Plane};

/// The address is written when nothing has changed for this time.
const REST: Duration = Duration::from_millis(400);
/// Most names of layers in a sentence.
const NAMED: usize = 3;

/// What a link or a recipe says of a model that is yet to be opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waiting {
    /// Who says so: `link` or `recipe`.
    pub from: &'static str,
    /// A budget in bytes, which belongs to a model.
    pub size: Option<u64>,
    /// Layers locked to a depth.
    pub locks: BTreeMap<String, u8>,
    /// Layers kept as they are.
    pub excludes: BTreeSet<String>,
    /// The layer that is picked out.
    pub layer: Option<String>,
    /// How images become inputs.
    pub preprocessing: Option<Preprocessing>,
    /// A sentence that is not to be lost when the model opens.
    pub note: Option<String>,
}

/// What of it a model has.
#[derive(Debug, Default, PartialEq)]
struct Found {
    locks: BTreeMap<usize, u8>,
    excludes: BTreeSet<usize>,
    layer: Option<usize>,
    missing: Vec<String>,
}

impl Waiting {
    /// Looks the layers up.
    fn in_model(&self, model: &ModelSummary) -> Found {
        let indices: BTreeMap<&str, usize> = model.layers.iter().map(|l| (l.name.as_str(), l.index)).collect();
        let mut missing = BTreeSet::new();
        let mut index = |name: &String| {
            let found = indices.get(name.as_str()).copied();
            if found.is_none() {
                missing.insert(name.clone());
            }
            found
        };
        let locks = self.locks.iter().filter_map(|(name, depth)| Some((index(name)?, *depth))).collect();
        let excludes = self.excludes.iter().filter_map(&mut index).collect();
        let layer = self.layer.as_ref().and_then(&mut index);
        Found { locks, excludes, layer, missing: missing.into_iter().collect() }
    }

    /// Whether layers are spoken of.
    fn has_layers(&self) -> bool {
        !self.locks.is_empty() || !self.excludes.is_empty() || self.layer.is_some()
    }
}

impl Found {
    /// Whether the model has none of the layers.
    fn is_nothing(&self) -> bool {
        self.locks.is_empty() && self.excludes.is_empty() && self.layer.is_none()
    }

    /// What is not there, in one sentence.
    fn words(&self, from: &str, model: &str) -> Option<String> {
        let (named, more) = self.missing.split_at(self.missing.len().min(NAMED));
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        let named = named.join(", ");
        match (self.missing.is_empty(), self.is_nothing()) {
            (true, _) => None,
            (_, true) => {
                Some(format!("The {from} is for another model: {model} has no {named}{more}. Its layers wait for a model that has them."))
            }
            _ => Some(format!("The {from} also names {named}{more}, which {model} does not have; the rest is used.")),
        }
    }
}

/// What belongs to the address and is not shown.
#[derive(Clone, Copy)]
pub struct Address {
    waiting: StoredValue<Waiting, LocalStorage>,
    /// The sample opened last, and its file.
    sample: StoredValue<Option<(&'static str, File)>, LocalStorage>,
    timer: StoredValue<Later, LocalStorage>,
    /// A transform that waits for a calibration.
    transform: StoredValue<Option<TransformChoice>>,
    /// What became of the last link or recipe, where not all of it could be had at once.
    said: RwSignal<String>,
}

impl Address {
    /// Nothing was read or written yet.
    pub fn new() -> Address {
        Address {
            waiting: StoredValue::new_local(Waiting::default()),
            sample: StoredValue::new_local(None),
            transform: StoredValue::new(None),
            said: RwSignal::new(String::new()),
            timer: StoredValue::new_local(Later::default()),
        }
    }
}

impl Default for Address {
    fn default() -> Self {
        Address::new()
    }
}

fn fragment() -> String {
    window().location().hash().unwrap_or_default()
}

impl App {
    /// Reads the address, and keeps it up to date from now on.
    pub(super) fn follow_address(self) {
        self.read_address();
        let another = window_event_listener(ev::hashchange, move |_| self.read_address());
        on_cleanup(move || another.remove());
        Effect::new(move |_| {
            if self.generation.get() > 0 {
                self.fit();
            }
        });
        Effect::new(move |_| {
            if self.is_calibrated() {
                self.fit_calibration();
            }
        });
        Effect::new(move |before: Option<(Which, Plane)>| {
            self.settings.track();
            self.locks.track();
            self.excludes.track();
            self.selected.track();
            let looked = (self.figure.get(), self.plane.get());
            // Until there is a model nothing but what is looked at was chosen.
            if self.generation.get() > 0 || before.is_some_and(|before| before != looked) {
                self.address.timer.update_value(|timer| timer.set(REST, move || self.write_address()));
            }
            looked
        });
    }

    /// The sample that is open, if it is one.
    fn open_sample(&self) -> Option<&'static str> {
        let opened = self.session.with_value(|s| s.opened.as_ref().map(|files| files.get(0)));
        self.address.sample.with_value(|s| s.as_ref().filter(|s| opened.as_ref().is_some_and(|o| js_sys::Object::is(o, &s.1))).map(|s| s.0))
    }

    /// What the page shows, as a link. Until there is a model what the address says of one is not lost.
    fn link(&self) -> Link {
        let figure = Some(self.figure.get_untracked()).filter(|f| *f != Which::default());
        let plane = Some(self.plane.get_untracked()).filter(|p| *p != Plane::default());
        let before = Link::parse(&fragment()).0;
        if self.generation.get_untracked() == 0 {
            return Link { figure, plane, ..before };
        }
        let Settings { budget, unit, transform, curves } = self.settings.get_untracked();
        let name = |index: usize| untrack(|| self.layer_name(index));
        let sample = self.open_sample();
        Link {
            budget: Some(budget),
            unit: Some(unit),
            transform: Some(transform),
            blocks: Some(curves.blocks),
            coding: Some(curves.coding),
            method: Some(curves.method),
            locks: self.locks.with_untracked(|l| l.iter().map(|(&index, &depth)| (name(index), depth)).collect()),
            excludes: self.excludes.with_untracked(|e| e.iter().map(|&index| name(index)).collect()),
            layer: self.selected.get_untracked().map(name),
            figure,
            plane,
            sample,
            others: before.others,
        }
    }

    /// Writes the address, in the place of the one that was: there is nothing to go back to.
    fn write_address(self) {
        let now = format!("#{}", self.link().write());
        if now != fragment()
            && let Ok(history) = window().history()
        {
            let state = history.state().unwrap_or(JsValue::NULL);
            // A browser that does not let it change has an old address, and nothing worse.
            let _ = history.replace_state_with_url(&state, "", Some(&now));
        }
    }

    /// Takes what the address says.
    fn read_address(self) {
        let (link, wrong) = Link::parse(&fragment());
        if link == (Link { others: link.others.clone(), ..Link::default() }) && wrong.is_empty() {
            return;
        }
        let mut settings = self.settings.get_untracked();
        // A budget is shown in its own unit, unless another one is said.
        settings.unit = link.unit.or(link.budget.map(Unit::of)).unwrap_or(settings.unit);
        settings.transform = link.transform.unwrap_or(settings.transform);
        settings.curves.blocks = link.blocks.unwrap_or(settings.curves.blocks);
        settings.curves.coding = link.coding.unwrap_or(settings.curves.coding);
        settings.curves.method = link.method.unwrap_or(settings.curves.method);
        let Link { budget, locks, excludes, layer, figure, plane, sample, .. } = link;
        self.figure.set(figure.unwrap_or_default());
        self.plane.set(plane.unwrap_or_default());
        let waiting = Waiting { from: "link", locks, excludes, layer, note: not_understood(&wrong), ..Waiting::default() };
        // The one that is open is not opened again.
        let sample = sample.filter(|sample| self.open_sample() != Some(sample));
        self.take_over(settings, budget, waiting, sample.is_some());
        if let Some(sample) = sample {
            samples::open(self, sample);
        }
    }

    /// Takes settings from elsewhere, as far as they can be had now; what belongs to a model, to the open one, unless another one is coming.
    pub(super) fn take_over(self, mut settings: Settings, budget: Option<Budget>, mut waiting: Waiting, another: bool) {
        let open = untrack(|| self.generation.get() > 0 && !self.is_tq()) && !another;
        match budget {
            Some(Budget::Size(size)) if !open => waiting.size = Some(size),
            Some(budget) => settings.budget = budget,
            None => {}
        }
        let now = self.choices();
        let mut choices = Choices { settings, ..now.clone() };
        let mut notes: Vec<String> = waiting.note.take().into_iter().collect();
        let transform = settings.transform;
        let waits = transform.needs_calibration() && !untrack(|| self.is_calibrated());
        self.address.transform.set_value(waits.then_some(transform));
        if waits {
            choices.settings.transform = TransformChoice::Auto;
            notes.push(format!("The transform {} waits for a calibration; until then it is auto.", transform.name()));
        }
        if let Some(why) = self.obstacle(&choices) {
            choices.settings.curves = now.settings.curves;
            notes.push(why);
        }
        let model = self.model.get_untracked().filter(|_| open);
        if let Some(model) = &model {
            let found = waiting.in_model(model);
            notes.extend(found.words(waiting.from, &model.name));
            if !found.is_nothing() || !waiting.has_layers() {
                self.accuracy.edited.update(|edited| *edited = waiting.preprocessing.take().or(edited.take()));
                self.selected.set(found.layer);
                (choices.locks, choices.excludes) = (found.locks, found.excludes);
                waiting = Waiting::default();
            }
            self.noted(|| self.choose(choices));
        } else {
            self.settings.set(choices.settings);
            waiting.note = Some(notes.join(" ")).filter(|note| !note.is_empty());
        }
        self.address.waiting.set_value(waiting);
        self.say_of_link(notes);
    }

    /// Says what became of a link or a recipe: at the top, where the next job's words take its place, and beside the buttons, where it stays.
    fn say_of_link(self, notes: Vec<String>) {
        let note = notes.join(" ");
        if !note.is_empty() {
            self.said.set(note.clone());
        }
        self.address.said.set(note);
    }

    /// A model was opened: it is given what waited for it.
    fn fit(self) {
        let waiting = self.address.waiting.with_value(Waiting::clone);
        self.address.waiting.update_value(|w| w.note = None);
        let Some(model) = self.model.get_untracked().filter(|_| waiting != Waiting::default()) else {
            return self.address.said.set(String::new());
        };
        let mut notes: Vec<String> = waiting.note.clone().into_iter().collect();
        let found = waiting.in_model(&model);
        if untrack(|| self.is_tq()) {
            self.selected.set(found.layer);
            if waiting.has_layers() || waiting.size.is_some() {
                notes.push(format!("A compressed file keeps its layers; what the {} says of layers waits for a model.", waiting.from));
            }
        } else {
            notes.extend(found.words(waiting.from, &model.name));
            if !found.is_nothing() || !waiting.has_layers() {
                let settings = self.settings.get_untracked();
                let budget = waiting.size.map_or(settings.budget, Budget::Size);
                self.accuracy.edited.update(|edited| *edited = waiting.preprocessing.or(edited.take()));
                self.selected.set(found.layer);
                self.choose(Choices { settings: Settings { budget, ..settings }, locks: found.locks, excludes: found.excludes });
                self.address.waiting.set_value(Waiting::default());
            }
        }
        // Beside what is said of the model.
        let opened = self.said.get_untracked();
        self.say_of_link(notes.clone());
        self.said.set(std::iter::once(opened).chain(notes).collect::<Vec<_>>().join(" "));
    }

    /// There is a calibration: a transform that waited for it is chosen, unless another one was.
    fn fit_calibration(self) {
        let waiting = self.address.transform.try_update_value(Option::take).flatten();
        if let Some(transform) = waiting.filter(|_| self.settings.with_untracked(|s| s.transform == TransformChoice::Auto)) {
            self.set(|s| s.transform = transform);
        }
    }

    /// A sample was fetched, and is being opened.
    pub(super) fn is_sample(self, name: &'static str, file: File) {
        self.address.sample.set_value(Some((name, file)));
    }
}

/// Puts the focus where the link that skips the head leads to; the address has something else behind its `#`.
pub fn skip(e: ev::MouseEvent) {
    if let Some(main) = document().get_element_by_id("main").and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
        e.prevent_default();
        let _ = main.focus();
        main.scroll_into_view();
    }
}

/// What became of the last link or recipe.
#[component]
pub fn TakenOver(app: App) -> impl IntoView {
    view! { <p class="hint" data-testid="taken-over">{app.address.said}</p> }
}

/// The button that copies the link.
#[component]
pub fn CopyLink(app: App) -> impl IntoView {
    let shown: NodeRef<html::Code> = NodeRef::new();
    let (copied, set_copied) = signal(None::<(bool, String)>);
    Effect::new(move |_| {
        app.settings.track();
        app.locks.track();
        app.excludes.track();
        app.selected.track();
        app.generation.track();
        set_copied.set(None);
    });
    let copy = move |_| {
        app.write_address();
        let link = window().location().href().unwrap_or_default();
        set_copied.set(None);
        spawn_local(async move {
            let done = dom::copy(&link, None).await;
            set_copied.set(Some((done, link)));
        });
    };
    // Where the clipboard is denied the link is shown, selected.
    Effect::new(move |_| {
        if let (Some(shown), Ok(Some(selection))) = (shown.get(), window().get_selection()) {
            let _ = selection.select_all_children(&shown);
        }
    });
    let denied = move || copied.with(|c| c.as_ref().filter(|c| !c.0).map(|c| c.1.clone()));
    view! {
        <button type="button" class="button" data-testid="copy-link" on:click=copy>
            {move || if copied.with(|c| c.as_ref().is_some_and(|c| c.0)) { "Link copied" } else { "Copy link" }}</button>
        {move || denied().map(|link| view! { <code node_ref=shown tabindex="0" role="textbox" aria-readonly="true" aria-label="Link">{link}</code> })}
        <p class="hint" role="status">
            {move || copied.with(|c| match c {
                Some((true, _)) => "The link is on the clipboard.",
                Some((false, _)) => "The browser denies the clipboard; the link is selected: press Ctrl+C (on a Mac, ⌘C).",
                None => "",
            })}
        </p>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LayerSummary;

    fn model(names: &[&str]) -> ModelSummary {
        let layers = names
            .iter()
            .enumerate()
            .map(|(index, name)| LayerSummary { index, name: name.to_string(), shape: vec![1], weights: 1 })
            .collect();
        ModelSummary {
            name: "net.onnx".into(),
            format: "onnx".into(),
            bytes: 1,
            tensors: names.len(),
            layer_weights: 1,
            layer_bytes: 4,
            small_values: 0,
            exact_bytes: 0,
            layers,
            notes: Vec::new(),
        }
    }

    fn waiting() -> Waiting {
        let locks = BTreeMap::from([("a".into(), 3), ("b".into(), 0)]);
        Waiting { from: "link", locks, excludes: BTreeSet::from(["c".into(), "d".into()]), layer: Some("b".into()), ..Waiting::default() }
    }

    #[test]
    fn layers_are_found_by_name_and_missing_ones_said() {
        let found = waiting().in_model(&model(&["d", "c", "b", "a"]));
        assert_eq!((found.locks.clone(), found.excludes.clone()), (BTreeMap::from([(3, 3), (2, 0)]), BTreeSet::from([1, 0])));
        assert_eq!((found.layer, found.words("link", "net.onnx")), (Some(2), None));

        let some = waiting().in_model(&model(&["a"]));
        assert_eq!((some.locks.clone(), some.is_nothing()), (BTreeMap::from([(0, 3)]), false));
        let words = "The link also names b, c, d, which net.onnx does not have; the rest is used.";
        assert_eq!(some.words("link", "net.onnx").as_deref(), Some(words));

        let mut many = waiting();
        many.excludes.extend(["e".into(), "f".into()]);
        let none = many.in_model(&model(&["x"]));
        assert!(none.is_nothing());
        let words = "The recipe is for another model: net.onnx has no a, b, c and 3 more. Its layers wait for a model that has them.";
        assert_eq!(none.words("recipe", "net.onnx").as_deref(), Some(words));
        assert_eq!(Waiting::default().in_model(&model(&["x"])).words("link", "net.onnx"), None);
    }
}
