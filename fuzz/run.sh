#!/usr/bin/env bash
# Fuzzes every target for so many seconds each (60), or only the targets named after that, as many at once as there are cores:
#   fuzz/run.sh [SECONDS [TARGET...]]
# What it finds lies in fuzz/artifacts, and is run again with: fuzz/run.sh 0 TARGET
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v c++ >/dev/null; then
    echo "fuzzing needs a C++ compiler (on Debian: apt-get install g++)" >&2
    exit 1
fi

seconds="${1:-60}"
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(batches rebuild decompress footer index manifest expression)

# What libFuzzer wants of the compiler: to see which branches are taken, and what is compared. No sanitizer: there is no unsafe
# code here to watch, and C libraries would need the same one.
coverage=(-Cpasses=sancov-module -Cdebug-assertions --cfg fuzzing)
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
    coverage+=("-Cllvm-args=-sanitizer-coverage-$argument")
done
# With the target named, build scripts and macros stay as they are.
triple="$(rustc -vV | sed -n 's/^host: //p')"
RUSTFLAGS="${coverage[*]}" cargo build --locked --release --manifest-path fuzz/Cargo.toml --target "$triple" --bins

fuzz() {
    local target="$1" seeds="fuzz/seeds/$1"
    case $target in batches | rebuild) seeds=tests/golden/batches ;; esac
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    local run=("fuzz/target/$triple/release/$target" "-artifact_prefix=fuzz/artifacts/$target/")
    if [ "$seconds" = 0 ]; then
        "${run[@]}" -runs=0 "fuzz/artifacts/$target" "$seeds"
    else
        # No input needs this much memory, whatever lengths it claims.
        ulimit -v 1500000
        "${run[@]}" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=512 -verbosity=0 -print_final_stats=1 \
            "fuzz/corpus/$target" "$seeds"
    fi
}

status=0
while [ ${#targets[@]} -gt 0 ]; do
    running=()
    for target in "${targets[@]:0:$(nproc)}"; do
        (fuzz "$target") &>"fuzz/target/$target.log" &
        running+=("$!:$target")
    done
    targets=("${targets[@]:$(nproc)}")
    for run in "${running[@]}"; do
        target="${run#*:}"
        if wait "${run%%:*}"; then
            echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "fuzz/target/$target.log") inputs, nothing found"
        else
            status=1
            echo "$target: found something; fuzz/target/$target.log ends with" >&2
            tail -n 40 "fuzz/target/$target.log" >&2
        fi
    done
done
exit $status
