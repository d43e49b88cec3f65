#!/usr/bin/env bash
# What an operator does with the package, in a Debian that is booted with systemd: installs it, backs a real Kafka up, reloads, stops,
# kills, upgrades, removes. Every step says what it proves; the first that fails ends the run and shows the journal.
set -euo pipefail
cd "$(dirname "$0")/../.."
bash tests/system/can-run.sh
# shellcheck source=tests/system/box.sh
source tests/system/box.sh

cache="${KAFKEEP_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kafkeep-tests}"
work="$(mktemp -d)"
trap 'finish $?' EXIT

step() { echo "--- $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
# wait_for SECONDS WHAT COMMAND…
wait_for() {
    local seconds="$1" what="$2"
    shift 2
    for _ in $(seq "$((seconds * 4))"); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.25
    done
    fail "never: $what"
}
finish() {
    [ "$1" = 0 ] || inside journalctl -u kafkeep --no-pager -n 60 2>/dev/null || true
    stop_box
    stop_kafka
    rm -rf --one-file-system "$work"
    [ "$1" != 0 ] || echo "the system tests passed"
}

step "the packages are built"
make --no-print-directory deb DEB="--deb-version 0.1.0-1"
make --no-print-directory deb DEB="--deb-version 0.1.0-2"
make --no-print-directory rpm
cp target/package/kafkeep_0.1.0-[12]_*.deb target/package/kafkeep-*.rpm "$work"

start_kafka "$cache/kafka-4.1.0"
boot_box "$cache"
trap 'finish $?' EXIT

step "apt installs it: an account, a configuration that checks, no service started"
install_deb 1
inside id kafkeep
inside kafkeep check
[ "$(inside stat -c '%a %U:%G' /etc/kafkeep)" = "750 root:kafkeep" ] || fail "/etc/kafkeep is not the service's to read"
for file in /usr/share/man/man1/kafkeep-backup.1.gz /usr/share/bash-completion/completions/kafkeep \
    /usr/share/kafkeep/prometheus/alerts.yml /usr/share/kafkeep/grafana/kafkeep.json /usr/share/kafkeep/policy.schema.json; do
    inside test -f "$file" || fail "$file is not installed"
done
if inside systemctl is-active kafkeep; then fail "it was started without being asked for"; fi

step "the unit confines it"
inside systemd-analyze verify kafkeep.service
exposure="$(inside systemd-analyze security --no-pager kafkeep.service | sed -n 's/.*Overall exposure level[^:]*: \([0-9.]*\).*/\1/p')"
echo "exposure $exposure"
awk -v exposure="$exposure" 'BEGIN { exit !(exposure != "" && exposure <= 1.6) }' || fail "the exposure is above 1.6"

step "it backs a real Kafka up on schedule, with a credential of systemd as the password"
produce orders 2000 100
cat >"$box/etc/kafkeep/kafkeep.toml" <<TOML
[http]
listen = "127.0.0.1:$port"
[repositories.main]
path = "/var/lib/kafkeep"
[clusters.prod]
bootstrap_servers = ["127.0.0.1:$kafka_port"]
sasl = { mechanism = "PLAIN", username = "alice", password = { credential = "kafka.password" } }
TOML
policy orders 2s >"$box/etc/kafkeep/policies.d/orders.toml"
install -m 0600 <(printf alice-pw) "$box/etc/kafkeep/kafka.password"
mkdir -p "$box/etc/systemd/system/kafkeep.service.d"
cat >"$box/etc/systemd/system/kafkeep.service.d/test.conf" <<'UNIT'
[Service]
LoadCredential=kafka.password:/etc/kafkeep/kafka.password
UNIT
inside systemctl daemon-reload
inside systemctl start kafkeep
wait_for 30 "a backup" succeeded orders
inside kafkeep status --url "http://127.0.0.1:$port"
[ "$(inside stat -c '%a %U' /var/lib/kafkeep)" = "700 kafkeep" ] || fail "the repository is not the service's own"
inside journalctl -u kafkeep POLICY=orders --no-pager -o cat | grep completed >/dev/null || fail "the journal knows no POLICY="
inside journalctl -u kafkeep --no-pager -o json | grep '"BACKUP_ID"' >/dev/null || fail "the journal knows no BACKUP_ID="

step "by hand, systemd-run gives a command the service's credential"
if inside kafkeep drain --cluster prod --group none --topic orders --deadline 5 2>"$work/by-hand"; then fail "the credential was there"; fi
grep -q 'systemd-run --pipe --wait' "$work/by-hand" || fail "the error does not say how to get a credential"
inside systemd-run --quiet --pipe --wait --collect -p User=kafkeep -p LoadCredential=kafka.password:/etc/kafkeep/kafka.password \
    kafkeep restore --repository main latest --policy orders --to prod --rename '{topic}.dry' --dry-run

step "a reload takes a new policy, and refuses a wrong one without changing anything"
policy more 2s | sed 's/topics = .*/topics = ["orders"]/' >"$box/etc/kafkeep/policies.d/more.toml"
inside systemctl reload kafkeep
wait_for 30 "a backup of the new policy" succeeded more
sed -i 's/every/evry/' "$box/etc/kafkeep/policies.d/more.toml"
if inside systemctl reload kafkeep; then fail "a wrong file was reloaded"; fi
inside journalctl -u kafkeep --no-pager -o cat | grep 'unknown key `evry`' >/dev/null || fail "the journal does not say what is wrong"
wait_for 10 "the status tells of the wrong file" bash -c "$(declare -f inside); leader=$leader; inside systemctl status kafkeep --no-pager | grep 'is wrong' >/dev/null"
before="$(metric 'kafkeep_policy_runs_total{policy="more",result="success"}')"
wait_for 20 "the configuration in force goes on" more_than "$before" 'kafkeep_policy_runs_total{policy="more",result="success"}'
rm "$box/etc/kafkeep/policies.d/more.toml"
inside systemctl reload kafkeep

step "a stop during a run seals what was copied, and the next run goes on behind it"
produce slow 4000 10000
{ policy slow 2s | sed '/^every/a rate_limit = "4MiB/s"'; } >"$box/etc/kafkeep/policies.d/slow.toml"
inside systemctl reload kafkeep
wait_for 30 "the run is under way" bash -c "$(declare -f inside); leader=$leader; inside kafkeep status --url http://127.0.0.1:$port | grep -E 'slow.*backup [1-9]'"
inside systemctl stop kafkeep
[ "$(inside systemctl show -p Result --value kafkeep)" = success ] || fail "the stop was not in good order"
[ -n "$(ls "$box/var/lib/kafkeep/runs")" ] || fail "nothing was sealed"
sed -i '/rate_limit/d' "$box/etc/kafkeep/policies.d/slow.toml"
inside systemctl start kafkeep
wait_for 60 "the next run" succeeded slow
inside journalctl -u kafkeep POLICY=slow --no-pager -o cat | grep 'are taken over' >/dev/null || fail "what was sealed was copied again"
rm "$box/etc/kafkeep/policies.d/slow.toml"
inside systemctl reload kafkeep

step "killed, it is started again; frozen, the watchdog finds out"
inside systemctl kill -s KILL kafkeep
wait_for 30 "a restart" restarted 1
cat >>"$box/etc/systemd/system/kafkeep.service.d/test.conf" <<'UNIT'
WatchdogSec=4s
TimeoutAbortSec=2s
UNIT
inside systemctl daemon-reload
inside systemctl restart kafkeep
sleep 8
[ "$(inside systemctl show -p NRestarts --value kafkeep)" = 0 ] || fail "the watchdog bites without a reason"
inside systemctl kill -s STOP --kill-who=main kafkeep
wait_for 40 "a restart by the watchdog" restarted 1
wait_for 30 "it serves again" metric kafkeep_config_last_reload_success

step "an upgrade keeps the configuration, and starts the new version"
pid="$(inside systemctl show -p MainPID --value kafkeep)"
install_deb 2
grep -q 'credential = "kafka.password"' "$box/etc/kafkeep/kafkeep.toml" || fail "the configuration was replaced"
inside systemctl is-active kafkeep
[ "$pid" != "$(inside systemctl show -p MainPID --value kafkeep)" ] || fail "the old version still runs"

step "the backups are sound, and restore"
inside systemctl stop kafkeep
inside kafkeep verify --repository /var/lib/kafkeep
inside kafkeep restore --repository /var/lib/kafkeep latest --policy orders --bootstrap-servers "127.0.0.1:$plain_port" --topic orders --rename 'orders=orders.back' --check
[ "$(records orders.back)" = 2000 ] || fail "the restored topic has $(records orders.back) records"

[ -z "$(inside find /var/lib/kafkeep ! -user kafkeep)" ] || fail "root left files of its own: $(inside find /var/lib/kafkeep ! -user kafkeep)"

step "removed, it leaves configuration and backups; purged, the backups"
inside apt-get remove -yq kafkeep
[ -f "$box/etc/kafkeep/kafkeep.toml" ] && [ -f "$box/var/lib/kafkeep/kafkeep.json" ] || fail "remove took too much"
rm -r "$box/etc/kafkeep/policies.d" "$box/etc/kafkeep/kafka.password"
inside apt-get purge -yq kafkeep
[ ! -e "$box/etc/kafkeep/kafkeep.toml" ] || fail "purge left the configuration"
[ -f "$box/var/lib/kafkeep/kafkeep.json" ] || fail "purge took backups"
rm -rf "$box/etc/kafkeep"

step "the rpm installs, upgrades and erases"
rpm -qlp "$work"/kafkeep-*.rpm | grep -x /usr/lib/systemd/system/kafkeep.service >/dev/null || fail "the rpm has no unit"
rpm --root "$box" --dbpath /var/lib/rpm --nodeps --noplugins -U "$work"/kafkeep-*.rpm
chroot "$box" kafkeep --version
chroot "$box" id kafkeep
echo '# edited' >>"$box/etc/kafkeep/kafkeep.toml"
rpm --root "$box" --dbpath /var/lib/rpm --nodeps --noplugins -U --force "$work"/kafkeep-*.rpm
grep -q '# edited' "$box/etc/kafkeep/kafkeep.toml" || fail "the rpm replaced the configuration"
rpm --root "$box" --dbpath /var/lib/rpm --nodeps --noplugins -e kafkeep
[ ! -e "$box/usr/bin/kafkeep" ] && [ -f "$box/var/lib/kafkeep/kafkeep.json" ] || fail "erase did not do what it should"
