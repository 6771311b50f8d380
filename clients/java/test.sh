#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds and tests the Java client: unit tests, end-to-end tests against the programs in MILLRACE_BIN, Error Prone; then the same
# artefacts with the newest protobuf. Exit code 77: no JDK 17 or no Maven.
set -euo pipefail
cd "$(dirname "$0")"
./toolchain.sh
export MILLRACE_BIN=${MILLRACE_BIN:-$PWD/../../build/bin}
export MAVEN_OPTS=${MAVEN_OPTS:--Xmx768m}
# The newest protobuf that is supported; pom.xml has the oldest, which the artefacts are built with.
protobuf_newest=4.36.2

mvn -B -ntp verify
# The very classes that were built with the oldest one, run with the newest.
mvn -B -ntp verify -Dprotobuf.runtime=$protobuf_newest -Dtest=TestingTest -Dsurefire.failIfNoSpecifiedTests=false
