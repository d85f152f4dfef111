//! Several models with the same settings, one after the other: which files belong together, what becomes of one of them, and all results in one
//! archive.

use std::{
    io::{Seek, Write},
    rc::Rc,
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{
    Opened,
    calibrate::Memory,
    evaluate::{self, Evaluator, Options},
    job::{Runner, Span},
    settle::{self, Settled},
};
use crate::{
    data::Dataset,
    error::{Error, Result, bad},
    io::{Source, source::read_vec},
    report::{AllocationSettings, CalibrationSettings, CurveSettings, Distortion, Report, batch::Packed},
};

/// A file that stands alone, and those that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Their places among all files, the model's first.
    pub files: Vec<usize>,
    /// Whether that opens as a model to compress.
    pub opens: bool,
}

/// Which of several files belong together: a model that needs another file is one with it, whatever stands alone is by itself, also what is
/// no model. In the order in which they were given.
pub fn groups(sources: &[Rc<dyn Source>]) -> Vec<Group> {
    let chain = |first: usize| {
        let mut files = vec![first];
        loop {
            match super::open(files.iter().map(|&i| sources[i].clone()).collect()) {
                Ok(Opened::Model(_)) => return Group { files, opens: true },
                Err(Error::Missing { needs, .. }) => {
                    let next = (0..sources.len()).find(|i| sources[*i].name() == needs && !files.contains(i));
                    match next {
                        Some(next) => files.push(next),
                        None => return Group { files, opens: false },
                    }
                }
                _ => return Group { files, opens: false },
            }
        }
    };
    let all: Vec<Group> = (0..sources.len()).map(chain).collect();
    let belongs = |file: usize| all.iter().any(|g| g.files[1..].contains(&file));
    all.iter().filter(|g| !belongs(g.files[0])).cloned().collect()
}

/// Whether these are several models, and not one with what belongs to it.
pub fn are_several(groups: &[Group]) -> bool {
    groups.iter().filter(|g| g.opens).count() > 1
}

/// What all models of a batch are compressed with.
pub struct Settings<'a> {
    /// Settings of the curves.
    pub curves: CurveSettings,
    /// Settings of the allocation, without locks and excludes: layers are those of one model.
    pub allocation: &'a AllocationSettings,
    /// Images to calibrate on those models that take them, how, and settings of the curves then.
    pub calibration: Option<(&'a Dataset, CalibrationSettings, CurveSettings)>,
}

