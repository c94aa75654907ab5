package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
)

// pushPlan is all that a push sends, checked.
type pushPlan struct {
	blobs     []pushBlob // each once
	documents []document // in this order; the last one gets the name
	reference string     // tag or digest of the last one
	origins   []string   // repositories of the registry to mount blobs from
}

// pushBlob is a layer or a config.
type pushBlob struct {
	image.Blob
	label string // of its progress line
}

// document is a manifest or an index; as an [image.Blob], a config.
type document struct {
	desc v1.Descriptor
	data []byte
}

func (d document) Descriptor() v1.Descriptor { return d.desc }

func (d document) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(d.data)), nil }

func planPush(req PushRequest) (*pushPlan, error) {
	p := &pushPlan{reference: cmp.Or(req.Ref.Tag, req.Ref.Digest)}
	for _, rec := range req.Records {
		if err := p.addImage(req.Cache, rec); err != nil {
			return nil, err
		}
		p.addOrigins(req.Ref, rec)
	}
	if req.Index != nil {
		if err := p.addIndex(req.Index); err != nil {
			return nil, err
		}
	}
	if len(p.documents) == 0 || req.Index == nil && len(p.documents) > 1 {
		return nil, errors.New("one image is pushed, or an index of several")
	}
	if last := p.documents[len(p.documents)-1].desc.Digest; req.Ref.Digest != "" && req.Ref.Digest != last.String() {
		return nil, fmt.Errorf("the name asks for another digest than the image has, which is %s", last)
	}
	return p, nil
}

// addImage plans a record's layers, config and manifest.
func (p *pushPlan) addImage(cache *image.Cache, rec *oci.Record) error {
	config, layers, err := oci.Contents(rec.Manifest)
	if err != nil {
		return err
	}
	if err := verify("cached image config", rec.Config, config.Digest); err != nil {
		return err
	}
	for i, d := range layers {
		p.addBlob(cache.Blob(d), fmt.Sprintf("Layer %d/%d %s", i+1, len(layers), d.Digest.Encoded()[:12]))
	}
	config.Size = int64(len(rec.Config))
	p.addBlob(document{config, rec.Config}, "Config "+config.Digest.Encoded()[:12])
	manifest, err := manifestOf(rec)
	if err == nil {
		p.documents = append(p.documents, manifest)
	}
	return err
}

func (p *pushPlan) addBlob(b image.Blob, label string) {
	same := func(other pushBlob) bool { return other.Descriptor().Digest == b.Descriptor().Digest }
	if !slices.ContainsFunc(p.blobs, same) {
		p.blobs = append(p.blobs, pushBlob{b, label})
	}
}

// addIndex wants the manifests that are planned to be those of the index.
func (p *pushPlan) addIndex(data []byte) error {
	doc, err := oci.ParseDocument(v1.MediaTypeImageIndex, data)
	if err != nil {
		return err
	}
	if doc.Index == nil || len(doc.Index.Manifests) != len(p.documents) {
		return errors.New("the image index does not list the images that are cached")
	}
	for i, d := range doc.Index.Manifests {
		if err := verify("cached manifest", p.documents[i].data, d.Digest); err != nil {
			return err
		}
	}
	mediaType := cmp.Or(doc.Index.MediaType, v1.MediaTypeImageIndex)
	p.documents = append(p.documents, document{describeDocument(mediaType, data), data})
	return nil
}

// maxOrigins limits the requests that go before an upload.
const maxOrigins = 3

// addOrigins plans to mount blobs from where the record's layers came from.
func (p *pushPlan) addOrigins(to oci.Ref, rec *oci.Record) {
	for _, from := range rec.Origins() {
		known := slices.Contains(p.origins, from.Repository)
		if from.Registry == to.Registry && from.Repository != to.Repository && !known && len(p.origins) < maxOrigins {
			p.origins = append(p.origins, from.Repository)
		}
	}
}

// manifestOf gives a record's manifest as it is sent. "_ct", the media type that the Python program
// notes inside of it, is none of its keys.
func manifestOf(rec *oci.Record) (document, error) {
	var noted struct {
		MediaType   string `json:"mediaType"`
		ContentType string `json:"_ct"`
		Config      v1.Descriptor
	}
	if err := json.Unmarshal(rec.Manifest, &noted); err != nil {
		return document{}, fmt.Errorf("read manifest: %w", err)
	}
	data := []byte(rec.Manifest)
	if noted.ContentType != "" {
		var err error
		if data, err = withoutKey(data, "_ct"); err != nil {
			return document{}, fmt.Errorf("read manifest: %w", err)
		}
	}
	guess := v1.MediaTypeImageManifest
	if noted.Config.MediaType == oci.MediaTypeDockerConfig {
		guess = oci.MediaTypeDockerManifest
	}
	return document{describeDocument(cmp.Or(noted.MediaType, noted.ContentType, guess), data), data}, nil
}

func describeDocument(mediaType string, data []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// withoutKey removes a key from an object and keeps the order of the others.
func withoutKey(object []byte, unwanted string) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		if key == unwanted {
			continue
		}
		name, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, ",%s:%s", name, value)
	}
	if b.Len() == 0 {
		return []byte("{}"), nil
	}
	return append(append([]byte("{"), b.Bytes()[1:]...), '}'), nil
}
