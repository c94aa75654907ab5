package native

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

func TestShiftPort(t *testing.T) {
	address := func(family byte, port uint16) []byte {
		return []byte{family, 0, byte(port >> 8), byte(port), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	tests := []struct {
		name   string
		family byte
		port   uint16
		want   uint16
	}{
		{"web", unix.AF_INET, 80, 2080},
		{"web over IPv6", unix.AF_INET6, 80, 2080},
		{"the first", unix.AF_INET, 1, 2001},
		{"the last", unix.AF_INET, 1023, 3023},
		{"unprivileged", unix.AF_INET, 1024, 1024},
		{"any", unix.AF_INET, 0, 0},
		{"no port at all", unix.AF_UNIX, 80, 80},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := address(tt.family, tt.port)
			if changed := shiftPort(got); changed != (tt.port != tt.want) {
				t.Errorf("changed: %v", changed)
			}
			if want := address(tt.family, tt.want); string(got) != string(want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// TestRedirectPorts has a guest serve a privileged port, and asks it from the host.
func TestRedirectPorts(t *testing.T) {
	const port = 987
	root := newRootfs(t)
	must(t, os.WriteFile(filepath.Join(root, "tmp/index.html"), []byte("hello\n"), 0o644))
	s := newSpec(root, "/bin/busybox", "httpd", "-f", "-p", fmt.Sprint(port), "-h", "/tmp")
	s.RedirectPorts = true
	p, err := newEngine(t).Prepare(s)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		status, err := p.Run(ctx, engine.Stdio{Out: os.Stderr, Err: os.Stderr})
		if err == nil {
			err = fmt.Errorf("the server ended with status %d", status)
		}
		ended <- err
	}()
	for {
		if unix.Connect(localSocket(t), &unix.SockaddrInet4{Port: port + portShift, Addr: localhost}) == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	<-ended
}

var localhost = [4]byte{127, 0, 0, 1}

// localSocket avoids package net, which would make this program a dynamic one.
func localSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// TestRefusedBind expects the errors that bind(2) itself has.
func TestRefusedBind(t *testing.T) {
	busy := localSocket(t)
	must(t, unix.Bind(busy, &unix.SockaddrInet4{Port: 2988}))
	must(t, unix.Listen(busy, 1))
	s := script(newRootfs(t), "exec 2>&1; exec /bin/busybox httpd -f -p 988")
	s.RedirectPorts = true
	if out, status := runSpec(t, s); status == 0 || out != "httpd: bind: Address already in use\n" {
		t.Errorf("status %d: %s", status, out)
	}
}

func TestNoNetwork(t *testing.T) {
	s := script(newRootfs(t), "cat /proc/net/dev | grep -c :; "+
		"nc -l -p 4000 </dev/null & sleep 0.2; echo reached | nc 127.0.0.1 4000; wait")
	s.Argv[2] = "nc() { /bin/busybox nc \"$@\"; }; grep() { /bin/busybox grep \"$@\"; }; " + s.Argv[2]
	s.NoNetwork = true
	wantOutput(t, s, "1\nreached\n")
}

func TestTmpfs(t *testing.T) {
	s := script(newRootfs(t), "cd /tmp; head -c 1048576 /dev/zero > a && echo fits; head -c 1048576 /dev/zero > b 2>/dev/null || echo full; stat -c %a /tmp /d")
	s.Argv[2] = "for p in head stat; do eval \"$p() { /bin/busybox $p \\\"\\$@\\\"; }\"; done; " + s.Argv[2]
	s.Tmpfs = []engine.Tmpfs{{Target: "/tmp", Mode: 0o1777, Size: 3 << 19}, {Target: "/d", Mode: 0o700}}
	wantOutput(t, s, "fits\nfull\n1777\n700\n")
}

func TestReadOnly(t *testing.T) {
	s := script(newRootfs(t), "for f in /file /tmp/file /new/place/file /bind/file; do touch $f 2>/dev/null && echo $f; done")
	dir := t.TempDir()
	s.ReadOnly, s.Tmpfs = true, []engine.Tmpfs{{Target: "/tmp", Mode: 0o1777}, {Target: "/new/place", Mode: 0o755}}
	s.Binds = []engine.Bind{{Source: dir, Target: "/bind"}}
	wantOutput(t, s, "/tmp/file\n/new/place/file\n/bind/file\n")
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.Rootfs, "tmp/file")); err == nil {
		t.Error("the temporary filesystem's file is in the root filesystem")
	}
}
