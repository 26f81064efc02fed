#!/usr/bin/env bash
# One-time toolchain install (root, Debian 12). Idempotent. Package registries only: apt, PyPI, crates.io. About 2 min.
set -euo pipefail
DEST=${SBF_TOOLS:-$HOME/.cache/gridtokenx/sbf}
HERE=$(cd "$(dirname "$0")" && pwd)
dpkg -s libstd-rust-web-dev-bpf >/dev/null 2>&1 || {
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends rustc-web cargo-web libstd-rust-web-dev-bpf >/dev/null
}
/usr/bin/rustc --version | grep -q '^rustc 1\.96\.' || { echo "expected rustc-web 1.96" >&2; exit 1; }
mkdir -p "$DEST/bin"
# the linker, if it lies beside the checkout, built before from the same sources by the steps below: byte-identical, two minutes saved
PREBUILT=${SBPF_LINKER_XZ:-$HERE/../../../shared/toolchain/sbpf-linker.xz}
if [ ! -x "$DEST/bin/sbpf-linker" ] && [ -f "$PREBUILT" ]; then
  xz -dc "$PREBUILT" > "$DEST/bin/sbpf-linker.tmp"
  echo "685356a3bb6136e7f97d106593108077c2442fc256123c784d5cee89bdc19f36  $DEST/bin/sbpf-linker.tmp" | sha256sum -c --quiet
  chmod +x "$DEST/bin/sbpf-linker.tmp" && mv "$DEST/bin/sbpf-linker.tmp" "$DEST/bin/sbpf-linker"
fi
if [ ! -x "$DEST/bin/sbpf-linker" ]; then
  W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
  pip download -q --no-deps -d "$W" mlc-llvm-static==23.1.1.post0 mlc-llvm-static-extra-targets==23.1.1.post0
  python3 - "$W" <<'PY'
import glob, os, sys, zipfile
w = sys.argv[1]; out = w + "/llvm/lib"; os.makedirs(out)
skip = ("X86 NVPTX WebAssembly AArch64 ARM Mips AMDGPU SPIRV RISCV Orc JIT Interpreter MCA Fuzz "
        "DebugInfoLogicalView Clang lld MLIR orc_rt").split()
for f in glob.glob(w + "/*.whl"):
    z = zipfile.ZipFile(f)
    for n in z.namelist():
        b = os.path.basename(n)
        if not (b.endswith(".a") and "/lib/" in n) or any(s in b for s in skip): continue
        if "extra_targets" in f and "BPF" not in b: continue
        open(f"{out}/{b}", "wb").write(z.read(n))
PY
  # crate source through cargo itself, then the 2-line v0 stack-argument patch
  mkdir -p "$W/f/src"; echo 'fn main(){}' > "$W/f/src/main.rs"
  printf '[package]\nname="f"\nversion="0.0.0"\nedition="2024"\n[dependencies]\nsbpf-linker = { version = "=0.2.6", default-features = false }\n' > "$W/f/Cargo.toml"
  (cd "$W/f" && cargo -q fetch && cargo -q vendor v >/dev/null)
  cp -r "$W/f/v/sbpf-linker" "$W/sl"; (cd "$W/sl" && patch -p1 -s < "$HERE/v0-stack-args.patch")
  LLVM_PREFIX=$W/llvm ZLIB_PATH=$W/llvm/lib LIBZSTD_PATH=$W/llvm/lib \
  CXXSTDLIB_PATH=$(dirname "$(gcc -print-file-name=libstdc++.a)") \
  cargo install --path "$W/sl" --locked --no-default-features \
    --features bpf-linker/llvm-23,bpf-linker/llvm-link-static \
    --root "$DEST" --target-dir "$W/t"
fi
"$HERE/builtins/build.sh" "$DEST/builtins.bc"
"$DEST/bin/sbpf-linker" --version
