#!/usr/bin/env bash
# Runs every fuzz target for a while. usage: fuzz.sh 20s
# Coverage of concurrent code differs from run to run, on which minimizing spends all the time if it is let.
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rlE '^func Fuzz' --include='*_test.go' internal | sort | while read -r file; do
	grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | while read -r _ target; do
		echo "== ${file%/*} $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-20s}" -fuzzminimizetime 5x "./${file%/*}" </dev/null
	done
done
