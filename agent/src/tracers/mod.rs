//! The tracers that the agent ships: a folder each, and a line each in [`Shipped`].

pub mod cpuidle;
pub mod cpusys;
pub mod dload;
pub mod iotracer;
pub mod memburst;
pub mod oom;
pub mod waitrate;

use crate::tracer::{Factory, TracerSet};

/// The agent's own tracers.
pub struct Shipped;

impl TracerSet for Shipped {
    fn factories() -> Vec<Factory> {
        vec![
            Factory::of::<cpuidle::CpuIdle>(),
            Factory::of::<cpusys::CpuSys>(),
            Factory::of::<dload::Dload>(),
            Factory::of::<iotracer::IoTracer>(),
            Factory::of::<memburst::MemBurst>(),
            Factory::of::<oom::Oom>(),
            Factory::of::<waitrate::WaitRate>(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracer::{Section, Sections};

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

    #[test]
    fn every_tracer_has_a_fit_name_and_valid_defaults() {
        let names: Vec<_> = Shipped::factories().iter().map(|factory| factory.name).collect();
        let configured: Vec<_> = Sections::<Shipped>::default().iter().map(Section::name).collect();
        assert_eq!(names, configured);
        for name in names {
            let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.len() <= 64 && name.chars().all(fit), "{name}");
        }
    }
}
