#!/usr/bin/env bash
# Measures what docs/benchmarks.md records, on a release build, as root, best on a machine that does nothing else.
#
#   scripts/bench.sh [sizes] [idle] [burst] [short] [backlog] [agents] [reconnect] [waitrate] [dload] [flight] [buffer] [ingest] [limits]
#                    [kafka] [index] [opensearch] [away[=DURATION]]
#
# Without arguments: all of them but `away`, in about half an hour and 20 GB of disk below the target directory at the
# most. `away` lets OpenSearch be away for ten minutes, or as long as is said, and takes two times that and 10 GB.
set -euo pipefail
cd "$(dirname "$0")/.."

release=${CARGO_TARGET_DIR:-target}/release
fleet=()
wanted=("$@")
if ((${#wanted[@]} == 0)); then
  wanted=(sizes idle burst short backlog agents reconnect waitrate dload flight buffer ingest limits kafka index opensearch)
fi

for one in "${wanted[@]}"; do
  case $one in
  sizes | idle | burst | short | backlog | agents | reconnect) fleet+=("$one") ;;
  away | away=*)
    scripts/services/services.sh fetch kafka opensearch
    fleet+=("$one")
    ;;
  waitrate | dload | flight | buffer | ingest | limits | kafka | index | opensearch) ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
  esac
done

spinning=()
scratch=$(mktemp -d)
cleanup() {
  if ((${#spinning[@]})); then kill "${spinning[@]}" 2>/dev/null || true; fi
  local server
  for server in kafka redis; do
    if [[ -e $scratch/$server/pid ]]; then kill -9 "$(<"$scratch/$server/pid")" 2>/dev/null || true; fi
  done
  rm -rf "$scratch"
}
trap cleanup EXIT

if ((${#fleet[@]})); then
  "$release/galen-bench" "${fleet[@]}"
fi
for one in "${wanted[@]}"; do
  case $one in
  waitrate)
    printf '\nwaitrate: what a context switch with its wake-up costs more, in turns\n'
    "$release/examples/waitrate_bench" 21
    ;;
  dload)
    printf '\ndload: looks at the tasks of this machine\n'
    "$release/examples/tasks_bench" 100
    ;;
  flight)
    printf '\nflight recorder: 30 s with every CPU busy\n'
    for ((cpu = 0; cpu < $(nproc); cpu++)); do
      (while :; do :; done) &
      spinning+=($!)
    done
    "$release/examples/history_bench" 30
    kill "${spinning[@]}"
    wait "${spinning[@]}" 2>/dev/null || true
    spinning=()
    ;;
  buffer)
    printf '\nbuffer: durable appends of 1 KiB, and a backlog of 1,000,000\n'
    "$release/examples/append_bench"
    ;;
  ingest)
    printf '\naggregator, index off: 32 agents, then 1,000 connected, batches of 64 events of 1 KiB\n'
    "$release/examples/ingest_bench" --agents 32 --seconds 10
    "$release/examples/ingest_bench" --agents 1000 --seconds 10
    ;;
  limits)
    printf '\nlimits: the same with 32 agents, in turns without limits, with some that cut nothing, and with some that cut half or more\n'
    scripts/services/services.sh start redis "$scratch/redis" 19379 >/dev/null
    limits=(--redis redis://127.0.0.1:19379 --limit)
    for _ in 1 2 3; do
      off=$("$release/examples/ingest_bench" --agents 32 --seconds 10)
      loose=$("$release/examples/ingest_bench" --agents 32 --seconds 10 "${limits[@]}" 4000000000)
      rate=${off#*: } rate=${rate%% *}
      tight=$("$release/examples/ingest_bench" --agents 32 --seconds 10 "${limits[@]}" $((rate / 2)))
      printf '%s\n' "$off" "$loose" "$tight"
      # Events per core-second are the reciprocal of what one costs.
      printf '%s\n' "$off" "$loose" "$tight" | sed 's/.* in [^,]*, //; s/ .*//' |
        awk '{ of[NR] = $1 } END { printf "CPU an event, of that without limits: %.3f, %.3f\n", of[1] / of[2], of[1] / of[3] }'
    done
    scripts/services/services.sh stop "$scratch/redis"
    ;;
  kafka)
    printf '\naggregator, a real Kafka as its log, index off: 32 agents, batches of 64 events of 1 KiB\n'
    scripts/services/services.sh fetch kafka
    KAFKA_HEAP=512m scripts/services/services.sh start kafka "$scratch/kafka" 19092 >/dev/null
    scripts/services/services.sh topic 19092 galen.events 12
    for _ in 1 2; do
      "$release/examples/ingest_bench" --kafka 127.0.0.1:19092 --alone --seconds 10
      "$release/examples/ingest_bench" --kafka 127.0.0.1:19092 --agents 32 --seconds 10
    done
    scripts/services/services.sh stop "$scratch/kafka"
    ;;
  index)
    printf '\nstore: indexing of events of 1 KiB\n'
    "$release/examples/index_bench"
    ;;
  opensearch)
    printf '\nOpenSearch: our CPU and its own for the same events of 1 KiB\n'
    scripts/services/services.sh fetch opensearch
    "$release/examples/sink_bench"
    ;;
  esac
done
