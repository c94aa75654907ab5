package native

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
)

// Files of subuid(5) and subgid(5), and the programs that may map what they grant.
const (
	subuidFile, subgidFile = "/etc/subuid", "/etc/subgid"
	newuidmap, newgidmap   = "newuidmap", "newgidmap"
)

// A FullMapError says why more than one user ID cannot be had.
type FullMapError struct {
	Problem string // a sentence without its full stop
	Remedy  string // a sentence
}

func (e *FullMapError) Error() string { return "cannot map further user IDs: " + e.Problem }

// Fix says what to do about it.
func (e *FullMapError) Fix() string { return e.Remedy }

// An idRange is a line of uid_map or gid_map: count IDs from first on inside are those
// from outer on outside.
type idRange struct{ first, outer, count uint64 }

// grants are the ranges of subuid(5) that belong to a user, in the order of the
// file: existing files depend on it. The user is called by number or by name. What is
// wrong in the file is passed over, as newuidmap(1) does.
func grants(file []byte, names ...string) []idRange {
	var ranges []idRange
	for line := range strings.Lines(string(file)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		start, err1 := strconv.ParseUint(fields[1], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || start+count > math.MaxUint32 {
			continue
		}
		for _, name := range names {
			if name != "" && fields[0] == name {
				ranges = append(ranges, idRange{outer: start, count: count})
				break
			}
		}
	}
	return ranges
}

// fullMap gives own the ID 0 inside and what is granted the IDs from 1 on. An ID that
// two grants have in common counts once: the kernel refuses it twice.
func fullMap(own uint64, granted []idRange) []idRange {
	ranges := []idRange{{first: 0, outer: own, count: 1}}
	next := uint64(1)
	for _, g := range granted {
		for _, part := range without(g, ranges) {
			part.first = next
			next += part.count
			ranges = append(ranges, part)
		}
	}
	return ranges
}

// without cuts out of r what others have outside, and returns what is left.
func without(r idRange, others []idRange) []idRange {
	parts := []idRange{r}
	for _, o := range others {
		var left []idRange
		for _, p := range parts {
			end, oEnd := p.outer+p.count, o.outer+o.count
			if o.outer >= end || oEnd <= p.outer {
				left = append(left, p)
				continue
			}
			if p.outer < o.outer {
				left = append(left, idRange{outer: p.outer, count: o.outer - p.outer})
			}
			if oEnd < end {
				left = append(left, idRange{outer: oEnd, count: end - oEnd})
			}
		}
		parts = left
	}
	return parts
}

func formatMap(ranges []idRange) string {
	var b strings.Builder
	for _, r := range ranges {
		fmt.Fprintf(&b, "%d %d %d\n", r.first, r.outer, r.count)
	}
	return b.String()
}

// grantedMaps are the full maps of an ordinary user.
func grantedMaps(uid, gid int) (*idMaps, error) {
	for _, program := range []string{newuidmap, newgidmap} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, &FullMapError{
				Problem: fmt.Sprintf("the program %s is missing", program),
				Remedy:  "Install the package uidmap (shadow-utils on some systems).",
			}
		}
	}
	name := ""
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	texts := [2]string{}
	for i, id := range []struct {
		file, option string
		own          int
	}{{subuidFile, "--add-subuids", uid}, {subgidFile, "--add-subgids", gid}} {
		data, err := os.ReadFile(id.file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, &FullMapError{Problem: err.Error(), Remedy: "Make it readable for everybody."}
		}
		granted := grants(data, name, strconv.Itoa(uid)) // by the user in both files
		if len(granted) == 0 {
			who := name
			if who == "" {
				who = strconv.Itoa(uid)
			}
			return nil, &FullMapError{
				Problem: fmt.Sprintf("%s grants none to user %s", id.file, who),
				Remedy: fmt.Sprintf("As root: usermod %s 100000-165535 %s (other numbers if that file gives these to somebody else).",
					id.option, who),
			}
		}
		texts[i] = formatMap(fullMap(uint64(id.own), granted))
	}
	return &idMaps{uids: texts[0], gids: texts[1], granted: true}, nil
}

// writeGranted has the setuid programs write the maps of a process.
func (m *idMaps) writeGranted(pid int) error {
	for _, f := range []struct{ program, text string }{{newuidmap, m.uids}, {newgidmap, m.gids}} {
		args := append([]string{strconv.Itoa(pid)}, strings.Fields(f.text)...)
		out, err := exec.Command(f.program, args...).CombinedOutput()
		if err == nil {
			continue
		}
		said := strings.TrimSpace(string(bytes.ToValidUTF8(out, []byte("?"))))
		if said == "" {
			said = fmt.Sprintf("%s: %v", f.program, err)
		}
		return &FullMapError{
			Problem: said,
			Remedy:  fmt.Sprintf("See that %s is setuid root or has its capability, and that /etc/subuid and /etc/subgid are right.", f.program),
		}
	}
	return nil
}
