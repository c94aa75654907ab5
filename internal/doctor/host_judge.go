package doctor

import "fmt"

func (m machine) judgeHost() []Finding {
	h := m.host
	text := fmt.Sprintf("%s, Linux %s, %s", h.System, h.Kernel, h.Arch)
	switch {
	case h.Termux:
		text += ", Termux"
	case h.Inside != "":
		text += ", in a " + h.Inside
	}
	findings := []Finding{{ID: "host.system", Status: OK, Text: text, Facts: h}, {ID: "host.user", Status: OK, Text: "user " + h.User}}
	if h.UID == 0 {
		findings[1].Text = "user root: a mistake in a container can harm this system; an ordinary user is enough"
	}
	if !h.Proc {
		findings = append(findings, Finding{
			ID: "host.proc", Status: Problem, Text: "there is no /proc, which engines need", Fix: "As root: 'mount -t proc proc /proc'.",
		})
	}
	if h.Phone == nil {
		return findings
	}
	if !h.Phone.Storage {
		findings = append(findings, Finding{
			ID: "host.storage", Status: Note, Text: "the phone's shared storage cannot be read, so containers do not have it",
			Fix: "To have it there, run 'termux-setup-storage' and allow it.",
		})
	}
	if killer := h.Phone.PhantomKiller; killer != nil && *killer {
		findings = append(findings, Finding{
			ID: "host.phantom", Status: Note, Text: "Android ends an app's background processes when all apps together have more than 32",
			Fix: "Turn on 'Disable child process restrictions' in Android's developer options.",
		})
	}
	return findings
}

// install is a sentence that says how to get a package.
func (m machine) install(pkg string) string {
	if command := m.host.install(pkg); command != "" {
		return "Run '" + command + "'."
	}
	return "Install the package " + pkg + "."
}
