//! Jobs on all threads, with their progress on stderr.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use waterfill::{
    error::Result,
    pipeline::job::{self, Job, Progress, Span, Waiting},
};

/// A bar on stderr, of 1000 steps.
pub fn progress_bar(prefix: &'static str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(1000), target);
    if let Ok(style) = ProgressStyle::with_template("{prefix:>9} [{bar:32}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(prefix);
    bar
}

/// Runs a job with a progress bar on stderr.
pub fn run<T: Send + 'static>(job: Job<T>) -> Result<Vec<T>> {
    let bar = progress_bar(job.stage);
    let result = job::run(job, &mut |p| {
        bar.set_position((p.fraction * 1000.0) as u64);
        let left = p.seconds_left.map(|s| format!(", {s:.0} s left")).unwrap_or_default();
        bar.set_message(format!("{} of {}{left}  {}", p.done, p.total, p.item));
        Ok(())
    });
    bar.finish_and_clear();
    result
}

/// Runs several jobs as parts of one progress bar.
pub fn runner(bar: &ProgressBar) -> Waiting<impl FnMut(Span, &Progress) -> Result<()>> {
    let start = std::time::Instant::now();
    Waiting::new(move |span: Span, p: &Progress| {
        let fraction = span.from + (span.to - span.from) * p.fraction;
        bar.set_position((1000.0 * fraction) as u64);
        let left = start.elapsed().as_secs_f64() * (1.0 - fraction) / fraction;
        let left = if fraction > 0.02 { format!(", {left:.0} s left") } else { String::new() };
        bar.set_message(format!("{}: {} of {}{left}", p.stage, p.done, p.total));
        Ok(())
    })
}

/// What a function gives, and the seconds it took.
pub fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = std::time::Instant::now();
    work().map(|result| (result, start.elapsed().as_secs_f64()))
}
