// Package sshagent lends SSH keys to a command: it serves the protocol of ssh-agent(1), with the keys
// of an agent that runs already or with keys from files.
//
// The one who borrows can list the keys and sign with them, and nothing else: no key is
// handed out, added, removed or locked. Keys from files are held in memory only.
package sshagent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Source is where keys come from: an agent's socket, or files.
type Source struct {
	socket string
	keys   agent.ExtendedAgent // used when socket is empty
}

// maxKey bounds a key file, in bytes.
const maxKey = 100 << 10

// ErrPassphrase says that a key file is encrypted.
var ErrPassphrase = errors.New("is protected by a passphrase")

// Open reads files with private keys, or finds the socket of an agent, if that is what
// a single path is. Its errors are sentences that name the path.
func Open(paths ...string) (*Source, error) {
	if len(paths) == 1 {
		info, err := os.Stat(paths[0])
		if err == nil && info.Mode()&fs.ModeSocket != 0 {
			return &Source{socket: paths[0]}, nil
		}
	}
	keyring, ok := agent.NewKeyring().(agent.ExtendedAgent)
	if !ok {
		return nil, errors.New("keys from files are not supported")
	}
	for _, path := range paths {
		key, err := readKey(path)
		if err != nil {
			return nil, err
		}
		if err := keyring.Add(agent.AddedKey{PrivateKey: key, Comment: path}); err != nil {
			return nil, fmt.Errorf("%s holds a key of a kind that is not supported", path)
		}
	}
	return &Source{keys: keyring}, nil
}

func readKey(path string) (key any, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist", path)
	} else if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, reason(err))
	}
	key, err = ssh.ParseRawPrivateKey(data)
	if encrypted := new(ssh.PassphraseMissingError); errors.As(err, &encrypted) {
		return nil, fmt.Errorf("%s %w", path, ErrPassphrase)
	}
	if len(data) > maxKey || err != nil {
		hint := ""
		if _, _, _, _, err := ssh.ParseAuthorizedKey(data); err == nil {
			hint = ", but a public key: the private one is most likely " + strings.TrimSuffix(path, ".pub")
		}
		return nil, fmt.Errorf("%s is neither an agent's socket nor a file with a private key%s", path, hint)
	}
	return key, nil
}

// reason drops operation and path.
func reason(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Check reports why the keys cannot be lent now.
func (s *Source) Check() error {
	if s.socket == "" {
		return nil
	}
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		return fmt.Errorf("no agent answers at %s", s.socket)
	}
	return conn.Close()
}

// Serve answers those who connect until the listener is closed.
func (s *Source) Serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			s.serve(conn)
		}()
	}
}

func (s *Source) serve(conn net.Conn) {
	keys := s.keys
	if s.socket != "" {
		to, err := net.Dial("unix", s.socket)
		if err != nil {
			return // which the borrower sees as an agent that has gone
		}
		defer to.Close()
		keys = agent.NewClient(to)
	}
	_ = agent.ServeAgent(lent{keys}, conn) // its end is the borrower's
}

// lent is an agent that only signs.
type lent struct{ agent.ExtendedAgent }

var errLent = errors.New("the keys are lent: they can be used, but not changed")

func (lent) Add(agent.AddedKey) error                 { return errLent }
func (lent) Remove(ssh.PublicKey) error               { return errLent }
func (lent) RemoveAll() error                         { return errLent }
func (lent) Lock([]byte) error                        { return errLent }
func (lent) Unlock([]byte) error                      { return errLent }
func (lent) Extension(string, []byte) ([]byte, error) { return nil, agent.ErrExtensionUnsupported }
