//! Cuts the module of an engine in two: what opens a model, finds its curves, spends a budget and writes the smaller model, and the rest, which is fetched when
//! something first calls it (`src/worker/engine/rest.rs`).
//!
//! The rest is a module without a memory, tables or globals of its own: these, and the functions of the first part that it calls, it imports from the first
//! part. There a function that went is a stub, which has the rest loaded, once in each thread, and calls it through a place behind those
//! that the function table had. Whatever is called is found, wherever it is: what is where matters to size and speed alone. A browser test holds that
//! the way to a smaller model does not need the rest.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use walrus::{
    ConstExpr, ElementItems, ElementKind, ExportItem, FunctionBuilder, FunctionId, FunctionKind, GlobalKind, ImportedFunction,
    InstrSeqBuilder, LocalFunction, Module, ModuleConfig, TableId, ValType,
    ir::{UnaryOp, Value, Visitor, dfs_in_order},
    passes::gc,
};

/// The two parts of a module.
pub struct Parts {
    /// What is loaded at once.
    pub first: Vec<u8>,
    /// What is loaded by the first part.
    pub rest: Vec<u8>,
}

/// Export of the first part that loads the rest; a function of nothing that gives nothing.
const LOAD: &str = "load_rest";
/// What the rest imports from.
const FIRST: &str = "first";

/// The name of each function of the rest has one of these in it.
const REST: &[&str] = &[
    // Networks that run, and what is measured with them.
    "waterfill::data::",
    "waterfill::graph::lower",
    "waterfill::graph::runnable",
    "waterfill::nn::",
    "waterfill::pipeline::calibrate",
    "waterfill::pipeline::evaluate",
    "waterfill::pipeline::inputs",
    "waterfill::pipeline::matching",
    "waterfill::pipeline::measure",
    "waterfill::pipeline::pictures",
    "waterfill::pipeline::promise",
    "waterfill::pipeline::settle::matched",
    "waterfill::pipeline::sweep",
    "waterfill::quantize::feedback",
    "waterfill::rate::feedback",
    "waterfill::worker::engine::calibrate",
    "waterfill::worker::engine::evaluate",
    "waterfill::worker::engine::pictures",
    "waterfill::worker::engine::promise",
    "waterfill::worker::engine::sweep",
    // Figures, but the first that is shown.
    "waterfill::pipeline::figures",
    "waterfill::pipeline::Session>::histogram",
    "waterfill::pipeline::Session>::intra",
    "waterfill::pipeline::Session>::kernels",
    "waterfill::pipeline::Session>::measured",
    "waterfill::pipeline::Session>::other_figure",
    "waterfill::pipeline::Session>::pairs",
    "waterfill::pipeline::Session>::row_gains",
    "waterfill::pipeline::Session>::spectrum",
    "waterfill::pipeline::Session>::steps",
    // Archives, images, and reading a `.tq`.
    "waterfill::container::reader",
    "waterfill::io::npy",
    "waterfill::io::pickle",
    "waterfill::io::pth",
    "waterfill::io::zip",
    "waterfill::pipeline::batch",
    "waterfill::pipeline::decoding",
    "waterfill::worker::engine::batch",
    "fdeflate::",
    "image::",
    "image_webp::",
    "npyz::",
    "num_bigint::",
    "pest::",
    "png::",
    "py_literal::",
    "zip::",
    "zune_core::",
    "zune_jpeg::",
];
/// With one of these it stays in the first part, which calls it.
const NOT_REST: &[&str] = &[
    "crc32fast::",
    "std::sys::thread_local::",
    "waterfill::nn::kernel",
    "waterfill::nn::tensor",
    "waterfill::pipeline::figures::Making",
    "waterfill::pipeline::figures::Piece",
    "waterfill::pipeline::figures::slopes",
    "waterfill::worker::engine::batch::several",
];
/// Mathematical functions, and memory's, are in both parts: what computes calls them for every number.
const BOTH: &[&str] = &["compiler_builtins::", "memcpy", "memmove", "memset", "memcmp"];
/// So are the rest's functions of so few instructions: a stub is hardly smaller.
const AS_SMALL_AS_A_STUB: u64 = 60;

fn any(name: &str, of: &[&str]) -> bool {
    of.iter().any(|part| name.contains(part))
}

/// A name without the numbers of crates: `core[123456789abcdef]::fmt` as `core::fmt`. A number stands right behind a word, as brackets of slices do not.
fn plain(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for piece in name.split_inclusive('[') {
        // What follows a bracket that was written.
        let behind_word = out.strip_suffix('[').is_some_and(|before| before.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let number =
            piece.split_once(']').filter(|(inside, _)| behind_word && !inside.is_empty() && inside.bytes().all(|b| b.is_ascii_hexdigit()));
        match number {
            Some((_, after)) => {
                out.pop();
                out += after;
            }
            None => out += piece,
        }
    }
    out
}

/// The functions that a function calls, or takes the address of.
#[derive(Default)]
struct Named(HashSet<FunctionId>);

impl Visitor<'_> for Named {
    fn visit_function_id(&mut self, function: &FunctionId) {
        self.0.insert(*function);
    }
}

