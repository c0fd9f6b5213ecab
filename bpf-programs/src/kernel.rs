//! What loading a program needs of the machine, found out before the kernel answers `EPERM` to everything.
//!
//! [`Kernel::open`] looks at capabilities, lockdown and BTF, in this order, and names the first that is missing in one
//! line. Parsed BTF takes 14 MB, so it is never in memory twice and never kept: each step that needs it parses it (15 ms)
//! and drops it. Dropping the `Kernel`, once all is loaded, gives the freed memory back.

use std::{fs, io};

use aya::{
    Btf, BtfError, Ebpf, EbpfError, EbpfLoader,
    programs::{ProgramError, links::LinkError},
};
use rustix::thread::{CapabilitySet, capabilities};

use crate::{Support, release_free_memory, symbol::address_of};

const BTF: &str = "/sys/kernel/btf/vmlinux";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Why a program cannot be loaded, attached or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("needs root, or the capabilities {missing}")]
    Capabilities { missing: &'static str },
    #[error("the kernel has no BTF at {BTF} (CONFIG_DEBUG_INFO_BTF)")]
    NoBtf(#[source] io::Error),
    #[error("cannot read the kernel's BTF at {BTF}")]
    BadBtf(#[source] BtfError),
    #[error("the kernel is locked down (lockdown=confidentiality): programs cannot read it")]
    Lockdown,
    #[error("the kernel has no BPF ring buffer (it came with 5.8)")]
    NoRing(#[source] Box<EbpfError>),
    #[error("cannot load the objects of BPF program `{program}`")]
    Object {
        program: &'static str,
        #[source]
        source: Box<EbpfError>,
    },
    #[error("the kernel refuses BPF program `{program}`")]
    Program {
        program: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("BPF program `{program}` has no map `{map}`")]
    NoMap { program: &'static str, map: &'static str },
    #[error("cannot use map `{map}` of BPF program `{program}`")]
    Map {
        program: &'static str,
        map: &'static str,
        #[source]
        source: Box<aya::maps::MapError>,
    },
    #[error("cannot read what BPF program `{program}` writes")]
    Read {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Record(#[from] crate::BadRecord),
    #[error("cannot open perf events: kernel.perf_event_paranoid is {level} and CAP_PERFMON is missing")]
    Paranoid {
        level: String,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("cannot attach BPF program `{program}`")]
    Attach {
        program: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("cannot attach BPF program `{program}`")]
    Link {
        program: &'static str,
        #[source]
        source: Box<LinkError>,
    },
}

impl Error {
    /// An object that did not load, told apart from a kernel without ring buffers.
    fn object(program: &'static str, source: EbpfError) -> Self {
        // A kernel that does not know the type of a map answers EINVAL to its creation.
        match &source {
            EbpfError::MapError(aya::maps::MapError::CreateError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                Self::NoRing(Box::new(source))
            }
            _ => Self::Object { program, source: Box::new(source) },
        }
    }

    /// Perf events that did not open.
    #[must_use]
    pub fn perf_event(program: &'static str, source: ProgramError) -> Self {
        let denied = matches!(&source, ProgramError::SyscallError(error)
            if matches!(error.io_error.raw_os_error(), Some(libc::EACCES | libc::EPERM)));
        if denied {
            let level = fs::read_to_string(PARANOID).unwrap_or_default().trim().to_owned();
            Self::Paranoid { level, source: Box::new(source) }
        } else {
            Self::Attach { program, source: Box::new(source) }
        }
    }

    /// This error and what caused it, in one line. What the verifier wrote is left out: it is pages long.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let said = error.to_string();
            let line = said.lines().next().unwrap_or_default();
            let line = line.split(". Verifier output").next().unwrap_or_default();
            if !text.contains(line) {
                text.push_str(": ");
                text.push_str(line);
            }
            source = error.source();
        }
        text
    }

    /// The same as an answer to "does it work here".
    #[must_use]
    pub fn support(&self) -> Support {
        Support::Unsupported(self.reason())
    }
}

/// The running kernel, ready to have programs loaded.
#[derive(Debug)]
pub struct Kernel {
    /// Only [`Kernel::open`] makes one.
    _checked: (),
}

impl Kernel {
    /// # Errors
    /// What is missing, the most likely to be mended first: capabilities, lockdown, BTF.
    pub fn open() -> Result<Self, Error> {
        check_capabilities()?;
        if fs::read_to_string(LOCKDOWN).is_ok_and(|state| state.contains("[confidentiality]")) {
            return Err(Error::Lockdown);
        }
        fs::File::open(BTF).map_err(Error::NoBtf)?;
        Ok(Self { _checked: () })
    }

    /// Creates the maps of an object and prepares its programs, which are then to be loaded one by one.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn load<'a>(
        &self,
        program: &'static str,
        object: &[u8],
        configure: impl FnOnce(&mut EbpfLoader<'a>),
    ) -> Result<Ebpf, Error> {
        // A new loader has parsed the kernel's BTF already.
        let mut loader = EbpfLoader::new();
        configure(&mut loader);
        loader.load(object).map_err(|error| Error::object(program, error))
    }

    /// The kernel's BTF, which programs of some kinds need to be loaded.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn btf(&self) -> Result<Btf, Error> {
        Btf::from_sys_fs().map_err(Error::BadBtf)
    }

    /// Where the kernel has the offsets of its CPUs' own data, for `queues.h`; 0 where it does not tell.
    pub(crate) fn per_cpu_offsets(&self) -> u64 {
        address_of("__per_cpu_offset").unwrap_or(0)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        release_free_memory();
    }
}

fn check_capabilities() -> Result<(), Error> {
    // Where not even this is known, the kernel's own answer will have to do.
    let Ok(sets) = capabilities(None) else { return Ok(()) };
    let has = |capability| sets.effective.contains(capability);
    let all = has(CapabilitySet::SYS_ADMIN);
    match (all || has(CapabilitySet::BPF), all || has(CapabilitySet::PERFMON)) {
        (true, true) => Ok(()),
        (false, true) => Err(Error::Capabilities { missing: "CAP_BPF" }),
        (true, false) => Err(Error::Capabilities { missing: "CAP_PERFMON" }),
        (false, false) => Err(Error::Capabilities { missing: "CAP_BPF and CAP_PERFMON" }),
    }
}
