//! `waterfill decompress`.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use clap::Args;
use waterfill::{
    container::TqFile,
    error::{Error, Result, bad},
    io::source::PathSource,
    pipeline,
};

use crate::{
    files::{output, unwritable, write_file},
    progress::run,
};

#[derive(Args)]
pub struct Decompress {
    /// Compressed files.
    #[arg(required = true, value_name = "IN.tq")]
    pub files: Vec<PathBuf>,
    /// Where to write: a file for one input, a folder for several. Default: the original's name next to the .tq, if it is free.
    #[arg(short, long, value_name = "MODEL")]
    pub output: Option<PathBuf>,
    /// Take what is whole of a damaged file: tensors that are not become zeros, and are named.
    #[arg(long)]
    pub recover: bool,
    /// Decode these tensors alone, into a .safetensors file named with -o. May be repeated.
    #[arg(long = "tensor", value_name = "NAME", requires = "output")]
    pub tensors: Vec<String>,
}

pub fn decompress(args: &Decompress, file: &Path) -> Result<()> {
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
pub fn recovered(tq: &TqFile, tensors: Vec<usize>) -> Result<Vec<Vec<u8>>> {
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
pub fn decompress_some(args: &Decompress, file: &Path, tq: &TqFile) -> Result<()> {
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
