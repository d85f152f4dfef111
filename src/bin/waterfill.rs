//! The command line tool. Progress on stderr, results on stdout; exit 0: done, 1: the input's fault, 2: usage.

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
    error::{Error, Result, bad},
    io::{Source, source::PathSource},
    pipeline::{
        self, Opened, Session,
        job::{self, Job},
    },
    report::{
        AllocationSettings, Budget, CurveSettings, TransformChoice,
        plot::{self, Palette},
        table,
    },
};

const EXAMPLES: &str = "\
Examples:
  waterfill compress resnet.onnx -o resnet.tq --bits 4
  waterfill compress a.onnx b.safetensors --ratio 8          (writes a.tq and b.tq)
  waterfill compress resnet.pth -o resnet.tq --size 3000000 --lock conv1.weight=8 --exclude fc.weight --report resnet.json
  waterfill decompress resnet.tq -o resnet-small.onnx
  waterfill curve resnet.onnx --plot curve.svg --json > curve.json
  waterfill inspect resnet.tq";

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
    /// Show what a model or a .tq file holds.
    Inspect(Inspect),
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

#[derive(Args)]
#[command(group(ArgGroup::new("budget")), after_help = EXAMPLES)]
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
    #[command(flatten)]
    curve: CurveOptions,
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
}

#[derive(Args)]
struct Decompress {
    /// Compressed files.
    #[arg(required = true, value_name = "IN.tq")]
    files: Vec<PathBuf>,
    /// Where to write: a file for one input, a folder for several. Default: the original's name next to the .tq, if it is free.
    #[arg(short, long, value_name = "MODEL")]
    output: Option<PathBuf>,
}

#[derive(Args)]
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
}

impl From<Transform> for TransformChoice {
    fn from(t: Transform) -> TransformChoice {
        match t {
            Transform::Auto => TransformChoice::Auto,
            Transform::None => TransformChoice::None,
            Transform::KltRow => TransformChoice::KltRow,
            Transform::KltCol => TransformChoice::KltCol,
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

fn report(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &REPORTS)
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
        Command::Inspect(i) => each(&i.files, |file| inspect(&i, file)),
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

/// Runs a job with a progress bar on stderr.
fn run<T: Send + 'static>(job: Job<T>) -> Result<Vec<T>> {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(1000), target);
    if let Ok(style) = ProgressStyle::with_template("{prefix:>9} [{bar:32}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(job.stage);
    let result = job::run(job, &mut |p| {
        bar.set_position((p.fraction * 1000.0) as u64);
        let left = p.seconds_left.map(|s| format!(", {s:.0} s left")).unwrap_or_default();
        bar.set_message(format!("{} of {}{left}  {}", p.done, p.total, p.item));
        Ok(())
    });
    bar.finish_and_clear();
    result
}

fn with_curves(path: &Path, options: &CurveOptions) -> Result<Box<Session>> {
    let mut session = open_model(path, &options.data)?;
    session.model.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let settings = CurveSettings { blocks: options.blocks.into() };
    let curves = run(session.curves_job(settings))?;
    session.set_curves(settings, curves);
    Ok(session)
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
    let session = with_curves(model, &args.curve)?;
    let budget = match (args.size, args.ratio) {
        (Some(size), _) => Budget::Size(size),
        (_, Some(ratio)) => Budget::Ratio(ratio),
        _ => Budget::Bits(args.bits.unwrap_or(4.0)),
    };
    let locks = args.lock.iter().map(|(name, depth)| Ok((session.layer_index(name)?, *depth))).collect::<Result<_>>()?;
    let excludes = args.exclude.iter().map(|name| session.layer_index(name)).collect::<Result<_>>()?;
    let settings = AllocationSettings { budget, transform: args.transform.into(), locks, excludes };
    let (allocation, _) = session.allocate(&settings)?;
    if let Some(error) = allocation.not_reachable {
        return Err(error);
    }
    let layers = run(session.encode_job(&allocation))?;
    let report = session.report(&allocation, &settings, &layers)?;
    let several = args.models.len() > 1;
    let path = output(args.output.as_deref(), several, model, &pipeline::tq_name(&session.model.name))?;
    write_file(&path, |out| session.write(&layers, out).map(drop))?;
    let name = &session.model.name;
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
    let tq = TqFile::open(Rc::new(PathSource::open(file)?))?;
    // The name in the file is not to be trusted with a path.
    let name = Path::new(&tq.original_name).file_name().map_or("model".into(), |n| n.to_string_lossy().into_owned());
    let path = output(args.output.as_deref(), args.files.len() > 1, file, &name)?;
    if args.output.is_none() && path.exists() {
        return Err(Error::Setting(format!("{} exists; name the output with -o.", path.display())));
    }
    let tensors = run(pipeline::decode_job(&tq))?;
    write_file(&path, |out| pipeline::rebuild(&tq, tensors, out))?;
    println!("{}: {} bytes", path.display(), fs::metadata(&path).map_or(0, |m| m.len()));
    Ok(())
}

fn curve(args: &Curve, model: &Path) -> Result<()> {
    let session = with_curves(model, &args.curve)?;
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
