package session

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// sysdata is the directory, beside the root filesystem, of stand-ins for kernel files
// that Android does not let programs read. Without them, top, ps and many installers fail.
const sysdata = "sysdata"

// empty is a directory, so that SELinux looks absent to the guest.
const empty = "empty"

// standInFiles maps kernel files to what a stand-in says.
var standInFiles = []struct {
	path string
	text func(machine) string
}{
	{"/proc/loadavg", machine.loadavg},
	{"/proc/stat", machine.stat},
	{"/proc/uptime", machine.uptimeFile},
	{"/proc/version", machine.version},
	{"/proc/vmstat", machine.vmstat},
	{"/proc/sys/kernel/cap_last_cap", func(machine) string { return "40\n" }},
	{"/proc/sys/kernel/overflowuid", func(machine) string { return "65534\n" }},
	{"/proc/sys/kernel/overflowgid", func(machine) string { return "65534\n" }},
	{"/proc/sys/fs/inotify/max_user_watches", func(machine) string { return "4096\n" }},
}

// standIns binds a stand-in over each kernel file that cannot be read.
func (s *Session) standIns() []engine.Bind {
	var binds []engine.Bind
	for _, f := range standInFiles {
		if !answers(s.host.Path(f.path)) {
			binds = append(binds, engine.Bind{Source: path.Join(s.dir, sysdata, path.Base(f.path)), Target: f.path, Pending: true})
		}
	}
	return append(binds, engine.Bind{Source: path.Join(s.dir, sysdata, empty), Target: "/sys/fs/selinux", Pending: true})
}

// answers reports whether a kernel file gives anything: Android forbids some to be
// opened, others to be read.
func answers(name string) bool {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Read(make([]byte, 1))
	return err == nil
}

// writeStandIn makes the file name of sysdata as of now.
func (s *Session) writeStandIn(name string, spec engine.Spec) error {
	dir, err := s.own(sysdata)
	if err != nil {
		return err
	}
	defer dir.Close()
	if name == empty {
		if err := dir.MkdirAll(empty, 0o755); err != nil {
			return fmt.Errorf("container %s: make a stand-in for /sys/fs/selinux: %w", s.name, err)
		}
		return nil
	}
	for _, f := range standInFiles {
		if path.Base(f.path) != name {
			continue
		}
		if err := dir.WriteFile(name, []byte(f.text(thisMachine(spec.KernelRelease))), 0o644); err != nil {
			return fmt.Errorf("container %s: make a stand-in for %s: %w", s.name, f.path, err)
		}
	}
	return nil
}

// machine is what a program may ask of the kernel without those files.
type machine struct {
	cpus    int
	uptime  time.Duration
	now     time.Time
	loads   [3]float64
	procs   int
	release string
}

func thisMachine(release string) machine {
	m := machine{cpus: runtime.NumCPU(), now: time.Now(), procs: 1, release: cmp.Or(release, engine.DefaultRelease)}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.uptime = time.Duration(info.Uptime) * time.Second
		m.procs = int(info.Procs)
		for i := range m.loads {
			m.loads[i] = float64(info.Loads[i]) / (1 << 16) // SI_LOAD_SHIFT
		}
	}
	var boot unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) == nil {
		m.uptime = time.Duration(boot.Nano())
	}
	return m
}

// share of their time that the CPUs are said to have been idle.
const idleShare = 0.9

func (m machine) uptimeFile() string {
	return fmt.Sprintf("%.2f %.2f\n", m.uptime.Seconds(), m.uptime.Seconds()*float64(m.cpus)*idleShare)
}

// loadavg is as proc_loadavg(5) has it.
func (m machine) loadavg() string {
	return fmt.Sprintf("%.2f %.2f %.2f 1/%d %d\n", m.loads[0], m.loads[1], m.loads[2], m.procs, os.Getpid())
}

func (m machine) version() string {
	return fmt.Sprintf("Linux version %s (proot@termux) (clang version 20.1.0, LLD 20.1.0) %s\n", m.release, engine.DefaultVersion)
}

// stat is as proc_stat(5) has it; times are in hundredths of a second.
func (m machine) stat() string {
	var b strings.Builder
	ticks := int64(m.uptime / (10 * time.Millisecond))
	idle := int64(float64(ticks) * idleShare)
	line := func(label string, n int64) {
		busy := (ticks - idle) * n
		fmt.Fprintf(&b, "%s %d %d %d %d %d 0 %d 0 0 0\n", label, busy/2, busy/20, busy*3/10, idle*n, busy/10, busy/20)
	}
	line("cpu ", int64(m.cpus))
	for i := range m.cpus {
		line(fmt.Sprintf("cpu%d", i), 1)
	}
	fmt.Fprintf(&b, "intr %d\nctxt %d\nbtime %d\nprocesses %d\nprocs_running 1\nprocs_blocked 0\n",
		ticks*int64(m.cpus), ticks*int64(m.cpus)*2, m.now.Add(-m.uptime).Unix(), ticks/100+int64(m.procs))
	fmt.Fprintf(&b, "softirq %d 0 %d 0 %d 0 0 0 %d 0 %d\n", ticks, ticks/4, ticks/4, ticks/4, ticks/4)
	return b.String()
}

// vmstatCounters are those that vmstat(8) and sar(1) look for.
const vmstatCounters = "nr_free_pages nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file nr_zone_active_file " +
	"nr_zone_unevictable nr_mlock nr_dirty nr_writeback nr_slab_reclaimable nr_slab_unreclaimable nr_mapped nr_file_pages " +
	"nr_shmem pgpgin pgpgout pswpin pswpout pgfault pgmajfault pgfree pgactivate pgdeactivate allocstall_normal " +
	"pgscan_kswapd pgscan_direct pgsteal_kswapd pgsteal_direct oom_kill"

// vmstat counts what does not tell: free pages as they are, the rest as nothing.
func (m machine) vmstat() string {
	var b bytes.Buffer
	var info unix.Sysinfo_t
	free := uint64(0)
	if unix.Sysinfo(&info) == nil {
		free = uint64(info.Freeram) * uint64(info.Unit) / uint64(os.Getpagesize())
	}
	for _, name := range strings.Fields(vmstatCounters) {
		value := uint64(0)
		if name == "nr_free_pages" {
			value = free
		}
		fmt.Fprintf(&b, "%s %d\n", name, value)
	}
	return b.String()
}
