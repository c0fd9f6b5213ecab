//! What the tracers' data holds: the fields that an index of a tracer has from its first event on.
//!
//! Names are those of docs/tracers.md, several in one text. A field that is not here, of a newer agent, is mapped when it
//! comes, by the same rule, and counts for the limit of fields.

use crate::flat::JOINT;

/// The fields of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    numbers: &'static str,
    texts: &'static str,
    truths: &'static str,
    /// Objects and lists of objects in it.
    objects: &'static [(&'static str, Fields)],
}

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Text,
    Truth,
}

/// Tracers that this version knows, each with what its events hold.
pub(crate) const TRACERS: [(&str, &[Fields]); 7] = [
    ("cpuidle", &[CPU_TRIGGER, PROFILE]),
    ("cpusys", &[SYSTEM_TRIGGER, PROFILE, SYSTEM_TIME]),
    ("dload", &[DLOAD_TRIGGER, DLOAD]),
    ("iotracer", &[IO_TRIGGER, IO]),
    ("memburst", &[MEMORY_TRIGGER, MEMORY_CAPTURE]),
    ("oom", &[KILL]),
    ("waitrate", &[WAIT_TRIGGER, WAITS]),
];

const NONE: Fields = Fields { numbers: "", texts: "", truths: "", objects: &[] };
const NAMED: Fields = Fields { texts: "name cgroup", ..NONE };

const CPU_TRIGGER: Fields = Fields {
    numbers: "user_percent user_percent_threshold user_percent_delta user_percent_delta_threshold
        system_percent system_percent_threshold system_percent_delta system_percent_delta_threshold
        total_percent total_percent_threshold total_percent_delta total_percent_delta_threshold
        score capacity_cpus used_cpus window_seconds cgroup_version",
    texts: "rules no_capture_because short_capture_because",
    truths: "capture",
    objects: &[("recent", TICK)],
};
const TICK: Fields = Fields { numbers: "seconds_ago user_percent system_percent", ..NONE };

const SYSTEM_TRIGGER: Fields = Fields {
    numbers: "system_percent system_percent_threshold system_percent_delta system_percent_delta_threshold
        window_seconds cpus",
    texts: "no_capture_because short_capture_because",
    truths: "capture",
    objects: &[("recent", TICK)],
};
const SYSTEM_TIME: Fields = Fields {
    objects: &[(
        "system_time",
        Fields {
            objects: &[
                ("containers", Fields { numbers: "percent seconds", ..NAMED }),
                ("processes", Fields { numbers: "pid percent seconds", ..NAMED }),
            ],
            ..NONE
        },
    )],
    ..NONE
};

const PROFILE: Fields = Fields {
    texts: "no_before_because",
    truths: "cut_short",
    objects: &[("before", PROFILED), ("", PROFILED)],
    ..NONE
};
const PROFILED: Fields = Fields {
    numbers: "samples kernel_samples kernel_percent kernel_unreadable stacks duration_seconds frequency_hertz cpus",
    objects: &[
        ("lost", Fields { numbers: "total ring_full table_full bad_record", ..NONE }),
        (
            "user_stacks",
            Fields {
                numbers: "whole truncated process_gone unreadable kernel_thread missing_percent",
                texts: "missing_because",
                ..NONE
            },
        ),
        ("hottest_functions", Fields { numbers: "own_percent total_percent", texts: "name", ..NONE }),
        ("hottest_stacks", Fields { numbers: "percent", texts: "comm frames", ..NONE }),
    ],
    ..NONE
};

const DLOAD_TRIGGER: Fields = Fields {
    numbers: "dload_avg threshold average_over_seconds nr_uninterruptible nr_iowait nr_running nr_sleeping nr_stopped
        load_avg",
    texts: "no_capture_because",
    truths: "capture",
    ..NONE
};
const DLOAD: Fields = Fields {
    numbers: "nr_uninterruptible more_stacks more_tasks longest_waiting_seconds",
    texts: "known_issue stack reduced_because",
    objects: &[("stacks", STACKS), ("stacks_elsewhere", STACKS)],
    ..NONE
};
const STACKS: Fields = Fields {
    numbers: "count shortest_waiting_seconds longest_waiting_seconds",
    texts: "known_issue frames",
    objects: &[("tasks", Fields { numbers: "count", texts: "name", ..NONE })],
    ..NONE
};

