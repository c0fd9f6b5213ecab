#!/usr/bin/env bash
# Runs the tests that need a kubelet, on this machine, as root.
#
#   scripts/kubernetes.sh
#
# The kubelet is built from its Go modules, in minutes, and kept below the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."

source=$PWD/scripts/kubernetes
version=$(sed -n 's/^\tk8s.io\/kubernetes //p' "$source/go.mod")
kubelet=${XDG_CACHE_HOME:-$HOME/.cache}/galen/kubelet-$version
if [[ ! -x $kubelet ]]; then
  # Go of this machine, or if that is too old for the modules, the one that they ask for, which is a module too.
  go=go
  wanted=$(sed -n 's/^go //p' "$source/go.mod")
  if [[ $(printf '%s\n' "$wanted" "$(go env GOVERSION | sed 's/^go//')" | sort -V | head -n 1) != "$wanted" ]]; then
    toolchain=golang.org/toolchain@v0.0.1-go1.23.4.$(go env GOOS)-$(go env GOARCH)
    (cd "$(mktemp -d)" && go mod download "$toolchain")
    root=$(go env GOMODCACHE)/$toolchain
    chmod +x "$root"/bin/* "$root"/pkg/tool/*/*
    go=$root/bin/go
    export GOROOT=$root
  fi
  mkdir -p "${kubelet%/*}"
  (cd "$source" && CGO_ENABLED=0 GOFLAGS='-buildvcs=false -mod=readonly' "$go" build -trimpath -ldflags '-s -w' -o "$kubelet.new" .)
  mv "$kubelet.new" "$kubelet"
fi
GALEN_KUBELET=$kubelet scripts/test.sh -p galen-agent --test node kubelet::
