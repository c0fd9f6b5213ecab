#!/usr/bin/env bash
# Installs what this machine lacks: for a build, for the tests as well, for the tests on other kernels, or for those
# with a kubelet.
#
#   scripts/bootstrap.sh build|test|kernels|kubernetes
#
# Looks at a few files; where nothing is missing it says and changes nothing. Otherwise it installs with apt-get, as
# root or by a sudo that asks for no password, and where neither is there it stops and says what to install.
set -euo pipefail

purpose=${1:-}
case $purpose in
build | test | kernels | kubernetes) ;;
*)
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac

missing=()
# A package is missing if none of the commands or files that it is needed for is there.
want() {
  local package=$1 thing
  shift
  for thing in "$@"; do
    if [[ $thing == */* ]]; then
      [[ ! -e $thing ]] || return 0
    elif command -v "$thing" >/dev/null; then
      return 0
    fi
  done
  missing+=("$package")
}

want clang clang
want llvm llvm-strip
want libbpf-dev /usr/include/bpf/bpf_helpers.h
want gcc cc
want libc6-dev /usr/include/stdlib.h
want g++ c++
want make make
want libssl-dev /usr/include/openssl/ssl.h
want zlib1g-dev /usr/include/zlib.h
want pkg-config pkg-config
want linux-libc-dev /usr/include/linux/bpf.h
want git git
want ca-certificates /etc/ssl/certs/ca-certificates.crt
if [[ $purpose == test ]]; then
  want docker.io dockerd
  want containerd containerd
  want runc runc
  want podman podman
  want mount losetup
  want e2fsprogs mkfs.ext4
  want busybox-static /usr/share/doc/busybox-static
  want e2fsprogs mkfs.ext4 /usr/sbin/mkfs.ext4
  want mount losetup /usr/sbin/losetup
  want openjdk-17-jre-headless java
  want maven mvn
  want curl curl
  want kcat kcat
  want openssl openssl
  want redis-server redis-server
  want prometheus prometheus promtool
  want python3-pip pip
fi

if [[ $purpose == kernels ]]; then
  want qemu-system-x86 qemu-system-x86_64
  want busybox-static /usr/share/doc/busybox-static
  want cpio cpio
  want e2fsprogs mkfs.ext4
  want xz-utils xz
  want zstd zstd
fi

if [[ $purpose == kubernetes ]]; then
  want golang-go go
  want containerd containerd
  want runc runc
  want mount mount
  want busybox-static /usr/share/doc/busybox-static
fi

if ((${#missing[@]})); then
  as_root=()
  if [[ $(id -u) != 0 ]]; then
    as_root=(sudo)
  fi
  by_hand="${as_root[*]:+sudo }apt-get update && ${as_root[*]:+sudo }apt-get install --no-install-recommends ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "bootstrap: this machine lacks what these packages of Debian hold, and has no apt-get: ${missing[*]}" >&2
    exit 1
  fi
  if ((${#as_root[@]})) && ! sudo -n true 2>/dev/null; then
    printf 'bootstrap: some packages are missing. Install them, then try again:\n\n  %s\n\n' "$by_hand" >&2
    exit 1
  fi
  echo "bootstrap: installs ${missing[*]}" >&2
  log=$(mktemp)
  # Tests start servers of their own: what the packages bring is not to run beside them.
  policy=/usr/sbin/policy-rc.d
  if [[ -e $policy ]]; then
    trap 'rm -f "$log"' EXIT
  else
    trap 'rm -f "$log"; "${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin "$policy"
  fi
  if ! { "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    printf 'bootstrap: apt-get failed, as said above. By hand it is:\n\n  %s\n\n' "$by_hand" >&2
    exit 1
  fi
fi

# Not from apt-get: what Debian has is too old.
if ! command -v cargo >/dev/null; then
  echo "bootstrap: cargo is missing: install rustup, see https://rustup.rs" >&2
  exit 1
fi
