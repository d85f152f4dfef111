//! Undo and redo: what every step changed, from what and to what. Nothing that was computed is kept: the engine follows a choice that is taken
//! back as it follows any other ([`choices`](super::choices)).

/// Changes of one kind that follow each other within this time, in milliseconds, are one step: a slider is dragged, a number typed.
const TOGETHER: f64 = 500.0;
/// Most steps that are kept.
const MOST: usize = 200;

/// What a step holds: values of one kind replace each other.
pub trait Held: Clone + PartialEq {
    /// Tells what a value is of.
    type Kind: PartialEq;
    /// What this value is of.
    fn kind(&self) -> Self::Kind;
}

/// A change, from what and to what.
#[derive(Debug, Clone, PartialEq)]
struct Step<T> {
    before: T,
    after: T,
}

/// Steps that can be taken back, and those that were.
#[derive(Debug, Clone)]
pub struct History<T> {
    past: Vec<Step<T>>,
    /// The one to be made again first is the last.
    future: Vec<Step<T>>,
    /// When the last step was changed last, in milliseconds; none when nothing is added to it any more.
    last: Option<f64>,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        History { past: Vec::new(), future: Vec::new(), last: None }
    }
}

impl<T: Held> History<T> {
    /// Notes a change made at a time in milliseconds. What was taken back is forgotten.
    pub fn note(&mut self, before: T, after: T, now: f64) {
        if before == after {
            return;
        }
        self.future.clear();
        let follows = self.last.is_some_and(|last| now - last < TOGETHER);
        match self.past.last_mut() {
            Some(step) if follows && step.after.kind() == after.kind() => {
                step.after = after;
                // There and back again.
                if step.before == step.after {
                    self.past.pop();
                }
            }
            _ => self.past.push(Step { before, after }),
        }
        if self.past.len() > MOST {
            self.past.remove(0);
        }
        self.last = Some(now);
    }

    /// The change that would be taken back next: what it led to, and what it led away from.
    pub fn undoes(&self) -> Option<(&T, &T)> {
        self.past.last().map(|step| (&step.after, &step.before))
    }

    /// The change that would be made again next: what it led to.
    pub fn redoes(&self) -> Option<&T> {
        self.future.last().map(|step| &step.after)
    }

    /// Takes a change back. Returns what holds again.
    pub fn undo(&mut self) -> Option<T> {
        let step = self.past.pop()?;
        self.last = None;
        self.future.push(step.clone());
        Some(step.before)
    }

    /// Makes a change again. Returns what holds again.
    pub fn redo(&mut self) -> Option<T> {
        let step = self.future.pop()?;
        self.last = None;
        self.past.push(step.clone());
        Some(step.after)
    }

    /// Drops next steps that lead from what does not hold any more. Returns whether there were any.
    pub fn drop_void(&mut self, holds: impl Fn(&T) -> bool) -> bool {
        let before = (self.past.len(), self.future.len());
        while self.past.pop_if(|step| !holds(&step.after)).is_some() {
            self.last = None;
        }
        while self.future.pop_if(|step| !holds(&step.before)).is_some() {}
        before != (self.past.len(), self.future.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A value, and what it is of.
    type Pair = (u8, i32);
    impl Held for Pair {
        type Kind = u8;
        fn kind(&self) -> u8 {
            self.0
        }
    }

    #[test]
    fn changes_are_taken_back_and_made_again() {
        let mut h = History::<Pair>::default();
        assert_eq!((h.undo(), h.redo(), h.undoes(), h.redoes()), (None, None, None, None));
        h.note((0, 1), (0, 2), 0.0);
        h.note((1, 7), (1, 8), 10.0);
        assert_eq!((h.undoes(), h.redoes()), (Some((&(1, 8), &(1, 7))), None));
        assert_eq!((h.undo(), h.undo(), h.undo()), (Some((1, 7)), Some((0, 1)), None));
        assert_eq!((h.redoes().copied(), h.redo()), (Some((0, 2)), Some((0, 2))));
        h.note((0, 2), (0, 5), 20.0);
        assert_eq!(
            (h.redo(), h.undo(), h.undo()),
            (None, Some((0, 2)), Some((0, 1))),
            "what was taken back is forgotten, nothing is added to a step that was made again"
        );
    }

    #[test]
    fn a_drag_is_one_step() {
        let mut h = History::<Pair>::default();
        for i in 0..20 {
            h.note((0, i), (0, i + 1), f64::from(i) * 400.0);
        }
        h.note((0, 20), (0, 30), 19.0 * 400.0 + TOGETHER);
        h.note((1, 0), (1, 1), 19.0 * 400.0 + TOGETHER);
        h.note((0, 30), (0, 31), 19.0 * 400.0 + TOGETHER);
        assert_eq!([h.undo(), h.undo(), h.undo(), h.undo(), h.undo()], [Some((0, 30)), Some((1, 0)), Some((0, 20)), Some((0, 0)), None]);
        h.note((0, 0), (0, 1), 1e6);
        h.note((0, 1), (0, 0), 1e6 + 1.0);
        h.note((0, 0), (0, 0), 1e6 + 2.0);
        assert_eq!(h.undo(), None, "there and back is nowhere");
    }

    #[test]
    fn void_steps_are_dropped_until_one_that_holds() {
        let mut h = History::<Pair>::default();
        for (before, after) in [((0, 0), (0, 1)), ((1, 0), (1, 1)), ((2, 0), (2, 1))] {
            h.note(before, after, 0.0);
        }
        let now = [1, 0, 0];
        let holds = |&(kind, value): &Pair| now[usize::from(kind)] == value;
        assert!(h.clone().drop_void(holds));
        h.drop_void(holds);
        assert!(!h.drop_void(holds));
        assert_eq!(h.undo(), Some((0, 0)));
        assert!(h.drop_void(holds), "it leads from 0, and now is 1");
        assert_eq!(h.redo(), None);
    }

    #[test]
    fn it_is_bounded() {
        let mut h = History::<Pair>::default();
        for i in 0..(MOST as i32 + 50) {
            h.note((0, i), (0, i + 1), f64::from(i) * 1e6);
        }
        assert_eq!(std::iter::from_fn(|| h.undo()).count(), MOST);
        assert_eq!(std::iter::from_fn(|| h.redo()).count(), MOST);
    }

    proptest! {
        /// Whatever is done: undoing all of it leads to the beginning, redoing all of it to the end.
        #[test]
        fn all_of_it_leads_back_and_forth(changes in proptest::collection::vec((0u8..3, 0i32..4, 0.0..900.0f64), 0..60)) {
            let (mut now, mut time, mut h) = ([0; 3], 0.0, History::<Pair>::default());
            for (kind, value, wait) in changes {
                time += wait;
                h.note((kind, now[usize::from(kind)]), (kind, value), time);
                now[usize::from(kind)] = value;
            }
            let end = now;
            while let Some((kind, value)) = h.undo() {
                now[usize::from(kind)] = value;
            }
            prop_assert_eq!(now, [0; 3]);
            while let Some((kind, value)) = h.redo() {
                now[usize::from(kind)] = value;
            }
            prop_assert_eq!(now, end);
        }
    }
}
