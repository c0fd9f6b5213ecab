//! The disks of this machine, and which of them meet a rule at a tick.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    disk::Disk,
    rule::{Rule, judge},
    settings::Settings,
    window::{Counters, History, IoStatus},
};

/// Disks that are watched at most.
const MAX_DISKS: usize = 4096;

/// A disk that met a rule.
#[derive(Debug, Clone)]
pub(super) struct Saturated {
    pub disk: Disk,
    pub rule: Rule,
    pub now: IoStatus,
    pub before: IoStatus,
}

pub(super) struct Watch {
    settings: Settings,
    /// By name; `None` is what is no disk.
    known: HashMap<String, Option<(Disk, History)>>,
    told_skipped: bool,
    /// With its utilisation.
    busiest: Option<(f64, Disk)>,
}

impl Watch {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, known: HashMap::new(), told_skipped: false, busiest: None }
    }

    /// Samples every disk. Those that meet a rule now, the busiest first.
    pub(super) fn tick(&mut self, now: Duration) -> procfs::ProcResult<Vec<Saturated>> {
        self.busiest = None;
        let listed = procfs::diskstats()?;
        let names: HashSet<&str> = listed.iter().map(|disk| disk.name.as_str()).collect();
        self.known.retain(|name, _| names.contains(name.as_str()));
        let mut saturated = Vec::new();
        for entry in listed {
            if !self.known.contains_key(&entry.name) {
                if self.known.len() >= MAX_DISKS {
                    self.tell_skipped();
                    continue;
                }
                let disk = Disk::new(&entry.name, entry.major, entry.minor);
                let watched = disk.map(|disk| (disk, History::new(self.settings.window)));
                self.known.insert(entry.name.clone(), watched);
            }
            let Some(Some((disk, history))) = self.known.get_mut(&entry.name) else { continue };
            history.push(now, Counters::of(&entry));
            let Some((now, before)) = history.windows() else { continue };
            if self.busiest.as_ref().is_none_or(|(most, _)| now.io_util > *most) {
                self.busiest = Some((now.io_util, disk.clone()));
            }
            if let Some(rule) = judge(&self.settings.thresholds, disk.is_nvme(), &now, &before) {
                saturated.push(Saturated { disk: disk.clone(), rule, now, before });
            }
        }
        saturated.sort_by(|a, b| b.now.io_util.total_cmp(&a.now.io_util));
        Ok(saturated)
    }

    /// Utilisation of the busiest disk in the window that ended with the last tick, in percent.
    pub(super) fn highest(&self) -> f64 {
        self.busiest.as_ref().map_or(0.0, |(utilisation, _)| *utilisation)
    }

    /// `None` before any was watched for two windows.
    pub(super) fn busiest(&self) -> Option<&Disk> {
        self.busiest.as_ref().map(|(_, disk)| disk)
    }

    /// Once: a machine with more disks than the cap stays one.
    fn tell_skipped(&mut self) {
        if !self.told_skipped {
            self.told_skipped = true;
            tracing::warn!(most = MAX_DISKS, "not every disk is watched");
        }
    }
}
