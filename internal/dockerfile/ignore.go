package dockerfile

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// MaxIgnoreSize bounds an ignore file, in bytes.
const MaxIgnoreSize = 1 << 20

// Ignore holds the patterns of a .dockerignore file or of COPY --exclude. Nil ignores nothing.
type Ignore struct {
	matcher *patternmatcher.PatternMatcher
}

// ParseIgnore reads an ignore file; name is for errors.
func ParseIgnore(name string, data []byte) (*Ignore, error) {
	if len(data) > MaxIgnoreSize {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, MaxIgnoreSize>>20)
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return NewIgnore(name, patterns)
}

// NewIgnore takes patterns as they are; name is for errors.
func NewIgnore(name string, patterns []string) (*Ignore, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Ignore{m}, nil
}

// Verdict is what an ignore file says of one entry. That of a directory is needed for what
// is in it; the zero Verdict is the root's.
type Verdict struct {
	Ignored bool
	info    patternmatcher.MatchInfo
}

// Match judges an entry of a directory, by its path from the root: "src/main.go".
func (i *Ignore) Match(name string, dir Verdict) (Verdict, error) {
	if i == nil {
		return Verdict{}, nil
	}
	ignored, info, err := i.matcher.MatchesUsingParentResults(name, dir.info)
	if err != nil {
		return Verdict{}, fmt.Errorf("ignore patterns: %w", err)
	}
	return Verdict{ignored, info}, nil
}

// Prune reports that an ignored directory need not be looked into: no pattern brings
// anything in it back.
func (i *Ignore) Prune(dir string) bool {
	if i == nil || !i.matcher.Exclusions() {
		return true
	}
	for _, p := range i.matcher.Patterns() {
		if p.Exclusion() && mayMatchBelow(p.String(), dir) {
			return false
		}
	}
	return true
}

// mayMatchBelow compares the components before the first wildcard.
func mayMatchBelow(pattern, dir string) bool {
	parts := strings.Split(strings.Trim(pattern, "/"), "/")
	for n, component := range strings.Split(dir, "/") {
		if n == len(parts) {
			return true // the pattern is a directory above
		}
		if strings.ContainsAny(parts[n], `*?[\`) {
			return true
		}
		if parts[n] != component {
			return false
		}
	}
	return true
}

// hidesSource reports whether a source of COPY can never be found. With patterns that bring
// files back nobody can tell.
func (i *Ignore) hidesSource(name string) bool {
	if i == nil || i.matcher.Exclusions() {
		return false
	}
	if name == "" {
		for _, p := range i.matcher.Patterns() {
			if s := p.String(); s == "*" || s == "**" || s == "**/*" {
				return true
			}
		}
		return false
	}
	hidden, err := i.matcher.MatchesOrParentMatches(name)
	return err == nil && hidden
}
