#!/usr/bin/env bash
# Builds every release, checks sizes, and tries those that this machine or an emulator can run.
# usage: release-check.sh VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
limit=$((16 * 1024 * 1024))
[ "$(uname -m)" = x86_64 ] || { echo "release-check runs on x86_64" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A small root filesystem in an archive.
mkdir -p "$work"/tree/{bin,etc,usr/share}
echo 'a small archive' >"$work/tree/etc/motd"
ln "$work/tree/etc/motd" "$work/tree/usr/share/motd"
ln -s ../etc/motd "$work/tree/bin/motd"
tar -czf "$work/small.tar.gz" -C "$work/tree" .

fail() {
	echo " $1"
	exit 1
}

check() { # os arch [command that runs it]
	local os=$1 arch=$2 out=dist/proot-distro-$1-$2 size
	shift 2
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath \
		-ldflags "-s -w -X proot-distro/internal/cli.version=$version" -o "$out" ./cmd/proot-distro
	size=$(stat -c %s "$out")
	printf '%-16s %8.2f MiB' "$os/$arch" "$(echo "$size" | awk '{print $1/1048576}')"
	[ "$size" -le "$limit" ] || fail "is over the limit of $((limit / 1048576)) MiB"
	[ "$os" != linux ] || try "$PWD/$out" "$@"
	echo
}

try() { # program [emulator]
	local program=$1 home=$work/home said
	shift
	rm -rf "$home"
	mkdir "$home"
	run() { env -i HOME="$home" PATH="$PATH" "$@" "$program" "${words[@]}"; }
	words=(--version)
	said=$(run "$@")
	case $said in *"$version"*) ;; *) fail "says '$said' to --version, not $version" ;; esac
	words=(install -q "$work/small.tar.gz" --name small)
	run "$@" 2>"$work/errors" || fail "cannot install an archive: $(cat "$work/errors")"
	cmp -s "$work/tree/etc/motd" "$home/.local/share/proot-distro/containers/small/rootfs/usr/share/motd" ||
		fail "installs an archive wrongly"
	words=(list -q)
	[ "$(run "$@")" = small ] || fail "does not list what it installed"
	printf '  %s, install, list' "$said"
}

mkdir -p dist
check linux amd64
check linux 386
check linux arm64 qemu-aarch64-static
check linux arm qemu-arm-static
check linux riscv64 qemu-riscv64-static
check android arm64 # links without an NDK; only Android can start it
