package main

// environment and files are the parts of the manual that no command owns.
var environment = [][2]string{
	{"PD_DOCKER_AUTH", "Credentials for registries, as USER:PASSWORD or USER:TOKEN. Without it, ~/.docker/config.json and its credential helpers are asked."},
	{"PD_ENGINE", "What runs containers where --engine does not say: native (namespaces of the kernel), proot, or auto (the default: native where it works, else proot)."},
	{"PD_PROOT_BIN", "The proot program to use instead of the one in PATH."},
	{"PD_FORCE_NO_COLORS, NO_COLOR", "Set to turn colours off."},
	{"COLUMNS", "Width of help text when the output is not a terminal."},
	{"XDG_DATA_HOME", "Where containers are kept, except on Termux: $XDG_DATA_HOME/proot-distro, by default ~/.local/share/proot-distro."},
	{"XDG_CACHE_HOME", "Where downloads are kept, except on Termux: $XDG_CACHE_HOME/proot-distro, by default ~/.cache/proot-distro."},
	{"TERMUX__PREFIX", "Termux's prefix, by default /data/data/com.termux/files/usr. Containers are kept in var/lib/proot-distro below it."},
	{"TERMUX__HOME", "Termux's home directory."},
	{"TERMUX_APP__PACKAGE_NAME", "Termux's package name, by default com.termux."},
	{"PROOT_VERBOSE, PROOT_NO_SECCOMP", "Passed on to proot; the former not with --minimal."},
	{"TERM, COLORTERM", "Passed on to the guest."},
}

var files = [][2]string{
	{"~/.local/share/proot-distro/containers/NAME/rootfs/", "A container's root filesystem."},
	{"~/.local/share/proot-distro/containers/NAME/manifest.json", "The image it was made from."},
	{"~/.local/share/proot-distro/locks/", "Locks of containers in use."},
	{"~/.local/share/proot-distro/sessions/", "Running sessions."},
	{"~/.cache/proot-distro/oci_layers/", "Downloaded layers, by digest."},
	{"~/.cache/proot-distro/oci_manifests/", "Manifests of cached images."},
}