/// Opens a model and compresses it as the command line would: `out` gets the file, and the report is that of it.
///
/// # Errors
/// Those of opening, of a budget out of reach, of settling and writing, and of the runner.
pub async fn compress(
    sources: Vec<Rc<dyn Source>>,
    settings: &Settings<'_>,
    out: &mut dyn Write,
    span: Span,
    runner: &mut impl Runner,
) -> Result<(Packed, Report)> {
    let start = runner.now();
    let mut session = match super::open(sources)? {
        Opened::Model(session) => *session,
        Opened::Tq(tq) => return Err(bad(tq.name(), "it is compressed already", "leave it out")),
    };
    let mut notes = session.model.notes.clone();
    let mut curves = settings.curves;
    let mut from = 0.0;
    let mut checker = None;
    if let Some((images, sampling, calibrated)) = settings.calibration {
        let bound = session.runnable().and_then(|runnable| {
            let p = evaluate::preprocessing(&runnable, images)?;
            let calibrator = session.calibrator(images, p.clone(), sampling, Memory::default())?;
            Ok((calibrator, Evaluator::of_calibration(&runnable, images, p, sampling, Options::default())?))
        });
        match bound {
            Err(why) => notes.push(format!("It was not calibrated. {why}")),
            Ok((calibrator, evaluator)) => {
                runner.run(span.part(0.0, 0.3), calibrator.job()).await?;
                session.set_statistics(Some(calibrator.statistics()));
                // Measured distortions take longer than all else together.
                let distortion = if calibrated.distortion == Distortion::Measured { Distortion::Model } else { calibrated.distortion };
                curves = CurveSettings { distortion, ..calibrated };
                let reference = evaluator.reference(runner.run(span.part(0.3, 0.35), evaluator.reference_job()).await?);
                checker = Some((evaluator, reference));
                from = 0.35;
            }
        }
    }
    let transform = settings.allocation.transform;
    if transform.needs_calibration() && session.statistics().is_none() {
        return Err(super::uncalibrated(transform));
    }
    let between = from + 0.5 * (1.0 - from);
    let computed = runner.run(span.part(from, between), session.curves_job(curves)).await?;
    session.set_curves(curves, computed);
    if let Some(error) = session.allocate(settings.allocation)?.0.not_reachable {
        return Err(error);
    }
    let on = checker.as_ref().map(|(evaluator, reference)| (evaluator, reference));
    let settled = settle::settle(&session, settings.allocation, on, span.part(between, 1.0), runner).await?;
    let Settled { allocation, layers, alternatives, small, .. } = settled;
    let session = session.with_small(&small)?;
    let report = Report { alternatives, ..session.report(&allocation, settings.allocation, &layers)? };
    session.write(&layers, out)?;
    let a = &report.allocation;
    let packed = Packed {
        file_name: super::tq_name(&session.model.name),
        before: session.model.file_bytes,
        after: a.bytes,
        layers: a.layers.len(),
        rate: a.rate,
        db: a.db,
        measure: a.measure,
        seconds: runner.now() - start,
        notes,
    };
    Ok((packed, report))
}

/// Most bytes of an archive: it is put together in memory.
const MOST: u64 = 1 << 30;

