#!/usr/bin/env bash
# Shows the main job on a clean home folder: a real Debian from a real registry on 127.0.0.1 into a container, work in
# it under both engines, and clean up. Each command is printed as it is run, by an ordinary user also when root calls.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "Making a Debian image with mmdebstrap, if this machine has none yet."
go run ./test/cmd/registry -make small

work=$(mktemp -d)
coproc REGISTRY { exec go run ./test/cmd/registry small; }
registry_in=${REGISTRY[1]} registry_pid=$REGISTRY_PID
stop_registry() {
	[ -z "$registry_in" ] || exec {registry_in}>&- # the end of its input ends it
	registry_in=
	wait "$registry_pid" 2>/dev/null || true
}
clean_up() {
	stop_registry
	chmod -R u+rwX "$work" && rm -rf "$work"
}
trap clean_up EXIT
read -r address <&"${REGISTRY[0]}"

unset XDG_DATA_HOME XDG_CACHE_HOME PD_DOCKER_AUTH PD_ENGINE
mkdir "$work/bin"
cp -a bin/proot-distro bin/pd "$work/bin"
export HOME=$work PATH=$work/bin:$PATH
cd "$work"
as_user=()
if [ "$(id -u)" = 0 ]; then
	chown -R 65534:65534 "$work"
	as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
fi

say() { printf '\n# %s\n' "$*"; }
run() {
	printf '$ %s\n' "${*@Q}" | sed "s/'\([][A-Za-z0-9:.\/_=-]*\)'/\1/g"
	"${as_user[@]}" "$@"
}
timed() {
	local start=${EPOCHREALTIME/./}
	run "$@"
	printf '  %d ms\n' $(((${EPOCHREALTIME/./} - start) / 1000))
}

say "A Debian from the registry at $address."
run pd install "$address/debian:bookworm"
run pd list
say "Work in it."
run pd login debian -- cat /etc/debian_version
run pd login debian -- apt-get --version
run pd login debian -- sh -c 'echo "kept in the container" > /root/note && ls -l /root'
run pd login debian --env GREETING=hello -- sh -c 'echo "$GREETING from $(id -un)"; cat /root/note'
run pd login debian --user nobody -- id
say "A command in place of the image's own, which is bash."
run pd run debian -- dpkg-query --show dpkg apt
say "The same work under the kernel's own namespaces, which are taken where they work, and under proot."
for engine in native proot; do
	timed pd login debian --engine $engine -- sh -c 'ls -lR /usr >/dev/null; for i in $(seq 100); do /bin/true; done; tail -1 /root/note'
done
for engine in native proot; do
	run pd login debian --engine $engine -- sh -c 'echo "$(ls /proc | grep -c ^[1-9]) processes in sight"'
done
say "With the registry gone, the cache is enough for a second container."
stop_registry
run pd install "$address/debian:bookworm" --name second
run pd list
say "Clean up."
run pd remove debian
run pd remove second
run pd list
