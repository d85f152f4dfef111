//! Which job runs, and which comes next. The engine is given one job at a time; only a cancel overtakes, and a new allocation does not
//! wait for networks that run. What runs in the background gives way to everything else: measured curves then go on, unless it was their
//! curves or images that changed. A long job gives way to a download of what there is, and goes on after it.

use crate::worker::messages::DataUse;

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
    /// Compresses several models, one after the other.
    Batch,
    /// Puts what came of it into one archive.
    Pack,
    /// Computes the curves with other settings.
    Recompute,
    /// Takes statistics, and computes the curves from them.
    Calibrate,
    /// Computes the curves without statistics.
    Forget,
    /// A new budget, lock or transform.
    Allocate,
    /// Encodes.
    Encode(Then),
    /// Decodes into the model's own format.
    Reconstruct,
    /// Opens images.
    OpenData(DataUse),
    /// Forgets images.
    CloseData(DataUse),
    /// Asks whether the open model can be run on the open images.
    Network,
    /// Runs the networks.
    Evaluate {
        /// Whether to run one with a single layer quantized, for every layer.
        damage: bool,
    },
    /// Finds the smallest file that keeps a promise about accuracy.
    Promise,
    /// Measures curves, in the background.
    Sweep,
    /// Runs the compressed network on the images of its calibration, in the background.
    Check,
}

/// What has become of the measured curves that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweeping {
    /// They are not, or have ended.
    Not,
    /// They wait for other work.
    Waiting,
    /// They are being measured.
    Running,
}

impl Job {
    /// Whether it takes so long that it has a progress bar and can be cancelled.
    pub fn is_long(self) -> bool {
        !matches!(self, Job::Allocate | Job::CloseData(_) | Job::Network) && !self.is_background()
    }
    /// Whether it runs beside what the user does, and gives way to it.
    pub fn is_background(self) -> bool {
        matches!(self, Job::Sweep | Job::Check)
    }
    /// Whether curves that were being measured are of no use after it.
    fn ends_sweep(self) -> bool {
        let curves = matches!(self, Job::Open | Job::Reopen | Job::Recompute | Job::Calibrate | Job::Forget);
        curves || self.data() == Some(DataUse::Test)
    }
    /// What the images are for that it opens or forgets.
    pub fn data(self) -> Option<DataUse> {
        if let Job::OpenData(usage) | Job::CloseData(usage) = self { Some(usage) } else { None }
    }
    /// Whether its progress is shown in the panel of the images, not at the top.
    pub fn is_of_data(self) -> bool {
        (self.data().is_some() || self.uses_images() || self == Job::Forget) && self != Job::Promise
    }
    /// Whether it runs networks on images.
    pub fn uses_images(self) -> bool {
        self.is_evaluation() || matches!(self, Job::Calibrate | Job::Promise)
    }
    /// Whether allocations run beside it.
    fn stays_live(self) -> bool {
        self.uses_images() || self.is_background() || self == Job::Batch
    }
    /// Whether it gives way to a download of what is shown: what it is asked for again with begins where it was, or costs little.
    pub fn gives_way(self) -> bool {
        self.uses_images() && self != Job::Promise || matches!(self, Job::Recompute | Job::Forget)
    }
    /// Whether it makes something of what is shown, to be saved.
    fn is_download(self) -> bool {
        matches!(self, Job::Encode(_) | Job::Reconstruct)
    }
    /// Whether a download can be asked for while it runs.
    pub fn lets_save(self) -> bool {
        self.gives_way() || self.data().is_some() || !self.is_long()
    }
    /// Whether it compares networks.
    pub fn is_evaluation(self) -> bool {
        matches!(self, Job::Evaluate { .. })
    }
}

/// What the engine's answers are out of date for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stale {
    /// The allocation, for the settings.
    pub allocation: bool,
    /// Whether the network can be run, for the model and the images.
    pub network: bool,
    /// What the compressed network gives on the images of its calibration, for the allocation.
    pub check: bool,
}

