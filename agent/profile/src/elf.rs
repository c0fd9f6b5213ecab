//! What an ELF file tells of its code: its build id, and the functions that offsets are in.
//!
//! The file is a workload's, which may cut or rewrite it at any moment and may have written it to do harm. So it is read
//! and never mapped: what is gone is a read that fails, not a signal. A count in the file is believed up to a limit. The
//! symbol table streams past the addresses that are asked for, so that memory goes with these, not with the file: each
//! symbol is offered to the lowest address that is not below it.

use std::{
    fs::File,
    io,
    mem::{offset_of, size_of},
    os::unix::fs::FileExt,
};

use galen_bpf::cpu_profile::BuildId;
use object::{
    Endianness,
    elf::{
        ELF_NOTE_GNU, ELFCLASS32, ELFCLASS64, FileHeader32, FileHeader64, Ident, NT_GNU_BUILD_ID, PT_LOAD, PT_NOTE,
        SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STB_GLOBAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE,
    },
    pod::{self, Pod},
    read::elf::{FileHeader, NoteIterator, ProgramHeader, SectionHeader, Sym},
};

const MAX_SEGMENTS: u64 = 512;
const MAX_SECTIONS: u64 = 4096;
const MAX_NOTE_BYTES: u64 = 64 << 10;
/// Of one table: the largest programs with debug information have about a million.
const MAX_SYMBOLS: u64 = 2 << 20;
const MAX_NAME_BYTES: usize = 4096;
/// Symbols that are read at one time.
const CHUNK: u64 = 2048;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to read its {what} at offset {offset:#x}")]
    Read { what: &'static str, offset: u64, source: io::Error },
    #[error("it is no ELF file")]
    NoElf,
    #[error("its header is nonsense")]
    Header(#[source] object::read::Error),
    #[error("its {what} are no table")]
    NoTable { what: &'static str, source: object::read::Error },
    #[error("it has {count} {what}, and at most {most} are read")]
    TooMany { what: &'static str, count: u64, most: u64 },
}

/// How many symbols may be read, of all files together.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
    /// Tables that were not read for their size.
    pub(crate) refused: u64,
}

impl Budget {
    pub(crate) fn new(symbols: u64) -> Self {
        Self { left: symbols, refused: 0 }
    }

    fn take(&mut self, count: u64) -> Result<(), Error> {
        let most = self.left.min(MAX_SYMBOLS);
        if count > most {
            self.refused += 1;
            return Err(Error::TooMany { what: "symbols", count, most });
        }
        self.left -= count;
        Ok(())
    }
}

/// As the kernel gives it with stacks: the first bytes of the note, filled up with zeros. `None` when there is none, or a
/// longer one, which the kernel does not take either.
pub(crate) fn build_id(file: &File) -> Result<Option<BuildId>, Error> {
    match class(file)? {
        ELFCLASS64 => Image::<FileHeader64<Endianness>>::open(file)?.build_id(),
        _ => Image::<FileHeader32<Endianness>>::open(file)?.build_id(),
    }
}

/// The names of the functions at these offsets from the begin of the file, in their order, as the file has them.
pub(crate) fn functions(file: &File, offsets: &[u64], budget: &mut Budget) -> Result<Vec<Option<String>>, Error> {
    match class(file)? {
        ELFCLASS64 => Image::<FileHeader64<Endianness>>::open(file)?.functions(offsets, budget),
        _ => Image::<FileHeader32<Endianness>>::open(file)?.functions(offsets, budget),
    }
}

struct Image<'a, H: FileHeader> {
    file: &'a File,
    header: H,
    endian: Endianness,
}

/// An address that is asked for, and the nearest symbol that is not above it.
struct Wanted {
    address: u64,
    /// Index of its offset.
    index: usize,
    nearest: Option<Symbol>,
}

#[derive(Clone, Copy)]
struct Symbol {
    address: u64,
    /// 0 where it is not known.
    size: u64,
    name: u32,
}

impl<'a, H: FileHeader<Endian = Endianness>> Image<'a, H> {
    fn open(file: &'a File) -> Result<Self, Error> {
        let mut room = Room::default();
        let bytes = room.read(file, "header", 0, size_of::<H>() as u64)?;
        let header = *H::parse(bytes).map_err(Error::Header)?;
        let endian = header.endian().map_err(Error::Header)?;
        Ok(Self { file, header, endian })
    }

    fn build_id(&self) -> Result<Option<BuildId>, Error> {
        let mut room = Room::default();
        for segment in self.segments()?.iter().filter(|segment| segment.p_type(self.endian) == PT_NOTE) {
            let (what, size) = ("notes", segment.p_filesz(self.endian).into());
            if size > MAX_NOTE_BYTES {
                return Err(Error::TooMany { what, count: size, most: MAX_NOTE_BYTES });
            }
            let bytes = room.read(self.file, what, segment.p_offset(self.endian).into(), size)?;
            let no_table = |source| Error::NoTable { what, source };
            let mut notes =
                NoteIterator::<H>::new(self.endian, segment.p_align(self.endian), bytes).map_err(no_table)?;
            while let Some(note) = notes.next().map_err(no_table)? {
                if note.name() == ELF_NOTE_GNU && note.n_type(self.endian) == NT_GNU_BUILD_ID {
                    let mut build_id = BuildId::default();
                    let Some(begin) = build_id.get_mut(..note.desc().len()) else { return Ok(None) };
                    begin.copy_from_slice(note.desc());
                    return Ok(Some(build_id));
                }
            }
        }
        Ok(None)
    }

    fn functions(&self, offsets: &[u64], budget: &mut Budget) -> Result<Vec<Option<String>>, Error> {
        let segments = self.segments()?;
        let address = |offset| segments.iter().find_map(|segment| self.address(segment, offset));
        let mut wanted: Vec<Wanted> = offsets
            .iter()
            .enumerate()
            .filter_map(|(index, offset)| Some(Wanted { address: address(*offset)?, index, nearest: None }))
            .collect();
        wanted.sort_unstable_by_key(|wanted| wanted.address);

        let mut names = vec![None; offsets.len()];
        let mut failed = None;
        let sections = self.sections()?;
        for kind in [SHT_SYMTAB, SHT_DYNSYM] {
            let Some(table) = sections.iter().find(|section| section.sh_type(self.endian) == kind) else { continue };
            let Some(strings) = sections.get(table.sh_link(self.endian) as usize) else { continue };
            if wanted.is_empty() {
                break;
            }
            // The other table may well be whole.
            if let Err(error) = self.find(table, &mut wanted, budget) {
                failed = Some(error);
                continue;
            }
            wanted.retain(|wanted| {
                let symbol = wanted.nearest.filter(|symbol| symbol.has(wanted.address, kind));
                let name = symbol.and_then(|symbol| self.name(strings, symbol.name));
                let found = name.is_some();
                names[wanted.index] = name;
                !found
            });
        }
        match failed {
            Some(error) if names.iter().all(Option::is_none) => Err(error),
            _ => Ok(names),
        }
    }

    /// Finds the nearest symbol of a table for each address. These are in ascending order.
    fn find(&self, table: &H::SectionHeader, wanted: &mut [Wanted], budget: &mut Budget) -> Result<(), Error> {
        let what = "symbols";
        let size = size_of::<H::Sym>() as u64;
        let mut left = table.sh_size(self.endian).into() / size;
        let mut offset: u64 = table.sh_offset(self.endian).into();
        budget.take(left)?;
        wanted.iter_mut().for_each(|wanted| wanted.nearest = None);

        let mut room = Room::default();
        while left > 0 {
            let count = left.min(CHUNK);
            for symbol in room.table::<H::Sym>(self.file, what, offset, count)? {
                if !is_function(symbol, self.endian) {
                    continue;
                }
                let (address, size) = (symbol.st_value(self.endian).into(), symbol.st_size(self.endian).into());
                let at = wanted.partition_point(|wanted| wanted.address < address);
                let Some(Wanted { nearest, .. }) = wanted.get_mut(at) else { continue };
                if nearest.is_none_or(|nearest| (nearest.address, nearest.size) < (address, size)) {
                    *nearest = Some(Symbol { address, size, name: symbol.st_name(self.endian) });
                }
            }
            left -= count;
            offset = offset.saturating_add(count * size);
        }

        let mut nearest = None;
        for wanted in wanted {
            nearest = wanted.nearest.or(nearest);
            wanted.nearest = nearest;
        }
        Ok(())
    }

    fn name(&self, strings: &H::SectionHeader, at: u32) -> Option<String> {
        let (begin, size): (u64, u64) = (strings.sh_offset(self.endian).into(), strings.sh_size(self.endian).into());
        let left = usize::try_from(size.checked_sub(u64::from(at))?).unwrap_or(usize::MAX);
        let mut bytes = [0; MAX_NAME_BYTES];
        let bytes = &mut bytes[..left.min(MAX_NAME_BYTES)];
        let read = self.file.read_at(bytes, begin.checked_add(u64::from(at))?).ok()?;
        let name = bytes[..read].split(|byte| *byte == 0).next().unwrap_or_default();
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// Where an offset is loaded to.
    fn address(&self, segment: &H::ProgramHeader, offset: u64) -> Option<u64> {
        let within = offset.checked_sub(segment.p_offset(self.endian).into())?;
        let loaded = segment.p_type(self.endian) == PT_LOAD && within < segment.p_filesz(self.endian).into();
        loaded.then(|| segment.p_vaddr(self.endian).into().wrapping_add(within))
    }

    fn segments(&self) -> Result<Vec<H::ProgramHeader>, Error> {
        let count = self.header.e_phnum(self.endian).into();
        self.headers("program headers", self.header.e_phoff(self.endian).into(), count, MAX_SEGMENTS)
    }

    /// A file of so many sections that their number has another place is none that runs.
    fn sections(&self) -> Result<Vec<H::SectionHeader>, Error> {
        let count = self.header.e_shnum(self.endian).into();
        self.headers("section headers", self.header.e_shoff(self.endian).into(), count, MAX_SECTIONS)
    }

    fn headers<T: Pod>(&self, what: &'static str, offset: u64, count: u64, most: u64) -> Result<Vec<T>, Error> {
        if count > most {
            return Err(Error::TooMany { what, count, most });
        }
        Ok(Room::default().table(self.file, what, offset, count)?.to_vec())
    }
}

impl Symbol {
    /// Where a size is not known, the function goes on to the next symbol; but in a table of those alone that others may
    /// call, the next one may be far away.
    fn has(&self, address: u64, table: u32) -> bool {
        let within = address - self.address;
        within < self.size || (self.size == 0 && (table == SHT_SYMTAB || within == 0))
    }
}

/// Functions that are written in assembly often have no type; nor have labels, which are not global.
fn is_function<S: Sym<Endian = Endianness>>(symbol: &S, endian: Endianness) -> bool {
    let kind = symbol.st_type();
    let function = matches!(kind, STT_FUNC | STT_GNU_IFUNC) || (kind == STT_NOTYPE && symbol.st_bind() == STB_GLOBAL);
    function && symbol.st_shndx(endian) != SHN_UNDEF
}

fn class(file: &File) -> Result<u8, Error> {
    let mut room = Room::default();
    match room.read(file, "header", 0, size_of::<Ident>() as u64)?[offset_of!(Ident, class)] {
        class @ (ELFCLASS32 | ELFCLASS64) => Ok(class),
        _ => Err(Error::NoElf),
    }
}

/// What is read, aligned for any table.
#[derive(Default)]
struct Room(Vec<u64>);

impl Room {
    /// Callers bound the size.
    fn read(&mut self, file: &File, what: &'static str, offset: u64, size: u64) -> Result<&[u8], Error> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.0.resize(size.div_ceil(size_of::<u64>()), 0);
        let bytes = &mut pod::bytes_of_slice_mut(&mut self.0)[..size];
        file.read_exact_at(bytes, offset).map_err(|source| Error::Read { what, offset, source })?;
        Ok(bytes)
    }

    fn table<T: Pod>(&mut self, file: &File, what: &'static str, offset: u64, count: u64) -> Result<&[T], Error> {
        let bytes = self.read(file, what, offset, count * size_of::<T>() as u64)?;
        pod::slice_from_all_bytes(bytes).map_err(|()| Error::NoElf)
    }
}
