//! What the user chose, as it is taken back and made again: settings, locks, excludes, and the buttons and keys for it. What changes without
//! the user (a cancelled job takes its settings back, a forgotten calibration its transforms) is no step; steps that it has made void are
//! dropped.

use std::collections::{BTreeMap, BTreeSet};

use leptos::{ev, html, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlElement, HtmlInputElement, KeyboardEvent};

use super::{
    clock::next_frame,
    format::{self, Unit},
    history::{Held, History},
    state::{App, NOT_ENTROPY, NOT_FEEDBACK, Settings},
};
use crate::report::{Budget, Coding, Method, TransformChoice};

/// All that can be taken back.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// The settings.
    pub settings: Settings,
    /// Layers locked to a depth.
    pub locks: BTreeMap<usize, u8>,
    /// Layers kept as they are.
    pub excludes: BTreeSet<usize>,
}

/// What was chosen of one thing.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// The budget.
    Budget(Budget),
    /// The unit that it is shown in.
    Unit(Unit),
    /// Allowed transforms.
    Transform(TransformChoice),
    /// Blocks per layer.
    Blocks(usize),
    /// How indices are coded.
    Coding(Coding),
    /// What layers may be compressed by.
    Method(Method),
    /// The depth a layer is locked to.
    Lock(usize, Option<u8>),
    /// Whether a layer is kept as it is.
    Exclude(usize, bool),
    /// All at once: from a recipe or a link.
    All(Box<Choices>),
}

impl Held for Choice {
    type Kind = (std::mem::Discriminant<Choice>, Option<usize>);
    fn kind(&self) -> Self::Kind {
        let layer = match self {
            Choice::Lock(layer, _) | Choice::Exclude(layer, _) => Some(*layer),
            _ => None,
        };
        (std::mem::discriminant(self), layer)
    }
}

impl Choices {
    /// All choices of one thing, in an order that depends on nothing else.
    fn single(&self, layer: Option<usize>) -> Vec<Choice> {
        let Settings { budget, unit, transform, curves } = self.settings;
        match layer {
            Some(layer) => {
                vec![Choice::Lock(layer, self.locks.get(&layer).copied()), Choice::Exclude(layer, self.excludes.contains(&layer))]
            }
            None => vec![
                Choice::Budget(budget),
                Choice::Unit(unit),
                Choice::Transform(transform),
                Choice::Blocks(curves.blocks),
                Choice::Coding(curves.coding),
                Choice::Method(curves.method),
            ],
        }
    }

    /// What was chosen anew: from what, and to what; everything, when it is more than one thing.
    fn change(&self, now: &Choices) -> Option<(Choice, Choice)> {
        let layers: BTreeSet<usize> = [self, now].iter().flat_map(|c| c.locks.keys().chain(&c.excludes)).copied().collect();
        let all = |choices: &Choices| -> Vec<Choice> {
            std::iter::once(None).chain(layers.iter().copied().map(Some)).flat_map(|layer| choices.single(layer)).collect()
        };
        let mut changed: Vec<_> = all(self).into_iter().zip(all(now)).filter(|(before, after)| before != after).collect();
        match changed.len() {
            0 | 1 => changed.pop(),
            _ => Some((Choice::All(Box::new(self.clone())), Choice::All(Box::new(now.clone())))),
        }
    }

    /// Whether this is what is chosen. Of everything something may have changed without the user.
    fn holds(&self, choice: &Choice) -> bool {
        match choice {
            Choice::All(_) => true,
            choice => self.single(choice.kind().1).contains(choice),
        }
    }

    /// Chooses.
    fn take(&mut self, choice: Choice) {
        let Choices { settings, locks, excludes } = self;
        match choice {
            Choice::Budget(budget) => settings.budget = budget,
            Choice::Unit(unit) => settings.unit = unit,
            Choice::Transform(transform) => settings.transform = transform,
            Choice::Blocks(blocks) => settings.curves.blocks = blocks,
            Choice::Coding(coding) => settings.curves.coding = coding,
            Choice::Method(method) => settings.curves.method = method,
            Choice::Lock(layer, Some(depth)) => {
                locks.insert(layer, depth);
            }
            Choice::Lock(layer, None) => {
                locks.remove(&layer);
            }
            Choice::Exclude(layer, true) => {
                excludes.insert(layer);
            }
            Choice::Exclude(layer, false) => {
                excludes.remove(&layer);
            }
            Choice::All(all) => *self = *all,
        }
    }
}