/// The job that runs, and those that wait.
#[derive(Debug, Default)]
pub struct Queue {
    last: u32,
    active: Option<(u32, Job)>,
    /// An allocation beside networks that run.
    beside: Option<u32>,
    next: Option<Job>,
    /// Images to open or to forget: one job for each use.
    data: Vec<Job>,
    /// Whether measured curves wait.
    sweep: bool,
    /// Whether what runs in the background was told to end.
    told: bool,
    /// A job that gave way to a download, and goes on when nothing else waits.
    again: Option<Job>,
    /// A job that gave way and does not go on: what it leaves behind is still to be undone.
    dropped: Option<Job>,
}

impl Queue {
    /// Asks for a job. Returns the number of a running job that is to be cancelled for it: a new model ends whatever runs (but images
    /// outlive models), new curve settings end a computation with old ones, other images what runs networks, and anything what runs in the
    /// background.
    pub fn ask(&mut self, job: Job) -> Option<u32> {
        let beneath = self.active.filter(|(_, active)| active.is_background());
        if job == Job::Sweep {
            // Measured curves that run are those that are asked for.
            self.sweep = self.told || !matches!(beneath, Some((_, Job::Sweep)));
            let check = beneath.filter(|(_, active)| *active == Job::Check);
            self.told |= check.is_some();
            return check.map(|(number, _)| number);
        }
        // What has given way does not go on with another model, or other images.
        let other = matches!(job, Job::Open | Job::Reopen) || job.data().is_some() && self.again.is_some_and(Job::uses_images);
        if other {
            self.dropped = self.again.take();
        } else if self.again == Some(job) {
            self.again = None;
        }
        if let Some((number, active)) = self.active.filter(|(_, active)| job.is_download() && active.gives_way()) {
            self.next = Some(job);
            return self.again.replace(active).is_none().then_some(number);
        }
        let runs = !self.told && matches!(beneath, Some((_, Job::Sweep)));
        self.sweep = (self.sweep || runs) && !job.ends_sweep();
        self.told |= beneath.is_some();
        if job.data().is_some() {
            self.data.retain(|waiting| waiting.data() != job.data());
            self.data.push(job);
        } else if job == Job::Recompute && matches!(self.next, Some(Job::Calibrate | Job::Forget)) {
            // What waits computes the curves, by what is chosen when it begins.
        } else if self.next != Some(Job::Open) || job == Job::Open {
            self.next = Some(job);
        }
        match (self.active, job) {
            _ if beneath.is_some() => beneath.map(|(number, _)| number),
            (Some((number, active)), Job::Open) if active.is_long() && active.data().is_none() => Some(number),
            (Some((number, Job::Recompute)), Job::Recompute) => Some(number),
            (Some((number, active)), new) if new.data().is_some() && (active.uses_images() || active.data() == new.data()) => Some(number),
            _ => None,
        }
    }
    /// The job to post now, with its number.
    pub fn start(&mut self, stale: Stale) -> Option<(u32, Job)> {
        match self.active {
            Some((_, active)) if active.stays_live() && self.beside.is_none() && self.next.is_none() && stale.allocation => {
                self.last += 1;
                self.beside = Some(self.last);
                return Some((self.last, Job::Allocate));
            }
            None if self.beside.is_none() => {}
            _ => return None,
        }
        // What runs networks does so on what was asked for before it.
        let networks = self.next.take_if(|next| next.uses_images());
        let images = || (!self.data.is_empty()).then(|| self.data.remove(0));
        let first = self.next.take().or_else(images).or(stale.allocation.then_some(Job::Allocate));
        if first.is_some() {
            self.next = networks;
        }
        let network = || stale.network.then_some(Job::Network);
        let sweep = || std::mem::take(&mut self.sweep).then_some(Job::Sweep);
        let again = || self.again.take();
        let job = first.or(networks).or_else(again).or_else(network).or_else(sweep).or(stale.check.then_some(Job::Check))?;
        self.last += 1;
        self.told = false;
        self.active = Some((self.last, job));
        self.active
    }
    /// Ends a job. `None` for one that does not run (any more).
    pub fn end(&mut self, number: u32) -> Option<Job> {
        if self.beside == Some(number) {
            self.beside = None;
            return Some(Job::Allocate);
        }
        let (active, job) = self.active?;
        (active == number).then(|| {
            self.active = None;
            job
        })
    }
    /// The user cancels: nothing waits any more. Returns the number of the job to cancel.
    pub fn cancel(&mut self) -> Option<u32> {
        self.next = None;
        self.data.clear();
        self.dropped = self.again.take().or(self.dropped);
        self.active.filter(|(_, job)| job.is_long()).map(|(number, _)| number)
    }
    /// No more measured curves. Returns the number of their job, if it runs.
    pub fn cancel_sweep(&mut self) -> Option<u32> {
        self.sweep = false;
        self.told |= matches!(self.active, Some((_, Job::Sweep)));
        self.active.filter(|(_, job)| *job == Job::Sweep).map(|(number, _)| number)
    }
    /// What has become of the measured curves.
    pub fn sweeping(&self) -> Sweeping {
        match self.active {
            _ if self.sweep => Sweeping::Waiting,
            Some((_, Job::Sweep)) if !self.told => Sweeping::Running,
            _ => Sweeping::Not,
        }
    }
    /// The engine is gone, and with it the job that ran, and what curves were measured.
    pub fn lose(&mut self) -> Option<Job> {
        self.sweep = false;
        self.dropped = self.again.take().or(self.dropped);
        let beside = self.beside.take().map(|_| Job::Allocate);
        self.active.take().map(|(_, job)| job).or(beside)
    }
    /// The job that gave way to what runs now, and goes on after it.
    pub fn goes_on(&self) -> Option<Job> {
        self.again
    }
    /// A job that gave way and does not go on, once.
    pub fn take_dropped(&mut self) -> Option<Job> {
        self.dropped.take()
    }
    /// The job that runs.
    pub fn active(&self) -> Option<(u32, Job)> {
        self.active
    }
    /// Whether no job runs or waits, but in the background.
    pub fn is_idle(&self) -> bool {
        self.active.is_none_or(|(_, job)| job.is_background())
            && self.beside.is_none()
            && self.next.is_none()
            && self.data.is_empty()
            && self.again.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Stale = Stale { allocation: false, network: false, check: false };
    const ALLOCATION: Stale = Stale { allocation: true, ..NOTHING };
    const EVALUATE: Job = Job::Evaluate { damage: false };

    #[test]
    fn one_allocation_at_a_time_and_the_last_wins() {
        let mut q = Queue::default();
        assert_eq!(q.start(ALLOCATION), Some((1, Job::Allocate)));
        assert_eq!(q.start(ALLOCATION), None, "one in flight");
        assert_eq!(q.end(1), Some(Job::Allocate));
        assert_eq!(q.start(ALLOCATION), Some((2, Job::Allocate)));
        assert_eq!(q.end(1), None, "an answer to an old job");
        assert_eq!(q.end(2), Some(Job::Allocate));
        assert_eq!(q.start(NOTHING), None);
    }

    #[test]
    fn a_new_model_ends_the_job_that_runs() {
        let mut q = Queue::default();
        assert_eq!(q.ask(Job::Open), None);
        assert_eq!(q.start(NOTHING), Some((1, Job::Open)));
        assert_eq!(q.ask(Job::Open), Some(1));
        assert_eq!(q.ask(Job::Encode(Then::SaveTq)), None);
        assert_eq!(q.start(ALLOCATION), None);
        assert_eq!(q.end(1), Some(Job::Open));
        assert_eq!(q.start(ALLOCATION), Some((2, Job::Open)), "the new model, not the encoding");
    }

    #[test]
    fn new_curve_settings_replace_old_ones_but_not_an_opening_model() {
        let mut q = Queue::default();
        q.ask(Job::Recompute);
        assert_eq!(q.start(NOTHING), Some((1, Job::Recompute)));
        assert_eq!(q.ask(Job::Recompute), Some(1));
        q.end(1);
        assert_eq!(q.start(NOTHING), Some((2, Job::Recompute)));
        q.end(2);
        q.ask(Job::Open);
        q.start(NOTHING);
        assert_eq!(q.ask(Job::Recompute), None);
        assert_eq!(q.end(3), Some(Job::Open));
        assert_eq!(q.start(ALLOCATION), Some((4, Job::Recompute)));
    }

    #[test]
    fn cancelling_empties_the_queue_and_a_lost_engine_ends_its_job() {
        let mut q = Queue::default();
        assert_eq!(q.cancel(), None);
        q.ask(Job::Reconstruct);
        q.start(NOTHING);
        q.ask(Job::Open);
        assert_eq!(q.cancel(), Some(1));
        assert_eq!(q.lose(), Some(Job::Reconstruct));
        assert!(q.is_idle());
        q.start(ALLOCATION);
        assert_eq!(q.cancel(), None, "an allocation is not worth cancelling");
    }

    #[test]
    fn an_allocation_runs_beside_an_evaluation_and_nothing_else_does() {
        let mut q = Queue::default();
        q.ask(EVALUATE);
        assert_eq!(q.start(ALLOCATION), Some((1, Job::Allocate)), "what is evaluated is what was asked for before");
        q.end(1);
        assert_eq!(q.start(NOTHING), Some((2, EVALUATE)));
        assert_eq!(q.start(NOTHING), None);
        assert_eq!(q.start(ALLOCATION), Some((3, Job::Allocate)), "the slider stays live");
        assert_eq!(q.start(ALLOCATION), None, "one at a time");
        assert_eq!(q.active(), Some((2, EVALUATE)));
        assert_eq!(q.end(3), Some(Job::Allocate));
        q.ask(Job::Reconstruct);
        assert_eq!(q.start(ALLOCATION), None, "what waits is not overtaken again and again");
        assert_eq!(q.end(2), Some(EVALUATE));
        assert_eq!(q.start(ALLOCATION), Some((4, Job::Reconstruct)));
        q.end(4);
        q.ask(EVALUATE);
        q.start(NOTHING);
        q.start(ALLOCATION);
        q.end(5);
        assert!(!q.is_idle(), "the allocation is still on its way");
        assert_eq!(q.start(NOTHING), None);
        assert_eq!(q.lose(), Some(Job::Allocate));
        assert!(q.is_idle());
    }

    #[test]
    fn images_wait_for_each_use_and_outlive_models() {
        let (test, calibration) = (Job::OpenData(DataUse::Test), Job::OpenData(DataUse::Calibration));
        let mut q = Queue::default();
        q.ask(Job::Open);
        q.start(NOTHING);
        assert_eq!(q.ask(test), None, "a model is not given up for images");
        assert_eq!(q.ask(calibration), None);
        assert_eq!(q.ask(test), None);
        q.end(1);
        assert_eq!(q.start(NOTHING), Some((2, calibration)));
        assert_eq!(q.ask(Job::Open), None, "nor images for a model");
        assert_eq!(q.ask(Job::CloseData(DataUse::Calibration)), Some(2), "but for other images of the same use");
        q.end(2);
        assert_eq!(q.start(NOTHING), Some((3, Job::Open)));
        q.end(3);
        assert_eq!(q.start(NOTHING), Some((4, test)));
        q.end(4);
        assert_eq!(q.start(NOTHING), Some((5, Job::CloseData(DataUse::Calibration))));
        q.end(5);
        assert!(q.is_idle());
        q.ask(EVALUATE);
        q.start(NOTHING);
        assert_eq!(q.ask(test), Some(6), "an evaluation on images that are gone");
        assert_eq!(q.cancel(), Some(6));
        q.end(6);
        assert!(q.is_idle(), "nothing waits after a cancel");
    }

    #[test]
    fn a_calibration_that_waits_is_not_lost_to_new_settings_of_the_curves() {
        for waiting in [Job::Calibrate, Job::Forget] {
            let mut q = Queue::default();
            q.ask(Job::OpenData(DataUse::Calibration));
            q.start(NOTHING);
            q.ask(waiting);
            assert_eq!(q.ask(Job::Recompute), None);
            q.end(1);
            assert_eq!(q.start(NOTHING), Some((2, waiting)));
            q.end(2);
            assert_eq!(q.start(NOTHING), None, "its curves are by those settings");
        }
    }

    #[test]
    fn what_is_asked_for_while_curves_are_computed_comes_after_them() {
        for asked in [Job::Calibrate, Job::Forget] {
            let mut q = Queue::default();
            q.ask(Job::Recompute);
            q.start(NOTHING);
            assert_eq!(q.ask(asked), None);
            q.end(1);
            assert_eq!(q.start(NOTHING), Some((2, asked)));
        }
    }

    #[test]
    fn calibrating_waits_for_its_images_and_leaves_the_slider_alive() {
        let images = Job::OpenData(DataUse::Calibration);
        let mut q = Queue::default();
        q.ask(images);
        q.ask(Job::Calibrate);
        assert_eq!(q.start(NOTHING), Some((1, images)));
        q.end(1);
        assert_eq!(q.start(NOTHING), Some((2, Job::Calibrate)));
        assert_eq!(q.start(ALLOCATION), Some((3, Job::Allocate)));
        q.end(3);
        assert_eq!(q.ask(Job::CloseData(DataUse::Calibration)), Some(2), "statistics of images that are gone");
        q.end(2);
        q.ask(Job::Forget);
        assert_eq!(q.start(NOTHING), Some((4, Job::Forget)));
        assert_eq!(q.start(ALLOCATION), None, "the curves are on their way");
    }

    #[test]
    fn whether_a_network_runs_is_asked_last() {
        let stale = Stale { network: true, ..ALLOCATION };
        let mut q = Queue::default();
        q.ask(Job::OpenData(DataUse::Test));
        q.ask(EVALUATE);
        let jobs = [Job::OpenData(DataUse::Test), Job::Allocate, EVALUATE, Job::Network];
        for (number, (job, stale)) in (1..).zip(jobs.into_iter().zip([stale, stale, Stale { network: true, ..NOTHING }, stale])) {
            let stale = if job == Job::Network { Stale { allocation: false, ..stale } } else { stale };
            assert_eq!(q.start(stale), Some((number, job)));
            q.end(number);
        }
    }

    #[test]
    fn measured_curves_give_way_and_go_on() {
        let check = Stale { check: true, ..NOTHING };
        let mut q = Queue::default();
        assert_eq!(q.start(check), Some((1, Job::Check)));
        assert!(q.is_idle() && q.sweeping() == Sweeping::Not);
        assert_eq!(q.ask(Job::Sweep), Some(1), "a check gives way to them");
        assert_eq!((q.start(check), q.sweeping()), (None, Sweeping::Waiting));
        q.end(1);
        assert_eq!(q.start(check), Some((2, Job::Sweep)), "they come before a check");
        assert_eq!((q.ask(Job::Sweep), q.sweeping()), (None, Sweeping::Running), "once is enough");
        assert_eq!(q.start(ALLOCATION), Some((3, Job::Allocate)), "the slider stays live");
        q.end(3);
        assert_eq!(q.cancel(), None, "they have a button of their own");
        assert_eq!(q.ask(EVALUATE), Some(2));
        assert_eq!((q.sweeping(), q.end(2)), (Sweeping::Waiting, Some(Job::Sweep)));
        assert_eq!(q.start(check), Some((4, EVALUATE)));
        assert_eq!(q.start(NOTHING), None);
        q.end(4);
        assert_eq!(q.start(check), Some((5, Job::Sweep)), "they go on");
        assert_eq!((q.cancel_sweep(), q.sweeping()), (Some(5), Sweeping::Not), "nobody waits for its answer");
        assert_eq!((q.ask(EVALUATE), q.sweeping()), (Some(5), Sweeping::Not), "it does not go on");
        assert_eq!((q.ask(Job::Sweep), q.sweeping()), (None, Sweeping::Waiting), "unless it is asked for again");
        q.cancel_sweep();
        q.cancel();
        q.end(5);
        assert_eq!((q.start(NOTHING), q.sweeping()), (None, Sweeping::Not));
    }

    #[test]
    fn long_jobs_give_way_to_a_download_and_go_on() {
        let save = Job::Encode(Then::SaveTq);
        for job in [Job::Calibrate, EVALUATE, Job::Recompute, Job::Forget] {
            let mut q = Queue::default();
            q.ask(job);
            assert_eq!(q.start(NOTHING), Some((1, job)));
            assert!(job.lets_save() && q.goes_on().is_none());
            assert_eq!((q.ask(save), q.goes_on()), (Some(1), Some(job)), "it is told to end");
            assert_eq!(q.ask(save), None, "once");
            assert!(!q.is_idle());
            assert_eq!(q.start(ALLOCATION), None, "until it has");
            assert_eq!(q.end(1), Some(job));
            assert_eq!(q.start(NOTHING), Some((2, save)));
            assert_eq!((q.ask(Job::Reconstruct), q.end(2)), (None, Some(save)), "which does not give way to another one");
            assert_eq!(q.start(ALLOCATION), Some((3, Job::Reconstruct)));
            q.end(3);
            assert_eq!(q.start(ALLOCATION), Some((4, Job::Allocate)));
            q.end(4);
            assert_eq!((q.start(NOTHING), q.goes_on()), (Some((5, job)), None), "it goes on");
            q.end(5);
            assert!(q.is_idle() && q.take_dropped().is_none());
        }
        for job in [Job::Open, Job::Reopen, Job::Reconstruct, save] {
            assert!(!job.lets_save(), "{job:?}");
        }
    }

    #[test]
    fn what_has_given_way_does_not_go_on_with_something_else() {
        let save = Job::Encode(Then::SaveTq);
        type Asking = dyn Fn(&mut Queue);
        let other: [(&Asking, Job); 4] = [
            (
                &|q| {
                    q.ask(Job::Open);
                },
                Job::Calibrate,
            ),
            (
                &|q| {
                    q.ask(Job::CloseData(DataUse::Calibration));
                },
                Job::Calibrate,
            ),
            (
                &|q| {
                    q.cancel();
                },
                EVALUATE,
            ),
            (
                &|q| {
                    q.lose();
                },
                Job::Recompute,
            ),
        ];
        for (act, job) in other {
            let mut q = Queue::default();
            q.ask(job);
            q.start(NOTHING);
            q.ask(save);
            q.end(1);
            assert_eq!(q.start(NOTHING), Some((2, save)));
            act(&mut q);
            assert_eq!((q.goes_on(), q.take_dropped(), q.take_dropped()), (None, Some(job), None));
        }
        // Asked for anew it is the new one that runs.
        let mut q = Queue::default();
        q.ask(Job::Recompute);
        q.start(NOTHING);
        q.ask(save);
        q.end(1);
        q.start(NOTHING);
        q.ask(Job::Recompute);
        q.end(2);
        assert_eq!((q.start(NOTHING), q.goes_on(), q.take_dropped()), (Some((3, Job::Recompute)), None, None));
    }

    #[test]
    fn measured_curves_end_with_what_they_are_of() {
        for job in [Job::Open, Job::Recompute, Job::Calibrate, Job::Forget, Job::OpenData(DataUse::Test), Job::CloseData(DataUse::Test)] {
            let mut q = Queue::default();
            q.ask(Job::Sweep);
            q.start(NOTHING);
            assert_eq!((q.ask(job), q.sweeping()), (Some(1), Sweeping::Not));
            q.end(1);
            assert_eq!(q.start(NOTHING), Some((2, job)));
            q.end(2);
            assert_eq!(q.start(NOTHING), None, "{job:?}");
        }
        let mut q = Queue::default();
        q.ask(Job::Sweep);
        q.start(NOTHING);
        let calibration = Job::OpenData(DataUse::Calibration);
        q.ask(calibration);
        q.end(1);
        assert_eq!(q.start(NOTHING), Some((2, calibration)));
        q.end(2);
        assert_eq!(q.start(Stale { network: true, ..NOTHING }), Some((3, Job::Network)));
        q.end(3);
        assert_eq!(q.start(NOTHING), Some((4, Job::Sweep)));
        q.ask(Job::Encode(Then::SaveTq));
        assert_eq!((q.lose(), q.sweeping()), (Some(Job::Sweep), Sweeping::Not), "a new engine would begin again");
    }
}
