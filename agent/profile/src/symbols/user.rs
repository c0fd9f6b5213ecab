//! Names of offsets in an executable or library, from its symbol table.

use std::os::fd::AsRawFd;

use blazesym::{
    helper::read_elf_build_id,
    symbolize::{
        Input, Symbolizer,
        source::{Elf, Source},
    },
};

use crate::processes::CodeFile;

pub(crate) struct Found {
    pub(crate) names: Vec<Option<String>>,
    /// In hexadecimal; empty when the file has none.
    pub(crate) build_id: String,
}

/// The result is in the order of the offsets. Debug information is left aside: reading it costs seconds and hundreds of
/// megabytes where the symbol table costs milliseconds.
pub(crate) fn names(file: &CodeFile, offsets: &[u64]) -> Found {
    let none = || Found { names: vec![None; offsets.len()], build_id: String::new() };
    let Some(handle) = &file.handle else { return none() };
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let build_id = match read_elf_build_id(&path) {
        Ok(Some(id)) => id.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => String::new(),
    };
    let symbolizer =
        Symbolizer::builder().enable_auto_reload(false).enable_code_info(false).enable_inlined_fns(false).build();
    let mut source = Elf::new(path);
    source.debug_syms = false;
    match symbolizer.symbolize(&Source::Elf(source), Input::FileOffset(offsets)) {
        Ok(symbols) => Found {
            names: symbols.into_iter().map(|symbol| symbol.into_sym().map(|symbol| symbol.name.into_owned())).collect(),
            build_id,
        },
        Err(error) => {
            tracing::debug!(path = file.path, %error, "no symbols");
            Found { build_id, ..none() }
        }
    }
}