impl Choice {
    /// What was done, in words: `budget to 3.5 bits`.
    fn words(&self, layer: impl Fn(usize) -> String) -> String {
        match self {
            Choice::Budget(Budget::Bits(bits)) => format!("budget to {} bits", format::plain(*bits, 4)),
            Choice::Budget(Budget::Size(size)) => format!("budget to {}", format::bytes(*size)),
            Choice::Budget(Budget::Ratio(ratio)) => format!("budget to {} times smaller", format::plain(*ratio, 4)),
            Choice::Unit(unit) => format!("unit to {}", unit.name()),
            Choice::Transform(transform) => format!("transform to {}", transform.name()),
            Choice::Blocks(blocks) => format!("blocks per layer to {blocks}"),
            Choice::Coding(coding) => format!("coding to {}", coding.name()),
            Choice::Method(method) => format!("method to {}", method.name()),
            Choice::Lock(index, Some(depth)) => format!("lock {} to {}", layer(*index), format::count(usize::from(*depth), "bit")),
            Choice::Lock(index, None) => format!("unlock {}", layer(*index)),
            Choice::Exclude(index, true) => format!("exclude {}", layer(*index)),
            Choice::Exclude(index, false) => format!("do not exclude {}", layer(*index)),
            Choice::All(_) => "settings from a recipe or a link".into(),
        }
    }
}

impl App {
    /// What is chosen now.
    pub(super) fn choices(&self) -> Choices {
        Choices { settings: self.settings.get_untracked(), locks: self.locks.get_untracked(), excludes: self.excludes.get_untracked() }
    }

    /// Changes something for the user, who can take it back.
    pub(super) fn noted(self, change: impl FnOnce()) {
        let before = self.choices();
        change();
        if let Some((before, after)) = before.change(&self.choices()) {
            let now = window().performance().map_or(0.0, |p| p.now());
            self.history.update(|h| h.note(before, after, now));
        }
    }

    /// Chooses, without a step of its own.
    pub(super) fn choose(self, choices: Choices) {
        let Choices { settings, locks, excludes } = choices;
        let curves = self.settings.with_untracked(|s| s.curves) != settings.curves;
        self.settings.set(settings);
        self.locks.set(locks);
        self.excludes.set(excludes);
        if curves {
            self.follow_curves();
        }
        self.pump();
    }

    /// Why this cannot be chosen now.
    pub(super) fn obstacle(&self, choices: &Choices) -> Option<String> {
        let Settings { transform, curves, .. } = choices.settings;
        let now = self.settings.with_untracked(|s| *s);
        let (measuring, calibrated) = untrack(|| (self.is_measuring(), self.is_calibrated()));
        match () {
            _ if measuring && curves.coding != now.curves.coding && curves.coding == Coding::Entropy => Some(NOT_ENTROPY.into()),
            _ if measuring && curves.method != now.curves.method && curves.method == Method::Feedback => Some(NOT_FEEDBACK.into()),
            _ if transform.needs_calibration() && !calibrated => Some(format!("There is no {} without calibration.", transform.name())),
            _ => None,
        }
    }

    /// Takes the last change back, or makes the last that was taken back again.
    pub fn turn_back(self, back: bool) {
        let next = self.history.with_untracked(|h| {
            let (target, done) =
                if back { h.undoes().map(|(after, before)| (before, after))? } else { h.redoes().map(|after| (after, after))? };
            let words = done.words(|index| self.layer_name(index));
            let mut choices = self.choices();
            choices.take(target.clone());
            Some((choices, words))
        });
        let Some((choices, words)) = next else { return };
        if let Some(why) = self.obstacle(&choices) {
            return self.said.set(why);
        }
        self.history.update(|h| drop(if back { h.undo() } else { h.redo() }));
        self.said.set(format!("{}: {words}.", if back { "Undone" } else { "Done again" }));
        self.choose(choices);
    }

    /// A layer's name, for words.
    pub(super) fn layer_name(&self, index: usize) -> String {
        let name = |m: &std::sync::Arc<crate::report::ModelSummary>| m.layers.get(index).map(|l| l.name.clone());
        self.model.with(|m| m.as_ref().and_then(name)).unwrap_or_else(|| format!("layer {}", index + 1))
    }

    /// Keeps the history that of the open model, and of what holds.
    pub(super) fn follow_history(self) {
        Effect::new(move |_| {
            self.generation.track();
            self.history.set(History::default());
        });
        Effect::new(move |_| {
            self.settings.track();
            self.locks.track();
            self.excludes.track();
            let (choices, mut history) = (self.choices(), self.history.get_untracked());
            if history.drop_void(|choice| choices.holds(choice)) {
                self.history.set(history);
            }
        });
    }
}

/// Whether keys are typed into this: the browser's own undo is for that.
fn takes_text(element: &Element) -> bool {
    const NOT_TEXT: [&str; 7] = ["range", "checkbox", "radio", "button", "submit", "reset", "file"];
    let input = element.dyn_ref::<HtmlInputElement>().is_some_and(|input| !NOT_TEXT.contains(&input.type_().as_str()));
    input || element.tag_name() == "TEXTAREA" || element.dyn_ref::<HtmlElement>().is_some_and(HtmlElement::is_content_editable)
}

