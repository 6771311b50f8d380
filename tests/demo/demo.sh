#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the five levels of jobs for real: a server with a temporary store, process workers over nng, and a table of what became of each.
# Exit 0 only if everything was executed. MILLRACE_BIN: where millraced and millrace are (default: build/bin).
# shellcheck disable=SC2016 # the handlers' own variables are for the handlers
set -euo pipefail

bin=${MILLRACE_BIN:-$(cd "$(dirname "$0")/../.." && pwd)/build/bin}
work=$(mktemp -d "${TMPDIR:-/tmp}/millrace-demo.XXXXXX")
server='' workers=()
export PATH=$bin:$PATH
unset MILLRACE_TOKEN MILLRACE_WORKER_URL

finish() {
  local code=$?
  trap - EXIT
  for pid in "${workers[@]}" $server; do kill "$pid" 2>/dev/null || true; done
  for pid in "${workers[@]}" $server; do wait "$pid" 2>/dev/null || true; done
  if [ "$code" -ne 0 ]; then
    for log in "$work"/*.log; do
      echo "--- ${log##*/}" >&2
      tail -n 40 "$log" >&2
    done
  fi
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# wait_for <seconds> <what> <command…>
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if [ $SECONDS -ge $end ]; then
      echo "demo: $what did not happen" >&2
      return 1
    fi
    sleep 0.1
  done
}

# field <name>: the value of "name:" in what `millrace … get` prints.
field() { sed -n "s/^$1: *//p" | head -n 1; }
state_of() { millrace job get "$1" | field state; }

# ---- the server and two process workers ----

millraced --data-dir "$work/data" --listen 127.0.0.1:0 --worker-listen 127.0.0.1:0 --monitor-listen 127.0.0.1:0 \
  --port-file "$work/ports.json" 2>"$work/server.log" &
server=$!
server_is_up() { [ -s "$work/ports.json" ]; }
wait_for 15 "the start of the server" server_is_up
port=$(sed -n 's/.*"grpc": *\([0-9]*\).*/\1/p' "$work/ports.json")
export MILLRACE_ADDRESS=127.0.0.1:$port
echo "millraced serves on $MILLRACE_ADDRESS"

mkdir "$work/out"
handler() {
  printf '#!/bin/sh\nset -eu\nout=%s\n%s\n' "'$work/out'" "$2" >"$work/$1"
  chmod +x "$work/$1"
}
handler send_mail 'cat >>"$out/mail"; echo >>"$out/mail"; echo "sent" >&2; echo "{\"sent\": true}"'
handler remind 'date +%s%3N >"$out/reminded"; echo "{\"reminded\": true}"'
handler ping 'date +%s%3N >>"$out/pings"; echo "\"pong\""'
handler reserve 'echo "{\"order\": 17, \"reserved\": true}"'
handler charge 'echo "{\"charged\": 2999, \"after\": $MILLRACE_PREVIOUS_RESULT}"'
handler ship 'echo "{\"shipped\": true, \"after\": $MILLRACE_PREVIOUS_RESULT}"'
# A batch of many small jobs: the shell's own means only.
handler newsletter 'read -r letter || [ -n "$letter" ]; echo "$letter" >>"$out/newsletter"'
handler digest 'wc -l <"$out/newsletter" | tr -d " "'

for number in 1 2; do
  millrace worker run --quiet --transport nng --concurrency 8 --queue mail --queue default --queue orders --queue bulk \
    --handler "send_mail=$work/send_mail" --handler "remind=$work/remind" --handler "ping=$work/ping" \
    --handler "reserve=$work/reserve" --handler "charge=$work/charge" --handler "ship=$work/ship" \
    --handler "newsletter=$work/newsletter" --handler "digest=$work/digest" 2>"$work/worker-$number.log" &
  workers+=($!)
