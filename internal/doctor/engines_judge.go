package doctor

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine/native"
	"proot-distro/internal/engine/proot"
)

func (m machine) nativeWorks() bool { return m.native != nil && m.native.err == nil }
func (m machine) prootWorks() bool  { return m.proot.err == nil }

func (m machine) judgeEngines() (findings []Finding) {
	if m.native != nil {
		findings = append(findings, m.judgeNative())
	}
	return append(findings, m.judgeProot(), m.judgeChoice())
}

// nativeReport is the machine-readable part about the native engine.
type nativeReport struct {
	Works bool `json:"works"`
	native.Abilities
	// Step is what failed, and Errno how.
	Step  string `json:"step,omitempty"`
	Errno string `json:"errno,omitempty"`
}

func (m machine) judgeNative() Finding {
	f := Finding{ID: "engine.native", Status: OK, Text: "native works"}
	facts := nativeReport{Works: m.nativeWorks(), Abilities: m.native.Abilities}
	switch step := new(native.StepError); {
	case m.nativeWorks() && !m.native.OwnProcesses:
		f.Text += ", but sessions see the processes of this machine: /proc cannot be mounted here"
	case m.nativeWorks():
	case errors.As(m.native.err, &step):
		facts.Step, facts.Errno = step.Step, unix.ErrnoName(step.Errno)
		f.Status, f.Text = m.asked(EngineNative), fmt.Sprintf("native does not work: cannot %s: %v (%s)", step.Step, step.Errno, facts.Errno)
		why, fix := m.explain(step)
		f.Text, f.Fix = f.Text+why, fix
	default:
		f.Status, f.Text = m.asked(EngineNative), fmt.Sprintf("native does not work: %v", m.native.err)
		f.Fix = "Use proot."
	}
	f.Facts = facts
	return f
}

// asked is how bad it is that an engine does not work: not very, where another one does
// that nobody forbade.
func (m machine) asked(engine string) Status {
	if took, _ := m.engine(); took != "" && m.wish.engine != engine {
		return Note
	}
	return Problem
}

// explain says, as far as can be told, why a step failed, and what to do.
func (m machine) explain(step *native.StepError) (why, fix string) {
	refused := step.Errno == unix.EPERM || step.Errno == unix.EACCES
	ordinary, d := m.host.UID != 0, m.native.denial
	switch {
	case step.Errno == unix.ENOSPC && d.maxUserNamespaces == "0":
		return ". User namespaces are turned off here", "As root: 'sysctl user.max_user_namespaces=15000'; a file in /etc/sysctl.d keeps it so."
	case refused && ordinary && d.unprivilegedClone == "0":
		return ". User namespaces are root's alone here", "As root: 'sysctl kernel.unprivileged_userns_clone=1'; a file in /etc/sysctl.d keeps it so."
	case refused && m.host.Inside == "chroot":
		return ". The kernel refuses user namespaces to programs in a chroot", "Run this program outside of the chroot, or use proot."
	case refused && d.seccomp && m.host.Inside == "container":
		return ". The container that this is forbids it", "Start that container with --security-opt seccomp=unconfined, or use proot."
	case refused && ordinary && d.appArmorRestriction == "1":
		return ". AppArmor permits user namespaces to known programs only",
			fmt.Sprintf("'%s doctor --apparmor-profile' prints the profile that makes this program known, and how to install it.", m.program)
	case refused && d.seccomp:
		return ". A system call filter is in force", "Start this program from where there is none, or use proot."
	}
	return "", step.Fix()
}

// prootReport is the machine-readable part about proot.
type prootReport struct {
	Works bool `json:"works"`
	proot.Abilities
}

func (m machine) judgeProot() Finding {
	f := Finding{ID: "engine.proot", Status: OK, Facts: prootReport{m.prootWorks(), m.proot.Abilities}}
	missing := new(proot.NotFoundError)
	switch {
	case errors.As(m.proot.err, &missing):
		f.Status, f.Text, f.Fix = m.asked(EngineProot), "proot is not installed", "Install the package proot."
		if missing.Hint != "" {
			f.Fix = "Run '" + missing.Hint + "'."
		}
		return f
	case errors.Is(m.proot.err, proot.ErrNested):
		f.Status, f.Text, f.Fix = Problem, "this program itself runs under proot, which cannot be nested", "Run it on the host."
		return f
	case m.proot.err != nil:
		f.Status, f.Text = m.asked(EngineProot), sentence(m.proot.err.Error())
		f.Fix = "Name another proot in PD_PROOT_BIN, or " + lower(m.install("proot"))
		if m.proot.Version != "" {
			f.Fix = "Something here forbids ptrace(2), on which proot rests: use the native engine, or look for a security policy."
		}
		return f
	}
	f.Text = fmt.Sprintf("proot works: version %s at %s", m.proot.Version, m.proot.Path)
	if lacks := m.proot.lacks(); len(lacks) > 0 {
		f.Text += ". It cannot do " + strings.Join(lacks, ", ")
	}
	m.judgeLeaks(&f)
	if m.host.Termux && !m.proot.HardLinks {
		f.Status, f.Text = Problem, f.Text+". It emulates no hard links, which Android forbids, so package managers fail"
		f.Fix = "Run 'pkg install proot' and unset PD_PROOT_BIN."
	}
	return f
}

