#!/usr/bin/env bash
# Runs the unit tests without privileges when root tests; for anybody else they have run that way already.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || exit 0

# The checkout and the Go caches may be closed to others, so tests run in a copy, from binaries built by root.
work=$(mktemp -d "$(go run ./test/cmd/tmpdir)/pd-unit-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{tree,home,tmp}
tar -c --exclude=./.git --exclude=./bin --exclude=./dist . | tar -x -C "$work/tree"
cat >"$work/exec" <<'END'
#!/usr/bin/env bash
set -euo pipefail
binary=$(mktemp "$PD_WORK/test-XXXXXX")
install -m 755 "$1" "$binary"
shift
cd "$PD_WORK/tree${PWD#"$PD_CHECKOUT"}"
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
	env HOME="$PD_WORK/home" TMPDIR="$PD_WORK/tmp" XDG_CACHE_HOME= XDG_DATA_HOME= "$binary" "$@"
END
chmod 755 "$work" "$work/exec"
chown -R 65534:65534 "$work"/{tree,home,tmp}

echo "The same tests as an ordinary user:"
PD_WORK=$work PD_CHECKOUT=$PWD go test -timeout 5m -exec "$work/exec" ./internal/...
