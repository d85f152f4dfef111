//! When what is seen follows. A dragged slider without making a frame late: numbers and the operating point are shown at once, and of the larger parts one in each frame after that; those out of sight rest meanwhile.

use std::{cell::Cell, collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use leptos::{html, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::Element;

use super::{
    clock::{Later, next_frame},
    dom,
    state::App,
};
use crate::report::AllocationReport;

/// The class of a part that rests. Every part has its own: one class of their parent would have all that is in them styled anew.
const RESTS: &str = "rests";

/// How long after its last change the budget is left alone, and parts that rest go on.
const LEFT_ALONE: Duration = Duration::from_secs(2);
/// How long after a frame should have come there is none.
const OUT_OF_SIGHT: Duration = Duration::from_millis(250);

/// What still waits for a frame of its own. Copied freely: it is a handle.
#[derive(Clone, Copy)]
pub struct Turns(StoredValue<VecDeque<Turn>, LocalStorage>);

type Turn = Box<dyn FnOnce()>;

/// Does something at the start of the next frame: what it changes is styled and laid out with what that frame changes anyway. Where no frames come, because the page is out of
/// sight, a little later.
pub(super) fn in_next_frame(what: impl FnOnce() + 'static) {
    let what = Rc::new(Cell::new(Some(what)));
    let once = move || {
        if let Some(what) = what.take() {
            what();
        }
    };
    let mut otherwise = Later::default();
    otherwise.set(OUT_OF_SIGHT, once.clone());
    next_frame(move || {
        drop(otherwise);
        once();
    });
}

impl Turns {
    /// Nothing waits.
    pub fn new() -> Turns {
        Turns(StoredValue::new_local(VecDeque::new()))
    }

    /// Does something in a frame of its own: not in the one that shows what is changed now.
    pub(super) fn wait(self, turn: Turn) {
        let first = self.0.try_update_value(|turns| {
            turns.push_back(turn);
            turns.len() == 1
        });
        if first == Some(true) {
            next_frame(move || next_frame(move || self.next()));
        }
    }

    fn next(self) {
        // It stays in line while it is done, so that what it brings about waits behind it.
        let turn = self.0.try_update_value(|turns| turns.front_mut().map(|turn| std::mem::replace(turn, Box::new(|| ()))));
        if let Some(turn) = turn.flatten() {
            turn();
        }
        let more = self.0.try_update_value(|turns| {
            turns.pop_front();
            !turns.is_empty()
        });
        if more == Some(true) {
            next_frame(move || self.next());
        }
    }

    /// What is drawn of something, in a frame of its own where that is another than before: drawing takes a good part of one, and showing the drawing of the next. Where there was
    /// no drawing, and for another size or other colours, at once.
    pub fn late_drawing<T: Send + Sync + 'static>(
        self,
        of: Signal<Option<Arc<T>>>,
        draw: impl Fn(&T) -> String + 'static,
    ) -> ReadSignal<String> {
        let (get, set) = signal(String::new());
        let latest = StoredValue::new(String::new());
        Effect::new(move |last: Option<Option<Arc<T>>>| {
            let now = of.get();
            latest.set_value(now.as_deref().map(&draw).unwrap_or_default());
            let same = last.is_some_and(|last| last.as_ref().map(Arc::as_ptr) == now.as_ref().map(Arc::as_ptr));
            if same || get.with_untracked(String::is_empty) {
                set.set(latest.get_value());
            } else {
                self.wait(Box::new(move || {
                    // The part may be gone.
                    if let Some(drawing) = latest.try_get_value() {
                        set.try_set(drawing);
                    }
                }));
            }
            now
        });
        get
    }
}

impl Default for Turns {
    fn default() -> Self {
        Turns::new()
    }
}

/// Whether the budget is being changed, or about to be: by its slider, or by its point on the curve.
#[derive(Clone, Copy)]
pub struct AtHand {
    now: RwSignal<bool>,
    until: StoredValue<Later, LocalStorage>,
}

impl AtHand {
    /// It is not.
    pub fn new() -> AtHand {
        AtHand { now: RwSignal::new(false), until: StoredValue::new_local(Later::default()) }
    }

    /// A pointer or the focus comes to it, or it is changed: it is at hand until nothing of that has happened for a while.
    pub fn reach(self) {
        if !self.now.get_untracked() {
            self.now.set(true);
        }
        self.until.update_value(|until| until.set(LEFT_ALONE, move || self.now.set(false)));
    }
}

impl Default for AtHand {
    fn default() -> Self {
        AtHand::new()
    }
}

impl App {
    /// While the budget is at hand, parts below the curve rest: out of sight, they take no time of a frame. That they begin to takes a good part of one itself, before the first change if
    /// it was seen to come, and that they end to more than one: then one of them follows in each.
    pub fn rest_out_of_sight(self, main: NodeRef<html::Main>) {
        Effect::new(move |last: Option<bool>| {
            let now = self.at_hand.now.get();
            if last.unwrap_or(false) != now {
                self.follow_rest(main);
            }
            now
        });
    }

    fn follow_rest(self, main: NodeRef<html::Main>) {
        self.turns.wait(Box::new(move || {
            let Some(parts) = main.get_untracked() else { return };
            // As it is by then.
            if self.at_hand.now.get_untracked() {
                let work = parts.query_selector(":scope > .work").ok().flatten();
                for part in std::iter::successors(work, |part| part.next_element_sibling()).skip(1) {
                    let _ = part.class_list().add_1(RESTS);
                }
            } else if let Ok(Some(part)) = parts.query_selector(&format!(":scope > .{RESTS}")) {
                let _ = part.class_list().remove_1(RESTS);
                self.follow_rest(main);
            }
        }));
    }

    /// The allocation as a part shows it, some frames late: of those who ask for it one follows in each frame, and none out of sight while the budget is at hand: what it changes there nobody
    /// sees, and all of it is left to the browser's collector. That of another model is there at once.
    pub fn late_allocation<E: html::ElementType>(self, part: NodeRef<E>) -> ReadSignal<Option<Arc<AllocationReport>>>
    where
        E::Output: JsCast + AsRef<Element> + Clone + 'static,
    {
        let now = move || self.allocation.get_untracked();
        let (get, set) = signal(now());
        let waits = StoredValue::new(false);
        let in_sight = dom::in_sight(part);
        let follows = Memo::new(move |_| in_sight.get() || !self.at_hand.now.get());
        Effect::new(move |last: Option<(u32, bool)>| {
            let of = (self.generation.get(), self.allocation.with(|a| a.is_some()));
            let follows = follows.get();
            if last != Some(of) {
                set.set(now());
            } else if follows && !waits.get_value() {
                waits.set_value(true);
                self.turns.wait(Box::new(move || {
                    // The part may be gone; and it may have followed before it was out of sight.
                    if waits.try_set_value(false).is_none()
                        && let Some(now) = self.allocation.try_get_untracked()
                        && get.try_with_untracked(|shown| shown.as_ref().map(Arc::as_ptr) != now.as_ref().map(Arc::as_ptr)) == Some(true)
                    {
                        set.try_set(now);
                    }
                }));
            }
            of
        });
        get
    }
}