fn named_by(function: &LocalFunction) -> HashSet<FunctionId> {
    let mut named = Named::default();
    dfs_in_order(&mut named, function, function.entry_block());
    named.0
}

/// Which functions leave the first part, and which are in both.
fn sorted_out(module: &Module) -> Result<(HashSet<FunctionId>, HashSet<FunctionId>)> {
    let named: Vec<(FunctionId, String, u64)> = module
        .funcs
        .iter_local()
        .map(|(id, f)| (id, module.funcs.get(id).name.as_deref().map(plain).unwrap_or_default(), f.size()))
        .collect();
    for part in REST {
        // A module of ours that has another name by now would be in the first part, and nobody would see why that has grown.
        ensure!(
            named.iter().any(|(_, name, _)| name.contains(part)),
            "no function has `{part}` in its name, by which src/bin/xtask/split.rs cuts the engine in two"
        );
    }
    let (mut moved, mut both) = (HashSet::new(), HashSet::new());
    for (id, name, size) in named {
        let rest = any(&name, REST) && !any(&name, NOT_REST);
        if any(&name, BOTH) || (rest && size <= AS_SMALL_AS_A_STUB) {
            both.insert(id);
        } else if rest {
            moved.insert(id);
        }
    }
    Ok((moved, both))
}

/// Functions that are called from outside of `moved`, or could be: through the table, or as exports.
fn called(module: &Module, moved: &HashSet<FunctionId>) -> HashSet<FunctionId> {
    let mut called: HashSet<FunctionId> =
        module.funcs.iter_local().filter(|(id, _)| !moved.contains(id)).flat_map(|(_, f)| named_by(f)).collect();
    for element in module.elements.iter() {
        match &element.items {
            ElementItems::Functions(functions) => called.extend(functions),
            ElementItems::Expressions(_, all) => {
                called.extend(all.iter().filter_map(|e| if let ConstExpr::RefFunc(id) = e { Some(*id) } else { None }))
            }
        }
    }
    called.extend(module.exports.iter().filter_map(|export| if let ExportItem::Function(id) = export.item { Some(id) } else { None }));
    called
}

/// Makes room for `more` functions at the end of the function table. Gives the table, and the first of the new places.
fn more_places(module: &mut Module, more: usize) -> Result<(TableId, u64)> {
    let id = module.tables.main_function_table()?.context("the engine has no function table")?;
    let table = module.tables.get_mut(id);
    let first = table.initial;
    table.initial += more as u64;
    table.maximum = table.maximum.map(|most| most.max(table.initial));
    Ok((id, first))
}

/// Leaves nothing in a module but functions: all else, and the functions that are `not` its own, becomes imports from [`FIRST`], by these names.
fn import_all(module: &mut Module, not: impl Fn(usize) -> bool) {
    macro_rules! ids {
        ($all:expr) => {
            $all.iter().map(|item| item.id()).enumerate().collect::<Vec<_>>()
        };
    }
    module.start = None;
    for (_, id) in ids!(module.exports) {
        module.exports.delete(id);
    }
    for (_, id) in ids!(module.imports) {
        module.imports.delete(id);
    }
    for (_, id) in ids!(module.elements) {
        module.elements.delete(id);
    }
    for (_, id) in ids!(module.data) {
        module.data.delete(id);
    }
    for id in module.customs.iter().map(|(id, _)| id).collect::<Vec<_>>() {
        module.customs.delete(id);
    }
    for (at, id) in ids!(module.funcs).into_iter().filter(|(at, _)| not(*at)) {
        let (import, ty) = (module.imports.add(FIRST, &format!("f{at}"), id), module.funcs.get(id).ty());
        module.funcs.get_mut(id).kind = FunctionKind::Import(ImportedFunction { import, ty });
    }
    for (at, id) in ids!(module.globals) {
        module.globals.get_mut(id).kind = GlobalKind::Import(module.imports.add(FIRST, &format!("g{at}"), id));
    }
    for (at, id) in ids!(module.tables) {
        let table = module.tables.get_mut(id);
        (table.import, table.init) = (Some(module.imports.add(FIRST, &format!("t{at}"), id)), None);
        table.elem_segments.clear();
    }
    for (at, id) in ids!(module.memories) {
        let memory = module.memories.get_mut(id);
        memory.import = Some(module.imports.add(FIRST, &format!("m{at}"), id));
        memory.data_segments.clear();
    }
}

