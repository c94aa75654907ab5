package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// transfer measures clone and sync on the container that [bench.installFromCache] calls "first".
func (b *bench) transfer() error {
	env := b.home("data", "cache")
	root := filepath.Join(b.work, "data/proot-distro/containers/first/rootfs")
	synced, rsynced := filepath.Join(b.work, "synced"), filepath.Join(b.work, "rsynced")
	sync := func(int) (cost, error) { return b.timed(env, []string{b.pd, "sync", "first:/", synced}) }
	rsync := func(int) (cost, error) { return b.timed(nil, []string{"rsync", "-a", root + "/", rsynced}) }
	if err := exec.Command("rsync", "-a", root+"/", synced).Run(); err != nil {
		return fmt.Errorf("rsync: %w", err)
	}
	if err := exec.Command("rsync", "-a", root+"/", rsynced).Run(); err != nil {
		return fmt.Errorf("rsync: %w", err)
	}
	return errors.Join(
		b.compare("sync with nothing to do : rsync -a", "≤ 1.00", sync, rsync),
		b.compare("clone : cp -a --reflink=auto", "≤ 1.00",
			func(round int) (cost, error) {
				return b.timed(env, []string{b.pd, "clone", "first", fmt.Sprint("clone", round)})
			},
			func(round int) (cost, error) {
				return b.timed(nil, []string{"cp", "-a", "--reflink=auto", root, filepath.Join(b.work, fmt.Sprint("copy", round))})
			}))
}
