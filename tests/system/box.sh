# A Debian that is booted with systemd-nspawn, a Kafka on this machine's loopback, and what the tests ask of both. Sourced by run.sh.

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# --- Kafka, on the host

start_kafka() {
    local jars="$1/*" directory="$work/kafka" fast="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    mkdir -p "$directory"
    kafka_port="$(free_port)" plain_port="$(free_port)" controller_port="$(free_port)"
    cat >"$directory/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$plain_port,SASLPLAIN://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$plain_port,SASLPLAIN://127.0.0.1:$kafka_port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASLPLAIN:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
controller.quorum.voters=1@127.0.0.1:$controller_port
log.dirs=$directory/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
listener.name.saslplain.sasl.enabled.mechanisms=PLAIN
listener.name.saslplain.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="alice-pw";
PROPERTIES
    local id
    id="$(java -cp "$jars" kafka.tools.StorageTool random-uuid 2>/dev/null | tail -n 1)"
    java -cp "$jars" kafka.tools.StorageTool format -t "$id" -c "$directory/server.properties" >/dev/null 2>&1
    # shellcheck disable=SC2086
    java -Xmx512m $fast -cp "$jars" kafka.Kafka "$directory/server.properties" >"$directory/log" 2>&1 &
    kafka=$!
    kafka_jars="$jars"
    wait_for 60 "Kafka is ready" bash -c "exec 3<>/dev/tcp/127.0.0.1/$plain_port"
}

stop_kafka() {
    if [ -n "${kafka:-}" ]; then kill -KILL "$kafka" 2>/dev/null || true; fi
}

# produce TOPIC RECORDS BYTES
produce() {
    java -cp "$kafka_jars" org.apache.kafka.tools.ProducerPerformance --topic "$1" --num-records "$2" --record-size "$3" \
        --throughput -1 --producer-props "bootstrap.servers=127.0.0.1:$plain_port" >/dev/null 2>&1
}

# records TOPIC: how many there are, as Kafka's own tool says
records() {
    java -cp "$kafka_jars" org.apache.kafka.tools.GetOffsetShell --bootstrap-server "127.0.0.1:$plain_port" --topic "$1" 2>/dev/null |
        awk -F: '{ sum += $3 } END { print sum + 0 }'
}

# --- the Debian

boot_box() {
    local cache="$1" base="$1/debian-bookworm.tar.zst"
    box="$work/box"
    mkdir -p "$box"
    if [ ! -f "$base" ]; then
        step "a Debian is made, once"
        debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,iproute2,procps bookworm \
            "$work/base" >"$work/debootstrap.log" || fail "debootstrap: $(tail -n 3 "$work/debootstrap.log")"
        tar -C "$work/base" --zstd -cf "$base.new" . && mv "$base.new" "$base"
        rm -rf "$work/base"
    fi
    tar -C "$box" --zstd -xf "$base"
    port="$(free_port)"
    setsid systemd-nspawn -D "$box" --boot --register=no --keep-unit --bind="$work:/shared" >"$work/nspawn.log" 2>&1 </dev/null &
    nspawn=$!
    wait_for 20 "the Debian has a leader" pgrep -P "$nspawn"
    leader="$(pgrep -P "$nspawn")"
    wait_for 60 "the Debian is booted" booted
}

booted() { case "$(inside systemctl is-system-running)" in running | degraded) ;; *) return 1 ;; esac; }

stop_box() {
    if [ -n "${nspawn:-}" ]; then
        inside systemctl poweroff >/dev/null 2>&1 || true
        for _ in $(seq 40); do kill -0 "$nspawn" 2>/dev/null || return 0; sleep 0.25; done
        kill -KILL "$nspawn" "${leader:-$nspawn}" 2>/dev/null || true
    fi
}

inside() { nsenter -t "$leader" -a -- "$@"; }

# install_deb REVISION, from the file alone
install_deb() {
    inside env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends \
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null "/shared/$(cd "$work" && ls kafkeep_0.1.0-"$1"_*.deb)"
}

# policy NAME EVERY: of the topic of that name
policy() {
    printf '[backup.%s]\ncluster = "prod"\nrepository = "main"\ntopics = ["%s"]\nevery = "%s"\nretention = { keep_last = 3 }\n' "$1" "$1" "$2"
}

# metric SERIES: its value, rounded; fails when there is none. The box shares this machine's loopback.
metric() {
    python3 - "http://127.0.0.1:$port/metrics" "$1" <<'PYTHON'
import sys, urllib.request
for line in urllib.request.urlopen(sys.argv[1], timeout=5).read().decode().splitlines():
    series, _, value = line.rpartition(" ")
    if series == sys.argv[2]:
        print(int(float(value)))
        sys.exit(0)
sys.exit(1)
PYTHON
}

more_than() { [ "$(metric "$2")" -gt "$1" ]; }
succeeded() { more_than 0 "kafkeep_policy_runs_total{policy=\"$1\",result=\"success\"}"; }
restarted() { [ "$(inside systemctl show -p NRestarts --value kafkeep)" -ge "$1" ] && inside systemctl is-active kafkeep; }
