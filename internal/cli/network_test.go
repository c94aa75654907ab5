package cli

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
)

func TestNameservers(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	for name, tc := range map[string]struct {
		content string
		want    []string
	}{
		"usual":       {"# by Termux\nnameserver 1.1.1.1\nnameserver 2606:4700::1111\noptions x\n", []string{"1.1.1.1:53", "[2606:4700::1111]:53"}},
		"empty":       {"", publicServers},
		"nonsense":    {"nameserver\nnameserver one\nserver 1.1.1.1\n\x00\xff", publicServers},
		"with a zone": {"nameserver fe80::1%wlan0\n", []string{"[fe80::1%wlan0]:53"}},
		"three at most": {"nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n",
			[]string{"1.1.1.1:53", "1.1.1.2:53", "1.1.1.3:53"}},
	} {
		file := filepath.Join(dir, "resolv.conf")
		must(t, os.WriteFile(file, []byte(tc.content), 0o644))
		if got := nameservers(file); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	for _, file := range []string{filepath.Join(dir, "missing"), fifo, dir} {
		if got := nameservers(file); !slices.Equal(got, publicServers) {
			t.Errorf("%s: %q", file, got)
		}
	}
}

// A server that knows one name answers, after one that does not listen.
func TestResolverAsksTheNextServer(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer conn.Close()
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil || n < 17 {
				return
			}
			// RFC 1035: header, then a name that ends with a zero byte, type and class.
			end := 12 + bytes.IndexByte(buf[12:n], 0) + 5
			answer := slices.Clone(buf[:end])
			answer[2], answer[3] = 0x81, 0x80
			copy(answer[6:12], make([]byte, 6)) // no answers, and no EDNS in the additional section
			if isA := answer[end-3] == 1; isA {
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 7)
			}
			_, _ = conn.WriteTo(answer, from) // a lost answer is asked for again
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	addrs, err := resolver([]string{"127.0.0.1:1", conn.LocalAddr().String()}).LookupHost(ctx, "registry.example.")
	if err != nil || !slices.Equal(addrs, []string{"192.0.2.7"}) {
		t.Errorf("%q, %v", addrs, err)
	}
}

func TestTermuxCertificates(t *testing.T) {
	t.Setenv("SSL_CERT_FILE", "") // restored at the end
	t.Setenv("SSL_CERT_DIR", "")
	was := net.DefaultResolver
	defer func() { net.DefaultResolver = was }()
	dir := t.TempDir()
	h := &host.Host{Termux: true, Prefix: filepath.Join(dir, "usr"), Root: filepath.Join(dir, "android")}
	useTermuxNetwork(h)
	if net.DefaultResolver == was || os.Getenv("SSL_CERT_FILE") != "" || os.Getenv("SSL_CERT_DIR") != "" {
		t.Errorf("without certificates: %q %q", os.Getenv("SSL_CERT_FILE"), os.Getenv("SSL_CERT_DIR"))
	}
	bundle := filepath.Join(h.Prefix, "etc/tls/cert.pem")
	system := h.Path("/system/etc/security/cacerts")
	must(t, os.MkdirAll(filepath.Dir(bundle), 0o755))
	must(t, os.WriteFile(bundle, nil, 0o644))
	must(t, os.MkdirAll(system, 0o755))
	useTermuxNetwork(h)
	if os.Getenv("SSL_CERT_FILE") != bundle || os.Getenv("SSL_CERT_DIR") != system {
		t.Errorf("%q %q", os.Getenv("SSL_CERT_FILE"), os.Getenv("SSL_CERT_DIR"))
	}
	t.Setenv("SSL_CERT_FILE", "/mine")
	t.Setenv("SSL_CERT_DIR", "")
	useTermuxNetwork(h)
	if os.Getenv("SSL_CERT_FILE") != "/mine" || os.Getenv("SSL_CERT_DIR") != "" {
		t.Error("the user's own certificates are not respected")
	}
}