/// Writes files into one zip archive, each as it is: compressed models do not become smaller by deflating them.
///
/// # Errors
/// More than a gigabyte of them, two of one name, or one that cannot be read.
pub fn pack(files: &[Rc<dyn Source>], out: impl Write + Seek) -> Result<()> {
    let all: u64 = files.iter().map(|f| f.len()).sum();
    if all > MOST {
        return Err(Error::Setting(format!("{all} bytes are more than one archive may have here ({MOST}): save the files one by one.")));
    }
    let failed = |e: &dyn std::fmt::Display| Error::Setting(format!("The archive cannot be written: {e}."));
    let mut archive = ZipWriter::new(out);
    // Nothing of the day on which it was made: the same files give the same archive.
    let options = SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Stored);
    for file in files {
        archive.start_file(file.name(), options).map_err(|e| failed(&e))?;
        archive.write_all(&read_vec(&**file, 0, file.len())?).map_err(|e| failed(&e))?;
    }
    archive.finish().map_err(|e| failed(&e))?;
    Ok(())
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        io::source::{BytesSource, PathSource},
        pipeline::job::{Progress, Waiting, wait},
        report::Budget,
    };

    fn file(path: &str) -> Rc<dyn Source> {
        Rc::new(PathSource::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
    }

    fn bytes(name: &str, bytes: &[u8]) -> Rc<dyn Source> {
        Rc::new(BytesSource::new(name, bytes.to_vec()))
    }

    fn of(sources: &[Rc<dyn Source>]) -> Vec<(Vec<usize>, bool)> {
        groups(sources).into_iter().map(|g| (g.files, g.opens)).collect()
    }

    #[test]
    fn a_model_is_one_with_its_external_data_in_any_order() {
        let (resnet, alexnet) = (file("www/samples/resnet-digits.onnx"), file("www/samples/alexnet-digits.onnx"));
        let (external, data) = (file("tests/fixtures/external.onnx"), file("tests/fixtures/external.data"));
        let broken = bytes("broken.onnx", b"this is no model at all, and nothing else that we know");

        let one = of(&[data.clone(), external.clone()]);
        assert_eq!(one, [(vec![1, 0], true)]);
        assert!(!are_several(&groups(&[data.clone(), external.clone()])));
        assert_eq!(of(std::slice::from_ref(&external)), [(vec![0], false)], "what it needs is missing");
        let all = [resnet.clone(), data, broken.clone(), external, alexnet];
        assert_eq!(of(&all), [(vec![0], true), (vec![2], false), (vec![3, 1], true), (vec![4], true)]);
        assert!(are_several(&groups(&all)));
        assert!(!are_several(&groups(&[resnet, broken])), "one model, and something that nothing refers to");
        assert!(of(&[]).is_empty());
    }

    fn quietly(_: Span, _: &Progress) -> Result<()> {
        Ok(())
    }

    #[test]
    fn a_model_of_a_batch_is_that_of_a_session_of_its_own() {
        let allocation = AllocationSettings { budget: Budget::Bits(3.0), ..AllocationSettings::default() };
        let settings = Settings { curves: CurveSettings::default(), allocation: &allocation, calibration: None };
        let mut runner = Waiting::new(quietly);
        let mut compress = |sources, settings: &Settings| {
            let mut out = Vec::new();
            wait(super::compress(sources, settings, &mut out, Span::WHOLE, &mut runner)).map(|(packed, report)| (packed, report, out))
        };
        let resnet = || vec![file("www/samples/resnet-digits.onnx")];
        let (packed, report, out) = compress(resnet(), &settings).unwrap();
        assert_eq!((packed.file_name.as_str(), packed.after, packed.before), ("resnet-digits.tq", out.len() as u64, resnet()[0].len()));
        assert_eq!(report.allocation.bytes, packed.after);

        let Opened::Model(mut session) = crate::pipeline::open(resnet()).unwrap() else { panic!("a model") };
        let run = |job| crate::pipeline::job::run(job, &mut |_| Ok(())).unwrap();
        session.set_curves(CurveSettings::default(), run(session.curves_job(CurveSettings::default())));
        let (found, _) = session.allocate(&allocation).unwrap();
        let layers = crate::pipeline::job::run(session.encode_job(&found), &mut |_| Ok(())).unwrap();
        let mut alone = Vec::new();
        session.write(&layers, &mut alone).unwrap();
        assert!(alone == out, "the same bytes");

        let never = AllocationSettings { budget: Budget::Size(10), ..allocation.clone() };
        let why = compress(resnet(), &Settings { allocation: &never, ..settings }).err().map(|e| e.to_string());
        assert!(why.as_ref().is_some_and(|w| w.contains("not reachable")), "{why:?}");
        let settings = Settings { curves: CurveSettings::default(), allocation: &allocation, calibration: None };
        let why = compress(vec![bytes("a.tq", &out)], &settings).err().map(|e| e.to_string());
        assert_eq!(why.as_deref(), Some("a.tq: it is compressed already; leave it out."));
        assert!(compress(vec![bytes("x.onnx", b"nothing that we know of, at all")], &settings).is_err());
    }

    #[test]
    fn files_are_stored_as_they_are() {
        let files = [bytes("a.tq", &[7; 5000]), bytes("b.tq", b""), bytes("report.csv", b"a,b\n")];
        let mut out = std::io::Cursor::new(Vec::new());
        pack(&files, &mut out).unwrap();
        let mut again = std::io::Cursor::new(Vec::new());
        pack(&files, &mut again).unwrap();
        assert_eq!(out.get_ref(), again.get_ref(), "the same files, the same archive");
        let mut archive = zip::ZipArchive::new(out).unwrap();
        assert_eq!(archive.len(), 3);
        for (i, file) in files.iter().enumerate() {
            let mut member = archive.by_index(i).unwrap();
            assert_eq!((member.compression(), member.size()), (CompressionMethod::Stored, file.len()));
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut member, &mut content).unwrap();
            assert_eq!(content, read_vec(&**file, 0, file.len()).unwrap());
        }
        assert!(pack(&[bytes("a.tq", b"1"), bytes("a.tq", b"2")], std::io::Cursor::new(Vec::new())).is_err());
    }
}
