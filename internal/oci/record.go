package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/platform"
)

// Record is manifest.json of a container, and (with Repo) an entry of the manifest
// cache, in the form that the Python program reads and writes.
type Record struct {
	ImageRef string // what the user typed
	Arch     platform.Arch
	Repo     string                     // repository without registry; manifest cache only
	Manifest json.RawMessage            // of one platform; original bytes where known
	Config   json.RawMessage            // "image_config", original bytes where known
	Extra    map[string]json.RawMessage // unknown keys, kept
}

// ParseRecord reads a record and checks that its manifest can be used. When the file
// was written by the Python program, which reformats the config, the original bytes are
// brought back if they can be.
func ParseRecord(data []byte) (*Record, error) {
	if len(data) > MaxRecordSize {
		return nil, fmt.Errorf("read image record: larger than %d MiB", MaxRecordSize>>20)
	}
	keys := map[string]json.RawMessage{}
	if err := unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("read image record: %w", err)
	}
	r := &Record{Manifest: take(keys, "manifest"), Config: take(keys, "image_config")}
	var arch string
	for key, target := range map[string]*string{"image_ref": &r.ImageRef, "arch": &arch, "repo": &r.Repo} {
		if raw := take(keys, key); raw != nil {
			if err := json.Unmarshal(raw, target); err != nil {
				return nil, fmt.Errorf("read image record: %s is not text", key)
			}
		}
	}
	if arch != "" {
		a, err := platform.Parse(arch)
		if err != nil {
			return nil, fmt.Errorf("read image record: %w", err)
		}
		r.Arch = a
	}
	if len(keys) > 0 {
		r.Extra = keys
	}
	m, err := r.manifest()
	if err != nil {
		return nil, fmt.Errorf("read image record: %w", err)
	}
	if r.Config != nil && r.Config[0] != '{' {
		return nil, errors.New("read image record: image_config is not an object")
	}
	r.restoreConfig(m.Config.Digest)
	return r, nil
}

// take removes a key and returns its value, nil for null.
func take(keys map[string]json.RawMessage, key string) json.RawMessage {
	raw := keys[key]
	delete(keys, key)
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// restoreConfig undoes the spaces that json.dump writes between tokens.
func (r *Record) restoreConfig(want digest.Digest) {
	if r.Config == nil || digest.FromBytes(r.Config) == want {
		return
	}
	var compact bytes.Buffer
	if json.Compact(&compact, r.Config) == nil && digest.FromBytes(compact.Bytes()) == want {
		r.Config = compact.Bytes()
	}
}

// Encode writes a record. Manifest and Config go out byte for byte, which
// encoding/json would not do: it compacts and escapes them.
func (r *Record) Encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	write := func(key string, raw []byte) error {
		if raw == nil {
			return nil
		}
		if !json.Valid(raw) || !utf8.Valid(raw) {
			return fmt.Errorf("write image record: %q is not valid JSON", Clip(key))
		}
		if b.Len() > 1 {
			b.WriteString(", ")
		}
		b.Write(quote(key))
		b.WriteString(": ")
		b.Write(bytes.TrimSpace(raw))
		return nil
	}
	errs := []error{
		write("image_ref", quote(r.ImageRef)),
		write("arch", quote(string(r.Arch))),
		write("manifest", r.Manifest),
	}
	if r.Repo != "" {
		errs = append(errs, write("repo", quote(r.Repo)))
	}
	errs = append(errs, write("image_config", r.Config))
	for _, key := range slices.Sorted(maps.Keys(r.Extra)) {
		errs = append(errs, write(key, r.Extra[key]))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	b.WriteString("}\n")
	if b.Len() > MaxRecordSize {
		return nil, fmt.Errorf("write image record: larger than %d MiB", MaxRecordSize>>20)
	}
	return b.Bytes(), nil
}

func quote(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string cannot fail
	return bytes.TrimSpace(b.Bytes())
}

func (r *Record) manifest() (*v1.Manifest, error) {
	if r.Manifest == nil {
		return nil, errors.New("it has no manifest")
	}
	doc, err := ParseDocument(v1.MediaTypeImageManifest, r.Manifest)
	if err != nil {
		return nil, err
	}
	if doc.Manifest == nil {
		return nil, errors.New("its manifest is a list of several platforms")
	}
	return doc.Manifest, nil
}

// Layers returns the layers' descriptors, lowest first, each with a valid digest and a
// known media type.
func (r *Record) Layers() ([]v1.Descriptor, error) {
	m, err := r.manifest()
	if err != nil {
		return nil, fmt.Errorf("read image record: %w", err)
	}
	return m.Layers, nil
}

// ConfigDescriptor returns the descriptor of the image config. Its digest is that of
// Config only where the original bytes are known.
func (r *Record) ConfigDescriptor() (v1.Descriptor, error) {
	m, err := r.manifest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("read image record: %w", err)
	}
	return m.Config, nil
}

// Image decodes the image config.
func (r *Record) Image() (v1.Image, error) {
	var img v1.Image
	if r.Config == nil {
		return img, errors.New("read image config: the record has none")
	}
	if err := unmarshal(r.Config, &img); err != nil {
		return img, fmt.Errorf("read image config: %w", err)
	}
	if len(img.RootFS.DiffIDs) > maxLayers {
		return img, fmt.Errorf("read image config: %d diff IDs, more than %d", len(img.RootFS.DiffIDs), maxLayers)
	}
	return img, nil
}
