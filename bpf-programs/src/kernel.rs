//! What loading a program needs of the machine, found out before the kernel answers `EPERM` to everything.
//!
//! [`Kernel::open`] looks at capabilities, lockdown and BTF, in this order, and names the first that is missing in one
//! line. It then holds the parsed BTF (some 12 MB) while programs are loaded; dropping it gives the memory back.

use std::{fs, io, path::Path};

use aya::{
    Btf, BtfError, EbpfError,
    programs::{ProgramError, links::LinkError},
};
use rustix::thread::{CapabilitySet, capabilities};

use crate::{Support, release_free_memory};

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
    #[must_use]
    pub fn object(program: &'static str, source: EbpfError) -> Self {
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
pub struct Kernel {
    /// Only `None` while it is being dropped.
    btf: Option<Btf>,
}

impl Kernel {
    /// # Errors
    /// What is missing, the most likely to be mended first: capabilities, lockdown, BTF.
    pub fn open() -> Result<Self, Error> {
        check_capabilities()?;
        if fs::read_to_string(LOCKDOWN).is_ok_and(|state| state.contains("[confidentiality]")) {
            return Err(Error::Lockdown);
        }
        fs::metadata(Path::new(BTF)).map_err(Error::NoBtf)?;
        let btf = Btf::from_sys_fs().map_err(Error::BadBtf)?;
        Ok(Self { btf: Some(btf) })
    }

    #[must_use]
    pub fn btf(&self) -> Option<&Btf> {
        self.btf.as_ref()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.btf = None;
        release_free_memory();
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
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
