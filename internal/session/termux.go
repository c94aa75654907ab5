package session

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
	"proot-distro/internal/l2s"
)

// Mode says how much of an Android host a guest sees.
type Mode int

// Modes of [Options]; elsewhere than on Termux there is only one.
const (
	// Default shares Android's and Termux's directories and their variables.
	Default Mode = iota
	// Isolated shares none of them.
	Isolated
	// Minimal also leaves out stand-ins for /proc, the image's variables and the
	// kernel's release.
	Minimal
)

// A container of Termux's own packages has them at the path for which they were
// built, whatever the prefix of the host.
const (
	guestPrefix = "/data/data/com.termux/files/usr"
	guestHome   = "/data/data/com.termux/files/home"
	guestCache  = "/data/data/com.termux/cache"
)

// isTermux recognises a container of Termux's packages. While a session is running,
// proot may have made a directory of that name for a bind.
func (s *Session) isTermux() bool {
	info, err := s.root.Stat(guestPrefix + "/bin/login")
	return err == nil && info.Mode.IsRegular()
}

// features is what Android's kernel and policy lack.
func (s *Session) features(o Options) engine.Features {
	if !s.host.Termux {
		return engine.Features{}
	}
	f := engine.Features{
		HardLinks:  !o.NoHardLinks && !s.termux,
		LinkSizes:  true,
		SysVIPC:    !o.NoSysVIPC && o.Mode != Minimal,
		KillOnExit: !o.NoKillOnExit,
		Uname:      o.Mode != Minimal,
	}
	if f.HardLinks {
		f.LinkDir = path.Join(s.rootfsPath, l2s.Dir)
	}
	return f
}

// user finds the guest's user. In a container of Termux's packages that is this process's
// own, the only one.
func (s *Session) user(spec string, wished bool) (guest.User, error) {
	if !s.termux {
		return guest.LookupUser(s.root, spec)
	}
	if wished {
		return guest.User{}, errors.New("it is made of Termux's packages and has no users but your own: leave --user out")
	}
	return guest.User{Name: strconv.Itoa(os.Getuid()), UID: os.Getuid(), GID: os.Getgid(), Home: guestHome}, nil
}

// checkForeign refuses what an emulator cannot do: it and its libraries come from the
// prefix of the host, which the container's own hides.
func (s *Session) checkForeign(emulator string, err error) error {
	if s.termux && (err != nil || emulator != "") {
		return fmt.Errorf("container %s is made of Termux's packages for %s and cannot run on this %s machine: "+
			"an emulator would need the host's packages at the same path", s.name, s.arch, s.host.Arch)
	}
	return err
}

// termuxLogin is the command of a login in a container of Termux's packages.
func (s *Session) termuxLogin(spec engine.Spec, command []string) (engine.Spec, error) {
	programs := s.programs(spec)
	shell := guestPrefix + "/bin/bash"
	err := programs.Inspect(shell)
	if err != nil {
		shell = guestPrefix + "/bin/sh"
	}
	if err != nil && programs.Inspect(shell) != nil {
		return engine.Spec{}, fmt.Errorf("container %s: %w", s.name, err)
	}
	spec.Argv = []string{guestPrefix + "/bin/login"}
	if len(command) > 0 {
		spec.Argv = []string{shell, "-l", "-c", quoteAll(command)}
		spec.Shell = shell
	}
	return s.finish(spec)
}

// prepareTermux makes what the features and binds of spec need.
func (s *Session) prepareTermux(spec engine.Spec) error {
	if spec.Features.HardLinks {
		if err := s.makeLinkDir(); err != nil {
			return err
		}
	}
	if s.termux {
		if err := s.root.MkdirAll(guestCache, 0o755); err != nil {
			return fmt.Errorf("container %s: make its cache directory: %w", s.name, err)
		}
	}
	for _, b := range spec.Binds {
		if !b.Pending {
			continue
		}
		if err := s.makeSource(b, spec); err != nil {
			return err
		}
	}
	return nil
}

// makeLinkDir makes the directory that proot finds by the host's rules: it must not be
// a link.
func (s *Session) makeLinkDir() error {
	err := s.root.Mkdir("/"+l2s.Dir, 0o755)
	if info, statErr := s.root.Lstat("/" + l2s.Dir); statErr == nil && !info.Mode.IsDir() {
		return fmt.Errorf("container %s: /%s in it must be a directory, for proot keeps hard links there: "+
			"delete what has its place, or pass --no-link2symlink", s.name, l2s.Dir)
	} else if statErr != nil {
		return fmt.Errorf("container %s: make /%s: %w", s.name, l2s.Dir, errors.Join(err, statErr))
	}
	return nil
}

// makeSource makes the source of a pending bind.
func (s *Session) makeSource(b engine.Bind, spec engine.Spec) error {
	switch {
	case path.Dir(b.Source) == path.Join(s.dir, sysdata):
		return s.writeStandIn(path.Base(b.Source), spec)
	case path.Dir(b.Source) == s.dir:
		dir, err := s.own(path.Base(b.Source))
		if err != nil {
			return err
		}
		return dir.Close()
	}
	// The X server's directory, which it finds there when it comes.
	if err := os.Mkdir(b.Source, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("--shared-x11: %w", err)
	} else if err == nil {
		return unix.Chmod(b.Source, 0o1777)
	}
	return nil
}
