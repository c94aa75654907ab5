package main

import (
	"errors"
	"path/filepath"

	"proot-distro/test/fixtures"
)

// push sends the image to an empty registry in each round.
func (b *bench) push() error {
	copied := filepath.Join(b.work, "to-push")
	env := b.home("data", "cache")
	if _, err := b.timed(env, b.skopeo(copied), []string{b.pd, "install", "--name", "to-push", b.ref}); err != nil {
		return err
	}
	to := func(round int, send func(ref string) (cost, error)) (c cost, err error) {
		storage, err := b.dir("pushed%d", round)
		if err != nil {
			return c, err
		}
		reg, err := fixtures.Serve(storage, fixtures.RegistryOptions{Writable: true})
		if err != nil {
			return c, err
		}
		defer func() { err = errors.Join(err, reg.Close()) }()
		return send(reg.Addr + "/big:copy")
	}
	return b.compare("push to an empty registry : skopeo copy", "≤ 1.00",
		func(round int) (cost, error) {
			return to(2*round, func(ref string) (cost, error) {
				if _, err := b.timed(env, []string{b.pd, "tag", b.ref, ref}); err != nil {
					return cost{}, err
				}
				return b.timed(env, []string{b.pd, "push", ref})
			})
		},
		func(round int) (cost, error) {
			return to(2*round+1, func(ref string) (cost, error) {
				return b.timed(nil, []string{"skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false",
					"dir:" + copied, "docker://" + ref})
			})
		})
}
