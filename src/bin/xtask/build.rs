//! Compiles the page and the two engines to Wasm.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    command::{cargo, run, say},
    setup,
    split::{Parts, split},
};

/// The target of everything that runs in the browser.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// One of the three Wasm builds.
pub struct Variant {
    /// Its name, and the folder of its output.
    pub name: &'static str,
    /// The program.
    bin: &'static str,
    /// The package's features.
    features: &'static str,
    /// The profile, of the program and of its tests.
    pub profile: &'static str,
    /// Where cargo builds it. Builds with different flags do not share a folder: they would rebuild each other's dependencies.
    target_dir: &'static str,
    /// Flags of the compiler, in place of any from the environment.
    flags: &'static [&'static str],
    /// Flags of the compiler for the program alone, which is where everything is optimized once more as a whole.
    last_flags: &'static [&'static str],
    /// Settings of cargo beside those in Cargo.toml, which knows of no crates of the standard library.
    settings: &'static [&'static str],
    /// Whether the standard library is compiled too. It comes without atomics; compiled here it can be small as well, which would take 21 kB from the page's
    /// 500 and is not worth the minutes.
    build_std: bool,
    /// Whether its module is cut in two ([`split`]).
    split: bool,
}

/// The page. Without its `cfg` Leptos compiles every part of it anew for the types of all elements inside. For Trunk it is in .cargo/config.toml.
pub const PAGE: Variant = Variant {
    name: "page",
    bin: "app",
    features: "ui",
    profile: "ui",
    target_dir: "target",
    flags: &["--cfg=erase_components"],
    last_flags: &[],
    settings: &[],
    build_std: false,
    split: false,
};

/// What is worth a copy was inlined when its crate was compiled; the second time, over all crates, little is gained but size. With 0 in place
/// of 30 the entropy coder writes a tenth slower.
const SMALL: &[&str] = &["-Cllvm-args=-inline-threshold=30"];

/// The names by which an engine is split are of one kind.
const NAMES: &str = "-Csymbol-mangling-version=v0";

/// The engine with one thread.
pub const ENGINE_ST: Variant = Variant {
    name: "engine-st",
    bin: "engine",
    features: "engine",
    profile: "engine",
    target_dir: "target/st",
    flags: &[NAMES, "-Ctarget-feature=+simd128", "-Clink-arg=-zstack-size=2097152"],
    last_flags: SMALL,
    settings: &[],
    build_std: false,
    split: true,
};

/// The engine with threads. The memory is shared and so has to be imported, with a maximum (4 GiB, the most there is);
/// wasm-bindgen gives each thread its stack and thread-local storage through the exported symbols.
pub const ENGINE_MT: Variant = Variant {
    name: "engine-mt",
    bin: "engine",
    features: "threads",
    profile: "engine",
    target_dir: "target/mt",
    flags: &[
        NAMES,
        "-Ctarget-feature=+atomics,+bulk-memory,+mutable-globals,+simd128",
        "-Clink-arg=--shared-memory",
        "-Clink-arg=--import-memory",
        "-Clink-arg=--max-memory=4294967296",
        "-Clink-arg=--export=__wasm_init_tls",
        "-Clink-arg=--export=__tls_size",
        "-Clink-arg=--export=__tls_align",
        "-Clink-arg=--export=__tls_base",
        "-Clink-arg=-zstack-size=2097152",
    ],
    last_flags: SMALL,
    // Mathematical functions, and memory.
    settings: &["profile.engine.package.compiler_builtins.opt-level=3", "profile.engine.package.dlmalloc.opt-level=3"],
    build_std: true,
    split: true,
};

impl Variant {
    /// `cargo SUBCOMMAND` for this build: target, folder, features, flags.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = cargo();
        command.args([subcommand, "--target", TARGET, "--target-dir", self.target_dir]);
        command.args(["--no-default-features", "--features", self.features]);
        command.args(self.settings.iter().flat_map(|setting| ["--config", setting]));
        command.env("CARGO_ENCODED_RUSTFLAGS", self.flags.join("\x1f"));
        if self.build_std {
            // `test` is for the tests only, but without it here they would compile every dependency a second time.
            // The stable compiler takes -Zbuild-std when told to act as if it were its own bootstrap; nothing else unstable is used.
            // Its sorts are small, too.
            command.env("RUSTC_BOOTSTRAP", "1").args(["-Zbuild-std=std,panic_abort,test", "-Zbuild-std-features=optimize_for_size"]);
        }
        command
    }

    /// Compiles, and writes `MODULE.js` and `MODULE_bg.wasm` into `out`, and `MODULE_rest.wasm` where it is split.
    pub fn build(&self, out: &Path) -> Result<()> {
        run(self.name, self.cargo("rustc").args(["--bin", self.bin, "--profile", self.profile, "--"]).args(self.last_flags))?;
        let start = Instant::now();
        let wasm = Path::new(self.target_dir).join(TARGET).join(self.profile).join(self.bin).with_extension("wasm");
        let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
        bindgen.web(true)?;
        // The name section is of use to nobody who loads the page, and is most of what wasm-opt would remove. A module is split by its names.
        bindgen.input_path(&wasm).out_name(self.bin).typescript(false).remove_name_section(!self.split);
        // Without this `init()` needs the module's address as an argument.
        bindgen.omit_default_module_path(false);
        bindgen.generate(out).with_context(|| format!("wasm-bindgen on {}", wasm.display()))?;
        if self.split {
            let (module, other) = (out.join(format!("{}_bg.wasm", self.bin)), out.join(format!("{}_rest.wasm", self.bin)));
            let Parts { first, rest } = split(&fs::read(&module)?).with_context(|| module.display().to_string())?;
            fs::write(module, first)?;
            fs::write(other, rest)?;
        }
        say(&format!("{}, wasm-bindgen: {:.1} s", self.name, start.elapsed().as_secs_f64()));
        Ok(())
    }
}

/// The benchmark of networks: the numeric core of [`ENGINE_ST`] alone, in a module without imports.
const SPEED: Variant = Variant { name: "speed", bin: "speed", features: "core", ..ENGINE_ST };

/// Builds the benchmark of networks and gives the path of the module.
pub fn speed() -> Result<PathBuf> {
    run(SPEED.name, SPEED.cargo("rustc").args(["--example", SPEED.bin, "--profile", SPEED.profile, "--"]).args(SPEED.last_flags))?;
    Ok(Path::new(SPEED.target_dir).join(TARGET).join(SPEED.profile).join("examples").join(SPEED.bin).with_extension("wasm"))
}

/// Builds both engines into `target/engine-st` and `target/engine-mt`.
pub fn engines() -> Result<()> {
    setup::toolchain()?;
    for engine in [ENGINE_ST, ENGINE_MT] {
        let out = Path::new("target").join(engine.name);
        if out.exists() {
            fs::remove_dir_all(&out)?; // snippets of an older build
        }
        engine.build(&out)?;
    }
    Ok(())
}
