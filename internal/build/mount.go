package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/engine"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// mount is one --mount of a RUN.
type mount struct {
	*instructions.Mount
	target string // absolute
	from   origin // of a bind, or what a new cache starts with
	key    string // for the step's key
}

// mounts finds out what a RUN wants mounted. Nothing is made yet.
func (s *stage) mounts(ctx context.Context, wanted []*instructions.Mount) ([]mount, error) {
	var mounts []mount
	agents := 0
	for _, w := range wanted {
		m := mount{Mount: w}
		if w.Target != "" {
			m.target = s.workdirOf(w.Target)
		}
		if w.Type == instructions.MountTypeSSH && m.target == "" {
			m.target = "/run/buildkit/ssh_agent." + strconv.Itoa(agents)
			agents++
		}
		err := s.describe(ctx, &m)
		if err != nil {
			return nil, fmt.Errorf("--mount type=%s: %w", w.Type, err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// describe completes a mount and gives it its key: what the step's outcome depends on.
func (s *stage) describe(ctx context.Context, m *mount) error {
	switch m.Type {
	case instructions.MountTypeSecret:
		m.describeSecret()
	case instructions.MountTypeSSH:
		if m.CacheID == "" {
			m.CacheID = defaultSSH
		}
	case instructions.MountTypeCache:
		if m.CacheID == "" {
			m.CacheID = m.target
		}
	}
	if m.target == "/" || m.target == "" && (m.Type != instructions.MountTypeSecret || m.Env == nil) {
		return errors.New("it needs a target other than /")
	}
	m.key = fmt.Sprintf("%s %q %q %q %t", m.Type, m.target, m.CacheID, m.Source, m.ReadOnly)
	if m.Type != instructions.MountTypeBind && (m.Type != instructions.MountTypeCache || m.From == "") {
		return nil
	}
	content, err := s.mountContent(ctx, m)
	m.key += " " + content
	return err
}

// mountContent finds the source of a mount and identifies what is in it.
func (s *stage) mountContent(ctx context.Context, m *mount) (string, error) {
	var err error
	if m.From == "" {
		m.from.dir, err = s.contextSource()
		m.from.what = "the build context"
	} else {
		m.from, err = s.origin(ctx, m.From)
	}
	if err != nil {
		return "", err
	}
	if id := m.from.identity(); id != "" {
		return id, nil
	}
	src, err := m.from.open(ctx)
	if err != nil {
		return "", err
	}
	b, err := src.Collect(ctx, relative(m.Source), nil)
	if err != nil {
		return "", err
	}
	return b.Digest(ctx)
}

func relative(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// mountAll makes what a RUN wants mounted, and the mount points for it. What it returns is to be closed,
// also after an error.
func (s *stage) mountAll(ctx context.Context, root *rootfs.FS, cmd command, mounts []mount) (*mounted, error) {
	p := &mounted{session: s.session, copies: map[int]func(context.Context) (string, error){}}
	if err := s.mountOwn(root, p); err != nil {
		return p, err
	}
	if cmd.script != nil {
		if err := s.mountScript(root, p, cmd); err != nil {
			return p, err
		}
	}
	for i := range mounts {
		if err := s.mount(ctx, root, p, &mounts[i]); err != nil {
			return p, fmt.Errorf("--mount type=%s: %w", mounts[i].Type, err)
		}
	}
	return p, nil
}

// mountOwn prepares what every RUN has: /dev, /proc and /sys of the engine, name resolution.
func (s *stage) mountOwn(root *rootfs.FS, p *mounted) error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		at, err := s.tree.files.stubs().add(root, dir, true)
		if err != nil {
			return err
		}
		p.targets = append(p.targets, at)
	}
	if info, err := root.Stat(path.Dir(engine.AptConfig)); err == nil && info.Mode.IsDir() {
		at, err := s.tree.files.stubs().add(root, engine.AptConfig, false)
		if err != nil {
			return err
		}
		p.targets = append(p.targets, at)
	}
	if err := s.mountDevices(p); err != nil {
		return err
	}
	dir, err := s.scratch.dir("etc")
	if err != nil {
		return err
	}
	p.dirs = append(p.dirs, dir)
	for _, f := range []struct{ name, content string }{
		{"resolv.conf", s.resolvConf()},
		{"hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	} {
		file := filepath.Join(dir, f.name)
		if err := os.WriteFile(file, []byte(f.content), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		at, err := s.tree.files.stubs().add(root, "/etc/"+f.name, false)
		if err != nil {
			return err
		}
		p.bind(engine.Bind{Source: file, Target: at})
	}
	return nil
}

// mountDevices completes Android's /dev, whose random device blocks.
func (s *stage) mountDevices(p *mounted) error {
	if !s.Host.Termux {
		return nil
	}
	shm, err := s.scratch.dir("shm")
	if err != nil {
		return err
	}
	p.dirs = append(p.dirs, shm)
	p.binds = append(p.binds,
		engine.Bind{Source: "/dev/urandom", Target: "/dev/random"}, engine.Bind{Source: shm, Target: "/dev/shm"})
	for _, link := range [][2]string{
		{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
	} {
		if _, err := os.Lstat(link[1]); err != nil {
			p.binds = append(p.binds, engine.Bind{Source: link[0], Target: link[1]})
		}
	}
	return nil
}

// resolvConf is the host's name resolution, whose network the guest has.
func (s *stage) resolvConf() string {
	if !s.Host.Termux {
		if data, err := os.ReadFile("/etc/resolv.conf"); err == nil && strings.Contains(string(data), "nameserver") {
			return string(data)
		}
	}
	return "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
}

func (s *stage) mountScript(root *rootfs.FS, p *mounted, cmd command) error {
	dir, err := s.scratch.dir("script")
	if err != nil {
		return err
	}
	p.dirs = append(p.dirs, dir)
	file := filepath.Join(dir, path.Base(cmd.argv[0]))
	if err := os.WriteFile(file, []byte(cmd.script.Data), 0o755); err != nil {
		return fmt.Errorf("write the script: %w", err)
	}
	if err := os.Chmod(file, 0o755); err != nil {
		return fmt.Errorf("write the script: %w", err)
	}
	at, err := p.stubs.add(root, scriptDir, true)
	if err != nil {
		return err
	}
	p.bind(engine.Bind{Source: dir, Target: at})
	return nil
}

// mount makes one mount.
func (s *stage) mount(ctx context.Context, root *rootfs.FS, p *mounted, m *mount) error {
	switch m.Type {
	case instructions.MountTypeBind:
		return s.mountBind(ctx, root, p, m)
	case instructions.MountTypeCache:
		return s.mountCache(ctx, root, p, m)
	case instructions.MountTypeTmpfs:
		at, err := p.stubs.add(root, m.target, true)
		if err != nil {
			return err
		}
		p.tmpfs = append(p.tmpfs, engine.Tmpfs{Target: at, Mode: 0o1777, Size: m.SizeLimit})
		p.targets = append(p.targets, at)
		return nil
	case instructions.MountTypeSecret:
		return s.mountSecret(root, p, m)
	case instructions.MountTypeSSH:
		return s.mountSSH(root, p, m)
	}
	return errors.New("it is not supported")
}

// mountBind shows a directory or a file of the context, of a stage or of an image. What a command
// writes there is lost: it works on a copy, or may not write at all.
func (s *stage) mountBind(ctx context.Context, root *rootfs.FS, p *mounted, m *mount) error {
	src, err := m.from.open(ctx)
	if err != nil {
		return err
	}
	name := relative(m.Source)
	at, err := src.Root.Resolve(name)
	if err != nil {
		return src.Missing(m.Source)
	}
	info, err := src.Root.Lstat(at)
	if err != nil {
		return err
	}
	makeCopy := func(ctx context.Context) (string, error) { return s.copyOut(ctx, p, src, name) }
	if src.Root == root {
		return errors.New("a stage cannot be mounted into itself")
	}
	hostPath := filepath.Join(src.Root.Path(), at)
	if !m.ReadOnly || src.Ignore != nil {
		if hostPath, err = makeCopy(ctx); err != nil {
			return err
		}
	} else {
		p.copies[len(p.binds)] = makeCopy
	}
	return p.put(root, m, hostPath, info.Mode.IsDir())
}

// copyOut copies a file or a directory of a source into a scratch directory and gives its host path.
func (s *stage) copyOut(ctx context.Context, p *mounted, src *layout.Source, name string) (string, error) {
	b, err := src.Collect(ctx, name, nil)
	if err != nil {
		return "", err
	}
	dir, err := s.scratch.dir("mount")
	if err != nil {
		return "", err
	}
	p.dirs = append(p.dirs, dir)
	if err := unpackBatch(ctx, b, dir); err != nil {
		return "", fmt.Errorf("copy %s: %w", name, err)
	}
	if b.IsDir {
		return dir, nil
	}
	return filepath.Join(dir, b.Name), nil
}

// give makes a file of the host the uid's and gid's of a mount, where that makes a difference: for guests of
// others all files are theirs.
func (s *stage) give(hostPath string, m *mount) error {
	if !s.AllIDs {
		return nil
	}
	id := func(n *uint64) int {
		if n == nil {
			return 0
		}
		return int(*n)
	}
	if err := os.Lchown(hostPath, id(m.UID), id(m.GID)); err != nil {
		return fmt.Errorf("give the mount to uid=%d, gid=%d: %w", id(m.UID), id(m.GID), report.Cause(err))
	}
	return nil
}
