//! Taking a loaded object apart.

use std::time::Duration;

use aya::{
    Btf, Ebpf,
    maps::{Map, MapError},
    programs::{BtfTracePoint, ProgramError},
};

use rustix::time::{ClockId, clock_gettime};

use crate::Error;

/// Now, by the clock of `bpf_ktime_get_ns`.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

pub(crate) fn take_map<T: TryFrom<Map, Error = MapError>>(
    object: &mut Ebpf,
    program: &'static str,
    map: &'static str,
) -> Result<T, Error> {
    let taken = object.take_map(map).ok_or(Error::NoMap { program, map })?;
    T::try_from(taken).map_err(|source| Error::Map { program, map, source: Box::new(source) })
}

/// Loads and attaches the function `name` to a tracepoint whose arguments BTF describes.
pub(crate) fn attach_btf(object: &mut Ebpf, btf: &Btf, name: &str, tracepoint: &str) -> Result<(), ProgramError> {
    let program: &mut BtfTracePoint = object.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()?;
    program.load(tracepoint, btf)?;
    program.attach()?;
    Ok(())
}
