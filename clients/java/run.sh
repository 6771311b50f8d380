#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a program of the module e2e: run.sh CLASS [JVM options] -- [arguments]. Builds it when it is not there or older than its
# sources; several may start at once.
set -euo pipefail
cd "$(dirname "$0")"
target=$PWD/e2e/target

is_built() {
  [ -f "$target/built" ] && [ -z "$(find . ../../proto -newer "$target/built" \
    \( -path '*/src/main/*' -o -name pom.xml -o -name '*.proto' -o -name service_config.json \) -type f -print -quit)" ]
}

if ! is_built; then
  ./toolchain.sh
  mkdir -p "$target"
  exec 9>"$target/lock"
  flock 9
  if ! is_built; then
    started=$(mktemp)
    MAVEN_OPTS=${MAVEN_OPTS:--Xmx768m} mvn -q -B -ntp -pl e2e -am -DskipTests package >&2
    mv "$started" "$target/built" # as old as the start of the build: what changed meanwhile is newer
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
exec java -Xmx512m -XX:+UseSerialGC -Xshare:auto "${options[@]}" \
  -Djava.util.logging.SimpleFormatter.format='%1$tFT%1$tT.%1$tL %4$s %5$s%6$s%n' \
  -cp "$target/classes:$(cat "$target/classpath")" "$class" "$@"
