package native

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"proot-distro/internal/engine"
	"proot-distro/internal/rootfs"
)

// name is what --engine calls this engine.
const name = "native"

// ErrUnavailable says that this machine does not let the engine work.
var ErrUnavailable = errors.New("the native engine cannot be used on this machine")

// errNeedsAllIDs says that [Unshare] should have been called.
var errNeedsAllIDs = errors.New("the container has files of several owners, and there is root alone here")

// Engine is what this machine's kernel allows. It implements [engine.Engine].
type Engine struct {
	features features
}

var _ engine.Engine = (*Engine)(nil)

// New finds out by trial whether namespaces can be used. Its error is
// [ErrUnavailable], mostly with a [*StepError].
func New() (*Engine, error) {
	f, err := probe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return &Engine{features: f}, nil
}

// Untried supposes that namespaces can be used, which saves the trial's milliseconds.
// Where they cannot, a process of this engine fails with [ErrUnavailable] before it
// has done anything.
func Untried() *Engine { return &Engine{features: features{pidNamespace: true}} }

// Name implements [engine.Engine].
func (e *Engine) Name() string { return name }

// Prepare implements [engine.Engine].
func (e *Engine) Prepare(s engine.Spec) (engine.Process, error) {
	for _, o := range []struct {
		wanted      bool
		option, fix string
	}{
		{s.User.Real, "sessions with the host's own identity", "take proot with --engine proot"},
	} {
		if o.wanted {
			return nil, &engine.Unsupported{Engine: "the native engine", Option: o.option, Fix: o.fix}
		}
	}
	for _, b := range s.Binds {
		if b.Pending {
			continue
		}
		switch _, err := os.Stat(b.Source); {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("cannot bind %s: it does not exist on the host", b.Source)
		case err != nil:
			return nil, fmt.Errorf("cannot bind %s: %w", b.Source, errors.Unwrap(err))
		}
	}
	ownBinfmt := false
	if s.Emulator != "" {
		var err error
		if ownBinfmt, err = checkEmulator(s); err != nil {
			return nil, err
		}
	}
	maps, err := newIDMaps()
	if err != nil {
		return nil, err
	}
	if s.AllIDs && maps.single {
		return nil, errNeedsAllIDs
	}
	p := &Process{spec: s, maps: maps, features: e.features, binfmt: ownBinfmt}
	return p, p.lookAround()
}

// lookAround learns what the rootfs has that decides about mounts.
func (p *Process) lookAround() error {
	root, err := rootfs.Open(p.spec.Rootfs, rootfs.GuestLinks)
	if err != nil {
		return fmt.Errorf("open the root filesystem: %w", err)
	}
	defer root.Close()
	if info, err := root.Stat(path.Dir(engine.AptConfig)); err == nil && info.Mode.IsDir() {
		p.apt = p.maps.single && p.root()
	}
	return nil
}
