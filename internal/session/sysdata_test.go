package session

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proot-distro/internal/rootfs"
)

// Each stand-in is read back as programs read the real file.
func TestStandInsArePlausible(t *testing.T) {
	m := machine{cpus: 8, uptime: 90*time.Hour + 250*time.Millisecond, now: time.Unix(1_800_000_000, 0), loads: [3]float64{1.5, 1, 0.25}, procs: 321, release: "6.17.0"}
	var up, idle float64
	if _, err := fmt.Sscanf(m.uptimeFile(), "%f %f\n", &up, &idle); err != nil || up != 324000.25 || idle > 8*up {
		t.Errorf("uptime %q: %v", m.uptimeFile(), err)
	}
	later := m
	later.uptime += time.Second
	if later.uptimeFile() == m.uptimeFile() || later.stat() == m.stat() {
		t.Error("time stands still")
	}
	var a, b, c float64
	var running, total, pid int
	if _, err := fmt.Sscanf(m.loadavg(), "%f %f %f %d/%d %d\n", &a, &b, &c, &running, &total, &pid); err != nil || a != 1.5 || total != 321 {
		t.Errorf("loadavg %q: %v", m.loadavg(), err)
	}
	if !strings.HasPrefix(m.version(), "Linux version 6.17.0 (") || strings.Count(m.version(), "\n") != 1 {
		t.Errorf("version %q", m.version())
	}
	cpus := 0
	values := map[string]int64{}
	for line := range strings.Lines(m.stat()) {
		fields := strings.Fields(line)
		if strings.HasPrefix(line, "cpu") {
			cpus++
			if len(fields) != 11 {
				t.Errorf("%q has %d fields", line, len(fields))
			}
		}
		var n int64
		if _, err := fmt.Sscan(fields[1], &n); err != nil || n < 0 {
			t.Errorf("%q: %v", line, err)
		}
		values[fields[0]] = n
	}
	if cpus != 9 || values["btime"] != 1_800_000_000-324_000-1 {
		t.Errorf("%d lines of CPUs, booted %d:\n%s", cpus, values["btime"], m.stat())
	}
	for line := range strings.Lines(m.vmstat()) {
		if len(strings.Fields(line)) != 2 {
			t.Errorf("vmstat: %q", line)
		}
	}
}

func TestThisMachine(t *testing.T) {
	m := thisMachine("")
	if m.cpus < 1 || m.uptime <= 0 || m.release == "" || m.procs < 1 {
		t.Errorf("%+v", m)
	}
}

// A guest may have put anything where stand-ins are written.
func TestStandInsReplaceTraps(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(t.TempDir(), "precious")
	for _, err := range []error{
		os.WriteFile(precious, []byte("precious"), 0o644), os.Symlink(precious, filepath.Join(dir, "uptime")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, _ := newSession(t, nil, nil)
	s.own = func(string) (*rootfs.FS, error) { return rootfs.Open(dir, rootfs.NoLinks) }
	spec, err := s.Login(Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"uptime", "stat", empty} {
		if err := s.writeStandIn(name, spec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, _ := os.ReadFile(precious); string(text) != "precious" {
		t.Error("a link was followed")
	}
	if info, err := os.Lstat(filepath.Join(dir, "uptime")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
}
