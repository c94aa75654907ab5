package cli

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
)

// publicServers resolve names where nothing else is configured, as on a phone without
// Termux's resolv-conf.
var publicServers = []string{"8.8.8.8:53", "8.8.4.4:53"}

// useTermuxNetwork points this process, and so all the libraries in it, to the name servers
// and certificates of Termux: Android has neither /etc/resolv.conf nor /etc/ssl.
func useTermuxNetwork(h *host.Host) {
	net.DefaultResolver = resolver(nameservers(filepath.Join(h.Prefix, "etc/resolv.conf")))
	if os.Getenv("SSL_CERT_FILE") != "" || os.Getenv("SSL_CERT_DIR") != "" {
		return
	}
	bundle := filepath.Join(h.Prefix, "etc/tls/cert.pem")
	if info, err := os.Stat(bundle); err == nil && info.Mode().IsRegular() {
		_ = os.Setenv("SSL_CERT_FILE", bundle) // neither name nor value can be bad
	}
	var dirs []string
	// The first is where Android 14 and newer keep what they update.
	for _, dir := range []string{"/apex/com.android.conscrypt/cacerts", "/system/etc/security/cacerts"} {
		if info, err := os.Stat(h.Path(dir)); err == nil && info.IsDir() {
			dirs = append(dirs, h.Path(dir))
		}
	}
	if len(dirs) > 0 {
		_ = os.Setenv("SSL_CERT_DIR", strings.Join(dirs, ":"))
	}
}

// nameservers reads a resolv.conf(5). A guest can write Termux's: whatever cannot be
// understood is passed over.
func nameservers(file string) []string {
	const limit = 64 << 10
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return publicServers
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return publicServers
	}
	var servers []string
	for lines := bufio.NewScanner(io.LimitReader(f, limit)); lines.Scan() && len(servers) < 3; {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(addr, 53).String())
		}
	}
	if len(servers) == 0 {
		return publicServers
	}
	return servers
}

// resolver asks one of these servers, and the next one after each that does not answer.
func resolver(servers []string) *net.Resolver {
	var current atomic.Uint32
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			n := current.Load()
			failed := func() { current.CompareAndSwap(n, n+1) } // of several queries at once, the first one
			conn, err := dialer.DialContext(ctx, network, servers[int(n)%len(servers)])
			if err != nil {
				failed()
			}
			if packets, ok := conn.(*net.UDPConn); ok {
				return query{packets, failed}, err
			}
			return conn, err
		},
	}
}

// query tells when it gets no answer.
type query struct {
	*net.UDPConn
	failed func()
}

func (q query) Read(p []byte) (int, error) {
	n, err := q.UDPConn.Read(p)
	if err != nil {
		q.failed()
	}
	return n, err
}
