#!/usr/bin/env bash
# Sets up what the tests need: a C compiler and make (librdkafka), python3 with zstd (the format's other reader), Prometheus, curl,
# faketime, Java and Maven (Apache Kafka and its tools). Installs with apt-get where it may, else says what to install. Fetches the Kafka
# releases pinned in tests/kafka/pom.xml into a cache, once, and from PyPI who reads the API's document and calls the daemon by it; with
# the word "peers", what benchmarks run beside kafkeep too.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
command -v python3 >/dev/null || missing+=(python3)
command -v zstd >/dev/null || missing+=(zstd)
command -v promtool >/dev/null || missing+=(prometheus)
command -v javac >/dev/null || missing+=(default-jdk-headless)
command -v mvn >/dev/null || missing+=(maven)
command -v curl >/dev/null || missing+=(curl)
command -v faketime >/dev/null || missing+=(faketime)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}"
    else
        echo "the tests need: ${missing[*]} (on Debian: sudo apt-get install ${missing[*]})" >&2
        exit 1
    fi
fi

# Where tests/testbed/kafka.rs looks for them too.
cache="${KAFKEEP_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kafkeep-tests}"
for version in 2.8.2 4.1.0 4.4.0; do
    jars="$cache/kafka-$version"
    if [ ! -e "$jars/.complete" ] || [ kafka/pom.xml -nt "$jars/.complete" ]; then
        echo "fetching Apache Kafka $version into $jars"
        rm -rf "$jars"
        mvn -q -B -f kafka/pom.xml -P "$version" dependency:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$jars"
        touch "$jars/.complete"
    fi
done

tools="$cache/api-tools"
if ! cmp -s api-tools.txt "$tools/.complete"; then
    echo "installing what api-tools.txt names into $tools"
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install -q --disable-pip-version-check -r api-tools.txt
    cp api-tools.txt "$tools/.complete"
fi

[ "${1:-}" = peers ] || exit 0
jars="$cache/mirror-maker-4.1.0"
if [ ! -e "$jars/.complete" ]; then
    echo "fetching MirrorMaker 4.1.0 into $jars"
    rm -rf "$jars"
    mvn -q -B -f kafka/mirror-maker/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$jars"
    touch "$jars/.complete"
fi
