package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
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
			m.CacheID = "default"
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

func (m *mount) describeSecret() {
	if m.Source != "" {
		m.CacheID = m.Source
	}
	if m.CacheID == "" {
		m.CacheID = path.Base(m.target)
	}
	if m.target == "" && m.Env == nil {
		m.target = "/run/secrets/" + path.Base("/"+m.CacheID)
	}
}

// mounted is what a RUN finds in its place: our own binds and its mounts.
type mounted struct {
	binds   []engine.Bind
	tmpfs   []engine.Tmpfs // below the binds
	env     []string
	targets []string // that do not belong to the image
	own     int      // of targets: those that every RUN has
	stubs   stubs    // of mounts; those of our own binds stay for the next RUN
	copies  map[int]func(context.Context) (string, error)
	locks   []*os.File
	dirs    []string // host paths to be deleted
	servers []io.Closer
	session *session
}

// skip leaves out of layers what was mounted.
func (p *mounted) skip(name string) bool { return below(name, p.targets) }

// id tells sets of targets apart.
func (p *mounted) id() string { return strings.Join(p.targets, "\n") }

// bound gives the host path behind a guest path.
func (p *mounted) bound(name string) (string, bool) {
	for i := len(p.binds) - 1; i >= 0; i-- {
		b := p.binds[i]
		if below(name, []string{b.Target}) {
			return filepath.Join(b.Source, strings.TrimPrefix(name, b.Target)), true
		}
	}
	return "", false
}

// demanding reports whether there is something that not every engine can mount.
func (p *mounted) demanding() bool {
	return len(p.tmpfs) > 0 || slices.ContainsFunc(p.binds, func(b engine.Bind) bool { return b.ReadOnly })
}

// makeDo is for engines that only bind, and not read-only: temporary filesystems become directories, and copies, which
// may be spoilt, take the place of what must not be written to.
func (p *mounted) makeDo(ctx context.Context, s *stage) error {
	for i := range p.binds {
		p.binds[i].ReadOnly = false
		if replace := p.copies[i]; replace != nil {
			dir, err := replace(ctx)
			if err != nil {
				return err
			}
			p.binds[i].Source = dir
		}
	}
	var dirs []engine.Bind
	for _, m := range p.tmpfs {
		if m.Size > 0 {
			s.warnOnce("--mount type=tmpfs: only the native engine can limit the size of %s to %d bytes", m.Target, m.Size)
		}
		dir, err := s.scratch.dir("tmpfs")
		if err != nil {
			return err
		}
		p.dirs = append(p.dirs, dir)
		if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
			return err
		}
		dirs = append(dirs, engine.Bind{Source: dir, Target: m.Target})
	}
	p.binds, p.tmpfs = append(dirs, p.binds...), nil
	return nil
}

func (p *mounted) close(root *rootfs.FS) error {
	err := p.stubs.remove(root)
	for _, server := range p.servers {
		err = errors.Join(err, server.Close())
	}
	for _, dir := range p.dirs {
		err = errors.Join(err, p.session.scratch.remove(dir))
	}
	for _, lock := range p.locks {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// mountAll makes what a RUN wants mounted, and the mount points for it. What it returns is to be closed,
// also after an error.
func (s *stage) mountAll(ctx context.Context, root *rootfs.FS, cmd command, mounts []mount) (*mounted, error) {
	p := &mounted{session: s.session, copies: map[int]func(context.Context) (string, error){}}
	if err := s.mountOwn(root, p); err != nil {
		return p, err
	}
	p.own = len(p.targets)
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

func (p *mounted) bind(b engine.Bind) {
	p.binds = append(p.binds, b)
	p.targets = append(p.targets, b.Target)
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

// put binds a host path at a mount's target.
func (p *mounted) put(root *rootfs.FS, m *mount, hostPath string, dir bool) error {
	at, err := p.stubs.add(root, m.target, dir)
	if err != nil {
		return err
	}
	p.bind(engine.Bind{Source: hostPath, Target: at, ReadOnly: m.ReadOnly})
	return nil
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

// mountSecret puts a secret into a file of its own, or into the environment.
func (s *stage) mountSecret(root *rootfs.FS, p *mounted, m *mount) error {
	secret, ok := s.req.Secrets[m.CacheID]
	if !ok {
		if m.Required {
			return fmt.Errorf("secret %s is required: give it with --secret id=%[1]s,src=FILE", m.CacheID)
		}
		return nil
	}
	value, err := secret.read()
	if err != nil {
		return fmt.Errorf("secret %s: %w", m.CacheID, err)
	}
	if m.Env != nil {
		name := *m.Env
		if name == "" {
			name = m.CacheID
		}
		p.env = append(p.env, name+"="+string(value))
	}
	if m.target == "" {
		return nil
	}
	dir, err := s.scratch.dir("secret")
	if err != nil {
		return err
	}
	p.dirs = append(p.dirs, dir)
	mode := fs.FileMode(0o400)
	if m.Mode != nil {
		mode = fs.FileMode(*m.Mode) & fs.ModePerm
	}
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, value, mode); err != nil {
		return fmt.Errorf("secret %s: %w", m.CacheID, report.Cause(err))
	}
	if err := s.give(file, m); err != nil {
		return err
	}
	m.ReadOnly = false // the file is a copy
	return p.put(root, m, file, false)
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

// maxSecret bounds a secret, in bytes, as BuildKit does.
const maxSecret = 500 << 10

func (s Secret) read() ([]byte, error) {
	if s.File == "" {
		return s.Value, nil
	}
	info, err := os.Stat(s.File)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.File, report.Cause(err))
	}
	if info.Size() > maxSecret {
		return nil, fmt.Errorf("%s is larger than %d KiB", s.File, maxSecret>>10)
	}
	data, err := os.ReadFile(s.File)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.File, report.Cause(err))
	}
	return data, nil
}
