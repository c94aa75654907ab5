package session

import (
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// systemPaths are Android's own; a program of the host, such as an emulator, needs them.
var systemPaths = []string{
	"/apex", "/linkerconfig/com.android.art/ld.config.txt", "/linkerconfig/ld.config.txt", "/odm",
	"/plat_property_contexts", "/product", "/property_contexts", "/system", "/system_ext", "/vendor",
}

// runtimePaths are those of Android's apps and their virtual machine.
var runtimePaths = []string{
	"/data/app", "/data/dalvik-cache", "/data/misc/apexdata/com.android.art/dalvik-cache",
}

// hostBinds lists what a guest on Termux sees of the host without being asked.
func (s *Session) hostBinds(o Options, emulated bool) []engine.Bind {
	if !s.host.Termux {
		return nil
	}
	var binds []engine.Bind
	if o.Mode != Minimal {
		binds = append(s.deviceBinds(), s.standIns()...)
	}
	switch {
	case o.Mode == Default:
		binds = append(binds, s.sharedPaths(runtimePaths)...)
		binds = append(binds, s.sharedPaths(systemPaths)...)
		binds = append(binds, s.storage()...)
		if !s.termux {
			binds = append(binds, s.sharedPaths([]string{"/data/data/" + s.host.AppPackage})...)
			binds = append(binds, engine.Bind{Source: s.host.Prefix, Target: s.host.Prefix})
		}
	case emulated:
		binds = append(binds, s.sharedPaths(systemPaths)...)
		binds = append(binds, engine.Bind{Source: s.host.Prefix, Target: s.host.Prefix})
	}
	return binds
}

// deviceBinds complete Android's /dev. Its random device blocks, and shared memory is
// each container's own.
func (s *Session) deviceBinds() []engine.Bind {
	binds := []engine.Bind{{Source: s.host.Path("/dev/urandom"), Target: "/dev/random"}}
	for _, link := range [][2]string{
		{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
	} {
		if _, err := os.Lstat(s.host.Path(link[1])); err != nil {
			binds = append(binds, engine.Bind{Source: link[0], Target: link[1]})
		}
	}
	return append(binds, engine.Bind{Source: path.Join(s.dir, "shm"), Target: "/dev/shm", Pending: true})
}

// sharedPaths keeps of the host's paths those that this user can use.
func (s *Session) sharedPaths(names []string) []engine.Bind {
	var binds []engine.Bind
	for _, name := range names {
		if s.usable(name) {
			binds = append(binds, engine.Bind{Source: s.host.Path(name), Target: name})
		}
	}
	return binds
}

// usable holds for directories that can be entered and files that can be read.
func (s *Session) usable(name string) bool {
	real, err := filepath.EvalSymlinks(s.host.Path(name))
	if err != nil {
		return false
	}
	info, err := os.Stat(real)
	switch {
	case err != nil || strings.Contains(s.host.Path(name), ":"):
		return false
	case info.IsDir():
		return unix.Access(real, unix.X_OK) == nil
	}
	return info.Mode().IsRegular() && s.readable(name)
}

func (s *Session) readable(name string) bool { return unix.Access(s.host.Path(name), unix.R_OK) == nil }

// storage lists the places where programs look for the phone's shared storage. Which of
// them the host has depends on its version and on granted permissions.
func (s *Session) storage() []engine.Bind {
	if s.readable("/storage") {
		binds := s.sharedPaths([]string{"/storage"})
		if s.usable("/storage/emulated/0") {
			source := s.host.Path("/storage/emulated/0")
			binds = append(binds, engine.Bind{Source: source, Target: "/sdcard"}, engine.Bind{Source: source, Target: "/mnt/sdcard"})
		}
		return binds
	}
	var binds []engine.Bind
	for _, name := range []string{"/storage/self/primary", "/storage/emulated/0", "/sdcard"} {
		if !s.readable(name) {
			continue
		}
		for _, target := range []string{"/mnt/sdcard", "/sdcard", "/storage/emulated/0", "/storage/self/primary"} {
			binds = append(binds, engine.Bind{Source: s.host.Path(name), Target: target})
		}
		break
	}
	return binds
}

// sharedDirs are the directories of $PREFIX/tmp that --shared-tmp and --shared-x11 ask for.
func (s *Session) sharedDirs(o Options) []engine.Bind {
	var binds []engine.Bind
	for _, shared := range []struct {
		wished         bool
		option, source string
		target         string
	}{
		{o.SharedTmp, "--shared-tmp", "tmp", "/tmp"},
		{o.SharedX11, "--shared-x11", "tmp/.X11-unix", "/tmp/.X11-unix"},
	} {
		switch {
		case !shared.wished:
		case s.termux:
			s.rep.Warnf("%s has no effect: container %s is made of Termux's packages, which have a /tmp of their own", shared.option, s.name)
		default:
			source := filepath.Join(s.host.Prefix, shared.source)
			binds = append(binds, engine.Bind{Source: source, Target: shared.target, Pending: shared.option == "--shared-x11"})
		}
	}
	return binds
}
