package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"proot-distro/internal/host"
)

// toolFacts are how another program answered that helps in places.
type toolFacts struct {
	Name string `json:"-"`
	Path string `json:"path,omitempty"` // empty when it is not there

	use string // what it is for
	err error  // why it does not work
}

// lookAtTools tries the programs that this one can do without. On Android none is run.
func lookAtTools(h *host.Host) (all []toolFacts) {
	for _, t := range []toolFacts{
		{Name: "git", use: "build adds from git repositories with it"},
		{Name: "xz", use: "backup writes .tar.xz on all CPUs with it"},
	} {
		if t.Name == "xz" && h.Termux {
			continue // each further process counts on Android
		}
		var err error
		if t.Path, err = exec.LookPath(t.Name); err == nil {
			_, t.err = runTrial(t.Path, "--version")
		}
		all = append(all, t)
	}
	return all
}

func (m machine) judgeTools() (findings []Finding) {
	for _, t := range m.tools {
		f := Finding{ID: "program." + t.Name, Status: OK, Text: fmt.Sprintf("%s is %s: %s", t.Name, t.Path, t.use), Facts: t}
		switch {
		case t.Path == "":
			f.Status, f.Text, f.Fix = Note, fmt.Sprintf("%s is not installed: %s", t.Name, t.use), m.install(t.Name)
		case t.err != nil:
			f.Status, f.Text = Note, fmt.Sprintf("%s does not work (%v): %s", t.Path, t.err, t.use)
			f.Fix = m.install(t.Name)
		}
		findings = append(findings, f)
	}
	return findings
}

// credentialFacts are where credentials for registries come from.
type credentialFacts struct {
	Variable bool     `json:"variable"` // PD_DOCKER_AUTH is set
	File     string   `json:"file,omitempty"`
	Helpers  []string `json:"helpers,omitempty"` // programs that the file names

	colon   bool     // PD_DOCKER_AUTH can be split
	open    bool     // others can read the file
	missing []string // helpers that are not there
	err     error
}

// maxCredentials bounds what is read of the file, in bytes.
const maxCredentials = 16 << 20

func lookAtCredentials(c Config) (f credentialFacts) {
	f.Variable, f.colon = c.Auth.UserPass != "", strings.Contains(c.Auth.UserPass, ":")
	for _, file := range credentialFiles(c.Host.Getenv) {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		f.File = file
		switch {
		case err != nil:
			f.err = err
		case !info.Mode().IsRegular() || info.Size() > maxCredentials:
			f.err = errors.New("it is no file of a usual size")
		default:
			f.open = info.Mode().Perm()&0o077 != 0
			f.err = f.read()
		}
		break
	}
	return f
}

// credentialFiles are Docker's and Podman's, of which the first counts.
func credentialFiles(getenv func(string) string) (files []string) {
	switch dir, home := getenv("DOCKER_CONFIG"), getenv("HOME"); {
	case dir != "":
		files = append(files, filepath.Join(dir, "config.json"))
	case home != "":
		files = append(files, filepath.Join(home, ".docker/config.json"))
	}
	if file := getenv("REGISTRY_AUTH_FILE"); file != "" {
		files = append(files, file)
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers/auth.json"))
	}
	return files
}

func (f *credentialFacts) read() error {
	data, err := os.ReadFile(f.File)
	if err != nil {
		return err
	}
	var doc struct {
		Store   string            `json:"credsStore"`
		Helpers map[string]string `json:"credHelpers"`
		Auths   map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("it is not JSON as Docker writes it: %w", err)
	}
	for _, suffix := range doc.Helpers {
		f.Helpers = append(f.Helpers, "docker-credential-"+suffix)
	}
	if doc.Store != "" {
		f.Helpers = append(f.Helpers, "docker-credential-"+doc.Store)
	}
	slices.Sort(f.Helpers)
	f.Helpers = slices.Compact(f.Helpers)
	for _, helper := range f.Helpers {
		if _, err := exec.LookPath(helper); err != nil {
			f.missing = append(f.missing, helper)
		}
	}
	return nil
}

func (m machine) judgeCredentials() []Finding {
	c := m.credentials
	f := Finding{ID: sectionLogin, Status: OK, Facts: c}
	switch {
	case c.Variable && !c.colon:
		f.Status, f.Text = Problem, "PD_DOCKER_AUTH has no colon in it"
		f.Fix = "Write it as USER:PASSWORD, or unset it."
	case c.Variable:
		f.Text = "PD_DOCKER_AUTH is used for all registries"
	case c.File == "":
		f.Text = "none: images are pulled anonymously"
	case c.err != nil:
		f.Status, f.Text = Problem, fmt.Sprintf("%s cannot be used: %v", c.File, reason(c.err))
		f.Fix = "Correct it, or delete it and log in again with the tool that wrote it."
	case len(c.missing) > 0:
		f.Status, f.Text = Problem, fmt.Sprintf("%s names %s, which is not installed", c.File, strings.Join(c.missing, ", "))
		f.Fix = "Install that helper, or take its name out of the file."
	case c.open && len(c.Helpers) == 0:
		f.Status, f.Text = Note, c.File+" is used, and other users can read it"
		f.Fix = fmt.Sprintf("Run 'chmod 600 %s'.", c.File)
	default:
		f.Text = c.File + " is used"
	}
	return []Finding{f}
}
