package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"proot-distro/internal/build"
	"proot-distro/internal/dockerfile"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
	"proot-distro/internal/sshagent"
)

// buildRequest makes a request of the options.
func (a *App) buildRequest(cmd *cobra.Command, o buildOptions, source *build.Context) (req build.Request, err error) {
	h, err := a.Host()
	if err != nil {
		return req, err
	}
	req = build.Request{Context: source.Dir, Stage: o.target, NoCache: o.noCache, Pull: o.pull}
	if req.Platforms, err = buildPlatforms(o, h.Arch); err != nil {
		return req, UsageErrorf(cmd, "%v", err)
	}
	req.Implicit = o.arch == "" && len(o.platforms) == 0
	for _, step := range []func() error{
		func() (err error) { req.Args, err = a.pairs("--build-arg", o.args, true); return err },
		func() (err error) { req.Labels, err = a.pairs("--label", o.labels, false); return err },
		func() (err error) { req.Contexts, err = a.pairs("--build-context", o.contexts, false); return err },
		func() (err error) { req.Secrets, err = a.buildSecrets(o.secrets); return err },
		func() (err error) { req.SSH, err = a.buildAgents(o.ssh); return err },
		func() (err error) { req.Epoch, err = a.sourceDateEpoch(&req); return err },
	} {
		if err := step(); err != nil {
			return req, UsageErrorf(cmd, "%v", err)
		}
	}
	return req, a.readBuildFiles(&req, source, o.file)
}

func buildPlatforms(o buildOptions, host platform.Arch) ([]platform.Arch, error) {
	var archs []platform.Arch
	for _, word := range o.platforms {
		arch, err := platform.Parse(word)
		if err != nil {
			return nil, fmt.Errorf("--platform: %w", err)
		}
		if !slices.Contains(archs, arch) {
			archs = append(archs, arch)
		}
	}
	switch {
	case archs != nil && o.arch != "":
		return nil, errors.New("options --platform and --architecture exclude each other")
	case o.arch != "":
		archs = []platform.Arch{o.arch}
	case archs == nil:
		archs = []platform.Arch{host}
	}
	return archs, nil
}

// pairs reads K=V options; K alone can mean the host's variable.
func (a *App) pairs(option string, words []string, fromHost bool) (map[string]string, error) {
	values := map[string]string{}
	for _, word := range words {
		key, value, given := strings.Cut(word, "=")
		if key == "" || !given && !fromHost {
			return nil, fmt.Errorf("%s %q: write NAME=VALUE", option, word)
		}
		if !given {
			if value = a.Getenv(key); value == "" {
				continue
			}
		}
		values[key] = value
	}
	return values, nil
}

// buildSecrets reads id=ID[,src=FILE|,env=VAR]; an ID alone means the variable or the file of that name,
// as with docker.
func (a *App) buildSecrets(words []string) (map[string]build.Secret, error) {
	secrets := map[string]build.Secret{}
	for _, word := range words {
		var id, file, variable string
		for field := range strings.SplitSeq(word, ",") {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "id":
				id = value
			case "src", "source":
				file = value
			case "env":
				variable = value
			case "type":
				if value == "env" && variable == "" {
					variable = "\x00" // the ID's
				}
			default:
				return nil, fmt.Errorf("--secret %q: write id=ID,src=FILE or id=ID,env=VARIABLE", word)
			}
		}
		if id == "" {
			return nil, fmt.Errorf("--secret %q has no id: write id=ID,src=FILE", word)
		}
		if variable == "\x00" || variable == "" && file == "" && a.Getenv(id) != "" {
			variable = id
		}
		switch {
		case variable != "":
			secrets[id] = build.Secret{Value: []byte(a.Getenv(variable))}
		case file == "":
			file = id
			fallthrough
		default:
			if _, err := os.Stat(file); err != nil {
				return nil, fmt.Errorf("--secret %s: %s does not exist", id, file)
			}
			secrets[id] = build.Secret{File: file}
		}
	}
	return secrets, nil
}

// buildAgents reads ID[=SOCKET|KEYFILE,...]; without either it is the socket of SSH_AUTH_SOCK.
func (a *App) buildAgents(words []string) (map[string]*sshagent.Source, error) {
	agents := map[string]*sshagent.Source{}
	for _, word := range words {
		id, paths, _ := strings.Cut(word, "=")
		if id == "" {
			return nil, fmt.Errorf("--ssh %q: write ID, ID=SOCKET or ID=KEYFILE", word)
		}
		if paths == "" {
			paths = a.Getenv("SSH_AUTH_SOCK")
		}
		if paths == "" {
			return nil, fmt.Errorf("--ssh %s: no SSH agent is running (SSH_AUTH_SOCK is not set): start one, or write --ssh %[1]s=KEYFILE", id)
		}
		source, err := sshagent.Open(strings.Split(paths, ",")...)
		if errors.Is(err, sshagent.ErrPassphrase) {
			return nil, fmt.Errorf("--ssh %s: %w: load it into an agent with ssh-add, and write --ssh %[1]s", id, err)
		} else if err != nil {
			return nil, fmt.Errorf("--ssh %s: %w", id, err)
		}
		agents[id] = source
	}
	return agents, nil
}

