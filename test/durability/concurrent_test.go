package durability

import (
	"errors"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// noRegistry is the exit code for a registry that does not answer, as that of the image here.
const noRegistry = 5

// TestConcurrent runs commands on one container at the same time: each one works, or says why it does not, and the
// container is there once, complete.
func TestConcurrent(t *testing.T) {
	w := newWorld(t, quickDir(t))
	w.writeImage(100, 100)
	w.pd("install", "-q", "./image.tar", "--name", "box")
	clean := w.snapshot()["box"]
	refusals := []string{"is in use by", "there is no container", "exists already"}
	for range kills(t) {
		var all sync.WaitGroup
		for _, command := range [][]string{
			{"rename", "box", "one"}, {"rename", "box", "two"}, {"rename", "one", "box"}, {"reset", "box"},
			{"clone", "box", "copy"}, {"install", "./image.tar", "--name", "copy"}, {"clear-cache"}, {"list"},
		} {
			all.Go(func() {
				out, err := w.run(command...)
				var exit *exec.ExitError
				if command[0] == "reset" && errors.As(err, &exit) && exit.ExitCode() == noRegistry {
					return // the cache was cleared first
				}
				if err != nil && !slices.ContainsFunc(refusals, func(r string) bool { return strings.Contains(out, r) }) {
					t.Errorf("pd %s: %v\n%s", strings.Join(command, " "), err, out)
				}
			})
		}
		all.Wait()
		w.remove("copy")
		found := w.snapshot()
		names := slices.Collect(maps.Keys(found))
		if len(names) != 1 || found[names[0]] != clean {
			t.Fatalf("found %v, not one of %s", found, clean)
		}
		if names[0] != "box" {
			w.pd("rename", names[0], "box")
		}
		w.pd("install", "-q", "./image.tar", "--name", "copy") // the layers are in the cache again
		w.remove("copy")
	}
	w.noStaging()
}
