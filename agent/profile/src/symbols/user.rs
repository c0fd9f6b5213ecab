//! Names of offsets in an executable or library, from its symbol table.

use std::os::fd::AsRawFd;

use blazesym::symbolize::{
    Input, Symbolizer,
    source::{Elf, Source},
};

use crate::processes::CodeFile;

/// In the order of the offsets. Debug information is left aside: reading it costs seconds and hundreds of megabytes
/// where the symbol table costs milliseconds.
pub(crate) fn names(file: &CodeFile, offsets: &[u64]) -> Vec<Option<String>> {
    let Some(handle) = &file.handle else { return vec![None; offsets.len()] };
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let symbolizer =
        Symbolizer::builder().enable_auto_reload(false).enable_code_info(false).enable_inlined_fns(false).build();
    let mut source = Elf::new(path);
    source.debug_syms = false;
    match symbolizer.symbolize(&Source::Elf(source), Input::FileOffset(offsets)) {
        Ok(symbols) => {
            symbols.into_iter().map(|symbol| symbol.into_sym().map(|symbol| symbol.name.into_owned())).collect()
        }
        Err(error) => {
            tracing::debug!(path = file.path, %error, "no symbols");
            vec![None; offsets.len()]
        }
    }
}