done
workers_are_there() { [ "$(millrace worker list --output json | grep -c '"transport":"nng"')" -eq 2 ]; }
wait_for 15 "the arrival of two workers" workers_are_there
echo "two process workers are attached over nng"

# ---- the five levels ----

table=()
all_is_well=true
# row <level> <what> <state> <wanted state> <proof> <true or false>
row() {
  local mark=ok
  if [ "$3" != "$4" ] || [ "$6" != true ]; then
    mark=FAILED
    all_is_well=false
  fi
  table+=("$(printf '%s\t%s\t%s\t%s\t%s' "$1" "$2" "$3" "$5" "$mark")")
}
yes_if() { if "$@"; then echo true; else echo false; fi; }

began=$(date +%s%3N)
reminder=$(millrace job create remind review=42 --delay 3s)
millrace schedule create health ping --every 1s >/dev/null

mail=$(millrace job create send_mail to=a@example.org subject=Welcome --queue mail --priority high)
millrace job wait "$mail" --timeout 15s >/dev/null || true
row "1 fire and forget" "sign-up mail" "$(state_of "$mail")" succeeded "$(head -n 1 "$work/out/mail" 2>/dev/null || echo none)" \
  "$(yes_if grep -q a@example.org "$work/out/mail")"

chain=$(millrace chain create reserve order:=17 'then' charge amount:=2999 'then' ship --queue orders)
millrace chain wait "$chain" --timeout 15s >"$work/chain" || true
result=$(field result <"$work/chain")
row "4 chain" "order: reserve, charge, ship" "$(field state <"$work/chain")" succeeded "$result" \
  "$(yes_if [ "$result" = '{"shipped": true, "after": {"charged": 2999, "after": {"order": 17, "reserved": true}}}' ])"

seq 1 1000 | sed 's/.*/{"task": "newsletter", "payload": {"json": {"to": "reader-&@example.org"}}}/' >"$work/readers"
batch=$(millrace batch create --from "$work/readers" --seal --queue bulk --on-complete digest --priority low 2>/dev/null)
millrace batch wait "$batch" --timeout 30s >"$work/batch" || true
digest=$(field "on complete" <"$work/batch")
millrace job wait "$digest" --timeout 15s >"$work/digest" || true
letters=$(sort -u "$work/out/newsletter" | wc -l)
row "5 batch" "newsletter to 1,000 readers" "$(field state <"$work/batch")" succeeded \
  "$letters letters written; on_complete counted $(field result <"$work/digest")" "$(yes_if [ "$letters" -eq 1000 ])"

millrace job wait "$reminder" --timeout 15s >/dev/null || true
late=$(($(cat "$work/out/reminded" 2>/dev/null || echo 0) - began))
row "2 delayed" "review reminder in 3 s" "$(state_of "$reminder")" succeeded "ran $late ms after its create" \
  "$(yes_if [ $late -ge 3000 ])"

pinged_often() { [ "$(wc -l <"$work/out/pings" 2>/dev/null || echo 0)" -ge 4 ]; }
wait_for 15 "four health pings" pinged_often || true
ping=$(millrace schedule get health | field "last job")
millrace job wait "$ping" --timeout 15s >/dev/null || true
row "3 recurring" "health ping every second" "$(state_of "$ping")" succeeded \
  "$(wc -l <"$work/out/pings") pings, next $(millrace schedule get health | field 'next run')" "$(yes_if pinged_often)"

# ---- the table ----

echo
{
  printf 'LEVEL\tJOBS\tSTATE\tPROOF\t\n'
  printf '%s\n' "${table[@]}" | sort
} | awk -F '\t' '{ for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } }
    END { for (r = 1; r <= NR; r++) { for (i = 1; i <= 5; i++) printf "%-*s  ", width[i], cell[r, i]; print "" } }'
echo
if ! $all_is_well; then
  echo "demo: something was not executed" >&2
  exit 1
fi
echo "all five levels were executed in $SECONDS s"
