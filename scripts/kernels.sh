#!/usr/bin/env bash
# Runs the tests that load BPF programs in guests with Debian's stock kernels, with cgroups of version 1 and of version 2
# each, and ends with how many there were.
#
#   scripts/kernels.sh [SUITE…]
#
# A suite is one of Debian's, such as `bookworm`; without arguments all of $suites. The kernel is that of the suite's
# cloud image. It is unpacked below the user's cache folder, never installed. The guests have no network and a disk of
# their own, and run in QEMU's emulation, so this takes a while.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=(bullseye bookworm trixie sid)
(($# == 0)) || suites=("$@")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/galen/kernels
# Longest that a guest may take, in seconds.
limit=900

# What is run, as program and parts of names of its tests. Left out is what compares times with the wall clock, which an
# emulated machine does not keep, and what needs a container runtime.
runs="
tasks
oom
waitrate throttled
block_io
file_io
io_stall
capture whole_subtree nested_captures captures_at_one_time kernel_functions
history short_lived
node memburst::a_workload oom:: cpuidle::a_burst
"
# Modules of the kernel and commands of this machine that the tests need, in the order of loading.
modules=(crc16 crc32c_generic libcrc32c mbcache jbd2 ext4 nvme-core nvme loop)
commands=(mkfs.ext4 losetup mount umount fsfreeze dd tail head sync)

# What each guest said is kept here.
logs=${CARGO_TARGET_DIR:-target}/kernels
mkdir -p "$logs"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Unpacks the kernel of a suite and prints where its image is.
kernel_of() {
  local suite=$1 apt=$cache/$1/apt uri
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$cache/$suite/download"
  uri=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -m1 '/debian/*$')
  echo "deb $uri $suite main" >"$apt/sources.list"
  local options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$apt/lists" -o "Dir::Cache::archives=$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update >&2 || return 1
  local package
  package=$(apt-cache "${options[@]}" depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  [[ -n $package ]] || return 1
  local folder=$cache/$suite/$package
  if [[ ! -e $folder/complete ]]; then
    # From 7.2 the kernel and its modules are packages of their own.
    local parts
    parts=$(apt-cache "${options[@]}" depends "$package" | sed -n 's/^ *Depends: \(linux-\(binary\|modules\)-.*\)/\1/p')
    # shellcheck disable=SC2086 # Names of packages have no blanks.
    (cd "$cache/$suite/download" && apt-get "${options[@]}" download "$package" $parts >&2) || return 1
    for part in "$cache/$suite/download"/*.deb; do
      dpkg-deb -x "$part" "$folder"
    done
    rm -rf "$cache/$suite/download"
    touch "$folder/complete"
  fi
  find "$folder" -name "vmlinuz*" -type f -print -quit
}

libraries_of() {
  { ldd "$1" || true; } | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -Ln "$library" "$root$library"
  done
}

# Prints the modules of a kernel as one more part of its initial file system.
modules_of() {
  local folder=$work/modules number=10 module file
  rm -rf "$folder" && mkdir -p "$folder/modules"
  for module in "${modules[@]}"; do
    # What is not found is built in, or not needed by this kernel.
    file=$(find "$(dirname "$1")/.." -name "$module.ko*" -print -quit)
    case $file in
    '') ;;
    *.xz) xz -dc "$file" ;;
    *.zst) zstd -dc "$file" ;;
    *) cat "$file" ;;
    esac >"$folder/modules/$number-$module.ko"
    [[ -s $folder/modules/$number-$module.ko ]] || rm "$folder/modules/$number-$module.ko"
    number=$((number + 1))
  done
  (cd "$folder" && find . | cpio -o -H newc --quiet | gzip -1)
}

# Makes the guest's file system: busybox, the tests, the libraries that they are linked to.
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp,tests,etc}
cp scripts/kernels/init "$root/init"
cp "$(command -v busybox)" "$root/bin/busybox"
echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
programs=$(cargo test --no-run --locked -p galen-bpf -p galen-profile -p galen-agent --tests 2>&1 | tee "$work/build" |
  sed -n 's/^ *Executable tests\/.*(\(.*\))$/\1/p')
[[ -n $programs ]] || { cat "$work/build" >&2; exit 1; }
for program in $programs; do
  name=$(basename "$program")
  name=${name%-*}
  if grep -q "^$name\\b" <<<"$runs"; then
    objcopy --strip-debug "$program" "$root/tests/$name"
    libraries_of "$program"
  fi
done
for command in "${commands[@]}"; do
  cp -L "$(command -v "$command")" "$root/bin/$command"
  libraries_of "$root/bin/$command"
done
# What tests compile is compiled here, as the guest has no compiler: its `cc` hands it out.
mkdir -p "$root/compiled"
cc -O1 -pthread -o "$root/compiled/blocked" bpf-programs/tests/support/blocked.c
cc -O0 -fno-omit-frame-pointer -o "$root/compiled/workload" agent/profile/tests/workload.c
cp scripts/kernels/cc "$root/bin/cc"
sed '/^$/d' <<<"$runs" >"$root/tests/list"
echo "$(realpath "${CARGO_TARGET_DIR:-target}")/tmp" >"$root/tests/scratch"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1 >"$work/initramfs")

# Runs the guest of a suite with cgroups of a version, of this kernel, until it switches itself off; says all in the log.
boot() {
  local suite=$1 version=$2 image=$3 log=$4
  truncate -s 0 "$work/disk" && truncate -s 1G "$work/disk"
  # The kernel's check of its timer fails where the machine is too busy to emulate one in time.
  timeout "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -net none -smp 2 -m 2048 \
    -drive "file=$work/disk,if=none,id=disk,format=raw" -device nvme,drive=disk,serial=galen \
    -kernel "$image" -initrd "$work/initramfs-$suite" -nographic -no-reboot \
    -append "console=ttyS0 quiet panic=-1 no_timer_check cgroups=$version" </dev/null >"$log" 2>&1 || true
}

status=0
for suite in "${suites[@]}"; do
  if ! image=$(kernel_of "$suite"); then
    echo "kernels: $suite: skipped: its kernel cannot be had here" >&2
    continue
  fi
  cat "$work/initramfs" <(modules_of "$image") >"$work/initramfs-$suite"
  for version in 1 2; do
    log=$logs/$suite-$version.log
    boot "$suite" "$version" "$image" "$log"
    # A CPU that is emulated by a thread of its own was seen to run the int3 of a static key after another CPU had
    # patched it out again, which no kernel survives. One thread for both CPUs is too slow for what tests wait for.
    if ! grep -q '^all was run' "$log" && grep -q 'Oops: int3' "$log"; then
      echo "kernels: $suite, cgroups of version $version: once more, as the emulator broke the kernel: see $log.int3" >&2
      cp "$log" "$log.int3"
      boot "$suite" "$version" "$image" "$log"
    fi
    awk -v "suite=$suite" -v "version=$version" '
      { sub(/\r$/, "") }
      /kernel [0-9]/ && !kernel { kernel = $NF }
      /^test result:/ { passed += $4; failed += $6 }
      # A test that leaves itself out passes.
      /skipped: / { skipped++ }
      /^test .* FAILED$/ { names = names "\n  " $2 }
      /^all was run/ { complete = 1 }
      END {
        printf "%s, kernel %s, cgroups of version %s: %d passed, %d failed, %d skipped themselves%s%s\n", suite, kernel,
          version, passed - skipped, failed, skipped, complete ? "" : ", and it did not come to its end", names
        exit !(complete && passed && !failed)
      }' "$log" || { status=1; tail -n 40 "$log" >&2; }
  done
done
exit "$status"
