package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"

	"proot-distro/internal/platform"
)

// recipe is all that a step's outcome depends on. Its hash is the step's key, so whatever is
// added here makes every cached step miss once.
type recipe struct {
	Format int           // of this structure
	Parent digest.Digest // chain ID of the layers below; empty for a step that ignores them
	Arch   platform.Arch
	Step   string // the kind: "RUN", "COPY", "WORKDIR"
	Epoch  int64  // SOURCE_DATE_EPOCH, 0 for none

	Argv    []string `json:",omitempty"`
	Env     []string `json:",omitempty"`
	User    string   `json:",omitempty"`
	WorkDir string   `json:",omitempty"`
	Network string   `json:",omitempty"`
	Mounts  []string `json:",omitempty"`
	Script  string   `json:",omitempty"`

	Dest    string   `json:",omitempty"`
	Chown   string   `json:",omitempty"`
	Chmod   string   `json:",omitempty"`
	Flags   []string `json:",omitempty"`
	Sources []string `json:",omitempty"` // names and digests
}

const recipeFormat = 1

func (r recipe) key() string {
	r.Format = recipeFormat
	data, _ := json.Marshal(r) // strings and numbers cannot fail
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func epochSeconds(epoch *time.Time) int64 {
	if epoch == nil {
		return 0
	}
	return epoch.Unix()
}
