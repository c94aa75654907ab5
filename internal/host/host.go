// Package host describes the machine that the program runs on: Termux or an
// ordinary Linux, where state is kept, which CPU it has.
//
// A [Host] is computed once, by [Detect], from an [Env]; tests hand in an Env of
// their own, so both worlds can be tried in one process.
package host

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/platform"
)

// Env is what Detect may ask about the machine.
type Env struct {
	Getenv func(string) string
	Exists func(path string) bool
	// Access reports whether path can be read and entered by this user.
	Access func(path string) bool
	// Machine is the kernel's `uname -m`.
	Machine string
	// Android is true when the program itself was built for Android.
	Android bool
}

// Host is the outcome of Detect. It is plain data and never changes.
type Host struct {
	Termux bool
	// Prefix, Home and AppPackage are Termux's; empty elsewhere but for Home,
	// which is the user's home directory.
	Prefix     string
	Home       string
	AppPackage string
	Dirs       Dirs
	Arch       platform.Arch
	Getenv     func(string) string
	// Root is put in front of the machine's own paths, such as /system, in tests.
	Root string
}

// Path is where a path of the machine is found.
func (h *Host) Path(name string) string {
	if h.Root == "" {
		return name
	}
	return filepath.Join(h.Root, name)
}

// Termux's defaults.
const (
	termuxPrefix  = "/data/data/com.termux/files/usr"
	termuxHome    = "/data/data/com.termux/files/home"
	termuxPackage = "com.termux"
)

// SystemEnv asks the real machine.
func SystemEnv() Env {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // cannot fail with a valid pointer
	return Env{
		Getenv: os.Getenv,
		Exists: func(p string) bool { _, err := os.Lstat(p); return err == nil },
		Access: func(p string) bool {
			return unix.Access(p, unix.R_OK|unix.X_OK) == nil
		},
		Machine: unix.ByteSliceToString(uts.Machine[:]),
		Android: runtime.GOOS == "android",
	}
}

// Detect decides what the machine is and where state is kept.
func Detect(env Env) (*Host, error) {
	h := &Host{Getenv: env.Getenv}
	arch, err := platform.Parse(env.Machine)
	if err != nil {
		return nil, fmt.Errorf("this machine's CPU (%s) is not supported: containers exist for aarch64, arm, i686, riscv64 and x86_64", env.Machine)
	}
	h.Arch = arch
	prefix := withDefault(env.Getenv("TERMUX__PREFIX"), termuxPrefix)
	if h.Termux = isTermux(env, prefix); h.Termux {
		err = h.setTermux(prefix)
	} else {
		err = h.setLinux(env)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Host) setTermux(prefix string) error {
	home := withDefault(h.Getenv("TERMUX__HOME"), termuxHome)
	for variable, dir := range map[string]string{"TERMUX__PREFIX": prefix, "TERMUX__HOME": home} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("%s is not an absolute path but %q: correct or unset it", variable, dir)
		}
	}
	h.Prefix, h.Home = filepath.Clean(prefix), filepath.Clean(home)
	h.AppPackage = withDefault(h.Getenv("TERMUX_APP__PACKAGE_NAME"), termuxPackage)
	runtime := filepath.Join(h.Prefix, "var/lib/proot-distro")
	h.Dirs = Dirs{Runtime: runtime, Cache: filepath.Join(runtime, "cache")}
	return nil
}

func (h *Host) setLinux(env Env) error {
	h.Home = env.Getenv("HOME")
	data, err := xdgDir(env, "XDG_DATA_HOME", ".local/share")
	if err != nil {
		return err
	}
	cache, err := xdgDir(env, "XDG_CACHE_HOME", ".cache")
	if err != nil {
		return err
	}
	h.Dirs = Dirs{Runtime: filepath.Join(data, "proot-distro"), Cache: filepath.Join(cache, "proot-distro")}
	return nil
}

// isTermux holds when two of three signals do; one alone misleads (a Termux
// variable kept by ssh, an Android image mounted on a desktop).
func isTermux(env Env, prefix string) bool {
	signals := 0
	for _, s := range []bool{
		env.Android || env.Exists("/system/build.prop") || env.Exists("/data/app"),
		env.Getenv("TERMUX_APP__APP_VERSION_NAME") != "" || env.Getenv("TERMUX_VERSION") != "",
		env.Access(prefix),
	} {
		if s {
			signals++
		}
	}
	return signals >= 2
}

// xdgDir follows the XDG base directory specification, which tells programs
// to ignore a relative value.
func xdgDir(env Env, variable, fallback string) (string, error) {
	if dir := env.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Clean(dir), nil
	}
	home := env.Getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("HOME is not set to an absolute path: set it, or set %s", variable)
	}
	return filepath.Join(home, fallback), nil
}

func withDefault(value, fallback string) string {
	if strings.TrimSpace(value) == "" {
		return fallback
	}
	return value
}
