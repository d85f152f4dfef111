//! Frames and times to come. While a budget is dragged, each change asks for several of both; a function of JavaScript's for each, made and registered to be freed, would be a good part
//! of what the browser has to collect then. So there is one function for all frames, and one for all times.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use leptos::prelude::window;
use wasm_bindgen::{JsCast, closure::Closure};

type What = Box<dyn FnOnce()>;

thread_local! {
    static CLOCK: Clock = Clock {
        frame: Closure::new(|| CLOCK.with(Clock::at_frame)),
        of_frame: RefCell::default(),
        time: Closure::new(|| CLOCK.with(Clock::at_time)),
        of_time: RefCell::default(),
        timer: Cell::new(None),
        last: Cell::new(0),
    };
}

struct Clock {
    frame: Closure<dyn FnMut()>,
    /// What is done at the start of the next frame.
    of_frame: RefCell<Vec<What>>,
    time: Closure<dyn FnMut()>,
    /// What is done at a time, in whole milliseconds since the page was opened; those of one time in the order in which they were asked for.
    of_time: RefCell<BTreeMap<(u64, u64), What>>,
    /// When the browser's timer goes off, and its handle.
    timer: Cell<Option<(u64, i32)>>,
    /// The number of what was asked for last.
    last: Cell<u64>,
}

/// Milliseconds since the page was opened.
fn now() -> u64 {
    window().performance().map_or(0.0, |p| p.now()) as u64
}

impl Clock {
    fn at_frame(&self) {
        for what in self.of_frame.take() {
            what();
        }
    }

    fn at_time(&self) {
        self.timer.set(None);
        loop {
            // One by one: what is done may stop another.
            let due = self.of_time.borrow().keys().next().copied().filter(|(due, _)| *due <= now());
            let Some(what) = due.and_then(|due| self.of_time.borrow_mut().remove(&due)) else { break };
            what();
        }
        self.wind();
    }

    /// Has the browser's timer go off for what is due first.
    fn wind(&self) {
        let Some((due, _)) = self.of_time.borrow().keys().next().copied() else { return };
        match self.timer.get() {
            Some((at, _)) if at <= due => return,
            Some((_, handle)) => window().clear_timeout_with_handle(handle),
            None => {}
        }
        // A timer may go off a little early, but not before the millisecond that follows.
        let wait = i32::try_from(due.saturating_sub(now()) + 1).unwrap_or(i32::MAX);
        let handle = window().set_timeout_with_callback_and_timeout_and_arguments_0(self.time.as_ref().unchecked_ref(), wait);
        self.timer.set(handle.ok().map(|handle| (due, handle)));
    }
}

/// Does something at the start of the next frame; after what was asked for before.
pub fn next_frame(what: impl FnOnce() + 'static) {
    CLOCK.with(|clock| {
        clock.of_frame.borrow_mut().push(Box::new(what));
        if clock.of_frame.borrow().len() == 1 {
            let _ = window().request_animation_frame(clock.frame.as_ref().unchecked_ref());
        }
    });
}

/// Something that is done after a while, unless it is asked for anew before, or this is dropped.
#[derive(Default)]
pub struct Later(Option<(u64, u64)>);

impl Later {
    /// Does something after a while, in place of what waits.
    pub fn set(&mut self, after: Duration, what: impl FnOnce() + 'static) {
        self.stop();
        CLOCK.with(|clock| {
            clock.last.set(clock.last.get() + 1);
            let key = (now() + u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 2), clock.last.get());
            clock.of_time.borrow_mut().insert(key, Box::new(what));
            self.0 = Some(key);
            clock.wind();
        });
    }

    /// What waits is not done.
    pub fn stop(&mut self) {
        if let Some(key) = self.0.take() {
            // Dropped after the list is free: it may own others that wait.
            let what = CLOCK.with(|clock| clock.of_time.borrow_mut().remove(&key));
            drop(what);
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.stop();
    }
}
