//! A job: independent tasks, one per layer, with names and costs. Whoever runs it decides on threads and waiting: [`run`] here for
//! native programs, the worker's loop in the browser. The order of results is the order of items, not of completion.

use std::collections::VecDeque;

use crate::error::Result;

/// What a task does, on any thread. The error is final for the whole job.
pub type Task<T> = Box<dyn FnOnce() -> Result<T> + Send>;

/// One item of a job.
#[derive(Debug, Clone)]
pub struct Item {
    /// The layer's or tensor's name.
    pub name: String,
    /// Its cost, in any unit that is the same for all items.
    pub cost: f64,
}

/// Independent tasks over items. `prepare` reads what the task needs from the file, on the thread that owns the file.
pub struct Job<'a, T> {
    /// What is being done: `curves`, `encoding`, `decoding`.
    pub stage: &'static str,
    /// The items.
    pub items: Vec<Item>,
    /// Makes the task of an item.
    pub prepare: Box<dyn Fn(usize) -> Result<Task<T>> + 'a>,
}

impl<T> Job<'_, T> {
    /// The cost of all items.
    pub fn cost(&self) -> f64 {
        self.items.iter().map(|i| i.cost).sum()
    }
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub stage: &'static str,
    /// The item that was finished last.
    pub item: String,
    /// Items done.
    pub done: usize,
    /// Items in all.
    pub total: usize,
    /// Part of the cost done, 0 to 1.
    pub fraction: f64,
    /// Seconds left if the rest goes as the part before.
    pub seconds_left: Option<f64>,
}

/// The state of a job that runs: hands out tasks, dearest first, and takes results.
pub struct Run<'a, T> {
    job: Job<'a, T>,
    queue: VecDeque<usize>,
    results: Vec<Option<T>>,
    done: usize,
    cost_done: f64,
    cost_total: f64,
}

impl<'a, T> Run<'a, T> {
    /// Starts a job.
    pub fn new(job: Job<'a, T>) -> Run<'a, T> {
        let cost_total = job.cost().max(f64::MIN_POSITIVE);
        Run {
            results: job.items.iter().map(|_| None).collect(),
            queue: dearest_first(&job.items),
            done: 0,
            cost_done: 0.0,
            cost_total,
            job,
        }
    }

    /// The next task with its item's index, or nothing when all have been handed out. Reads from the file.
    pub fn next_task(&mut self) -> Result<Option<(usize, Task<T>)>> {
        match self.queue.pop_front() {
            Some(index) => Ok(Some((index, (self.job.prepare)(index)?))),
            None => Ok(None),
        }
    }

    /// Takes a task's result. `seconds` have passed since the job began.
    pub fn finish(&mut self, index: usize, result: T, seconds: f64) -> Progress {
        self.results[index] = Some(result);
        self.done += 1;
        let item = &self.job.items[index];
        self.cost_done += item.cost;
        let fraction = (self.cost_done / self.cost_total).min(1.0);
        Progress {
            stage: self.job.stage,
            item: item.name.clone(),
            done: self.done,
            total: self.results.len(),
            fraction,
            // The first few hundredths say little about the rest.
            seconds_left: (fraction > 0.02).then(|| seconds * (1.0 - fraction) / fraction),
        }
    }

    /// The results, once every item has one.
    pub fn results(self) -> Option<Vec<T>> {
        self.results.into_iter().collect()
    }
}

/// Items by falling cost. Apart from [`Run::new`], which is compiled for every kind of result: there is one sort for all of them.
fn dearest_first(items: &[Item]) -> VecDeque<usize> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&a, &b| items[b].cost.total_cmp(&items[a].cost).then(a.cmp(&b)));
    order.into()
}

/// A part of a progress bar, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
}

impl Span {
    /// All of it.
    pub const WHOLE: Span = Span { from: 0.0, to: 1.0 };

    /// A part of this part.
    pub fn part(self, from: f64, to: f64) -> Span {
        let at = |v: f64| self.from + (self.to - self.from) * v;
        Span { from: at(from), to: at(to) }
    }
}

