#!/usr/bin/env bash
# Prints the name of an installed toolchain that is of the pinned version under another name, such as `stable`, if the
# pinned one itself is not installed. Prints nothing otherwise: rustup then does what rust-toolchain.toml says.
#
# So a machine that cannot download toolchains builds with what it has, if that is the very same version.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ -z ${RUSTUP_TOOLCHAIN:-} ]] || exit 0
pinned=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
toolchains=${RUSTUP_HOME:-$HOME/.rustup}/toolchains
for rustc in "$toolchains/$pinned"*/bin/rustc; do
  [[ ! -x $rustc ]] || exit 0
done
for rustc in "$toolchains"/*/bin/rustc; do
  if [[ -x $rustc && $("$rustc" --version 2>/dev/null) == "rustc $pinned "* ]]; then
    basename "${rustc%/bin/rustc}"
    exit 0
  fi
done