// lacks names the options of login that this proot has nothing for.
func (f prootFacts) lacks() (options []string) {
	for _, o := range []struct {
		has  bool
		name string
	}{{f.Hostname, "--hostname"}, {f.KernelRelease, "--kernel"}, {f.RedirectPorts, "--redirect-ports"}, {false, "read-only binds"}} {
		if !o.has {
			options = append(options, o.name)
		}
	}
	return options
}

// judgeLeaks speaks of the calls that this proot lets through untranslated.
func (m machine) judgeLeaks(f *Finding) {
	switch leaks := strings.Join(m.proot.Leaks, ", "); {
	case leaks == "":
	case m.proot.LeaksRefused:
		f.Text += fmt.Sprintf(". It does not translate %s; they are refused, and guests use older calls", leaks)
	default:
		f.Status = Note
		f.Text += fmt.Sprintf(". It does not translate %s, and this kernel cannot refuse them: guests see some of the host's file metadata", leaks)
		f.Fix = "Install proot 5.2 or newer, or name one in PD_PROOT_BIN."
	}
}

// engine is what login takes, and why; "" for none.
func (m machine) engine() (name, why string) {
	because := "the default"
	if m.wish.from != "" {
		because = fmt.Sprintf("as %s says", m.wish.from)
	}
	switch native, proot := m.nativeWorks(), m.prootWorks(); {
	case m.wish.err != nil:
		return "", m.wish.err.Error()
	case m.wish.engine == EngineNative && native, m.wish.engine == EngineProot && proot:
		return m.wish.engine, because
	case m.wish.engine == EngineNative, m.wish.engine == EngineProot:
		return "", fmt.Sprintf("%s (%s) does not work", m.wish.engine, because)
	case native:
		return EngineNative, "unless an option needs proot"
	case proot && m.host.Termux:
		return EngineProot, "the only engine on Android"
	case proot:
		return EngineProot, "since native does not work"
	}
	return "", "no engine works"
}

func (m machine) judgeChoice() Finding {
	name, why := m.engine()
	f := Finding{ID: "engine.login", Status: OK, Text: fmt.Sprintf("login takes %s, %s", name, why)}
	if name != "" {
		return f
	}
	f.Status, f.Text = Problem, "login cannot run anything: "+why
	switch {
	case m.wish.err != nil:
		f.Fix = fmt.Sprintf("Set %s to %s, %s or %s, or unset it.", m.wish.from, EngineAuto, EngineNative, EngineProot)
	case m.nativeWorks() || m.prootWorks():
		f.Fix = "PD_ENGINE=auto takes the engine that works."
	default:
		f.Fix = "Make one of the engines work, as said above."
	}
	return f
}

func (m machine) judgeIDs() []Finding {
	if m.ids == nil {
		return nil
	}
	f := Finding{ID: "ids.full", Status: OK, Text: "containers can have all user IDs (--userns full)"}
	switch full := new(native.FullMapError); {
	case m.ids.err == nil && m.host.UID == 0:
		f.Text = "containers have all user IDs, as root's do"
	case m.ids.err == nil:
	case errors.As(m.ids.err, &full):
		f.Status, f.Text, f.Fix = Note, "containers cannot have all user IDs (--userns full): "+full.Problem, full.Remedy
	default:
		f.Status, f.Text = Note, "containers cannot have all user IDs (--userns full): "+m.ids.err.Error()
		f.Fix = "Without them, changing owners and becoming another user succeed without effect."
	}
	return []Finding{f}
}

// sentence drops a full stop, and what is no text.
func sentence(text string) string { return strings.TrimRight(strings.TrimSpace(text), ".") }

// lower begins a sentence as one does in the middle of another.
func lower(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToLower(text[:1]) + text[1:]
}
