//! The command line tool. Progress on stderr, results on stdout; exit 0: done, 1: the input's fault, 2: usage.

mod gains;

use std::{
    fs,
    io::{BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use waterfill::{
    container::TqFile,
    data::{self, Dataset, Entry, preprocess},
    error::{Error, Result, bad},
    graph::Runnable,
    io::{
        Source,
        source::{FolderSource, PathSource},
    },
    limits,
    pipeline::{
        self, Opened, Session,
        calibrate::Memory,
        evaluate::{self, Decoded, Evaluator, Reference},
        job::{self, Job, Progress, Span, Waiting, wait},
        settle::{Settled, settle},
    },
    report::{
        AllocationSettings, Budget, CalibrationSettings, Channels, Coding, CurveSettings, Distortion, Evaluation, EvaluationReport,
        Preprocessing, Report, TransformChoice,
        plot::{self, Palette},
        table,
    },
};

mod curves;

const EXAMPLES: &str = "\
Examples:
  waterfill compress resnet.onnx -o resnet.tq --bits 4
  waterfill compress a.onnx b.safetensors --ratio 8          (writes a.tq and b.tq)
  waterfill compress resnet.pth -o resnet.tq --size 3000000 --lock conv1.weight=8 --exclude fc.weight --report resnet.json
  waterfill decompress resnet.tq -o resnet-small.onnx
  waterfill curve resnet.onnx --plot curve.svg --json > curve.json
  waterfill curves resnet.onnx --data test.npz --calibration train.npz --plot measured.svg
  waterfill inspect resnet.tq
  waterfill gains resnet.onnx --calibration images.npz --csv gains.csv
  waterfill eval resnet.tq --data test.npz --reference resnet.onnx";

const EVAL_EXAMPLES: &str = "\
Examples:
  waterfill eval resnet20.onnx --data cifar10-test.npz                    (accuracy of a model)
  waterfill eval resnet20.tq --data cifar-10-batches-bin --reference resnet20.onnx
  waterfill eval resnet50.tq --data imagenet/val --limit 1000 --reference resnet50.onnx --layers --report eval.json
  waterfill eval lenet.onnx --data t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz
  waterfill eval net.onnx --data photos.zip --labels val.txt --resize 256 --crop 224 --mean 0.5 --std 0.5

Data: .npz with images and labels, .npy, CIFAR-10 and CIFAR-100 batches (binary), MNIST files, a zip or a folder of PNG, JPEG or WebP
images (a folder per class). How images become inputs is what the model says, or else guessed; see `inputs:` in the output.";

/// Compresses neural-network weights by transform quantization. Nothing leaves this machine.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compress models (safetensors, ONNX, npz, npy, PyTorch checkpoints) into .tq files.
    Compress(Compress),
    /// Rebuild models, in their own formats, from .tq files.
    Decompress(Decompress),
    /// Compute the rate–distortion curves of models.
    Curve(Curve),
    /// Measure distortion and accuracy against rate, for every transform.
    Curves(curves::Curves),
    /// Show what a model or a .tq file holds.
    Inspect(Inspect),
    /// Run a model or a .tq file on images: accuracy, agreement with a reference, output error.
    Eval(Eval),
    /// Compute what each transform gains in each layer of a model, before anything is quantized.
    Gains(gains::Gains),
}

#[derive(Args)]
struct CurveOptions {
    /// Most blocks of rows per layer, each with its own depth and step.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    blocks: u16,
    /// Files with external data of the ONNX model, if it has any. Without this, files next to the model are looked up.
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
}

/// Images to take statistics on.
#[derive(Args)]
struct Sampling {
    /// Images to calibrate on: a file, several, or a folder. Bits then go where they matter to the network's output, and transforms learned
    /// end to end are among the choices. See `waterfill eval --help` for what images can be.
    #[arg(long, value_name = "DATA", num_args = 1..)]
    calibration: Vec<PathBuf>,
    /// Calibrate on at most so many images, evenly spaced [default: 200].
    #[arg(long, value_name = "N", requires = "calibration", value_parser = clap::value_parser!(u32).range(1..))]
    calibration_images: Option<u32>,
    /// Random directions of the output per calibration image [default: 2].
    #[arg(long, value_name = "N", requires = "calibration", value_parser = clap::value_parser!(u16).range(1..))]
    draws: Option<u16>,
    /// Seed of the random directions: the same seed gives the same file [default: 1].
    #[arg(long, value_name = "N", requires = "calibration")]
    seed: Option<u64>,
}

#[derive(Args)]
struct CalibrationOptions {
    #[command(flatten)]
    sampling: Sampling,
    /// What an error costs: the full second-order model, or its diagonal alone [default: model].
    #[arg(long, value_enum, requires = "calibration")]
    distortion: Option<DistortionModel>,
}

impl Sampling {
    fn settings(&self) -> CalibrationSettings {
        let default = CalibrationSettings::default();
        CalibrationSettings {
            images: self.calibration_images.map_or(default.images, |n| n as usize),
            draws: self.draws.map_or(default.draws, usize::from),
            seed: self.seed.unwrap_or(default.seed),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum DistortionModel {
    Model,
    Diagonal,
    Measured,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum CodingOption {
    #[default]
    Fixed,
    Depths,
    Entropy,
}

impl From<CodingOption> for Coding {
    fn from(option: CodingOption) -> Coding {
        match option {
            CodingOption::Fixed => Coding::Fixed,
            CodingOption::Depths => Coding::Depths,
            CodingOption::Entropy => Coding::Entropy,
        }
    }
}

#[derive(Args)]
#[command(
    group(ArgGroup::new("budget")),
    group(ArgGroup::new("images").args(["test", "calibration"]).multiple(true)),
    after_help = EXAMPLES
)]
struct Compress {
    /// Model files.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Where to write: a file for one model, a folder for several. Default: next to the model, with the extension .tq.
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Budget as a rate: bits per weight of the quantized layers, all side information included [default: 4].
    #[arg(long, group = "budget", value_name = "B", value_parser = positive)]
    bits: Option<f64>,
    /// Budget as a file size in bytes.
    #[arg(long, group = "budget", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    size: Option<u64>,
    /// Budget as a ratio of the original size to the file size.
    #[arg(long, group = "budget", value_name = "X", value_parser = positive)]
    ratio: Option<f64>,
    /// Transform; auto chooses per layer.
    #[arg(long, value_enum, default_value = "auto")]
    transform: Transform,
    /// How indices are coded: in fixed lengths; those of the same depths by an adaptive range coder, which makes the file smaller than the
    /// budget; or by that coder without clipping, bits allocated by what it needs.
    #[arg(long, value_enum, default_value = "fixed")]
    coding: CodingOption,
    #[command(flatten)]
    curve: CurveOptions,
    #[command(flatten)]
    calibration: CalibrationOptions,
    /// Lock a layer to a depth of 0 to 10 bits.
    #[arg(long, value_name = "LAYER=BITS", value_parser = lock)]
    lock: Vec<(String, u8)>,
    /// Keep a layer as it is, bit for bit.
    #[arg(long, value_name = "LAYER")]
    exclude: Vec<String>,
    /// Write a report: .json (everything), .csv (a line a layer), .svg or .png (the bits of every layer). May be repeated. For
    /// several models: a folder that gets them all.
    #[arg(long, value_name = "FILE", value_parser = report)]
    report: Vec<PathBuf>,
    /// Print the layers' table.
    #[arg(long)]
    layers: bool,
    /// Run what was written on these images: a file, several, or a folder. See `waterfill eval --help`.
    #[arg(long, id = "test", value_name = "DATA", num_args = 1..)]
    test: Vec<PathBuf>,
    #[command(flatten)]
    data: DataOptions,
}

#[derive(Args)]
#[command(group(ArgGroup::new("images").args(["test"])), after_help = EVAL_EXAMPLES)]
struct Eval {
    /// A model or a .tq file.
    #[arg(value_name = "MODEL_OR_TQ")]
    model: PathBuf,
    /// Images: a file, several, or a folder.
    #[arg(long = "data", id = "test", value_name = "DATA", num_args = 1.., required = true)]
    test: Vec<PathBuf>,
    #[command(flatten)]
    data: DataOptions,
    /// The full-precision model to compare with.
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Find the damage that each layer does alone.
    #[arg(long, requires = "reference")]
    layers: bool,
    /// Write a report: .json (everything) or .csv. May be repeated.
    #[arg(long, value_name = "FILE", value_parser = evaluation_report)]
    report: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DataOptions {
    /// Labels in a file of their own: .npy, .npz, or text with one label, or `file,label`, per line.
    #[arg(long, value_name = "FILE", requires = "images")]
    labels: Option<PathBuf>,
    /// Run at most so many images, evenly spaced.
    #[arg(long, value_name = "N", requires = "images", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Length of the shorter side after resizing; 0 for none.
    #[arg(long, value_name = "PIXELS", requires = "images")]
    resize: Option<usize>,
    /// Size cut from the centre: one number, or HEIGHTxWIDTH; 0 for none.
    #[arg(long, value_name = "PIXELS", requires = "images", value_parser = crop)]
    crop: Option<[usize; 2]>,
    /// Subtracted from each channel, after scaling: one number, or one per channel.
    #[arg(long, value_name = "M,…", requires = "images", value_delimiter = ',', allow_hyphen_values = true)]
    mean: Vec<f32>,
    /// Divides each channel after that: one number, or one per channel.
    #[arg(long, value_name = "S,…", requires = "images", value_delimiter = ',')]
    std: Vec<f32>,
    /// Pixels are multiplied by this first: 1/255 for values from 0 to 1.
    #[arg(long, value_name = "X", requires = "images", value_parser = ratio)]
    scale: Option<f32>,
    /// Order of channels.
    #[arg(long, value_enum, requires = "images")]
    channels: Option<ChannelOrder>,
    /// Whether channels come last in the network's input (N × H × W × C).
    #[arg(
        long, value_name = "BOOL", requires = "images", num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    channels_last: Option<bool>,
    /// All of these in a JSON file, as reports have it.
    #[arg(long, value_name = "FILE", requires = "images")]
    preprocessing: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ChannelOrder {
    Rgb,
    Bgr,
    Grey,
}

#[derive(Args)]
struct Decompress {
    /// Compressed files.
    #[arg(required = true, value_name = "IN.tq")]
    files: Vec<PathBuf>,
    /// Where to write: a file for one input, a folder for several. Default: the original's name next to the .tq, if it is free.
    #[arg(short, long, value_name = "MODEL")]
    output: Option<PathBuf>,
    /// Take what is whole of a damaged file: tensors that are not become zeros, and are named.
    #[arg(long)]
    recover: bool,
    /// Decode these tensors alone, into a .safetensors file named with -o. May be repeated.
    #[arg(long = "tensor", value_name = "NAME", requires = "output")]
    tensors: Vec<String>,
}

#[derive(Args)]
#[command(group(ArgGroup::new("images").args(["calibration"])))]
struct Curve {
    /// Model files.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Print JSON instead of CSV.
    #[arg(long)]
    json: bool,
    /// Draw the curves: .svg or .png. For several models: a folder that gets both.
    #[arg(long, value_name = "FILE", value_parser = drawing)]
    plot: Vec<PathBuf>,
    #[command(flatten)]
    curve: CurveOptions,
    #[command(flatten)]
    calibration: CalibrationOptions,
    #[command(flatten)]
    data: DataOptions,
}

#[derive(Args)]
struct Inspect {
    /// A model or a .tq file.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transform {
    Auto,
    None,
    KltRow,
    KltCol,
    EltRow,
    EltCol,
    #[value(name = "intra-dct1")]
    IntraDct1,
    #[value(name = "intra-dct2")]
    IntraDct2,
    IntraKlt,
    IntraElt,
    TwoSided,
}

impl From<Transform> for TransformChoice {
    fn from(t: Transform) -> TransformChoice {
        match t {
            Transform::Auto => TransformChoice::Auto,
            Transform::None => TransformChoice::None,
            Transform::KltRow => TransformChoice::KltRow,
            Transform::KltCol => TransformChoice::KltCol,
            Transform::EltRow => TransformChoice::EltRow,
            Transform::EltCol => TransformChoice::EltCol,
            Transform::IntraDct1 => TransformChoice::IntraDct1,
            Transform::IntraDct2 => TransformChoice::IntraDct2,
            Transform::IntraKlt => TransformChoice::IntraKlt,
            Transform::IntraElt => TransformChoice::IntraElt,
            Transform::TwoSided => TransformChoice::TwoSided,
        }
    }
}

fn positive(s: &str) -> std::result::Result<f64, String> {
    s.parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0).ok_or_else(|| "must be a positive number".into())
}

/// A path with one of these extensions, or with none (a folder).
fn path_with(s: &str, extensions: &[&str]) -> std::result::Result<PathBuf, String> {
    let path = PathBuf::from(s);
    let known = path.extension().is_none_or(|e| extensions.iter().any(|k| e.eq_ignore_ascii_case(k)));
    if known || path.is_dir() { Ok(path) } else { Err(format!("must end in .{}", extensions.join(", ."))) }
}

const REPORTS: [&str; 4] = ["json", "csv", "svg", "png"];
const DRAWINGS: [&str; 2] = ["svg", "png"];
const EVALUATIONS: [&str; 2] = ["json", "csv"];

fn report(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &REPORTS)
}

fn evaluation_report(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &EVALUATIONS)
}

/// `224` or `224x160`, height first.
fn crop(s: &str) -> std::result::Result<[usize; 2], String> {
    let (h, w) = s.split_once(['x', '×']).unwrap_or((s, s));
    match (h.parse(), w.parse()) {
        (Ok(h), Ok(w)) => Ok([h, w]),
        _ => Err("must be a number of pixels, or HEIGHTxWIDTH".into()),
    }
}

/// `0.0039` or `1/255`.
fn ratio(s: &str) -> std::result::Result<f32, String> {
    let (a, b) = s.split_once('/').unwrap_or((s, "1"));
    let value = a.trim().parse::<f64>().ok().zip(b.trim().parse::<f64>().ok()).map(|(a, b)| (a / b) as f32);
    value.filter(|v| v.is_finite()).ok_or_else(|| "must be a number, or one over another".into())
}

fn drawing(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &DRAWINGS)
}

fn lock(s: &str) -> std::result::Result<(String, u8), String> {
    // Names may contain `=`; the depth comes after the last one.
    let (layer, bits) = s.rsplit_once('=').ok_or("must be LAYER=BITS")?;
    match bits.parse() {
        Ok(bits) if bits <= waterfill::quantize::MAX_DEPTH => Ok((layer.into(), bits)),
        _ => Err(format!("the depth must be a whole number from 0 to {}", waterfill::quantize::MAX_DEPTH)),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let failures = match cli.command {
        Command::Compress(c) => each(&c.models, |model| compress(&c, model)),
        Command::Decompress(d) => each(&d.files, |file| decompress(&d, file)),
        Command::Curve(c) => each(&c.models, |model| curve(&c, model)),
        Command::Curves(c) => usize::from(curves::curves(&c).inspect_err(|e| eprintln!("error: {e}")).is_err()),
        Command::Inspect(i) => each(&i.files, |file| inspect(&i, file)),
        Command::Eval(e) => each(std::slice::from_ref(&e.model), |model| eval(&e, model)),
        Command::Gains(g) => each(std::slice::from_ref(&g.model), |_| gains::gains(&g)),
    };
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Does something to each file; one that fails does not stop the others. Returns how many failed.
fn each(files: &[PathBuf], action: impl Fn(&Path) -> Result<()>) -> usize {
    files.iter().filter(|file| action(file).inspect_err(|e| eprintln!("error: {e}")).is_err()).count()
}

fn open(path: &Path, data: &[PathBuf]) -> Result<Opened> {
    let mut paths: Vec<PathBuf> = std::iter::once(path).chain(data.iter().map(PathBuf::as_path)).map(Path::to_path_buf).collect();
    loop {
        let source = |path| PathSource::open(path).map(|s| Rc::new(s) as Rc<dyn Source>);
        match pipeline::open(paths.iter().map(source).collect::<Result<_>>()?) {
            // External data usually lies next to the model.
            Err(Error::Missing { file, needs }) => {
                let next = path.with_file_name(&needs);
                if paths.contains(&next) || !next.is_file() {
                    return Err(Error::Missing { file, needs });
                }
                paths.push(next);
            }
            opened => return opened,
        }
    }
}

fn open_model(path: &Path, data: &[PathBuf]) -> Result<Box<Session>> {
    match open(path, data)? {
        Opened::Model(session) => Ok(session),
        Opened::Tq(tq) => Err(bad(tq.name(), "it is compressed already", "use `waterfill decompress` or `waterfill inspect`")),
    }
}

/// A bar on stderr, of 1000 steps.
fn progress_bar(prefix: &'static str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(1000), target);
    if let Ok(style) = ProgressStyle::with_template("{prefix:>9} [{bar:32}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(prefix);
    bar
}

/// Runs a job with a progress bar on stderr.
fn run<T: Send + 'static>(job: Job<T>) -> Result<Vec<T>> {
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
fn runner(bar: &ProgressBar) -> Waiting<impl FnMut(Span, &Progress) -> Result<()>> {
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

/// Images to calibrate on, and how they become inputs.
struct Calibration<'a> {
    sampling: &'a Sampling,
    images: Option<(Dataset, Preprocessing)>,
}

impl<'a> Calibration<'a> {
    /// Opens the images, if any are named. A network that cannot be run says so.
    fn open(session: &Session, sampling: &'a Sampling, data: &DataOptions) -> Result<Calibration<'a>> {
        if sampling.calibration.is_empty() {
            return Ok(Calibration { sampling, images: None });
        }
        let images = dataset(&sampling.calibration, None)?;
        let preprocessing = preprocessing(&*session.runnable()?, &images, data)?;
        Ok(Calibration { sampling, images: Some((images, preprocessing)) })
    }

    /// Takes statistics, if there is something to calibrate on, and keeps `samples` bytes of what they are made of.
    fn statistics(&self, session: &mut Session, samples: u64) -> Result<()> {
        session.model.notes.iter().for_each(|note| eprintln!("note: {note}"));
        if let Some((images, preprocessing)) = &self.images {
            let memory = Memory { samples, activations: 512 << 20 };
            let calibrator = session.calibrator(images, preprocessing.clone(), self.sampling.settings(), memory)?;
            run(calibrator.job())?;
            session.set_statistics(Some(calibrator.statistics()));
        }
        Ok(())
    }

    /// Takes statistics, if there is something to calibrate on, and computes the curves.
    fn curves(&self, session: &mut Session, blocks: u16, coding: Coding, distortion: Option<DistortionModel>) -> Result<()> {
        self.statistics(session, 1 << 30)?;
        let distortion = match distortion {
            Some(DistortionModel::Diagonal) => Distortion::Diagonal,
            Some(DistortionModel::Measured) => Distortion::Measured,
            Some(DistortionModel::Model) | None => Distortion::Model,
        };
        if distortion == Distortion::Measured && coding == Coding::Entropy {
            let reason = "is measured for quantizers of fixed depths: leave out --distortion measured, or choose --coding fixed or depths";
            return Err(Error::Setting(format!("Distortion {reason}.")));
        }
        let settings = CurveSettings { blocks: blocks.into(), distortion, coding };
        let curves = run(session.curves_job(settings))?;
        session.set_curves(settings, curves);
        if let (Distortion::Measured, Some((images, preprocessing))) = (distortion, &self.images) {
            let count = self.sampling.settings().images;
            let measurer = session.measurer(images, preprocessing.clone(), count, evaluate::Options::default().memory)?;
            let measured = run(session.measured_job(&measurer))?;
            session.set_curves(settings, session.measured_curves(&measurer, &measured));
        }
        Ok(())
    }

    /// The network on the calibration images, to measure what the model of distortion has predicted.
    fn evaluator(&self, session: &Session) -> Result<Option<Evaluator>> {
        let Some((images, preprocessing)) = &self.images else { return Ok(None) };
        Evaluator::of_calibration(&*session.runnable()?, images, preprocessing.clone(), self.sampling.settings(), EVALUATION).map(Some)
    }
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::Setting(format!("{path} cannot be written: {e}."))
}

/// Writes a file whole or not at all: to a temporary name first.
fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let result = (|| {
        let mut out = BufWriter::new(fs::File::create(&temporary).map_err(unwritable(path))?);
        write(&mut out)?;
        out.flush().map_err(unwritable(path))?;
        fs::rename(&temporary, path).map_err(unwritable(path))
    })();
    if result.is_err() {
        // Nothing half written stays behind; the error is the one that counts.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Where the output for one of the inputs goes.
fn output(asked: Option<&Path>, several: bool, input: &Path, name: &str) -> Result<PathBuf> {
    match asked {
        None => Ok(input.with_file_name(name)),
        Some(path) if several || path.is_dir() => {
            fs::create_dir_all(path).map_err(unwritable(path))?;
            Ok(path.join(name))
        }
        Some(path) => Ok(path.to_path_buf()),
    }
}

fn compress(args: &Compress, model: &Path) -> Result<()> {
    let mut session = open_model(model, &args.curve.data)?;
    // What cannot be run says so before the work is done.
    let evaluator = match &args.test[..] {
        [] => None,
        paths => Some(evaluator(&*session.runnable()?, &dataset(paths, args.data.labels.as_deref())?, &args.data)?),
    };
    let transform = TransformChoice::from(args.transform);
    if transform.needs_calibration() && args.calibration.sampling.calibration.is_empty() {
        return Err(pipeline::uncalibrated(transform));
    }
    let calibration = Calibration::open(&session, &args.calibration.sampling, &args.data)?;
    let checker = calibration.evaluator(&session)?;
    calibration.curves(&mut session, args.curve.blocks, args.coding.into(), args.calibration.distortion)?;
    let budget = match (args.size, args.ratio) {
        (Some(size), _) => Budget::Size(size),
        (_, Some(ratio)) => Budget::Ratio(ratio),
        _ => Budget::Bits(args.bits.unwrap_or(4.0)),
    };
    let locks = args.lock.iter().map(|(name, depth)| Ok((session.layer_index(name)?, *depth))).collect::<Result<_>>()?;
    let excludes = args.exclude.iter().map(|name| session.layer_index(name)).collect::<Result<_>>()?;
    let settings = AllocationSettings { budget, transform, locks, excludes };
    if let Some(error) = session.allocate(&settings)?.0.not_reachable {
        return Err(error);
    }
    let run_full = checker.as_ref().map(run_reference).transpose()?;
    let on = checker.as_ref().zip(run_full.as_ref()).map(|(checker, (reference, _))| (checker, reference));
    let bar = progress_bar(if on.is_some() { "settling" } else { "encoding" });
    let settled = wait(settle(&session, &settings, on, Span::WHOLE, &mut runner(&bar)));
    bar.finish_and_clear();
    let Settled { allocation, layers, evaluation, alternatives, .. } = settled?;
    let check = checker.zip(run_full).map(|(checker, (_, full))| checker.report(Some(full), evaluation, Vec::new()));
    let mut report = Report { alternatives, check, ..session.report(&allocation, &settings, &layers)? };
    let several = args.models.len() > 1;
    let path = output(args.output.as_deref(), several, model, &pipeline::tq_name(&session.model.name))?;
    write_file(&path, |out| session.write(&layers, out).map(drop))?;
    let name = &session.model.name;
    if let Some(evaluator) = &evaluator {
        let tq = TqFile::open(Rc::new(PathSource::open(&path)?))?;
        let decoded = evaluate::decoded(&tq, &run(pipeline::decode_job(&tq))?);
        let compressed = session.runnable()?.with_tensors(&decoded.tensors)?;
        let (reference, full) = run_reference(evaluator)?;
        let (results, seconds) = timed(|| run(evaluator.compressed_job(&compressed, &reference)?))?;
        let compressed = evaluator.finish(evaluate::what(&report.allocation), seconds, &results);
        report.evaluation = Some(evaluator.report(Some(full), Some(compressed), Vec::new()));
    }
    write_each(&args.report, several, name, &REPORTS, |extension| match extension {
        "csv" => table::report_csv(&report).into_bytes(),
        "svg" => plot::allocation_svg(&report.allocation, PLOT, &Palette::LIGHT).into_bytes(),
        "png" => plot::png::allocation_png(&report.allocation, PLOT, &Palette::LIGHT),
        _ => json(&report).into_bytes(),
    })?;
    let a = &report.allocation;
    if args.layers {
        print!("{}", table::allocation_text(a));
    }
    println!(
        "{}: {} bytes, from {} ({:.2} times smaller); {:.4} bits per weight, {:.2} dB",
        path.display(),
        a.bytes,
        session.model.file_bytes,
        a.ratio,
        a.rate,
        a.db
    );
    if let Some(text) = table::check_text(&report) {
        println!("{text}");
    }
    if let Some(evaluation) = &report.evaluation {
        print_evaluation(evaluation);
    }
    Ok(())
}

/// Images, from files and folders.
fn dataset(paths: &[PathBuf], labels: Option<&Path>) -> Result<Dataset> {
    let mut entries = Vec::new();
    for path in paths {
        let name = path.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned())).unwrap_or_default();
        if path.is_dir() {
            let prefix = if paths.len() > 1 { format!("{name}/") } else { String::new() };
            walk(path, &prefix, 0, &mut entries)?;
        } else {
            entries.push(Entry { path: name, source: Rc::new(PathSource::open(path)?) });
        }
    }
    let mut data = data::open(entries)?;
    if let [folder] = paths
        && folder.is_dir()
        && let Some(name) = folder.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
    {
        (data.summary.name, data.summary.several) = (name, false);
    }
    match labels {
        Some(labels) => data::with_labels(data, Rc::new(PathSource::open(labels)?)),
        None => Ok(data),
    }
}

/// The files below a folder.
fn walk(folder: &Path, prefix: &str, depth: usize, entries: &mut Vec<Entry>) -> Result<()> {
    let unreadable = |e| Error::Setting(format!("{} cannot be read: {e}.", folder.display()));
    for file in fs::read_dir(folder).map_err(unreadable)? {
        let file = file.map_err(unreadable)?;
        let (name, path) = (file.file_name().to_string_lossy().into_owned(), file.path());
        if name.starts_with('.') {
            continue;
        }
        match fs::metadata(&path) {
            // Links may lead in circles.
            Ok(meta) if meta.is_dir() && depth < 16 => walk(&path, &format!("{prefix}{name}/"), depth + 1, entries)?,
            Ok(meta) if meta.is_file() => {
                entries.push(Entry { path: format!("{prefix}{name}"), source: Rc::new(FolderSource::new(&path)?) });
            }
            _ => {}
        }
        if entries.len() > limits::IMAGES {
            return Err(Error::Setting(format!("{} has more than {} files.", folder.display(), limits::IMAGES)));
        }
    }
    Ok(())
}

/// How images become inputs, with what the command line says of it.
fn preprocessing(runnable: &Runnable, data: &Dataset, options: &DataOptions) -> Result<Preprocessing> {
    if let Some(path) = &options.preprocessing {
        let text = fs::read_to_string(path).map_err(|e| Error::Setting(format!("{} cannot be read: {e}.", path.display())))?;
        return preprocess::parse(&text).map_err(Error::Setting).map(|p| edited(p, options));
    }
    evaluate::preprocessing(runnable, data).map(|p| edited(p, options))
}

fn edited(mut p: Preprocessing, options: &DataOptions) -> Preprocessing {
    let before = p.clone();
    if let Some(side) = options.resize {
        p.resize = Some(side).filter(|&s| s > 0);
    }
    if let Some(crop) = options.crop {
        p.crop = Some(crop).filter(|c| *c != [0, 0]);
    }
    if !options.mean.is_empty() {
        p.mean = options.mean.clone();
    }
    if !options.std.is_empty() {
        p.std = options.std.clone();
    }
    p.scale = options.scale.unwrap_or(p.scale);
    p.channels = match options.channels {
        Some(ChannelOrder::Rgb) => Channels::Rgb,
        Some(ChannelOrder::Bgr) => Channels::Bgr,
        Some(ChannelOrder::Grey) => Channels::Grey,
        None => p.channels,
    };
    p.channels_last = options.channels_last.unwrap_or(p.channels_last);
    if p != before {
        p.origin = Preprocessing::EDITED.into();
    }
    p
}

/// What a task may take here.
const EVALUATION: evaluate::Options = evaluate::Options { limit: None, memory: 256 << 20, work: 2_000_000_000 };

fn evaluator(runnable: &Runnable, data: &Dataset, options: &DataOptions) -> Result<Evaluator> {
    let limit = options.limit.map(|n| n as usize);
    Evaluator::new(runnable, data, preprocessing(runnable, data, options)?, evaluate::Options { limit, ..EVALUATION })
}

/// What a function gives, and the seconds it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = std::time::Instant::now();
    work().map(|result| (result, start.elapsed().as_secs_f64()))
}

fn run_reference(evaluator: &Evaluator) -> Result<(Reference, Evaluation)> {
    let (results, seconds) = timed(|| run(evaluator.reference_job()))?;
    let reference = evaluator.reference(results);
    let evaluation = evaluator.finish_reference(evaluate::FULL, seconds, &reference);
    Ok((reference, evaluation))
}

fn print_evaluation(report: &EvaluationReport) {
    print!("{}", table::evaluation_text(report));
    report.data.notes.iter().chain(&report.notes).for_each(|note| eprintln!("note: {note}"));
}

fn eval(args: &Eval, path: &Path) -> Result<()> {
    let data = dataset(&args.test, args.data.labels.as_deref())?;
    let opened = open(path, &[])?;
    let reference = args.reference.as_deref().map(|path| open_model(path, &[])).transpose()?;
    let report = match (opened, reference) {
        (Opened::Model(session), None) => {
            let evaluator = evaluator(&*session.runnable()?, &data, &args.data)?;
            let (_, full) = run_reference(&evaluator)?;
            evaluator.report(Some(full), None, Vec::new())
        }
        (Opened::Tq(tq), None) => {
            let runnable = evaluate::tq_runnable(&tq, run(pipeline::decode_job(&tq))?)?;
            let evaluator = evaluator(&runnable, &data, &args.data)?;
            let (_, evaluation) = run_reference(&evaluator)?;
            let what = evaluate::what(&pipeline::describe(&tq)?.1);
            evaluator.report(None, Some(Evaluation { what, ..evaluation }), Vec::new())
        }
        (opened, Some(original)) => {
            let (compressed, what, decoded) = match &opened {
                Opened::Model(session) => {
                    let decoded = if args.layers { evaluate::decoded_model(&session.model)? } else { Decoded::default() };
                    ((*session.runnable()?).clone(), session.model.name.clone(), decoded)
                }
                Opened::Tq(tq) => {
                    let tensors = run(pipeline::decode_job(tq))?;
                    let decoded = if args.layers { evaluate::decoded(tq, &tensors) } else { Decoded::default() };
                    (evaluate::tq_runnable(tq, tensors)?, evaluate::what(&pipeline::describe(tq)?.1), decoded)
                }
            };
            if args.layers {
                match &opened {
                    Opened::Model(session) => evaluate::same_tensors(&session.model.name, &session.model.tensors, &original.model)?,
                    Opened::Tq(tq) => evaluate::same_tensors(tq.name(), &tq.tensors, &original.model)?,
                }
            }
            let evaluator = evaluator(&*original.runnable()?, &data, &args.data)?;
            let (reference, full) = run_reference(&evaluator)?;
            let (results, seconds) = timed(|| run(evaluator.compressed_job(&compressed, &reference)?))?;
            let compressed = evaluator.finish(what, seconds, &results);
            let damage = match args.layers {
                true => evaluator.damage(&decoded, &run(evaluator.damage_job(&decoded, &reference))?),
                false => Vec::new(),
            };
            evaluator.report(Some(full), Some(compressed), damage)
        }
    };
    write_each(&args.report, false, &data.summary.name, &EVALUATIONS, |extension| match extension {
        "csv" => table::evaluation_csv(&report).into_bytes(),
        _ => json(&report).into_bytes(),
    })?;
    if args.json {
        print!("{}", json(&report));
    } else {
        print_evaluation(&report);
    }
    Ok(())
}

/// Size of drawings, in pixels.
const PLOT: (u32, u32) = (960, 540);

/// Writes one content in the formats that the extensions of `paths` ask for; into a folder, in all `extensions`.
fn write_each(paths: &[PathBuf], several: bool, model: &str, extensions: &[&str], content: impl Fn(&str) -> Vec<u8>) -> Result<()> {
    for path in paths {
        let folder = several || path.is_dir() || path.extension().is_none();
        let files: Vec<PathBuf> = if folder {
            fs::create_dir_all(path).map_err(unwritable(path))?;
            extensions.iter().map(|e| path.join(Path::new(&pipeline::tq_name(model)).with_extension(e))).collect()
        } else {
            vec![path.clone()]
        };
        for file in files {
            let extension = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            write_file(&file, |out| out.write_all(&content(&extension)).map_err(unwritable(&file)))?;
        }
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("reports are plain data");
    text.push('\n');
    text
}

fn decompress(args: &Decompress, file: &Path) -> Result<()> {
    let source = Rc::new(PathSource::open(file)?);
    let tq = if args.recover { TqFile::recover(source) } else { TqFile::open(source) }?;
    if !args.tensors.is_empty() {
        return decompress_some(args, file, &tq);
    }
    // The name in the file is not to be trusted with a path.
    let name = Path::new(&tq.original_name).file_name().map_or("model".into(), |n| n.to_string_lossy().into_owned());
    let path = output(args.output.as_deref(), args.files.len() > 1, file, &name)?;
    if args.output.is_none() && path.exists() {
        return Err(Error::Setting(format!("{} exists; name the output with -o.", path.display())));
    }
    let all: Vec<usize> = (0..tq.tensors.len()).collect();
    let tensors = if args.recover { recovered(&tq, all)? } else { run(pipeline::decode_job(&tq))? };
    write_file(&path, |out| pipeline::rebuild(&tq, tensors, out))?;
    println!("{}: {} bytes", path.display(), fs::metadata(&path).map_or(0, |m| m.len()));
    Ok(())
}

/// The bytes of some tensors of a file that may be damaged: those that are not whole are zeros, and are named.
fn recovered(tq: &TqFile, tensors: Vec<usize>) -> Result<Vec<Vec<u8>>> {
    let results = run(pipeline::recover_job(tq, tensors.clone()))?;
    let count = results.len();
    let mut lost = 0;
    let bytes = results.into_iter().zip(tensors).map(|(result, tensor)| {
        result.unwrap_or_else(|error| {
            eprintln!("lost: {error}");
            lost += 1;
            vec![0; tq.tensors[tensor].bytes()]
        })
    });
    let bytes = bytes.collect();
    if lost > 0 {
        println!("{lost} of {count} tensors are damaged and are zeros now; the others are whole");
    }
    Ok(bytes)
}

/// Decodes the tensors that are named.
fn decompress_some(args: &Decompress, file: &Path, tq: &TqFile) -> Result<()> {
    let find = |name: &String| {
        let found = tq.tensors.iter().position(|t| t.name == *name);
        found.ok_or_else(|| bad(tq.name(), format!("it has no tensor `{name}`"), "`waterfill inspect` lists its layers"))
    };
    let mut chosen = args.tensors.iter().map(find).collect::<Result<Vec<usize>>>()?;
    chosen.sort_unstable();
    chosen.dedup();
    let bytes = match args.recover {
        true => recovered(tq, chosen.clone())?,
        false => run(pipeline::recover_job(tq, chosen.clone()))?.into_iter().collect::<Result<_>>()?,
    };
    let name = Path::new(&pipeline::tq_name(tq.name())).with_extension("safetensors");
    let path = output(args.output.as_deref(), args.files.len() > 1, file, &name.to_string_lossy())?;
    let content = waterfill::io::safetensors::file(chosen.iter().map(|&i| &tq.tensors[i]).zip(&bytes))?;
    write_file(&path, |out| out.write_all(&content).map_err(unwritable(&path)))?;
    println!("{}: {} bytes", path.display(), content.len());
    Ok(())
}

fn curve(args: &Curve, model: &Path) -> Result<()> {
    let mut session = open_model(model, &args.curve.data)?;
    let calibration = Calibration::open(&session, &args.calibration.sampling, &args.data)?;
    calibration.curves(&mut session, args.curve.blocks, Coding::default(), args.calibration.distortion)?;
    let curves = session.rd_curves(&AllocationSettings::default())?;
    write_each(&args.plot, args.models.len() > 1, &session.model.name, &DRAWINGS, |extension| match extension {
        "png" => plot::png::curve_png(&curves, None, PLOT, &Palette::LIGHT),
        _ => plot::curve_svg(&curves, None, PLOT, &Palette::LIGHT).0.into_bytes(),
    })?;
    if args.json {
        print!("{}", json(&serde_json::json!({ "model": session.summary(), "curves": curves })));
    } else {
        print!("{}", table::curves_csv(&curves));
    }
    Ok(())
}

fn inspect(args: &Inspect, file: &Path) -> Result<()> {
    let (summary, allocation) = match open(file, &[])? {
        Opened::Model(session) => (session.summary(), None),
        Opened::Tq(tq) => {
            let (summary, allocation) = pipeline::describe(&tq)?;
            (summary, Some(allocation))
        }
    };
    if args.json {
        print!("{}", json(&serde_json::json!({ "model": summary, "allocation": allocation })));
        return Ok(());
    }
    println!("{} ({}, {} bytes)", summary.name, summary.format, summary.bytes);
    println!("  {} layers, {} weights, {} bytes", summary.layers.len(), summary.layer_weights, summary.layer_bytes);
    println!(
        "  {} tensors in all; {} values in biases and norms; {} bytes kept bit for bit",
        summary.tensors, summary.small_values, summary.exact_bytes
    );
    summary.notes.iter().for_each(|note| println!("  {note}"));
    match allocation {
        Some(a) => {
            println!("  compressed to {} bytes, {:.2} times smaller; {:.4} bits per weight", a.bytes, a.ratio, a.rate);
            print!("{}", table::allocation_text(&a));
        }
        None => summary.layers.iter().for_each(|l| println!("  {}  {:?}  {} weights", l.name, l.shape, l.weights)),
    }
    Ok(())
}
