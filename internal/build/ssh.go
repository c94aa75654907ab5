package build

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"proot-distro/internal/rootfs"
)

const (
	defaultSSH  = "default" // which keys of --ssh are meant where none are named
	agentSocket = "agent.sock"
)

// mountSSH lends the keys of --ssh, at a socket of its own.
func (s *stage) mountSSH(root *rootfs.FS, p *mounted, m *mount) error {
	source, ok := s.req.SSH[m.CacheID]
	if !ok {
		if m.Required {
			return fmt.Errorf("SSH agent %s is required: give it with --ssh %[1]s", m.CacheID)
		}
		return nil
	}
	if err := source.Check(); err != nil {
		return fmt.Errorf("--ssh %s: %w", m.CacheID, err)
	}
	dir, err := s.scratch.dir("ssh")
	if err != nil {
		return err
	}
	p.dirs = append(p.dirs, dir)
	listener, err := listenIn(dir, agentSocket)
	if err != nil {
		return fmt.Errorf("--ssh %s: %w", m.CacheID, err)
	}
	p.servers = append(p.servers, listener)
	socket := filepath.Join(dir, agentSocket)
	mode := fs.FileMode(0o600)
	if m.Mode != nil {
		mode = fs.FileMode(*m.Mode) & fs.ModePerm
	}
	if err := errors.Join(os.Chmod(socket, mode), s.give(socket, m)); err != nil {
		return fmt.Errorf("--ssh %s: %w", m.CacheID, err)
	}
	go source.Serve(listener)
	p.env = append(p.env, "SSH_AUTH_SOCK="+m.target)
	m.ReadOnly = false // a socket is for talking
	return p.put(root, m, socket, false)
}

// listenIn makes a socket by way of the open directory: an address has room for 107 bytes.
func listenIn(dir, name string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + name})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the number will mean something else by then
	return l, nil
}
