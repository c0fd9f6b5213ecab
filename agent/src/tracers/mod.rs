//! The tracers that the agent ships: a folder each, and a line each in [`Shipped`].

pub mod cpuidle;
pub mod memburst;
pub mod oom;

use crate::tracer::{Factory, TracerSet};

/// The agent's own tracers.
pub struct Shipped;

impl TracerSet for Shipped {
    fn factories() -> Vec<Factory> {
        vec![Factory::of::<cpuidle::CpuIdle>(), Factory::of::<memburst::MemBurst>(), Factory::of::<oom::Oom>()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_listed() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tracers");
        let folders = std::fs::read_dir(here).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
        let mut folders: Vec<_> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        folders.sort_unstable();
        let mut listed: Vec<_> = Shipped::factories().iter().map(|factory| factory.name.to_owned()).collect();
        listed.sort_unstable();
        assert_eq!(folders, listed);
    }
}