const IO_TRIGGER: Fields = Fields {
    numbers: "util_threshold rbps_threshold wbps_threshold await_threshold window_seconds",
    texts: "disks_below no_capture_because",
    truths: "capture",
    objects: &[
        (
            "reason_snapshot",
            Fields {
                numbers: "major_num minor_num",
                texts: "type device summary",
                objects: &[("iostatus", IO_STATUS)],
                ..NONE
            },
        ),
        ("iostatus_before", IO_STATUS),
    ],
};
const IO_STATUS: Fields =
    Fields { numbers: "read_bps read_iops read_await write_bps write_iops write_await io_util queue_size", ..NONE };
const IO: Fields = Fields {
    numbers: "major_num minor_num duration_seconds read_bytes write_bytes requests errors",
    texts: "device reduced_because left_out",
    truths: "cut_short",
    objects: &[
        ("processes", IO_PROCESS),
        (
            "containers",
            Fields { numbers: "read_bytes write_bytes requests percent", texts: "container cgroup id", ..NONE },
        ),
        ("latency", Fields { objects: &[("read", LATENCY), ("write", LATENCY), ("other", LATENCY)], ..NONE }),
        ("in_flight", Fields { numbers: "requests bytes oldest_seconds", ..NONE }),
        (
            "io_waits",
            Fields {
                numbers: "long",
                objects: &[
                    (
                        "longest",
                        Fields {
                            numbers: "pid tid seconds",
                            texts: "name thread container cgroup stack",
                            truths: "waits_still",
                            ..NONE
                        },
                    ),
                    (
                        "by_place",
                        Fields {
                            numbers: "pid waits seconds max_seconds",
                            texts: "name container cgroup stack",
                            ..NONE
                        },
                    ),
                ],
                ..NONE
            },
        ),
        ("lost", Fields { numbers: "table_full ring_full bad_record no_stack begun_before", ..NONE }),
    ],
};
const IO_PROCESS: Fields = Fields {
    numbers: "pid read_bytes write_bytes writeback_bytes percent errors fs_read_bytes fs_write_bytes",
    texts: "name container cgroup",
    truths: "kernel_thread",
    objects: &[
        ("read", TIMING),
        ("write", TIMING),
        ("other", TIMING),
        (
            "files",
            Fields {
                numbers: "read_bytes write_bytes reads writes syncs mean_seconds max_seconds pending_seconds",
                texts: "path",
                ..NONE
            },
        ),
    ],
};
const TIMING: Fields =
    Fields { numbers: "requests q2d_mean_seconds q2d_max_seconds d2c_mean_seconds d2c_max_seconds", ..NONE };
const LATENCY: Fields = Fields { objects: &[("q2d", BAR), ("d2c", BAR), ("q2c", BAR)], ..NONE };
const BAR: Fields = Fields { numbers: "below_seconds requests", ..NONE };

const MEMORY_TRIGGER: Fields = Fields {
    numbers: "anon_bytes anon_before_bytes within_seconds growth_percent growth_percent_threshold
        anon_percent anon_percent_threshold capacity_bytes window_seconds",
    texts: "compared_with grew no_capture_because",
    truths: "capture",
    objects: &[("now", MEMORY_USE), ("before", MEMORY_USE), ("memory", MEMORY)],
};
const MEMORY_CAPTURE: Fields = Fields {
    numbers: "growth_seconds",
    objects: &[("processes", Fields { numbers: "pid rss_bytes growth_bytes", ..NAMED }), ("memory", MEMORY)],
    ..NONE
};
const MEMORY_USE: Fields = Fields { numbers: "anon_bytes file_bytes shmem_bytes", ..NONE };
const MEMORY: Fields = Fields {
    numbers: "total_bytes free_bytes available_bytes active_anon_bytes inactive_anon_bytes swap_total_bytes
        swap_free_bytes anon_bytes file_bytes shmem_bytes",
    ..NONE
};

const KILL: Fields = Fields {
    numbers: "recent_bytes growth_bytes",
    objects: &[
        (
            "victim",
            Fields {
                numbers: "pid uid oom_score_adj",
                objects: &[(
                    "memory",
                    Fields {
                        numbers: "anon_bytes file_bytes shmem_bytes swap_bytes page_tables_bytes virtual_bytes",
                        ..NONE
                    },
                )],
                ..NAMED
            },
        ),
        ("trigger", Fields { numbers: "pid", ..NAMED }),
        (
            "cgroup_memory",
            Fields { numbers: "current_bytes peak_bytes max_bytes limit_hits oom_kills", texts: "cgroup", ..NONE },
        ),
        ("processes", Fields { numbers: "pid rss_bytes", texts: "name", ..NONE }),
        ("host_memory", MEMORY),
    ],
    ..NONE
};

