//! Names of offsets in an executable or library, from its symbol table.
//!
//! Debug information is left aside: reading it costs seconds and hundreds of megabytes where the symbol table costs
//! milliseconds.

use super::demangle::demangled;
use crate::{
    elf::{self, Budget},
    processes::CodeFile,
};

/// In the order of the offsets.
pub(super) fn names(file: &CodeFile, offsets: &[u64], budget: &mut Budget) -> Vec<Option<String>> {
    let Some(handle) = &file.handle else { return vec![None; offsets.len()] };
    match elf::functions(handle, offsets, budget) {
        Ok(names) => names.into_iter().map(|name| name.map(demangled)).collect(),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(path = file.path, error, "functions of a file have no names");
            vec![None; offsets.len()]
        }
    }
}
