package build

import (
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// configure executes an instruction that changes the config only.
func (s *stage) configure(c instructions.Command) error {
	config := &s.img.Config
	switch c := c.(type) {
	case *instructions.EnvCommand:
		s.file.LintPairs(c, c.Env)
		for _, kv := range c.Env {
			s.scope.Set(kv.Key, kv.Value)
			config.Env = setEnv(config.Env, kv.Key, kv.Value)
		}
		s.remember("ENV "+pairs(c.Env), true)
	case *instructions.ArgCommand:
		words, err := s.scope.Declare(c)
		if err != nil {
			return err
		}
		s.remember("ARG "+strings.Join(words, " "), true)
	case *instructions.LabelCommand:
		s.file.LintPairs(c, c.Labels)
		for _, kv := range c.Labels {
			setLabel(config, kv.Key, kv.Value)
		}
		s.remember("LABEL "+pairs(c.Labels), true)
	case *instructions.MaintainerCommand:
		s.img.Author = c.Maintainer
		s.remember("MAINTAINER "+c.Maintainer, true)
	case *instructions.UserCommand:
		config.User = c.User
		s.remember("USER "+c.User, true)
	case *instructions.ShellCommand:
		config.Shell = c.Shell
		s.remember(fmt.Sprintf("SHELL %v", c.Shell), true)
	case *instructions.OnbuildCommand:
		config.OnBuild = append(config.OnBuild, c.Expression)
		s.remember("ONBUILD "+c.Expression, true)
	default:
		return s.configureRuntime(c)
	}
	return nil
}

// configureRuntime executes what matters to a running container only.
func (s *stage) configureRuntime(c instructions.Command) error {
	config := &s.img.Config
	switch c := c.(type) {
	case *instructions.CmdCommand:
		s.lintOnce(c)
		config.Cmd = s.commandLine(c, c.ShellDependantCmdLine)
		config.ArgsEscaped = true //nolint:staticcheck // Docker's images have it
		s.remember(fmt.Sprintf("CMD %q", config.Cmd), true)
	case *instructions.EntrypointCommand:
		s.lintOnce(c)
		config.Entrypoint = s.commandLine(c, c.ShellDependantCmdLine)
		if s.used["cmd"] == nil {
			config.Cmd = nil // the base's belonged to the base's entrypoint
		}
		s.remember(fmt.Sprintf("ENTRYPOINT %q", config.Entrypoint), true)
	case *instructions.HealthCheckCommand:
		s.lintOnce(c)
		config.Healthcheck = c.Health
		s.remember("HEALTHCHECK "+strings.Join(c.Health.Test, " "), true)
	case *instructions.ExposeCommand:
		ports, err := s.file.Ports(c)
		if err != nil {
			return err
		}
		if config.ExposedPorts == nil {
			config.ExposedPorts = map[string]struct{}{}
		}
		for _, port := range ports {
			config.ExposedPorts[port] = struct{}{}
		}
		s.remember("EXPOSE "+strings.Join(ports, " "), true)
	case *instructions.VolumeCommand:
		if config.Volumes == nil {
			config.Volumes = map[string]struct{}{}
		}
		for _, v := range c.Volumes {
			if v == "" {
				return fmt.Errorf("a VOLUME is empty")
			}
			config.Volumes[v] = struct{}{}
		}
		s.remember(fmt.Sprintf("VOLUME %v", c.Volumes), true)
	case *instructions.StopSignalCommand:
		if err := checkSignal(c.Signal); err != nil {
			return err
		}
		config.StopSignal = c.Signal
		s.remember("STOPSIGNAL "+c.Signal, true)
	default:
		return fmt.Errorf("%s is not supported", strings.ToUpper(c.Name()))
	}
	return nil
}

// lintOnce reports the earlier of two instructions of which the last one counts.
func (s *stage) lintOnce(c instructions.Command) {
	name := strings.ToLower(c.Name())
	if earlier := s.used[name]; earlier != nil {
		s.file.Lint(earlier, &linter.RuleMultipleInstructionsDisallowed, linter.RuleMultipleInstructionsDisallowed.Format(c.Name()))
	}
	s.used[name] = c
}

// commandLine gives the words of CMD and ENTRYPOINT.
func (s *stage) commandLine(c instructions.Command, line instructions.ShellDependantCmdLine) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	if len(s.img.Config.Shell) == 0 {
		s.file.Lint(c, &linter.RuleJSONArgsRecommended, linter.RuleJSONArgsRecommended.Format(c.Name()))
	}
	return s.withShell(line.CmdLine)
}

// withShell makes a shell run words that were not written as JSON.
func (s *stage) withShell(words []string) []string {
	shell := s.img.Config.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(append([]string{}, shell...), strings.Join(words, " "))
}

func setLabel(config *dockerspec.DockerOCIImageConfig, key, value string) {
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	config.Labels[key] = value
}

func setEnv(env []string, key, value string) []string {
	for i, entry := range env {
		if known, _, _ := strings.Cut(entry, "="); known == key {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

func pairs(kvs instructions.KeyValuePairs) string {
	words := make([]string, len(kvs))
	for i, kv := range kvs {
		words[i] = kv.Key + "=" + kv.Value
	}
	return strings.Join(words, " ")
}

// workdirOf gives the directory of an instruction, relative paths going on from the current one.
func (s *stage) workdirOf(dir string) string {
	if path.IsAbs(dir) {
		return path.Clean(dir)
	}
	return path.Join("/", s.img.Config.WorkingDir, dir)
}
