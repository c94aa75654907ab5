package build

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

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
