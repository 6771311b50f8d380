#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a program of the module e2e: run.sh CLASS [JVM options] -- [arguments]. Builds it when it is not there or older than its
# sources; several may start at once.
set -euo pipefail
cd "$(dirname "$0")"
target=$PWD/e2e/target
jar=$target/millrace-e2e.jar
archive=$target/agent.jsa

is_built() {
  [ -f "$target/built" ] && [ -z "$(find . ../../proto -newer "$target/built" -not -path '*/target/*' \
    \( -path '*/src/main/*' -o -name pom.xml -o -name '*.proto' -o -name service_config.json \) -type f -print -quit)" ]
}

has_archive() {
  [ "$archive" -nt "$jar" ]
}

# Log lines of the JVM would go to stdout, which belongs to the agent.
jvm() {
  exec java -Xmx512m -XX:+UseSerialGC -Xlog:disable "$@"
}

# Keeps the classes of the agent in a form that a JVM starts with in half the time: scenarios start dozens of them. The classes are
# those loaded for two commands, of which the second fails, as there is no server. Without the archive all goes on, more slowly.
make_archive() {
  local line
  coproc agent {
    export MILLRACE_ADDRESS=127.0.0.1:1
    jvm -XX:ArchiveClassesAtExit="$archive.new" -cp "$jar:$(cat "$target/classpath")" io.millrace.e2e.Agent --transport nng 2>/dev/null
  }
  local pid=$! out=${agent[0]} in=${agent[1]}
  printf '%s\n' '{"number": 1, "command": "worker_start", "queues": {"q": 1}}' '{"number": 2, "command": "create", "task": "echo"}' >&"$in"
  while read -r line <&"$out" && [[ $line != *'"number":2'* ]]; do :; done
  exec {in}>&-
  wait "$pid" || true
  touch "$archive.new"
  mv "$archive.new" "$archive"
}

if ! is_built || ! has_archive; then
  ./toolchain.sh
  mkdir -p "$target"
  exec 9>"$target/lock"
  flock 9
  if ! is_built; then
    started=$(mktemp)
    MAVEN_OPTS=${MAVEN_OPTS:--Xmx768m} mvn -q -B -ntp -pl e2e -am -DskipTests package >&2
    mv "$started" "$target/built" # as old as the start of the build: what changed meanwhile is newer
  fi
  if ! has_archive; then
    make_archive
  fi
  exec 9>&-
fi

class=$1
shift
options=()
while [ "$1" != -- ]; do
  options+=("$1")
  shift
done
shift
# shellcheck disable=SC2016 # the dollars are the formatter's
jvm -XX:SharedArchiveFile="$archive" "${options[@]}" \
  -Djava.util.logging.SimpleFormatter.format='%1$tFT%1$tT.%1$tL %4$s %5$s%6$s%n' \
  -cp "$jar:$(cat "$target/classpath")" "$class" "$@"
