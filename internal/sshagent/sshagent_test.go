package sshagent

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func keyFile(t *testing.T, key crypto.PrivateKey) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "key", pem.EncodeToMemory(block))
}

// listen serves on a socket of its own.
func listen(t *testing.T, serve func(net.Listener)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir is too long for the address of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serve(l)
	return socket
}

// borrow connects to what a Source serves.
func borrow(t *testing.T, s *Source) agent.ExtendedAgent {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", listen(t, s.Serve))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return agent.NewClient(conn)
}

// check has every key sign, and tries to do harm.
func check(t *testing.T, lender agent.ExtendedAgent, want int) {
	t.Helper()
	keys, err := lender.List()
	if err != nil || len(keys) != want {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	data := []byte("to be signed")
	for _, key := range keys {
		flags := agent.SignatureFlags(0)
		if key.Type() == ssh.KeyAlgoRSA {
			flags = agent.SignatureFlagRsaSha256 // ssh(1) wants no SHA-1
		}
		sig, err := lender.SignWithFlags(key, data, flags)
		if err != nil {
			t.Fatalf("%s: %v", key.Type(), err)
		}
		if err := key.Verify(data, sig); err != nil || flags != 0 && sig.Format != ssh.KeyAlgoRSASHA256 {
			t.Errorf("%s: signature of format %s: %v", key.Type(), sig.Format, err)
		}
	}
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"add": lender.Add(agent.AddedKey{PrivateKey: own}), "remove": lender.Remove(keys[0]), "remove all": lender.RemoveAll(),
		"lock": lender.Lock([]byte("x")), "unlock": lender.Unlock([]byte("x")),
	} {
		if err == nil {
			t.Errorf("%s is possible", name)
		}
	}
	if keys, err := lender.List(); err != nil || len(keys) != want {
		t.Errorf("%d keys are left, %v", len(keys), err)
	}
}

func TestKeyFiles(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(keyFile(t, ed), keyFile(t, ec), keyFile(t, rs))
	if err != nil {
		t.Fatal(err)
	}
	check(t, borrow(t, s), 3)
}

func TestSocket(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	socket := listen(t, func(l net.Listener) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(keyring, conn)
		}
	})
	s, err := Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	check(t, borrow(t, s), 1)
	if err := os.Rename(socket, socket+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "no agent answers") {
		t.Errorf("error %v", err)
	}
}

func TestBadFiles(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"):                                                          "does not exist",
		t.TempDir():                                                                                 "cannot be read: is a directory",
		write(t, "text", []byte("hello")):                                                           "neither an agent's socket nor",
		write(t, "huge", bytes.Repeat([]byte("x"), maxKey+1)):                                       "neither an agent's socket nor",
		write(t, "id.pub", ssh.MarshalAuthorizedKey(public)):                                        "but a public key: the private one is most likely ",
		write(t, "encrypted", pem.EncodeToMemory(encrypted)):                                        "is protected by a passphrase",
		write(t, "broken", pem.EncodeToMemory(encrypted)[:60]):                                      "neither an agent's socket nor",
		write(t, "certificate", []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")): "neither an agent's socket nor",
	} {
		_, err := Open(file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), file) {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		if strings.Contains(want, "passphrase") != errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}
