#!/usr/bin/env bash
# Whether the system tests can run here; says what they need when they cannot. Installs it where it may.
set -uo pipefail

if [ "$(id -u)" != 0 ]; then
    echo "the system tests need root: they boot a Debian with systemd-nspawn" >&2
    exit 1
fi
missing=()
command -v debootstrap >/dev/null || missing+=(debootstrap)
command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
command -v rpm >/dev/null || missing+=(rpm)
command -v zstd >/dev/null || missing+=(zstd)
if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "the system tests need: ${missing[*]}" >&2
        exit 1
    fi
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" >&2 || {
        echo "the system tests need: ${missing[*]}, which cannot be installed" >&2
        exit 1
    }
fi
if ! unshare --mount --pid --fork true 2>/dev/null; then
    echo "the system tests need namespaces, which this machine does not give" >&2
    exit 1
fi
