package doctor

import (
	"fmt"
	"strings"
)

func (m machine) judgeContainers() []Finding {
	c := m.containers
	f := Finding{ID: sectionContainers, Status: OK, Facts: c}
	f.Text = fmt.Sprintf("%d installed, %d sessions running", c.Containers, c.Sessions)
	if c.Sessions == 1 {
		f.Text = fmt.Sprintf("%d installed, 1 session running", c.Containers)
	}
	switch {
	case c.err != nil:
		f.Status, f.Text, f.Fix = Problem, fmt.Sprintf("they cannot be listed: %v", c.err), "Correct what the message names."
	case len(c.Leftovers) > 0:
		f.Status = Note
		f.Text = fmt.Sprintf("%s; a command that was killed left something of %s, %s", f.Text, strings.Join(c.Leftovers, ", "), size(uint64(c.LeftoverSize)))
		f.Fix = fmt.Sprintf("'%s clear-cache --orphan' cleans that up, and so does the next install, restore or reset.", m.program)
	}
	return []Finding{f}
}

func (m machine) judgeCache() []Finding {
	c := m.cache
	f := Finding{ID: "disk.usage", Status: OK, Facts: c}
	total := uint64(c.Layers + c.Unfinished + c.Unpacked)
	switch {
	case c.err != nil:
		f.Status, f.Text, f.Fix = Problem, fmt.Sprintf("the cache cannot be read: %v", reason(c.err)), fmt.Sprintf("Delete it with '%s clear-cache'.", m.program)
		return []Finding{f}
	case total == 0:
		f.Text = "the cache is empty"
	default:
		f.Text = fmt.Sprintf("the cache takes %s: layers %s, unpacked for builds %s", size(total), size(uint64(c.Layers)), size(uint64(c.Unpacked)))
	}
	if c.Unfinished > 0 {
		f.Text += fmt.Sprintf(", downloads that broke off and can go on %s", size(uint64(c.Unfinished)))
	}
	if c.Scratch > 0 {
		f.Text += fmt.Sprintf("; builds that were killed left %s", size(uint64(c.Scratch)))
	}
	if c.Unfinished+c.Scratch > 0 {
		f.Status, f.Fix = Note, fmt.Sprintf("'%s clear-cache --orphan' deletes that.", m.program)
	}
	return []Finding{f}
}