// sourceDateEpoch is --build-arg SOURCE_DATE_EPOCH, or the host's variable, which becomes one
// (https://reproducible-builds.org/specs/source-date-epoch/).
func (a *App) sourceDateEpoch(req *build.Request) (*time.Time, error) {
	const name = "SOURCE_DATE_EPOCH"
	text, given := req.Args[name]
	if !given {
		text = a.Getenv(name)
	}
	if text == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<40 {
		return nil, fmt.Errorf("%s=%q is not a number of seconds since 1970", name, text)
	}
	req.Args[name] = text
	t := time.Unix(seconds, 0).UTC()
	return &t, nil
}

// readBuildFiles reads the Dockerfile and the ignore file. In a context that was fetched, --file names one
// of its files.
func (a *App) readBuildFiles(req *build.Request, source *build.Context, file string) error {
	if source.Dockerfile != nil {
		req.Name, req.Dockerfile = "Dockerfile", source.Dockerfile
		if file != "" {
			return errors.New("the build context is a Dockerfile, so that --file cannot name another one")
		}
		return nil
	}
	root, err := openBuildContext(req.Context)
	if err != nil {
		return err
	}
	defer root.Close()
	ignoreFile := "Dockerfile.dockerignore"
	switch {
	case file == build.StandardInput:
		req.Name, ignoreFile = "standard input", ""
		req.Dockerfile, err = io.ReadAll(io.LimitReader(a.Stdin, dockerfile.MaxSize+1))
	case file == "":
		req.Name = "Dockerfile"
		req.Dockerfile, err = root.ReadFile(req.Name, dockerfile.MaxSize)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no Dockerfile in %s: name one with --file", contextTitle(source))
		}
	case source.Fetched:
		req.Name, ignoreFile = file, file+".dockerignore"
		req.Dockerfile, err = root.ReadFile(file, dockerfile.MaxSize)
	default:
		req.Name, ignoreFile = file, ""
		req.Dockerfile, err = readLimited(file, dockerfile.MaxSize)
		if data, err := readLimited(file+".dockerignore", dockerfile.MaxIgnoreSize); err == nil {
			req.Ignore, err = dockerfile.ParseIgnore(file+".dockerignore", data)
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", req.Name, report.Cause(err))
	}
	req.Ignore, err = readIgnore(root, ignoreFile, ".dockerignore")
	return err
}

func openBuildContext(dir string) (*rootfs.FS, error) {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return nil, fmt.Errorf("the build context %s is not a directory", dir)
	}
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	if err != nil {
		return nil, fmt.Errorf("the build context %s cannot be read: %w", dir, errors.Unwrap(err))
	}
	return root, nil
}

func contextTitle(source *build.Context) string {
	if source.Fetched {
		return "the build context"
	}
	return source.Dir
}

// readIgnore reads the first of these files that there is; "" stands for none.
func readIgnore(root *rootfs.FS, names ...string) (*dockerfile.Ignore, error) {
	for _, name := range names {
		if name == "" {
			continue
		}
		data, err := root.ReadFile(name, dockerfile.MaxIgnoreSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, report.Cause(err))
		}
		return dockerfile.ParseIgnore(name, data)
	}
	return nil, nil
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// buildTags parses --tag; the default is the context's name.
func buildTags(words []string, dir string) ([]build.Tag, error) {
	if len(words) == 0 {
		name := strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
				return r
			}
			return '-'
		}, strings.ToLower(build.ContextName(dir))), "._-")
		if name == "" {
			return nil, errors.New("the image has no name: give it one with --tag")
		}
		words = []string{name + ":latest"}
	}
	var tags []build.Tag
	for _, word := range words {
		ref, err := oci.ParseRef(word)
		if err != nil {
			return nil, fmt.Errorf("--tag: %w", err)
		}
		if ref.Digest != "" {
			return nil, fmt.Errorf("--tag %s: an image that is yet to be built has no digest: write NAME:TAG", word)
		}
		tags = append(tags, build.Tag{Ref: ref, Typed: word})
	}
	return tags, nil
}

// writeBuildFiles writes --iidfile and --metadata-file.
func (a *App) writeBuildFiles(o buildOptions, tags []build.Tag, results []build.Result) error {
	index, err := build.Index(results)
	if err != nil {
		return err
	}
	id, top := results[0].ID(), results[0].Descriptor()
	if index != nil {
		id = digest.FromBytes(index)
		top.Digest, top.Size, top.Platform, top.MediaType = id, int64(len(index)), nil, "application/vnd.oci.image.index.v1+json"
	}
	if o.iidFile != "" {
		if err := os.WriteFile(o.iidFile, []byte(id), 0o644); err != nil {
			return fmt.Errorf("write --iidfile: %w", err)
		}
	}
	if o.metadataFile == "" {
		return nil
	}
	names := make([]string, len(tags))
	for i, tag := range tags {
		names[i] = tag.Ref.String()
	}
	metadata := map[string]any{
		"containerimage.digest": top.Digest, "containerimage.descriptor": top, "image.name": strings.Join(names, ","),
	}
	if index == nil {
		metadata["containerimage.config.digest"] = id
	}
	data, err := json.MarshalIndent(metadata, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.metadataFile, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write --metadata-file: %w", err)
	}
	return nil
}
