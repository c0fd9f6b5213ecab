//! Names for the places of a profile.
//!
//! Symbol tables stream past the addresses that are asked for, one file at a time, so that memory goes with the profile
//! and not with the files. How many symbols are read is bounded: a profile tells how many tables were left out.

mod demangle;
mod kernel;
mod user;

pub use kernel::functions as kernel_functions;

use std::{collections::HashMap, sync::Arc};

pub(crate) use kernel::each_kernel_symbol;

use galen_bpf::cpu_profile::BuildId;

use crate::{
    elf::Budget,
    processes::{CodeFile, Place},
};

/// Of all files of a profile together, some 200 MB of tables: a host full of large programs stays below it.
const MAX_SYMBOLS: u64 = 8 << 20;

/// The names of functions, and which function each place is in.
pub(crate) struct Symbols {
    functions: Vec<Function>,
    of_place: Vec<u32>,
    pub(crate) files: Vec<FileInfo>,
    /// Symbol tables that were too large, or too many.
    pub(crate) tables_left_out: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    Kernel,
    /// Index of `Symbols::files`.
    File(u32),
    Nowhere,
}

pub(crate) struct FileInfo {
    /// Empty when only the build id is known.
    pub(crate) path: String,
    /// In hexadecimal; empty when the file has none.
    pub(crate) build_id: String,
}

impl Symbols {
    pub(crate) fn of(places: &[Place]) -> Self {
        let mut names = Names { functions: Vec::new(), known: HashMap::new() };
        let mut of_place = vec![0; places.len()];

        let mut kernel: Vec<(u64, usize)> = Vec::new();
        let mut in_files: HashMap<&Arc<CodeFile>, Vec<(u64, usize)>> = HashMap::new();
        for (index, place) in places.iter().enumerate() {
            let name = match place {
                Place::Kernel(address) => {
                    kernel.push((*address, index));
                    continue;
                }
                Place::File { file, offset } => {
                    in_files.entry(file).or_default().push((*offset, index));
                    continue;
                }
                Place::Named(name) => name.to_string(),
                Place::Anonymous => "[code made at run time]".to_owned(),
                Place::Unknown => "[unknown]".to_owned(),
                Place::Gone => "[process gone]".to_owned(),
            };
            of_place[index] = names.number(name, Origin::Nowhere);
        }

        kernel.sort_unstable();
        let addresses: Vec<u64> = kernel.iter().map(|(address, _)| *address).collect();
        for ((_, index), name) in kernel.iter().zip(kernel::names(&addresses)) {
            let name = name.unwrap_or_else(|| "[kernel code without a symbol]".to_owned());
            of_place[*index] = names.number(name, Origin::Kernel);
        }

        let mut budget = Budget::new(MAX_SYMBOLS);
        let mut files = Vec::new();
        for (file, mut offsets) in in_files {
            let origin = Origin::File(u32::try_from(files.len()).unwrap_or(u32::MAX));
            offsets.sort_unstable();
            let only: Vec<u64> = offsets.iter().map(|(offset, _)| *offset).collect();
            let build_id = hexadecimal(&file.build_id);
            for ((offset, index), name) in offsets.iter().zip(user::names(file, &only, &mut budget)) {
                let name = name.unwrap_or_else(|| match file.path.rsplit('/').next() {
                    Some(file) if !file.is_empty() => format!("{file}+{offset:#x}"),
                    _ => format!("[build id {build_id}]+{offset:#x}"),
                });
                of_place[*index] = names.number(name, origin);
            }
            files.push(FileInfo { path: file.path.clone(), build_id });
        }
        Self { functions: names.functions, of_place, files, tables_left_out: budget.refused }
    }

    pub(crate) fn functions(&self) -> &[Function] {
        &self.functions
    }

    pub(crate) fn function_of(&self, place: u32) -> u32 {
        self.of_place[place as usize]
    }

    pub(crate) fn origin(&self, place: u32) -> Origin {
        self.functions[self.function_of(place) as usize].origin
    }

    pub(crate) fn name(&self, function: u32) -> &str {
        &self.functions[function as usize].name
    }
}

/// Empty when there is none. Zeros at the end fill up a short one.
fn hexadecimal(build_id: &BuildId) -> String {
    let end = build_id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    build_id[..end].iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Names {
    functions: Vec<Function>,
    known: HashMap<Function, u32>,
}

impl Names {
    fn number(&mut self, name: String, origin: Origin) -> u32 {
        let function = Function { name, origin };
        if let Some(number) = self.known.get(&function) {
            return *number;
        }
        let number = u32::try_from(self.functions.len()).unwrap_or(u32::MAX);
        self.functions.push(function.clone());
        self.known.insert(function, number);
        number
    }
}
