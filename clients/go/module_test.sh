#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Tests the modules as their users get them: packed, served by a file:// proxy, required by a module of its own. Also that those who
# only use the client get no OpenTelemetry.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
version=v0.1.0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cd "$here"
go run ./internal/moduleproxy "$here" "$scratch/proxy" "$version"

# A cache of its own, as the next run's module has the same version and other content. What others publish comes from the usual one.
usual=$(go env GOMODCACHE)/cache/download
GOPROXY="file://$scratch/proxy,file://$usual,$(go env GOPROXY)"
export GOPROXY GOMODCACHE=$scratch/cache GONOSUMDB='github.com/millrace/*' GOFLAGS="-mod=mod -modcacherw" GOWORK=off
cp -r testdata/consumer "$scratch/consumer"
cd "$scratch/consumer"
go mod init example.org/consumer 2>/dev/null
mv main_test.go "$scratch"
go get "github.com/millrace/millrace/clients/go@$version" 2>/dev/null
go build -o "$scratch/program" .
if go list -deps . | grep -E '^(go\.opentelemetry\.io|github\.com/robfig)'; then
  echo "the client pulls in what only a part of its users wants"
  exit 1
fi
said=$(MILLRACE_ADDRESS=127.0.0.1:1 "$scratch/program")
if [ "$said" != "${version#v} true" ]; then
  echo "the consumer said: $said"
  exit 1
fi
mv "$scratch/main_test.go" .
go get "github.com/millrace/millrace/clients/go/millraceotel@$version" 2>/dev/null
go test ./...
