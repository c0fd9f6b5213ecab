#!/usr/bin/env bash
# Runs every test of the workspace, or those of the arguments, and ends with how many there were.
#
#   scripts/test.sh [ARGUMENTS OF cargo test]
#
# The binaries are built first: the tests of the whole start them from the target directory. So are the servers that
# tests start fetched, that no test waits for a download.
set -euo pipefail
cd "$(dirname "$0")/.."

scope=(--workspace)
for argument in "$@"; do
  case $argument in -p | --package | --package=*) scope=() ;; esac
done

# Tests that load BPF programs, make cgroups, mount or start containers need root. The build does not.
needs_root=(galen-agent galen-log galen-profile galen-bpf galen-buffer galen-aggregator galen-scratch galen-integration-tests)
skipped=()
if [[ $(id -u) != 0 ]]; then
  if sudo -n true 2>/dev/null; then
    echo "test: not root: the tests run through sudo" >&2
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${triple}_RUNNER=sudo -E"
  elif ((${#scope[@]})); then
    for package in "${needs_root[@]}"; do
      scope+=(--exclude "$package")
    done
    skipped=("${needs_root[@]}")
  fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
scripts/services/services.sh fetch
cargo build --workspace --locked --bins
status=0
# Not fail-fast: one run shows everything that is broken.
cargo test "${scope[@]}" --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

awk '
  /^test result:/ { suites++; passed += $4; failed += $6; ignored += $8 }
  /^test .* \.\.\. FAILED$/ { names = names "\n  " $2 }
  /skipped: / { skips++; reasons = reasons "\n  " $0 }
  END {
    printf "\n%d tests passed, %d failed, %d ignored, in %d suites", passed, failed, ignored, suites
    if (skips) printf "; %d skipped themselves:%s", skips, reasons
    if (failed) printf "\nfailed:%s", names
    print ""
    if (!passed) exit 1
  }' "$log" || status=1
if ((${#skipped[@]})); then
  printf 'not run, because they need root: %s\nAll of them: sudo -E env "PATH=$PATH" make test\n' "${skipped[*]}"
fi
exit "$status"
