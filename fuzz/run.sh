#!/usr/bin/env bash
# Fuzzes every target for so many seconds each (60), or only the targets named after that:
#   fuzz/run.sh [SECONDS [TARGET...]]
# What it finds lies in fuzz/artifacts, and is run again with: fuzz/run.sh 0 TARGET
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v cargo-fuzz >/dev/null || missing+=("cargo-fuzz (cargo install --locked cargo-fuzz)")
command -v c++ >/dev/null || missing+=("a C++ compiler (on Debian: apt-get install g++)")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'fuzzing needs %s\n' "${missing[@]}" >&2
    exit 1
fi

seconds="${1:-60}"
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(batches rebuild decompress footer index manifest)

# libFuzzer's flags are unstable, but any compiler has them: no nightly toolchain is needed. No sanitizer: there is no unsafe
# code here to watch, and C libraries would need the same one. No input needs this much memory, whatever lengths it claims.
export RUSTC_BOOTSTRAP=1
fuzz=(cargo fuzz run --sanitizer none)
for target in "${targets[@]}"; do
    case $target in
        batches | rebuild) seeds=tests/golden/batches ;;
        *) seeds=fuzz/seeds/$target ;;
    esac
    cargo fuzz build --sanitizer none "$target"
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    if [ "$seconds" = 0 ]; then
        "${fuzz[@]}" "$target" "fuzz/artifacts/$target" "$seeds" -- -runs=0
    else
        (
            ulimit -v 1500000
            "${fuzz[@]}" "$target" "fuzz/corpus/$target" "$seeds" -- -max_total_time="$seconds" -timeout=20 -rss_limit_mb=512
        )
    fi
done
