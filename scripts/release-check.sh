#!/usr/bin/env bash
# Builds every release, checks sizes, and starts those that this machine or an emulator can run.
# usage: release-check.sh VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
limit=$((16 * 1024 * 1024))

check() { # os arch [command that runs it]
	local os=$1 arch=$2 out=dist/proot-distro-$1-$2 size said
	shift 2
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath \
		-ldflags "-s -w -X proot-distro/internal/cli.version=$version" -o "$out" ./cmd/proot-distro
	size=$(stat -c %s "$out")
	printf '%-16s %8.2f MiB' "$os/$arch" "$(echo "$size" | awk '{print $1/1048576}')"
	if [ "$size" -gt "$limit" ]; then
		echo " is over the limit of $((limit / 1048576)) MiB"
		exit 1
	fi
	if [ "$os" = linux ]; then
		said=$("$@" "./$out" --version)
		case $said in *"$version"*) ;; *) echo " says '$said' to --version, not $version"; exit 1 ;; esac
		printf '  %s' "$said"
	fi
	echo
}

mkdir -p dist
[ "$(uname -m)" = x86_64 ] || { echo "release-check runs on x86_64" >&2; exit 1; }
check linux amd64
check linux 386
check linux arm64 qemu-aarch64-static
check linux arm qemu-arm-static
check linux riscv64 qemu-riscv64-static
check android arm64 # links without an NDK; only Android can start it
