package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"proot-distro/internal/oci"
	"proot-distro/internal/registry"
)

// registryFacts are how a registry answered.
type registryFacts struct {
	registry.Reached
	Skew float64 `json:"clock_ahead_seconds"`
	Took float64 `json:"seconds"`

	err error
	now time.Time
}

// reachTime bounds the trial of one registry.
const reachTime = 20 * time.Second

func lookAtRegistry(ctx context.Context, c Config, ref oci.Ref) registryFacts {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	reached, err := registry.Reach(ctx, registry.Request{Ref: ref, Insecure: c.Insecure, Version: c.Version})
	return registryFacts{Reached: reached, Skew: reached.Skew.Seconds(), Took: reached.Took.Seconds(), err: err, now: time.Now()}
}

// bearableSkew is how far clocks may differ: tokens are valid for minutes.
const bearableSkew = 2 * time.Minute

func (m machine) judgeRegistries() (findings []Finding) {
	for _, r := range m.registries {
		findings = append(findings, r.judge())
	}
	return findings
}

func (r registryFacts) judge() Finding {
	f := Finding{ID: "registry." + r.Registry, Status: OK, Facts: r}
	through := ""
	if r.Proxy != "" {
		through = " through the proxy " + r.Proxy
	}
	switch skew := r.Reached.Skew; {
	case r.err != nil:
		f.Status, f.Text = Problem, fmt.Sprintf("%s cannot be reached%s: %v", r.Registry, through, r.err)
		f.Fix = r.fix()
	case skew.Abs() > bearableSkew:
		direction := "ahead"
		if skew < 0 {
			direction = "behind"
		}
		f.Status, f.Text = Problem, fmt.Sprintf("%s answers, but this machine's clock is %s %s", r.Registry, skew.Abs().Round(time.Second), direction)
		f.Fix = "Set the clock: with a wrong one, certificates and tokens seem invalid."
	default:
		security := r.TLS
		if security == "" {
			security = "not encrypted"
		}
		f.Text = fmt.Sprintf("%s answers%s in %s (%s, %s)", r.Registry, through, r.Reached.Took.Round(time.Millisecond), r.Address, security)
		if r.Status == 401 {
			f.Text += " and wants a login or a token"
		}
	}
	return f
}

// fix says what to do about a registry that cannot be reached.
func (r registryFacts) fix() string {
	failed := new(registry.Error)
	if !errors.As(r.err, &failed) {
		return "Check the network."
	}
	proxied := "."
	if r.Proxy != "" {
		proxied = ", and the proxy that HTTPS_PROXY or HTTP_PROXY names."
	}
	invalid := x509.CertificateInvalidError{}
	switch failed.Kind {
	case registry.DNS:
		return "Check the name, and the name servers in resolv.conf" + proxied
	case registry.TLS:
		if errors.As(r.err, &invalid) && invalid.Reason == x509.Expired {
			return fmt.Sprintf("Check this machine's clock: it says %s.", r.now.UTC().Format("2006-01-02 15:04 UTC"))
		}
		return "Install the package ca-certificates, or the certificate of your own authority. A registry that you trust nevertheless: --allow-insecure."
	case registry.Refused, registry.Timeout, registry.Network:
		return "Check that you are online, the name and its port, and firewalls on the way" + proxied
	}
	return "Check that this is a registry: ask who runs it" + proxied
}
