#!/usr/bin/env bash
# Installs the programs that the demo, the tests or the release check use, where they are missing.
# usage: tools.sh demo|test|bench|release
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

# program=package; what a machine has already is not touched.
demo=(mmdebstrap=mmdebstrap docker-registry=docker-registry proot=proot setpriv=util-linux)
test=("${demo[@]}" skopeo=skopeo umoci=umoci qemu-aarch64-static=qemu-user-static update-binfmts=binfmt-support
	arch-test=arch-test xz=xz-utils zstd=zstd pigz=pigz rsync=rsync bzip2=bzip2 newuidmap=uidmap bwrap=bubblewrap ssh-add=openssh-client zsh=zsh fish=fish man=man-db python3=python3 bsdtar=libarchive-tools)
bench=("${test[@]}" buildah=buildah)
release=(qemu-aarch64-static=qemu-user-static)

case ${1-} in
demo) wanted=("${demo[@]}") ;;
test) wanted=("${test[@]}") ;;
bench) wanted=("${bench[@]}") ;;
release) wanted=("${release[@]}") ;;
*) echo "usage: $0 demo|test|bench|release" >&2; exit 2 ;;
esac

# Without root, mmdebstrap maps user ids.
[ "$(id -u)" = 0 ] || [ "$1" = release ] || wanted+=(newuidmap=uidmap)

[ "$1" != test ] || [ "$(uname -m)" = x86_64 ] || {
	echo "The tests use images for x86_64, and run on such machines alone; 'make demo' runs here too." >&2
	exit 1
}

packages=()
for pair in "${wanted[@]}"; do
	command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
done
# mmdebstrap checks signatures with these keys, also on Debian's relatives.
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || [ "$1" = release ] || packages+=(debian-archive-keyring)
# The static busybox runs in root filesystems that hold nothing else; the other one has the same name.
[ "$1" = demo ] || [ "$1" = release ] || dpkg-query --show busybox-static >/dev/null 2>&1 || packages+=(busybox-static)
# bash's completions are a library rather than a program.
[ "$1" != test ] || [ -e /usr/share/bash-completion/bash_completion ] || packages+=(bash-completion)

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Shows what a command said only when it failed.
quietly() {
	local said
	said=$("$@" 2>&1) || {
		echo "$said" >&2
		return 1
	}
}

install_packages() {
	if ! command -v apt-get >/dev/null; then
		echo "Missing programs. Install, with this system's package manager, what Debian calls: $*" >&2
		exit 1
	fi
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		echo "Missing programs, and neither root nor sudo to install them. As root: apt-get install $*" >&2
		exit 1
	fi
	echo "Installing: $*"
	quietly as_root apt-get update -qq
	# Some mirrors lose connections; nobody is there to answer questions.
	quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		-o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"
	case " $* " in *" docker-registry "*)
		# Debian starts it as a service, which nobody asked for.
		[ ! -d /run/systemd/system ] || as_root systemctl disable --now --quiet docker-registry
		;;
	esac
}

# The kernel must know how to run arm64 programs, or Debian for arm64 can't be made.
enable_emulation() {
	local entry=/proc/sys/fs/binfmt_misc/qemu-aarch64
	[ -e $entry ] && return
	[ -e /proc/sys/fs/binfmt_misc/register ] || as_root mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc || true
	[ -e $entry ] || as_root update-binfmts --enable qemu-aarch64 || true
	if [ ! -e $entry ]; then
		echo "This kernel or container does not let binfmt_misc be used, which the arm64 test image needs:" \
			"run the tests on a machine, or in a container started with --privileged." >&2
		exit 1
	fi
}

[ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
[ "$1" != test ] || enable_emulation
