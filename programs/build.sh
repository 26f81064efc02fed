#!/usr/bin/env bash
# Builds the programs to programs/deploy/<program>.so: build.sh [--check] [program...] (all without names), then writes
# SHA256SUMS; with --check it leaves that file as committed and fails if a program differs from it.
# No on-chain toolchain is needed beyond toolchain/install.sh, which this script calls. The same sources give the same bytes in
# any folder. Sources also fit `cargo build-sbf`; every special flag of the upstream compiler is here and nowhere else.
set -euo pipefail
cd "$(dirname "$0")"
HERE=$PWD
export SBF_TOOLS=${SBF_TOOLS:-$HOME/.cache/gridtokenx/sbf}
if [ ! -x "$SBF_TOOLS/bin/sbpf-linker" ] || [ ! -f "$SBF_TOOLS/builtins.bc" ]; then bash toolchain/install.sh; fi

CHECK=no
if [ "${1:-}" = --check ]; then CHECK=yes; shift; fi
PROGRAMS=("$@")
[ ${#PROGRAMS[@]} -gt 0 ] || PROGRAMS=(governance registry energy-token trading oracle)
# A target folder of its own: the host's cargo may be another version, and they would rebuild each other's work.
export CARGO_TARGET_DIR=${SBF_TARGET_DIR:-$HERE/target/sbf}
export RUSTC=/usr/bin/rustc
# The linker does LTO over all crates; rustc's own would bind to core's slow memcmp and memcpy first.
export CARGO_PROFILE_RELEASE_LTO=off
# Panics name their source file: folders of this machine and of its registry mirror must not reach the bytes.
/usr/bin/cargo fetch --quiet --locked --target bpfel-unknown-none
REMAP=--remap-path-prefix=$HERE=/src
for source in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do REMAP="$REMAP --remap-path-prefix=$source=/crates"; done
FLAGS="-C linker=$SBF_TOOLS/bin/sbpf-linker \
 -C panic=abort -C relocation-model=static -C target-cpu=v2 -C target-feature=+allows-misaligned-mem-access \
 -C link-arg=--arch=v0 -C link-arg=--deploy=false -C link-arg=--llvm-args=--bpf-stack-size=4096 \
 -C link-arg=--llvm-args=--bpf-allows-libcalls -C link-arg=$SBF_TOOLS/builtins.bc \
 $REMAP"
mkdir -p deploy
for program in "${PROGRAMS[@]}"; do
  # Nothing in governance runs often: optimised for size it is two thirds as large. The linker knows -O2 with optsize only.
  SMALL=
  if [ "$program" = governance ]; then SMALL="-C opt-level=s -C link-arg=-O2"; fi
  export CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS="$FLAGS $SMALL"
  # rustc warns that the target feature is unstable; nothing else is filtered.
  /usr/bin/cargo rustc --quiet --locked --release --lib --crate-type cdylib --target bpfel-unknown-none -p "$program" \
    2> >(grep -vE 'allows-misaligned-mem-access|not stably supported|1 warning emitted|^ +\|$|^$' >&2)
  built=$CARGO_TARGET_DIR/bpfel-unknown-none/release/lib${program//-/_}.so
  # A function with more than five arguments would fault at run time if the linker lacked its patch.
  python3 toolchain/check_so.py "$built"
  cp "$built" "deploy/$program.so"
done
cd deploy
[ "$CHECK" = yes ] || sha256sum -- *.so > SHA256SUMS
sha256sum --check SHA256SUMS
