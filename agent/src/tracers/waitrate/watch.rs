//! Counting while it is worth it, and whom it shows to wait in this tick.

use std::{collections::HashMap, time::Duration};

use galen_bpf::waitrate::{CGROUPS, Watch as Programs};

use super::{
    history::{History, Reading, Windows},
    owners::{Owner, Owners},
    rule::{Verdict, judge, level},
    settings::Settings,
    sign::{Arming, Sign},
    tally::{Tally, Time},
};
use crate::{
    clock::Moment,
    containers::Containers,
    tracer::{BoxError, Context},
};

/// An owner that was there first is judged once it has been known for this long: what is new to the tracer need not be
/// new to the machine. One that is new is judged at once, but for what its own quota does to it.
const LEARNING: Duration = Duration::from_secs(30);

/// Cgroups that are gone keep their room among the counters, so these begin anew when there are this many, but no more
/// often than this.
const CROWDED: usize = CGROUPS * 3 / 4;
const CROWDED_PAUSE: Duration = Duration::from_secs(60);

/// An owner that met a rule.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub owner: Owner,
    pub reading: Reading,
    pub verdict: Verdict,
    /// The seconds before, each with its end.
    pub before: Vec<(Duration, Time)>,
}

/// What a tick showed.
#[derive(Default)]
pub(super) struct Tick {
    /// Whether waiting was counted since the last tick.
    pub counted: bool,
    /// The highest rate of all that are judged, in percent.
    pub highest: f64,
    /// What could not be counted since the last tick.
    pub lost: u64,
    /// What each owner did since the last tick.
    pub times: HashMap<Owner, Time>,
    /// The highest rate first.
    pub waiting: Vec<Waiting>,
}

pub(super) struct Watch {
    settings: Settings,
    containers: Containers,
    programs: Programs,
    arming: Arming,
    owners: Owners,
    tally: Tally,
    histories: HashMap<Owner, History>,
    began: Option<Duration>,
    attached_at: Duration,
    lost: u64,
}

impl Watch {
    /// Without a sign waiting is always counted.
    pub(super) fn new(settings: Settings, context: &Context, programs: Programs, sign: Option<Sign>) -> Self {
        Self {
            arming: Arming::new(sign, settings.arm_threshold, settings.disarm_after),
            settings,
            containers: context.containers.clone(),
            programs,
            owners: Owners::new(&context.environment, context.containers.clone()),
            tally: Tally::default(),
            histories: HashMap::new(),
            began: None,
            attached_at: Duration::ZERO,
            lost: 0,
        }
    }

    /// `hold`: whether counting has to go on for now.
    pub(super) fn tick(&mut self, now: Moment, hold: bool) -> Result<Tick, BoxError> {
        let now = now.boot;
        let removed = self.owners.follow(now);
        self.began.get_or_insert(now);
        let mut tick = Tick::default();
        if self.programs.is_attached() {
            tick = self.count(now)?;
        }
        for owner in removed {
            self.histories.remove(&owner);
        }
        self.arm(now, hold)?;
        Ok(tick)
    }

    fn arm(&mut self, now: Duration, hold: bool) -> Result<(), BoxError> {
        let wanted = self.arming.wants(now, hold);
        if wanted != self.programs.is_attached() {
            tracing::debug!(attach = wanted, "waits for a CPU are counted, or not any more");
            match wanted {
                true => {
                    self.programs.attach()?;
                    self.attached_at = now;
                }
                false => self.programs.detach()?,
            }
            self.tally.restart();
        }
        Ok(())
    }

    fn count(&mut self, now: Duration) -> Result<Tick, BoxError> {
        let (owners, windows) = (&self.owners, &self.settings.windows);
        let counters = self.programs.read()?;
        if counters.cells.len() > CROWDED && now.saturating_sub(self.attached_at) >= CROWDED_PAUSE {
            self.programs.detach()?;
        }
        let times = self.tally.take(counters, |cgroup| owners.of(cgroup));
        let mut tick = Tick { counted: true, times, ..Tick::default() };
        for (owner, time) in &tick.times {
            if !owners.is_workload(owner) || !self.containers.selects(owner, &self.settings.filter) {
                continue;
            }
            let absent_at = owners.absent_at(owner);
            let history = self.histories.entry(owner.clone()).or_insert_with(|| {
                let quiet_since = if absent_at.is_some() { None } else { self.began };
                History::new(now, quiet_since, windows)
            });
            let known_since = absent_at.or(self.began).unwrap_or(now);
            let learnt = now.saturating_sub(known_since) >= LEARNING;
            let judged = Windows { count_throttled: windows.count_throttled && learnt, ..*windows };
            // How it is throttled while it starts is not what it is judged by either, unless it was there first.
            history.push(now, time.clone(), if absent_at.is_some() { &judged } else { windows });
            let rate = history.rate(now, &judged);
            tick.highest = tick.highest.max(rate);
            // The statistics are of interest only where there is something to judge.
            if (absent_at.is_none() && !learnt) || rate <= self.settings.thresholds.least_rate {
                continue;
            }
            let reading = history.reading(now, &judged);
            let level = level(&self.containers.known(owner).qos);
            if let Some(verdict) = judge(&self.settings.thresholds, level, &reading) {
                tick.waiting.push(Waiting { owner: owner.clone(), reading, verdict, before: history.seconds() });
            }
        }
        tick.waiting.sort_by(|a, b| b.reading.rate.total_cmp(&a.reading.rate));
        tick.lost = self.tally.lost().saturating_sub(self.lost);
        self.lost = self.tally.lost();
        Ok(tick)
    }
}
