package main

import (
	"errors"
	"fmt"
	"path/filepath"
)

// archive measures backup and restore of the container that [bench.installFromCache] calls "first". Both sides write to
// the same disk.
func (b *bench) archive() error {
	env := b.home("data", "cache")
	root := filepath.Join(b.work, "data/proot-distro/containers")
	against := func(ending, goal, packer string) error {
		return b.compare("backup to "+ending+" : tar | "+packer, goal,
			func(round int) (cost, error) {
				return b.timed(env, []string{b.pd, "backup", "-q", "first", "-o", filepath.Join(b.work, fmt.Sprint("ours", round, ending))})
			},
			func(round int) (cost, error) {
				return b.timed(nil, []string{"sh", "-c", `tar -c -C "$1" first/manifest.json first/rootfs | ` + packer + ` >"$2"`, "sh",
					root, filepath.Join(b.work, fmt.Sprint("theirs", round, ending))})
			})
	}
	err := errors.Join(
		against(".tar.zst", "≤ 1.05", "zstd -q -3 -T0"),
		against(".tar.gz", "≤ 0.60", "pigz -6"))
	packed := filepath.Join(b.work, "ours0.tar.zst")
	err = errors.Join(err, b.compare("restore of a .tar.zst : tar -x", "≤ 1.00",
		func(round int) (cost, error) {
			return b.timed(env, []string{b.pd, "restore", "-q", "--name", fmt.Sprint("restored", round), packed})
		},
		func(round int) (cost, error) {
			into, err := b.dir("restored%d", round)
			if err != nil {
				return cost{}, err
			}
			return b.timed(nil, []string{"tar", "-x", "-I", "zstd", "-f", packed, "-C", into})
		}))
	rounds := b.rounds
	b.rounds = min(rounds, 3) // each takes a minute
	err = errors.Join(err, against(".tar.xz", "≤ 1.00", "xz -T0"))
	b.rounds = rounds
	return err
}