/// Whether a key takes back (`true`) or makes again.
fn key(e: &KeyboardEvent) -> Option<bool> {
    if !(e.ctrl_key() || e.meta_key()) || e.alt_key() || e.default_prevented() {
        return None;
    }
    match e.key().to_ascii_lowercase().as_str() {
        "z" => Some(!e.shift_key()),
        "y" if !e.shift_key() => Some(false),
        _ => None,
    }
}

/// Undo and redo, as buttons and as keys.
#[component]
pub fn HistoryButtons(app: App) -> impl IntoView {
    let keys = window_event_listener(ev::keydown, move |e| {
        let typing = e.target().and_then(|t| t.dyn_into::<Element>().ok()).is_some_and(|element| takes_text(&element));
        if let Some(back) = key(&e).filter(|_| !typing) {
            e.prevent_default();
            app.turn_back(back);
        }
    });
    on_cleanup(move || keys.remove());
    let words = move |back: bool| {
        app.history.with(|h| {
            let done = if back { h.undoes().map(|(after, _)| after) } else { h.redoes() };
            done.map(|done| done.words(|index| app.layer_name(index)))
        })
    };
    let nodes: [NodeRef<html::Button>; 2] = [NodeRef::new(), NodeRef::new()];
    let button = move |back: bool| {
        let words = Memo::new(move |_| words(back));
        let (hook, name, keys, path) = if back {
            ("undo", "Undo", "Control+Z", "M6.5 3 3 6.5 6.5 10M3.5 6.5h6a3.5 3.5 0 0 1 0 7H7")
        } else {
            ("redo", "Redo", "Control+Shift+Z", "M9.5 3 13 6.5 9.5 10M12.5 6.5h-6a3.5 3.5 0 0 0 0 7H9")
        };
        let label = move || words.get().map_or_else(|| name.to_string(), |words| format!("{name}: {words}"));
        let clicked = move |_| {
            app.turn_back(back);
            // The focus is not left on a button that can do no more.
            if words.get_untracked().is_none()
                && let Some(other) = nodes[usize::from(back)].get_untracked()
            {
                next_frame(move || drop(other.focus()));
            }
        };
        view! {
            <button type="button" class="button small icon" data-testid=hook node_ref=nodes[usize::from(!back)] aria-label=label aria-keyshortcuts=keys
                title=move || words.get().map(|words| format!("{name}: {words} ({keys})")) disabled=move || words.get().is_none() on:click=clicked>
                <svg viewBox="0 0 16 16" aria-hidden="true"><path d=path/></svg>
            </button>
        }
    };
    view! { <div class="twins" role="group" aria-label="History of settings">{button(true)}{button(false)}</div> }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> Choices {
        Choices { settings: Settings::default(), locks: BTreeMap::from([(3, 4)]), excludes: BTreeSet::from([1]) }
    }

    #[test]
    fn what_was_chosen_is_found_and_said() {
        let before = choices();
        let said = |change: &dyn Fn(&mut Choices)| {
            let mut now = before.clone();
            change(&mut now);
            let (from, to) = before.change(&now)?;
            let mut back = now.clone();
            back.take(from.clone());
            assert_eq!(back, before, "{to:?}");
            back.take(to.clone());
            assert_eq!(back, now, "{to:?}");
            assert!(now.holds(&to) && (!now.holds(&from) || matches!(from, Choice::All(_))), "{to:?}");
            Some(to.words(|index| format!("layer{index}")))
        };
        assert_eq!(said(&|_| {}), None);
        type Change = dyn Fn(&mut Choices);
        let table: [(&Change, &str); 13] = [
            (&|c| c.settings.budget = Budget::Bits(3.5), "budget to 3.5 bits"),
            (&|c| c.settings.budget = Budget::Size(107_321), "budget to 107,321 bytes"),
            (&|c| c.settings.budget = Budget::Ratio(10.0), "budget to 10 times smaller"),
            (&|c| c.settings.unit = Unit::Ratio, "unit to times smaller (ratio)"),
            (&|c| c.settings.transform = TransformChoice::KltRow, "transform to klt-row"),
            (&|c| c.settings.curves.blocks = 2, "blocks per layer to 2"),
            (&|c| c.settings.curves.coding = Coding::Depths, "coding to depths"),
            (&|c| c.settings.curves.method = Method::Transform, "method to transform"),
            (
                &|c| {
                    c.locks.insert(0, 1);
                },
                "lock layer0 to 1 bit",
            ),
            (
                &|c| {
                    c.locks.remove(&3);
                },
                "unlock layer3",
            ),
            (
                &|c| {
                    c.excludes.insert(0);
                },
                "exclude layer0",
            ),
            (
                &|c| {
                    c.excludes.remove(&1);
                },
                "do not exclude layer1",
            ),
            (&|c| (c.settings.curves.blocks, c.settings.unit) = (2, Unit::Size), "settings from a recipe or a link"),
        ];
        for (change, words) in table {
            assert_eq!(said(change).as_deref(), Some(words));
        }
    }
}
