#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the scenarios' agent: agent.sh --transport nng|grpc. Builds it when it is not there or older than its sources; several may
# start at once. Exit code 77: no JDK 17 or no Maven.
set -euo pipefail
cd "$(dirname "$0")"
target=$PWD/e2e/target

is_built() {
  [ -f "$target/agent.built" ] && [ -z "$(find . ../../proto -newer "$target/agent.built" \
    \( -path '*/src/main/*' -o -name pom.xml -o -name '*.proto' \) -type f -print -quit)" ]
}

if ! is_built; then
  ./toolchain.sh
  mkdir -p "$target"
  exec 9>"$target/agent.lock"
  flock 9
  if ! is_built; then
    started=$(mktemp)
    MAVEN_OPTS=${MAVEN_OPTS:--Xmx768m} mvn -q -B -pl e2e -am -DskipTests package >&2
    mv "$started" "$target/agent.built" # as old as the start of the build: what changed meanwhile is newer
  fi
  exec 9>&-
fi

exec java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
  -Djava.util.logging.SimpleFormatter.format='%1$tFT%1$tT.%1$tL %4$s %5$s%6$s%n' \
  -cp "$target/classes:$(cat "$target/classpath")" io.millrace.e2e.Agent "$@"
