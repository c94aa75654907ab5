// Package doctor finds out what works on this machine and, where something doesn't, why and
// what to do about it.
//
// It works in two halves. [Examine] first tries things out and notes what happened as plain
// data (a machine): engines start a process, emulators run a program, directories get files
// of every kind. Settings are read only to explain a failure that was seen. What is made for a
// trial is gone afterwards. The other half, files named *_judge.go, turns these data into findings
// and does nothing else, so that machines which are not at hand can be judged in tests.
package doctor

import (
	"context"
	"strings"

	"proot-distro/internal/container"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/registry"
)

// Status says how a finding is to be taken.
type Status string

// Statuses.
const (
	OK      Status = "ok"
	Note    Status = "note"    // something could be better, or is not there and not needed
	Problem Status = "problem" // something that people count on does not work
)

// Finding is one thing that was looked at.
type Finding struct {
	// ID is stable: a section, a dot, and what was looked at: "engine.proot".
	ID     string `json:"id"`
	Status Status `json:"status"`
	Text   string `json:"text"`          // a clause, with further sentences where needed
	Fix    string `json:"fix,omitempty"` // a sentence; never empty for a Problem
	Facts  any    `json:"facts,omitempty"`
}

// Section is the first part of the ID.
func (f Finding) Section() string {
	section, _, _ := strings.Cut(f.ID, ".")
	return section
}

// Schema is the version of the report's form as JSON. Fields may be added without a new one.
const Schema = 1

// Report is what Examine found.
type Report struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"` // of this program
	// Usable says that some engine can run containers.
	Usable bool `json:"usable"`
	// Engine is what login takes now if nothing asked for needs another: "native", "proot",
	// or "" for none.
	Engine   string    `json:"engine"`
	Findings []Finding `json:"findings"`
}

// Unreachable reports whether a registry that was asked for cannot be reached.
func (r Report) Unreachable() bool {
	for _, f := range r.Findings {
		if f.Section() == sectionRegistry && f.Status == Problem {
			return true
		}
	}
	return false
}

// Engines that a person may wish for.
const (
	EngineAuto   = "auto"
	EngineNative = "native"
	EngineProot  = "proot"
)

// Config is what Examine needs to know of the program that asks.
type Config struct {
	Host    *host.Host
	Store   *container.Store
	Cache   *image.Cache
	Program string // as it was called, for command lines: "pd"
	Version string

	// Engine is the engine that login is told to take, and EngineFrom the variable that
	// says so, empty for the default. EngineErr is why what that says makes no sense.
	Engine, EngineFrom string
	EngineErr          error

	Auth       registry.Auth
	Registries []oci.Ref // to be asked over the network; only Registry counts
	Insecure   bool      // as --allow-insecure has it
}

// Examine tries out this machine. It takes well under a second, unless registries are asked,
// which ctx can end.
func Examine(ctx context.Context, c Config) Report {
	return look(ctx, c).report()
}

// machine is everything that was seen.
type machine struct {
	program, version string

	host        hostFacts
	wish        wishFacts
	native      *nativeFacts // nil on Termux
	proot       prootFacts
	emulators   []emulatorFacts
	untried     error    // why no emulator was
	ids         *idFacts // nil where they could not be used
	places      []placeFacts
	tools       []toolFacts
	credentials credentialFacts
	containers  containerFacts
	cache       cacheFacts
	registries  []registryFacts
}

// look does all the trying.
func look(ctx context.Context, c Config) machine {
	m := machine{program: c.Program, version: c.Version, host: lookAtHost(c.Host)}
	m.wish = wishFacts{engine: c.Engine, from: c.EngineFrom, err: c.EngineErr}
	for _, place := range []struct{ name, dir string }{{"state", c.Host.Dirs.Runtime}, {"cache", c.Host.Dirs.Cache}} {
		m.places = append(m.places, lookAtPlace(c.Host, place.name, place.dir))
	}
	if !c.Host.Termux {
		m.native = lookAtNative()
		if m.native.err == nil {
			m.ids = lookAtIDs()
		}
	}
	m.proot = lookAtProot(c.Host)
	m.emulators, m.untried = lookAtEmulators(c.Host, m.native)
	m.tools = lookAtTools(c.Host)
	m.credentials = lookAtCredentials(c)
	m.containers = lookAtContainers(c.Host, c.Store)
	m.cache = lookAtCache(c)
	for _, ref := range c.Registries {
		m.registries = append(m.registries, lookAtRegistry(ctx, c, ref))
	}
	return m
}

// report judges all of it.
func (m machine) report() Report {
	r := Report{Schema: Schema, Version: m.version}
	r.Usable = m.nativeWorks() || m.prootWorks()
	r.Engine, _ = m.engine()
	for _, findings := range [][]Finding{
		m.judgeHost(), m.judgeEngines(), m.judgeEmulators(), m.judgeIDs(), m.judgePlaces(), m.judgeCache(),
		m.judgeContainers(), m.judgeTools(), m.judgeCredentials(), m.judgeRegistries(),
	} {
		r.Findings = append(r.Findings, findings...)
	}
	return r
}

// Sections, in the order of the report.
const (
	sectionHost       = "host"
	sectionEngine     = "engine"
	sectionEmulator   = "emulator"
	sectionIDs        = "ids"
	sectionDisk       = "disk"
	sectionContainers = "containers"
	sectionProgram    = "program"
	sectionLogin      = "credentials"
	sectionRegistry   = "registry"
)

// Heading is what people call a section.
func Heading(section string) string {
	return map[string]string{
		sectionHost: "This machine", sectionEngine: "Engines", sectionEmulator: "Architectures", sectionIDs: "User IDs",
		sectionDisk: "Disk", sectionContainers: "Containers", sectionProgram: "Other programs",
		sectionLogin: "Credentials", sectionRegistry: "Network",
	}[section]
}