/// Runs the jobs of work that takes several, one after the other: natively as [`run`] does, in the browser between messages.
pub trait Runner {
    /// Runs a job, whose progress is this part of the whole.
    ///
    /// # Errors
    /// Those of its tasks, and [`crate::error::Error::Cancelled`].
    fn run<T: Send + 'static>(&mut self, span: Span, job: Job<'_, T>) -> impl Future<Output = Result<Vec<T>>>;

    /// Seconds, since any time.
    fn now(&self) -> f64;
}

/// Runs jobs natively, and waits for each: its futures are ready at once ([`wait`]).
#[cfg(not(target_arch = "wasm32"))]
pub struct Waiting<F> {
    on_progress: F,
    start: std::time::Instant,
}

#[cfg(not(target_arch = "wasm32"))]
impl<F: FnMut(Span, &Progress) -> Result<()>> Waiting<F> {
    /// `on_progress` is told of every item, and may end the job by an error.
    pub fn new(on_progress: F) -> Self {
        Waiting { on_progress, start: std::time::Instant::now() }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl<F: FnMut(Span, &Progress) -> Result<()>> Runner for Waiting<F> {
    async fn run<T: Send + 'static>(&mut self, span: Span, job: Job<'_, T>) -> Result<Vec<T>> {
        run(job, &mut |p| (self.on_progress)(span, p))
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// The result of work on a runner that never waits for anything but its jobs.
#[cfg(not(target_arch = "wasm32"))]
pub fn wait<F: Future>(work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(result) = work.as_mut().poll(&mut context) {
            return result;
        }
    }
}

/// Runs a job on rayon's threads (or this one, without rayon) and waits. `on_progress` is called on this thread, and may end
/// the job by an error.
#[cfg(not(target_arch = "wasm32"))]
pub fn run<T: Send + 'static>(job: Job<T>, on_progress: &mut dyn FnMut(&Progress) -> Result<()>) -> Result<Vec<T>> {
    let start = std::time::Instant::now();
    let mut run = Run::new(job);
    let (send, receive) = std::sync::mpsc::channel::<(usize, Result<T>)>();
    let mut running = 0;
    // One task more than threads, so that none waits for the file.
    let most = threads() + 1;
    loop {
        while running < most {
            let Some((index, task)) = run.next_task()? else { break };
            let send = send.clone();
            running += 1;
            // A closed channel means that the job was given up.
            spawn(move || drop(send.send((index, task()))));
        }
        if running == 0 {
            break;
        }
        let (index, result) = receive.recv().expect("this thread holds a sender");
        running -= 1;
        on_progress(&run.finish(index, result?, start.elapsed().as_secs_f64()))?;
    }
    Ok(run.results().expect("every item was run"))
}

/// Threads that tasks run on.
pub fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}

/// Runs a task on rayon's pool, or now.
#[cfg(not(target_arch = "wasm32"))]
fn spawn(task: impl FnOnce() + Send + 'static) {
    #[cfg(feature = "rayon")]
    rayon::spawn(task);
    #[cfg(not(feature = "rayon"))]
    task();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn squares(n: usize) -> Job<'static, usize> {
        let items = (0..n).map(|i| Item { name: format!("item {i}"), cost: i as f64 }).collect();
        Job { stage: "squares", items, prepare: Box::new(|i| Ok(Box::new(move || Ok(i * i)))) }
    }

    #[test]
    fn results_come_in_order_and_progress_ends_at_one() {
        let mut last = 0.0;
        let results = run(squares(40), &mut |p| {
            assert!(p.fraction >= last && p.total == 40);
            last = p.fraction;
            Ok(())
        });
        assert_eq!(results.unwrap(), (0..40).map(|i| i * i).collect::<Vec<_>>());
        assert_eq!(last, 1.0);
        assert_eq!(run(squares(0), &mut |_| Ok(())).unwrap(), Vec::<usize>::new());
    }

    #[test]
    fn errors_and_cancelling_end_the_job() {
        assert_eq!(run(squares(40), &mut |p| if p.done == 3 { Err(Error::Cancelled) } else { Ok(()) }), Err(Error::Cancelled));
        let mut job = squares(5);
        job.prepare = Box::new(|i| if i == 2 { Err(Error::Setting("no".into())) } else { Ok(Box::new(move || Ok(i))) });
        assert_eq!(run(job, &mut |_| Ok(())), Err(Error::Setting("no".into())));
    }
}
