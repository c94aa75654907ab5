// Command bench compares the program with tar, gzip, skopeo and bubblewrap doing the same work on the same machine in the same run,
// and prints ratios: seconds depend on the machine, ratios hardly.
//
// Rounds are paired, so that a busy moment hits both sides, and nothing is deleted between them: on ext4, creating
// files right after deleting many is slow.
//
//	bench [-rounds N] [-only SECTION]
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/test/fixtures"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds of each comparison")
	only := flag.String("only", "", "leave out all but one section: files, registry, native, build or start")
	flag.Parse()
	if err := run(*rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, only string) (err error) {
	storage, err := fixtures.Big()
	if err != nil {
		return err
	}
	reg, err := fixtures.Serve(storage, fixtures.RegistryOptions{})
	if err != nil {
		return err
	}
	defer reg.Close()
	work, err := os.MkdirTemp("", "pd-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, exec.Command("rm", "-rf", work).Run()) }()
	pd, err := filepath.Abs("bin/pd")
	if err != nil {
		return err
	}
	b := &bench{pd: pd, work: work, ref: reg.Addr + "/big:latest", rounds: rounds}
	fmt.Printf("%-46s %7s %15s %8s %10s\n", "", "ratio", "lowest–highest", "goal", "memory")
	var failed []error
	for _, section := range []struct {
		name string
		run  func() error
	}{
		{"files", b.files}, {"registry", b.registry}, {"native", b.native}, {"build", b.build}, {"start", b.list},
	} {
		if only == "" || only == section.name {
			failed = append(failed, section.run())
		}
	}
	if failed == nil {
		return fmt.Errorf("there is no section %q", only)
	}
	return errors.Join(failed...)
}

// files is what installs, copies, packs and unpacks containers.
func (b *bench) files() error {
	return errors.Join(b.installFromCache(), b.transfer(), b.archive())
}

// registry is what talks to one.
func (b *bench) registry() error { return errors.Join(b.pull(), b.push()) }

type bench struct {
	pd, work, ref string
	rounds        int

	env  []string            // of the program, in comparisons that share containers
	user *syscall.Credential // whom commands run as; nil for the caller
}

// side is one of the two things that are compared. The number makes names of a round.
type side func(round int) (cost, error)

// cost is what a command took.
type cost struct {
	wall time.Duration
	rss  int64 // MiB, the peak of one process
}

// compare runs both sides in turn, the first one first in every other round.
func (b *bench) compare(label, goal string, ours, theirs side) error {
	var ratios []float64
	var times [2][]float64
	var rss int64
	for round := range b.rounds {
		var costs [2]cost
		for i := range 2 {
			which := (i + round) % 2
			unix.Sync() // one side must not pay for what the other wrote
			c, err := []side{ours, theirs}[which](round)
			if err != nil {
				return fmt.Errorf("%s: %w", label, err)
			}
			costs[which] = c
			times[which] = append(times[which], c.wall.Seconds())
		}
		rss = max(rss, costs[0].rss)
		ratios = append(ratios, costs[0].wall.Seconds()/costs[1].wall.Seconds())
	}
	slices.Sort(ratios)
	fmt.Printf("%-46s %7.2f %8.2f–%-6.2f %8s %6d MiB   (%.3f s : %.3f s)\n", label, median(ratios), ratios[0],
		ratios[len(ratios)-1], goal, rss, median(times[0]), median(times[1]))
	return nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// timed runs commands one after the other, with more environment. zsh does the measuring: it forks from a small
// process, whose own memory does not count as the command's peak.
func (b *bench) timed(env []string, commands ...[]string) (total cost, err error) {
	for _, c := range commands {
		cmd := exec.Command("zsh", append([]string{"-fc", `TIMEFMT="%uE %M"; time "$@" >/dev/null`, "zsh"}, c...)...)
		cmd.Env = append(os.Environ(), env...)
		b.as(cmd)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return total, fmt.Errorf("%s: %w\n%s", strings.Join(c, " "), err, stderr.String())
		}
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		var micros, rss int64
		if _, err := fmt.Sscanf(lines[len(lines)-1], "%dus %d", &micros, &rss); err != nil {
			return total, fmt.Errorf("read zsh's %q: %w", lines[len(lines)-1], err)
		}
		total.wall += time.Duration(micros) * time.Microsecond
		total.rss = max(total.rss, rss)
	}
	return total, nil
}

// home gives the program a state of its own below the working directory.
func (b *bench) home(data, cache string) []string {
	return []string{"XDG_DATA_HOME=" + filepath.Join(b.work, data), "XDG_CACHE_HOME=" + filepath.Join(b.work, cache)}
}

func (b *bench) dir(format string, round int) (string, error) {
	dir := filepath.Join(b.work, fmt.Sprintf(format, round))
	return dir, os.MkdirAll(dir, 0o755)
}

// skopeo copies the image to a directory.
func (b *bench) skopeo(dir string) []string {
	return []string{"skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "docker://" + b.ref, "dir:" + dir}
}

// layers lists the files of an image that skopeo copied, lowest first.
func layers(dir string) (files []string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, err
	}
	var m struct{ Layers []struct{ Digest string } }
	err = json.Unmarshal(data, &m)
	for _, l := range m.Layers {
		files = append(files, filepath.Join(dir, strings.TrimPrefix(l.Digest, "sha256:")))
	}
	return files, err
}

func untar(blobs []string, into string) (commands [][]string) {
	for _, blob := range blobs {
		commands = append(commands, []string{"tar", "-xzf", blob, "-C", into})
	}
	return commands
}

func (b *bench) installFromCache() error {
	copied, err := b.dir("copied", 0)
	if err != nil {
		return err
	}
	if _, err := b.timed(nil, b.skopeo(copied)); err != nil {
		return err
	}
	blobs, err := layers(copied)
	if err != nil {
		return err
	}
	env := b.home("data", "cache")
	if _, err := b.timed(env, []string{b.pd, "install", "--name", "first", b.ref}); err != nil {
		return err
	}
	return b.compare("install from the cache : tar -xzf", "≤ 0.80",
		func(round int) (cost, error) {
			return b.timed(env, []string{b.pd, "install", "--name", fmt.Sprint("cached", round), b.ref})
		},
		func(round int) (cost, error) {
			into, err := b.dir("untarred%d", round)
			if err != nil {
				return cost{}, err
			}
			return b.timed(nil, untar(blobs, into)...)
		})
}

func (b *bench) pull() error {
	pulls := 0
	ours := func(int) (cost, error) {
		pulls++ // each with an empty cache
		return b.timed(b.home("data", fmt.Sprint("cache", pulls)),
			[]string{b.pd, "install", "--name", fmt.Sprint("pulled", pulls), b.ref})
	}
	copies := 0
	copyOnly := func(int) (cost, error) {
		copies++
		into, err := b.dir("skopeo%d", copies)
		if err != nil {
			return cost{}, err
		}
		return b.timed(nil, b.skopeo(into))
	}
	err := b.compare("pull and install : skopeo copy", "", ours, copyOnly)
	err = errors.Join(err, b.compare("what pulling adds to install : skopeo copy", "≤ 1.20",
		func(round int) (cost, error) {
			pulled, err := ours(round)
			if err != nil {
				return pulled, err
			}
			cached, err := b.timed(b.home("data", fmt.Sprint("cache", pulls)),
				[]string{b.pd, "install", "--name", fmt.Sprint("then-cached", pulls), b.ref})
			// Extraction overlaps the download, so this is what the download costs a person.
			return cost{wall: max(0, pulled.wall-cached.wall), rss: pulled.rss}, err
		}, copyOnly))
	return errors.Join(err, b.compare("pull and install : skopeo copy, then tar -xzf", "", ours,
		func(round int) (cost, error) {
			c, err := copyOnly(round)
			if err != nil {
				return c, err
			}
			blobs, err := layers(filepath.Join(b.work, fmt.Sprint("skopeo", copies)))
			if err != nil {
				return c, err
			}
			into, err := b.dir("after-skopeo%d", round)
			if err != nil {
				return c, err
			}
			t, err := b.timed(nil, untar(blobs, into)...)
			return cost{wall: c.wall + t.wall}, err
		}))
}

// list has ten times the rounds: a start takes milliseconds. skopeo's start is the peer, another Go program.
func (b *bench) list() error {
	b.rounds *= 10
	env := b.home("data", "cache")
	return b.compare("list : skopeo --version", "≤ 15 ms",
		func(int) (cost, error) { return b.timed(env, []string{b.pd, "list"}) },
		func(int) (cost, error) { return b.timed(nil, []string{"skopeo", "--version"}) })
}
