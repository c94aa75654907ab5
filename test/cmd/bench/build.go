package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"proot-distro/test/fixtures"
)

// dockerfile has what Dockerfiles mostly have: a package manager's work, files, and a command on them.
const dockerfile = `FROM %s
RUN mkdir -p /opt/app && i=0; while [ $i -lt 300 ]; do echo $i >/opt/app/$i; i=$((i+1)); done; rm -rf /usr/share/doc/apt
WORKDIR /opt/app
COPY src src
COPY config /etc/app.conf
RUN cat src/* >all && touch /etc/done
CMD ["cat", "/opt/app/all"]
`

// build compares builds of a small Dockerfile on Debian with buildah's. The base image is there on both sides.
func (b *bench) build() error {
	storage, err := fixtures.Images()
	if err != nil {
		return err
	}
	reg, err := fixtures.Serve(storage, fixtures.RegistryOptions{})
	if err != nil {
		return err
	}
	defer reg.Close()
	debian := reg.Addr + "/debian:bookworm"
	context, err := b.buildContext(fmt.Sprintf(dockerfile, debian))
	if err != nil {
		return err
	}
	env := b.home("data", "cache")
	ours := func(engine string, more ...string) side {
		argv := append([]string{b.pd, "build", "--quiet", "--engine", engine, "-t", "bench", "--no-cache"}, append(more, context)...)
		return func(int) (cost, error) { return b.timed(env, argv) }
	}
	unpacks := func(engine string) side {
		return func(round int) (cost, error) {
			_, err := b.timed(env, []string{b.pd, "clear-cache", "--build-cache"})
			if err != nil {
				return cost{}, err
			}
			return ours(engine)(round)
		}
	}
	if _, err := unpacks("native")(0); err != nil {
		return err
	}
	buildah := func(driver string) (side, error) {
		store := []string{"buildah", "--storage-driver", driver,
			"--root", filepath.Join(b.work, driver), "--runroot", filepath.Join(b.work, driver+"-run")}
		_, err := b.timed(nil, append(store, "pull", "--quiet", "--tls-verify=false", "docker://"+debian))
		argv := append(store, "build", "--quiet", "--isolation", "chroot", "--layers", "--no-cache", "-t", "bench", context)
		return func(int) (cost, error) { return b.timed(nil, argv) }, err
	}
	overlay, err := buildah("overlay")
	if err != nil {
		return err
	}
	vfs, err := buildah("vfs")
	if err != nil {
		return err
	}
	rounds := b.rounds
	b.rounds = min(rounds, 3)
	defer func() { b.rounds = rounds }()
	return errors.Join(
		b.compare("build : buildah, overlay", "≤ 1.00", ours("native"), overlay),
		b.compare("build on proot : buildah, overlay", "≤ 1.00", ours("proot"), overlay),
		b.compare("first build on a base : buildah, overlay", "≤ 1.00", unpacks("native"), overlay),
		b.compare("first build on a base : buildah, vfs", "≤ 0.50", unpacks("native"), vfs),
		b.steps(env))
}

// buildContext makes a directory with a Dockerfile and files to copy.
func (b *bench) buildContext(dockerfile string) (string, error) {
	dir, err := b.dir("context%d", len(dockerfile))
	if err != nil {
		return "", err
	}
	write := func(name, content string) {
		file := filepath.Join(dir, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644))
	}
	write("Dockerfile", dockerfile)
	write("config", "x\n")
	for i := range 50 {
		write(fmt.Sprintf("src/%d", i), strings.Repeat(fmt.Sprintln("line", i), 500))
	}
	return dir, err
}

// steps measures what one more RUN costs in the tree of 20,000 files, and a build that is cached.
func (b *bench) steps(env []string) error {
	builds := 0
	timed := func(engine string, extra int, cached bool) (cost, error) {
		builds++
		text := fmt.Sprintf("FROM %s\nENV BUILD=%d\nRUN true >/start\n", b.ref, builds)
		for i := range extra {
			text += fmt.Sprintf("RUN echo >/touched%d\n", i)
		}
		context, err := b.dir("steps%d", builds)
		if err == nil {
			err = os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(text), 0o644)
		}
		if err != nil {
			return cost{}, err
		}
		argv := []string{b.pd, "build", "--quiet", "--engine", engine, "-t", "steps", context}
		c, err := b.timed(env, argv)
		if cached && err == nil {
			c, err = b.timed(env, argv)
		}
		return c, err
	}
	const more = 8
	for _, engine := range []struct{ name, goal string }{{"native", "150 ms"}, {"proot", "1000 ms"}} {
		if _, err := timed(engine.name, 0, false); err != nil { // unpacks the base
			return err
		}
		var added []float64
		for range b.rounds {
			short, err := timed(engine.name, 0, false)
			if err != nil {
				return err
			}
			long, err := timed(engine.name, more, false)
			if err != nil {
				return err
			}
			added = append(added, (long.wall-short.wall).Seconds()*1000/more)
		}
		fmt.Printf("a RUN that writes one file, in 20,000 (%s)%*s %7.0f ms   goal ≤ %s\n", engine.name, 8-len(engine.name), "", median(added), engine.goal)
	}
	var walls []float64
	for range b.rounds {
		c, err := timed("native", 10, true)
		if err != nil {
			return err
		}
		walls = append(walls, c.wall.Seconds()*1000)
	}
	fmt.Printf("a cached build of ten steps %28.0f ms   goal ≤ 100 ms\n", median(walls))
	return nil
}
