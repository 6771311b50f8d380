#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes what comes from proto/: generate.sh [folder]. Without a folder it writes here; `generate.sh --check` says whether that is
# up to date. The generators are pinned; the protobuf runtime that go.mod asks for must not be older than they are.
set -euo pipefail

protoc_gen_go=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.7
protoc_gen_go_grpc=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1

here=$(cd "$(dirname "$0")" && pwd)
proto=$here/../../proto
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

generate() {
  local out=$1
  GOBIN=$scratch/bin go install "$protoc_gen_go"
  GOBIN=$scratch/bin go install "$protoc_gen_go_grpc"
  rm -rf "$out/millracepb"
  mkdir -p "$out"
  (
    cd "$proto"
    PATH=$scratch/bin:$PATH protoc -I . -I third_party \
      --go_out="$out" --go_opt=module=github.com/millrace/millrace/clients/go \
      --go_opt=Mgoogle/rpc/status.proto=google.golang.org/genproto/googleapis/rpc/status \
      --go-grpc_out="$out" --go-grpc_opt=module=github.com/millrace/millrace/clients/go \
      millrace/v1/*.proto
  )
  # protoc's own version is not ours to pin: it stands in a comment only.
  sed -i -E '/^\/\/ 	protoc        v|^\/\/ - protoc             v/d' "$out"/millracepb/*.go
  cp "$proto/service_config.json" "$out/service_config.json"
}

if [ "${1:-}" = --check ]; then
  generate "$scratch/out"
  if ! diff -r "$scratch/out/millracepb" "$here/millracepb" || ! diff "$scratch/out/service_config.json" "$here/service_config.json"; then
    echo "clients/go is not what proto/ makes; run: make proto"
    exit 1
  fi
else
  generate "$here"
fi
