//! `metrics.md`: a table for each subsystem.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Context;
use serde_json::Value;

const PREFIX: &str = "galen_aggregator_";
const AGENT_PREFIX: &str = "galen_agent_";
const HEAD: &str = "\
<!-- Made by `make docs` from `galen-aggregator metrics` and `galen-agent metrics`: edit the helps of the metrics instead. -->
# Metrics

`GET /metrics` on the aggregator's HTTP address shows those of the aggregator and those of all agents together, in
Prometheus' text format; `GET /metrics/nodes` shows [each agent](#the-agents) to who asks for it. Agents open no port:
what they count comes with their heartbeats and batches.

Names are `galen_aggregator_<subsystem>_<noun>_<unit>`, with `_total` behind a counter. Labels have few values: `reason`
and `support` are fixed lists, and of `tracer`, and of it with `tenant`, at most 128 are told apart.

Every event that came for the log has one fate: `ingest_received_events_total` = `ingest_logged_events_total` +
`ingest_deduplicated_events_total` + `ingest_limited_events_total` + `ingest_rejected_events_total`, once no batch waits.
Batches that are wrong are refused before that, by their session: `session_refused_events_total`.
";

const AGENTS: &str = "
## The agents

They come with each heartbeat, and are shown in two ways:

- `/metrics` has them of all agents together, as `galen_fleet_<subsystem or tracer>_<noun>_<unit>`: of a counter what the
  agents have added while they were connected here, so that it never goes back; of a gauge the sum over the connected
  agents, and as `…_max` the greatest. Over several aggregators the sums may be added.
- `/metrics/nodes` has them of each agent under the names below, with the label `node`, also for five minutes after it
  has gone. Counters begin at zero when the agent does. An answer has at most 100,000 series; a larger fleet is asked
  for in shards, which have the same nodes on every aggregator:

```yaml
scrape_configs:
  - job_name: galen-nodes-0
    metrics_path: /metrics/nodes
    params: { shard: [0/4] }
    static_configs: [{ targets: ['127.0.0.1:7401'] }]
```

An agent tells at most 512 series, and 64 of a name: `fleet_left_out_figures` counts what it leaves out. The aggregator
keeps at most `sessions.max_figures` of all agents, and refuses what is malformed, has another kind or other labels than
its name had first, comes twice, or finds no room: `fleet_refused_figures_total`. Agents that have gone make room first.

| Name | Type | Labels | Unit | |
|---|---|---|---|---|
";

/// `metrics` of the aggregator, `agent` of the agents.
pub(super) fn page(metrics: Value, agent: Value) -> anyhow::Result<String> {
    let mut page = HEAD.to_owned();
    for (subsystem, rows) in rows(&metrics, PREFIX)? {
        write!(page, "\n## {subsystem}\n\n| Name | Type | Labels | Unit | |\n|---|---|---|---|---|\n{rows}")?;
    }
    page += AGENTS;
    page.extend(rows(&agent, AGENT_PREFIX)?.into_values());
    Ok(page)
}

/// By subsystem.
fn rows(metrics: &Value, prefix: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut subsystems: BTreeMap<String, String> = BTreeMap::new();
    for metric in metrics.as_array().context("the metrics are no list")? {
        let text = |key: &str| metric[key].as_str().with_context(|| format!("a metric has no {key}: {metric}"));
        let (name, kind, help) = (text("name")?, text("kind")?, text("help")?);
        let short = name.strip_prefix(prefix).with_context(|| format!("`{name}` does not begin with {prefix}"))?;
        let subsystem = short.split('_').next().unwrap_or_default();
        let labels: Vec<_> = metric["labels"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let labels: Vec<_> = labels.into_iter().map(|label| format!("`{label}`")).collect();
        let unit = short.trim_end_matches("_total").rsplit('_').next().unwrap_or_default();
        let rows = subsystems.entry(subsystem.to_owned()).or_default();
        writeln!(rows, "| `{name}` | {kind} | {} | {unit} | {help} |", labels.join(", "))?;
    }
    Ok(subsystems)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_metric_stands_in_the_table_of_its_subsystem() {
        let metrics = json!([
            { "name": "galen_aggregator_log_size_bytes", "kind": "gauge", "labels": [], "help": "Bytes." },
            { "name": "galen_aggregator_fleet_lost_events_total", "kind": "counter", "labels": ["reason"], "help": "Lost." },
        ]);
        let agent = json!([
            { "name": "galen_agent_buffer_segments", "kind": "gauge", "labels": [], "help": "Segments." },
        ]);
        let page = page(metrics, agent).unwrap();
        let fleet = "## fleet\n\n| Name | Type | Labels | Unit | |\n|---|---|---|---|---|\n\
            | `galen_aggregator_fleet_lost_events_total` | counter | `reason` | events | Lost. |\n\n## log\n";
        assert!(page.contains(fleet), "{page}");
        let log = "| `galen_aggregator_log_size_bytes` | gauge |  | bytes | Bytes. |\n\n## The agents\n";
        assert!(page.contains(log), "{page}");
        assert!(page.ends_with("| `galen_agent_buffer_segments` | gauge |  | segments | Segments. |\n"), "{page}");
    }
}
