# A recipe for Termux's package builder: packages/proot-distro/build.sh in its tree. Its set-up of Go chooses
# GOOS=android, in which Go guards the calls that Android's seccomp policy kills.
TERMUX_PKG_HOMEPAGE=https://github.com/termux/proot-distro
TERMUX_PKG_DESCRIPTION="Run Linux containers without root, from Docker and OCI images"
TERMUX_PKG_LICENSE="Apache-2.0"
TERMUX_PKG_MAINTAINER="@termux"
TERMUX_PKG_VERSION="1.0.0"
TERMUX_PKG_SRCURL=https://github.com/termux/proot-distro/archive/refs/tags/v${TERMUX_PKG_VERSION}.tar.gz
TERMUX_PKG_SHA256=SKIP_CHECKSUM
TERMUX_PKG_DEPENDS="proot, ca-certificates, resolv-conf"
TERMUX_PKG_SUGGESTS="qemu-user-aarch64, qemu-user-arm, qemu-user-i386, qemu-user-riscv64, qemu-user-x86-64"
TERMUX_PKG_BUILD_IN_SRC=true
TERMUX_PKG_AUTO_UPDATE=true

termux_step_make() {
	termux_setup_golang
	go build -trimpath -ldflags "-s -w -X proot-distro/internal/cli.version=v${TERMUX_PKG_VERSION}" \
		-o proot-distro ./cmd/proot-distro
	# This program runs on the building machine.
	env -u GOOS -u GOARCH -u GOARM -u CC -u CXX -u CGO_CFLAGS -u CGO_LDFLAGS CGO_ENABLED=0 go run ./cmd/gendocs docs
}

termux_step_make_install() {
	install -Dm700 -t "${TERMUX_PREFIX}/bin" proot-distro
	ln -sf proot-distro "${TERMUX_PREFIX}/bin/pd"
	cp -R docs/share "${TERMUX_PREFIX}/"
}