const WAIT_TRIGGER: Fields = Fields {
    numbers: "curr_waitrate mean std rel_waitrate_thres curr_slope slope_thres window_seconds samples",
    texts: "warn_type kind service_level no_capture_because",
    truths: "capture",
    objects: &[("", SPLIT)],
};
const WAITS: Fields = Fields {
    numbers: "trigger_waitrate duration_seconds more_workloads",
    texts: "short_capture_because",
    truths: "cut_short",
    objects: &[
        ("before", WAIT_SECOND),
        ("after", WAIT_SECOND),
        ("workloads", Fields { objects: &[("", SPLIT)], ..NAMED }),
    ],
};
const SPLIT: Fields = Fields {
    numbers: "internal_percent external_percent throttled_percent latency_percent
        run_ms internal_ms external_ms throttled_ms latency_ms external_cpu_ms throttled_cpu_ms",
    objects: &[(
        "interferer_list",
        Fields {
            numbers: "share_percent held_ms",
            texts: "name cgroup runtime",
            objects: &[("processes", Fields { numbers: "pid cpu_percent", texts: "name", ..NONE })],
            ..NONE
        },
    )],
    ..NONE
};
const WAIT_SECOND: Fields =
    Fields { numbers: "at_seconds run_ms internal_ms external_ms throttled_ms latency_ms", ..NONE };

impl Fields {
    /// Tells each field by its path, as documents have it.
    pub(crate) fn each(&self, tell: &mut impl FnMut(String, Kind)) {
        self.below("", tell);
    }

    fn below(&self, path: &str, tell: &mut impl FnMut(String, Kind)) {
        for (names, kind) in [(self.numbers, Kind::Number), (self.texts, Kind::Text), (self.truths, Kind::Truth)] {
            names.split_whitespace().for_each(|name| tell(join(path, name), kind));
        }
        for (name, object) in self.objects {
            object.below(&join(path, name), tell);
        }
    }
}

/// What lies in a part without a name lies in the whole.
fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) | (name, "") => name.to_owned(),
        _ => format!("{path}{JOINT}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn paths(tracer: &str) -> BTreeMap<String, Kind> {
        let mut paths = BTreeMap::new();
        for fields in TRACERS.iter().filter(|(name, _)| *name == tracer).flat_map(|(_, fields)| *fields) {
            fields.each(&mut |path, kind| {
                let before = paths.insert(path.clone(), kind);
                assert!(before.is_none_or(|before| before == kind), "{tracer}: {path} is of two kinds");
            });
        }
        paths
    }

    #[test]
    fn a_field_is_told_by_its_path() {
        let paths = paths("waitrate");
        assert_eq!(paths["workloads/interferer_list/processes/cpu_percent"], Kind::Number);
        assert_eq!(paths["interferer_list/name"], Kind::Text);
        assert_eq!(paths["capture"], Kind::Truth);
    }

    #[test]
    fn every_documented_field_of_a_tracer_is_mapped() {
        let (mut section, mut in_table, mut checked) = ("", false, 0);
        for line in include_str!("../../../docs/tracers.md").lines() {
            section = line.strip_prefix("## ").unwrap_or(section);
            in_table = line.starts_with("| Field |") || (in_table && line.starts_with('|'));
            let Some(cell) = line.strip_prefix("| ").and_then(|line| line.split(" | ").next()).filter(|_| in_table)
            else {
                continue;
            };
            let tracers = if section == "CPU profiles" { vec!["cpuidle", "cpusys"] } else { vec![section] };
            for tracer in tracers {
                let paths = paths(tracer);
                let known: BTreeSet<&str> = paths.keys().flat_map(|path| path.split(JOINT)).collect();
                for name in cell.split('`').skip(1).step_by(2).flat_map(|name| name.split(['.', '*', '…'])) {
                    assert!(name.is_empty() || known.contains(name), "`{name}` of {tracer} is missing");
                    checked += 1;
                }
            }
        }
        assert!(checked > 150, "only {checked} names were seen");
    }
}
