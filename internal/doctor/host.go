package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/platform"
)

// hostFacts describe the machine.
type hostFacts struct {
	System string        `json:"system"` // of os-release(5), or Android
	Kernel string        `json:"kernel"`
	Arch   platform.Arch `json:"arch"`
	User   string        `json:"user"`
	UID    int           `json:"uid"`
	// Proc says that /proc is there.
	Proc bool `json:"proc"`
	// Inside is what this machine itself is in: "chroot", "container", or empty.
	Inside string        `json:"inside,omitempty"`
	Termux bool          `json:"termux"`
	Phone  *androidFacts `json:"android,omitempty"`

	install func(pkg string) string
}

// androidFacts are what matters on a phone.
type androidFacts struct {
	Release string `json:"release"`
	SDK     int    `json:"sdk"`
	// Storage says that the shared storage can be read.
	Storage bool `json:"storage"`
	// PhantomKiller says whether Android ends background processes of apps, if that can
	// be known.
	PhantomKiller *bool `json:"phantom_killer,omitempty"`
}

// trialTime bounds each program that is tried.
const trialTime = 5 * time.Second

func lookAtHost(h *host.Host) hostFacts {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // cannot fail with a valid pointer
	f := hostFacts{
		System: cmp.Or(h.System().Name, "Linux of unknown make"), Kernel: unix.ByteSliceToString(uts.Release[:]), Arch: h.Arch,
		UID: os.Geteuid(), Termux: h.Termux, Inside: inside(), install: h.InstallCommand,
	}
	f.User = strconv.Itoa(f.UID)
	_, err := os.Stat("/proc/self/fd")
	f.Proc = err == nil
	if u, err := user.LookupId(f.User); err == nil && u.Username != "" {
		f.User = u.Username
	}
	if h.Termux {
		f.Phone = lookAtAndroid(h)
		f.System = strings.TrimSpace("Android " + f.Phone.Release)
	}
	return f
}

// inside tells a chroot by the mounts that the kernel shows, of which one should be at
// the root, and a container by the marks that Docker, Podman and systemd leave.
func inside() string {
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && !rootIsMount(mounts) {
		return "chroot"
	}
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv", "/run/systemd/container"} {
		if _, err := os.Stat(mark); err == nil {
			return "container"
		}
	}
	return ""
}

// rootIsMount reads proc_pid_mountinfo(5), whose fifth field is a mount point.
func rootIsMount(mountinfo []byte) bool {
	for line := range bytes.Lines(mountinfo) {
		if fields := bytes.Fields(line); len(fields) > 4 && string(fields[4]) == "/" {
			return true
		}
	}
	return false
}

func lookAtAndroid(h *host.Host) *androidFacts {
	properties := androidProperties(h)
	f := &androidFacts{Release: properties["ro.build.version.release"]}
	f.SDK, _ = strconv.Atoi(properties["ro.build.version.sdk"])
	_, err := os.ReadDir(h.Path("/storage/emulated/0"))
	f.Storage = err == nil
	const phantomSDK = 31 // Android 12
	switch override := properties["persist.sys.fflag.override.settings_enable_monitor_phantom_procs"]; {
	case f.SDK == 0:
	case f.SDK < phantomSDK, override == "false":
		f.PhantomKiller = new(bool)
	case override == "true":
		yes := true
		f.PhantomKiller = &yes
	}
	return f
}

// androidProperties asks getprop(1); none when it does not answer.
func androidProperties(h *host.Host) map[string]string {
	line := regexp.MustCompile(`(?m)^\[([^\]]+)\]: \[(.*)\]\r?$`)
	properties := map[string]string{}
	out, _ := runTrial(h.Path("/system/bin/getprop"))
	for _, m := range line.FindAllStringSubmatch(out, -1) {
		properties[m[1]] = m[2]
	}
	return properties
}

// runTrial runs a program with no input and gives what it printed.
func runTrial(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), trialTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader("") // without one, /dev/null is opened, which a chroot may lack
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = errors.New("it did not end in time")
	}
	return string(out), err
}
