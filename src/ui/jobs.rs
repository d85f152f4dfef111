//! Which job runs, and which comes next. The engine is given one job at a time; only a cancel overtakes.

/// What to do with a finished encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Save the `.tq` file.
    SaveTq,
    /// Save the report as JSON.
    SaveJson,
    /// Save the report as CSV.
    SaveCsv,
}

/// A request to the engine, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Opens what the user chose.
    Open,
    /// Opens the last model again, in a new engine.
    Reopen,
    /// Computes the curves with other settings.
    Recompute,
    /// A new budget, lock or transform.
    Allocate,
    /// Encodes.
    Encode(Then),
    /// Decodes into the model's own format.
    Reconstruct,
}

impl Job {
    /// Whether it takes so long that it has a progress bar and can be cancelled.
    pub fn is_long(self) -> bool {
        self != Job::Allocate
    }
}

/// The job that runs and the one that waits.
#[derive(Debug, Default)]
pub struct Queue {
    last: u32,
    active: Option<(u32, Job)>,
    next: Option<Job>,
}

impl Queue {
    /// Asks for a job. Returns the number of a running job that is to be cancelled for it: a new model ends whatever runs,
    /// new curve settings end a computation with old ones.
    pub fn ask(&mut self, job: Job) -> Option<u32> {
        if self.next != Some(Job::Open) || job == Job::Open {
            self.next = Some(job);
        }
        match (self.active, job) {
            (Some((number, active)), Job::Open) if active.is_long() => Some(number),
            (Some((number, Job::Recompute)), Job::Recompute) => Some(number),
            _ => None,
        }
    }
    /// The job to post now, with its number. `allocate`: whether the engine's allocation is out of date.
    pub fn start(&mut self, allocate: bool) -> Option<(u32, Job)> {
        if self.active.is_some() {
            return None;
        }
        let job = self.next.take().or(allocate.then_some(Job::Allocate))?;
        self.last += 1;
        self.active = Some((self.last, job));
        self.active
    }
    /// Ends a job. `None` for one that does not run (any more).
    pub fn end(&mut self, number: u32) -> Option<Job> {
        let (active, job) = self.active?;
        (active == number).then(|| {
            self.active = None;
            job
        })
    }
    /// The user cancels: nothing waits any more. Returns the number of the job to cancel.
    pub fn cancel(&mut self) -> Option<u32> {
        self.next = None;
        self.active.filter(|(_, job)| job.is_long()).map(|(number, _)| number)
    }
    /// The engine is gone, and with it the job that ran.
    pub fn lose(&mut self) -> Option<Job> {
        self.active.take().map(|(_, job)| job)
    }
    /// The job that runs.
    pub fn active(&self) -> Option<(u32, Job)> {
        self.active
    }
    /// Whether no job runs or waits.
    pub fn is_idle(&self) -> bool {
        self.active.is_none() && self.next.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allocation_at_a_time_and_the_last_wins() {
        let mut q = Queue::default();
        assert_eq!(q.start(true), Some((1, Job::Allocate)));
        assert_eq!(q.start(true), None, "one in flight");
        assert_eq!(q.end(1), Some(Job::Allocate));
        assert_eq!(q.start(true), Some((2, Job::Allocate)));
        assert_eq!(q.end(1), None, "an answer to an old job");
        assert_eq!(q.end(2), Some(Job::Allocate));
        assert_eq!(q.start(false), None);
    }

    #[test]
    fn a_new_model_ends_the_job_that_runs() {
        let mut q = Queue::default();
        assert_eq!(q.ask(Job::Open), None);
        assert_eq!(q.start(false), Some((1, Job::Open)));
        assert_eq!(q.ask(Job::Open), Some(1));
        assert_eq!(q.ask(Job::Encode(Then::SaveTq)), None);
        assert_eq!(q.start(true), None);
        assert_eq!(q.end(1), Some(Job::Open));
        assert_eq!(q.start(true), Some((2, Job::Open)), "the new model, not the encoding");
    }

    #[test]
    fn new_curve_settings_replace_old_ones_but_not_an_opening_model() {
        let mut q = Queue::default();
        q.ask(Job::Recompute);
        assert_eq!(q.start(false), Some((1, Job::Recompute)));
        assert_eq!(q.ask(Job::Recompute), Some(1));
        q.end(1);
        assert_eq!(q.start(false), Some((2, Job::Recompute)));
        q.end(2);
        q.ask(Job::Open);
        q.start(false);
        assert_eq!(q.ask(Job::Recompute), None);
        assert_eq!(q.end(3), Some(Job::Open));
        assert_eq!(q.start(true), Some((4, Job::Recompute)));
    }

    #[test]
    fn cancelling_empties_the_queue_and_a_lost_engine_ends_its_job() {
        let mut q = Queue::default();
        assert_eq!(q.cancel(), None);
        q.ask(Job::Reconstruct);
        q.start(false);
        q.ask(Job::Open);
        assert_eq!(q.cancel(), Some(1));
        assert_eq!(q.lose(), Some(Job::Reconstruct));
        assert!(q.is_idle());
        q.start(true);
        assert_eq!(q.cancel(), None, "an allocation is not worth cancelling");
    }
}
