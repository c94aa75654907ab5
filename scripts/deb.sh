#!/usr/bin/env bash
# Makes Debian packages in dist/, for the architectures named in Debian's words (amd64 by default).
# usage: deb.sh VERSION [ARCH...]
set -euo pipefail
cd "$(dirname "$0")/.."
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4
version=$1
shift
[ $# -gt 0 ] || set -- amd64
# A version of Debian's begins with a digit; what has no release yet comes before all that have one.
case $version in
v[0-9]*) DEB_VERSION=${version#v} ;;
[0-9]*.*) DEB_VERSION=$version ;;
*) DEB_VERSION=0~git$version ;;
esac
# and has no hyphen that is not its own.
DEB_VERSION=${DEB_VERSION//-/+}
export DEB_VERSION DEB_ARCH

go run ./cmd/gendocs dist/docs
gzip -9nf dist/docs/share/man/man1/*.1
for DEB_ARCH; do
	case $DEB_ARCH in
	armhf) goarch=arm ;;
	i386) goarch=386 ;;
	*) goarch=$DEB_ARCH ;;
	esac
	CGO_ENABLED=0 GOOS=linux GOARCH=$goarch go build -trimpath \
		-ldflags "-s -w -X proot-distro/internal/cli.version=$version" -o dist/deb/proot-distro ./cmd/proot-distro
	go run "$nfpm" package --config packaging/deb/nfpm.yaml --packager deb --target dist
done
rm -rf dist/deb dist/docs
