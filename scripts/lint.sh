#!/usr/bin/env bash
# Lints with golangci-lint, installed into bin/tools when it is missing; where it can't be had, with vet and staticcheck.
set -euo pipefail
cd "$(dirname "$0")/.."
golangci=v2.15.0
staticcheck=v0.8.2
export GOBIN=$PWD/bin/tools
PATH=$GOBIN:$PATH

if command -v golangci-lint >/dev/null || go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$golangci"; then
	exec golangci-lint run ./...
fi
echo "golangci-lint can't be installed here: using vet and staticcheck" >&2
command -v staticcheck >/dev/null || go install "honnef.co/go/tools/cmd/staticcheck@$staticcheck"
go vet ./...
staticcheck ./...