/// What a name of [`import_all`] stands for in a module of the same bytes.
fn item(module: &Module, name: &str) -> Option<ExportItem> {
    let (kind, at) = name.split_at_checked(1)?;
    let at: usize = at.parse().ok()?;
    match kind {
        "f" => module.funcs.iter().nth(at).map(|f| ExportItem::Function(f.id())),
        "g" => module.globals.iter().nth(at).map(|g| ExportItem::Global(g.id())),
        "t" => module.tables.iter().nth(at).map(|t| ExportItem::Table(t.id())),
        _ => module.memories.iter().nth(at).map(|m| ExportItem::Memory(m.id())),
    }
}

/// Cuts a module, which has the names of its functions, in two that have not.
pub fn split(wasm: &[u8]) -> Result<Parts> {
    let mut config = ModuleConfig::new();
    config.generate_name_section(false);
    // Of the same bytes: what is the nth in one is it in the other.
    let (mut first, mut rest) = (config.parse(wasm)?, config.parse(wasm)?);
    let (moved, both) = sorted_out(&first)?;
    let called = called(&first, &moved);
    let all: Vec<FunctionId> = first.funcs.iter().map(|f| f.id()).collect();
    let entries: Vec<usize> = (0..all.len()).filter(|&at| moved.contains(&all[at]) && called.contains(&all[at])).collect();
    let entries_in_rest = {
        let all: Vec<FunctionId> = rest.funcs.iter().map(|f| f.id()).collect();
        entries.iter().map(|&at| all[at]).collect()
    };

    import_all(&mut rest, |at| !moved.contains(&all[at]) && !both.contains(&all[at]));
    let (table, place) = more_places(&mut rest, entries.len())?;
    let offset = ConstExpr::Value(Value::I32(i32::try_from(place)?));
    let element = rest.elements.add(ElementKind::Active { table, offset }, ElementItems::Functions(entries_in_rest));
    rest.tables.get_mut(table).elem_segments.insert(element);
    gc::run(&mut rest);

    let load = first.exports.get_func(LOAD)?;
    let wanted: HashMap<&str, ExportItem> = rest
        .imports
        .iter()
        .map(|import| Ok((import.name.as_str(), item(&first, &import.name).context("an import of what is not there")?)))
        .collect::<Result<_>>()?;
    for (name, item) in wanted {
        first.exports.add(name, item);
    }
    let (table, place) = more_places(&mut first, entries.len())?;
    let loaded = first.globals.add_local(ValType::I32, true, false, ConstExpr::Value(Value::I32(0)));
    for (place, at) in (i32::try_from(place)?..).zip(entries) {
        let ty = first.funcs.get(all[at]).ty();
        let (params, results) = first.types.params_results(ty);
        let (params, results) = (params.to_vec(), results.to_vec());
        let arguments: Vec<_> = params.iter().map(|ty| first.locals.add(*ty)).collect();
        let mut stub = FunctionBuilder::new(&mut first.types, &params, &results);
        let mut body = stub.func_body();
        let load_it = |then: &mut InstrSeqBuilder| {
            then.call(load).i32_const(1).global_set(loaded);
        };
        body.global_get(loaded).unop(UnaryOp::I32Eqz).if_else(None, load_it, |_| {});
        for argument in &arguments {
            body.local_get(*argument);
        }
        body.i32_const(place).call_indirect(ty, table);
        first.funcs.get_mut(all[at]).kind = FunctionKind::Local(stub.local_func(arguments));
    }
    gc::run(&mut first);
    Ok(Parts { first: first.emit_wasm(), rest: rest.emit_wasm() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_numbers_of_crates_and_nothing_else() {
        for (name, without) in [
            ("core[8f3a]::fmt::write", "core::fmt::write"),
            ("<waterfill[12ab34cd56ef7890]::pipeline::Session>::pairs", "<waterfill::pipeline::Session>::pairs"),
            ("<[u8] as alloc[0f]::slice::Concat<[f32]>>::concat", "<[u8] as alloc::slice::Concat<[f32]>>::concat"),
            // Brackets of slices and arrays, which look like numbers.
            ("<[f64]>::fill", "<[f64]>::fill"),
            ("<&[[beef; 3]]>::iter", "<&[[beef; 3]]>::iter"),
            ("half a bracket[12", "half a bracket[12"),
            ("none[]", "none[]"),
            ("of words[text]", "of words[text]"),
            ("", ""),
        ] {
            assert_eq!(plain(name), without);
        }
    }

    #[test]
    fn a_name_is_of_one_part() {
        // Nothing of a list is in vain because a longer list has it already.
        for (at, name) in REST.iter().enumerate() {
            assert!(REST.iter().enumerate().all(|(other, part)| other == at || !name.contains(part)), "{name}");
        }
        // What is spared from the rest would be of it, or is of others.
        for name in NOT_REST.iter().filter(|name| name.starts_with("waterfill::")) {
            assert!(any(name, REST), "{name}");
        }
    }
}
