#!/bin/sh
# Shows when tokio-cron-scheduler starts one-shot jobs. Needs Debian's faketime: no machine's clock is touched.
set -eu
cd "$(dirname "$0")"
cargo build --quiet --locked
program=target/debug/cron-scheduler-evidence
"$program"
library="$(find /usr/lib -name libfaketimeMT.so.1 | head -n 1)"
[ -n "$library" ] || { echo "faketime is needed: apt-get install faketime" >&2; exit 1; }
clock="$(mktemp)"
trap 'rm -f "$clock"' EXIT
for offset in -8s +1h; do
    echo "+0s" >"$clock"
    LD_PRELOAD="$library" FAKETIME_TIMESTAMP_FILE="$clock" FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
        "$program" "$clock" "$offset"
done
