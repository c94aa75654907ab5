package layer

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"
)

// maxNames is how many entries decide how much to strip.
const maxNames = 500

// FirstNames gives the names of the first 500 entries of an uncompressed tar
// stream, for [DetectStrip].
func FirstNames(tarStream io.Reader) ([]string, error) {
	archive := tar.NewReader(bufio.NewReaderSize(tarStream, streamBuffer))
	var names []string
	for len(names) < maxNames {
		hdr, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, headerError(len(names) == 0, err)
		}
		if hdr.Typeflag != tar.TypeXGlobalHeader {
			names = append(names, hdr.Name)
		}
	}
	return names, nil
}

// maxStrip is the deepest that a root filesystem lies in a plain tarball.
const maxStrip = 4

// rootDirs are the directories by which a root filesystem is recognised.
var rootDirs = strings.Fields(`bin dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys tmp usr var`)

var errNotRootfs = errors.New("not a root filesystem: no bin, etc, usr or the like in the archive's first four levels")

// DetectStrip finds how many leading components of an archive's names to drop, 0
// to 4, so that most of the directories of a root filesystem land at the root; of
// equals, the fewest. It fails when the names show no root filesystem.
//
// The first names of an archive may show more of usr (bin, lib, sbin) than of the
// root itself. So a directory that is one of several of a root filesystem's is not
// taken for its root.
func DetectStrip(names []string) (int, error) {
	found := map[string]map[string]bool{} // known directories, by what they lie in
	for _, name := range names {
		name, err := cleanName(name, 0)
		if err != nil {
			continue
		}
		above, rest := "", name
		for level := 0; level <= maxStrip && rest != ""; level++ {
			var dir string
			dir, rest, _ = strings.Cut(rest, "/")
			if slices.Contains(rootDirs, dir) {
				if found[above] == nil {
					found[above] = map[string]bool{}
				}
				found[above][dir] = true
			}
			above += dir + "/"
		}
	}
	best, bestScore := 0, 0
	for above, dirs := range found {
		strip, score := strings.Count(above, "/"), len(dirs)
		if (score > bestScore || score == bestScore && strip < best) && !inRootDir(above, found) {
			best, bestScore = strip, score
		}
	}
	if bestScore == 0 {
		return 0, errNotRootfs
	}
	return best, nil
}

// inRootDir reports whether a path leads through one of several known directories.
func inRootDir(path string, found map[string]map[string]bool) bool {
	above := ""
	for dir := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
		if len(found[above]) > 1 && found[above][dir] {
			return true
		}
		above += dir + "/"
	}
	return false
}
