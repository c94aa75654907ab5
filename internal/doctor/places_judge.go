package doctor

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Less room than this is spoken of, in bytes.
const (
	littleRoom = 1 << 30
	noRoom     = 64 << 20
)

func (m machine) judgePlaces() (findings []Finding) {
	for _, p := range m.places {
		findings = append(findings, m.judgePlace(p))
	}
	return findings
}

func (m machine) judgePlace(p placeFacts) Finding {
	what, variable := "containers are kept", "XDG_DATA_HOME"
	if p.Name == "cache" {
		what, variable = "downloads are kept", "XDG_CACHE_HOME"
	}
	elsewhere := fmt.Sprintf("Name another directory in %s.", variable)
	if m.host.Termux {
		elsewhere = "Free some space, or install Termux anew." // its prefix has one place
	}
	f := Finding{ID: "disk." + p.Name, Status: OK, Facts: p}
	f.Text = fmt.Sprintf("%s in %s: %s, %s free", what, p.Path, p.FileSystem, size(p.Free))
	faults := p.faults(p.Name == "state")
	switch {
	case errors.Is(p.err, unix.ENOSPC) || errors.Is(p.err, unix.EDQUOT):
		f.Status, f.Text = Problem, fmt.Sprintf("%s in %s, which is full", what, p.Path)
		f.Fix = fmt.Sprintf("Make room; '%s list --image' shows what the cache holds.", m.program)
	case p.err != nil:
		f.Status, f.Text, f.Fix = Problem, fmt.Sprintf("%s in %s, which cannot be used: %v", what, p.Path, reason(p.err)), elsewhere
	case len(faults) > 0:
		f.Status, f.Text, f.Fix = Problem, f.Text+"; it has no "+strings.Join(faults, ", no "), elsewhere
	case p.Free < littleRoom:
		f.Status = Note
		if p.Free < noRoom {
			f.Status = Problem
		}
		f.Fix = fmt.Sprintf("Make room; '%s clear-cache' deletes downloads that can be had again.", m.program)
	}
	if p.Writable && p.Name == "state" && len(faults) == 0 {
		f.Text += ", " + p.links()
	}
	return f
}

// faults are what containers cannot live without.
func (p placeFacts) faults(programs bool) (faults []string) {
	for _, need := range []struct {
		met  bool
		name string
	}{
		{p.SymLinks, "symbolic links"}, {p.Modes, "permissions"}, {p.CaseCounts, "names that differ in case only"},
		{p.Programs || !programs, "programs that may be run (mount option noexec?)"},
	} {
		if !need.met {
			faults = append(faults, need.name)
		}
	}
	return faults
}

// links says what copies cost.
func (p placeFacts) links() string {
	switch {
	case p.Reflinks && p.HardLinks:
		return "copies take no space"
	case p.HardLinks:
		return "hard links work"
	}
	return "hard links become copies"
}

// reason is the cause alone: paths are told already.
func reason(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// size writes a number of bytes.
func size(n uint64) string {
	const units = "KMGTPE"
	v, unit := float64(n)/1024, 0
	for v >= 999.5 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.0f %ciB", v, units[unit])
}
