package doctor

import (
	"errors"
	"fmt"
	"strings"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/proot"
)

func (m machine) judgeEmulators() (findings []Finding) {
	if m.untried != nil {
		return []Finding{{
			ID: "emulator." + string(m.host.Arch), Status: Problem, Text: fmt.Sprintf("no program can be tried: %v", m.untried),
			Fix: "Set TMPDIR to a directory in which you can write, on a file system that lets programs run.",
		}}
	}
	var missing []emulatorFacts
	for _, e := range m.emulators {
		if e.missing {
			missing = append(missing, e)
			continue
		}
		findings = append(findings, m.judgeEmulator(e))
	}
	for i, e := range missing {
		f := Finding{ID: "emulator." + string(e.Arch), Status: Note, Text: fmt.Sprintf("%s has no emulator here (%s)", e.Arch, e.Arch.Qemu()), Facts: e}
		if m.host.Termux || i == len(missing)-1 { // elsewhere one package has them all
			f.Fix = m.install(m.emulatorPackage(e))
		}
		findings = append(findings, f)
	}
	return findings
}

// emulatorPackage has an emulator that the best engine here can use.
func (m machine) emulatorPackage(e emulatorFacts) string {
	switch {
	case m.host.Termux:
		return e.Arch.QemuPackage()
	case m.nativeWorks():
		return "qemu-user-static"
	}
	return "qemu-user"
}

func (m machine) judgeEmulator(e emulatorFacts) Finding {
	f := Finding{ID: "emulator." + string(e.Arch), Status: OK}
	how := "by this CPU"
	if e.Emulator != "" {
		how = "by " + e.Emulator
		if e.Version != "" {
			how += " " + e.Version
		}
	}
	f.Text = fmt.Sprintf("%s programs run, %s", e.Arch, how)
	switch {
	case e.err != nil && e.Emulator == "":
		f.Status, f.Text = Note, fmt.Sprintf("%s programs do not run, although this CPU could: %v", e.Arch, e.err)
		f.Fix = "The kernel may be built without 32-bit programs (CONFIG_IA32_EMULATION, CONFIG_COMPAT)."
	case e.err != nil:
		f.Status, f.Text = Problem, fmt.Sprintf("%s programs do not run %s: %v", e.Arch, how, e.err)
		f.Fix = "Install it again, or another one: " + lower(m.install(m.emulatorPackage(e)))
	case e.Emulator != "":
		m.judgeUse(&f, e)
	}
	f.Facts = e
	return f
}

// judgeUse says which engines can use an emulator.
func (m machine) judgeUse(f *Finding, e emulatorFacts) {
	cannot := new(engine.Unsupported)
	switch {
	case !m.nativeWorks() || e.native == nil:
	case errors.As(e.native, &cannot):
		f.Text += ", but under proot only"
		f.Fix = strings.ToUpper(cannot.Fix[:1]) + cannot.Fix[1:] + "."
		f.Status = Note
	default:
		f.Text += fmt.Sprintf(", but under proot only: %v", e.native)
		f.Status = Note
	}
	if !m.prootWorks() && !m.nativeWorks() {
		f.Text += ", once an engine works"
	} else if !m.prootWorks() && e.native != nil && errors.As(m.proot.err, new(*proot.NotFoundError)) {
		f.Text += ", which is not installed"
	}
}
