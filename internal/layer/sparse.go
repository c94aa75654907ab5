package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sparse files are archived as by tar --sparse --format=posix (GNU.sparse 1.0): PAX records tell the name and the
// size, and what is stored begins with a map of the data. archive/tar reads this, and does not write it.

// An extent is a part of a file that is no hole.
type extent struct{ offset, size int64 }

// maxExtents bounds a map. A file of more parts is archived with its holes.
const maxExtents = 1 << 16

// standInName is a part of the name that a reader sees which does not know of sparse files.
const standInName = "GNUSparseFile.0"

const blockSize = 512 // of a tar archive, and of st_blocks

// extentsOf gives the data of a file that has holes worth leaving out; nil for any other, and for one of more
// extents than most. It leaves the file at its beginning.
func extentsOf(f *os.File, size int64, most int) []extent {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Blocks*blockSize > size-holeSize || size > maxSparse {
		return nil
	}
	defer func() { _, _ = f.Seek(0, io.SeekStart) }() // cannot fail where the others have not
	data, stored := []extent{}, int64(0)
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && start >= size { // it may have grown meanwhile
			break // a hole up to the end
		}
		end, endErr := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil || endErr != nil || len(data) == most {
			return nil
		}
		end = min(end, size)
		data = append(data, extent{start, end - start})
		stored += end - start
		at = end
	}
	if stored > size-holeSize { // the file system packs it, or has grown it meanwhile
		return nil
	}
	return data
}

// sparseFile writes a file without its holes.
func (a *archiver) sparseFile(c change, f *os.File, hdr *tar.Header, data []extent) error {
	sparseMap := mapOf(data, hdr.Size)
	stored := int64(len(sparseMap))
	for _, e := range data {
		stored += e.size
	}
	if err := a.tar.Flush(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	header, err := sparseHeader(hdr, stored)
	if err == nil {
		_, err = a.o.Stream.Write(append(header, sparseMap...))
	}
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	for _, e := range data {
		if _, err := f.Seek(e.offset, io.SeekStart); err != nil {
			return err
		}
		if err := a.wholeContent(a.o.Stream, c, f, e.size); err != nil {
			return err
		}
	}
	_, err = a.o.Stream.Write(zeros[:-stored&(blockSize-1)])
	return err
}

// mapOf is the number of extents, and where each is and how long, a line each. The last one ends where the file does.
func mapOf(data []extent, size int64) []byte {
	if len(data) == 0 || data[len(data)-1].offset+data[len(data)-1].size < size {
		data = append(data, extent{size, 0})
	}
	text := strconv.AppendInt(nil, int64(len(data)), 10)
	for _, e := range data {
		text = strconv.AppendInt(append(text, '\n'), e.offset, 10)
		text = strconv.AppendInt(append(text, '\n'), e.size, 10)
	}
	text = append(text, '\n')
	return append(text, zeros[:-len(text)&(blockSize-1)]...)
}

// sparseHeader is the header of a sparse file of which so many bytes are stored. archive/tar refuses to write
// records of these names, so it is given others of the same length.
func sparseHeader(hdr *tar.Header, stored int64) ([]byte, error) {
	const written, meant = "GNU_sparse.", "GNU.sparse."
	h := *hdr
	h.Format, h.Size = tar.FormatPAX, stored
	h.Name = path.Join(path.Dir(hdr.Name), standInName, path.Base(hdr.Name))
	if len(h.Name) > 100 || strings.ContainsFunc(h.Name, func(c rune) bool { return c < ' ' || c > '~' }) {
		h.Name = standInName // or there would be a record of it, which Python's tarfile takes for the name
	}
	h.PAXRecords = map[string]string{
		written + "major": "1", written + "minor": "0", written + "name": hdr.Name, written + "realsize": strconv.FormatInt(hdr.Size, 10),
	}
	for key, value := range hdr.PAXRecords {
		h.PAXRecords[key] = value
	}
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&h); err != nil {
		return nil, err
	}
	// Behind a header of their own come the records, "LENGTH KEY=VALUE\n", then padding and the header of the file.
	const sizeAt, sizeLen = 124, 11
	size, err := strconv.ParseInt(string(header.Bytes()[sizeAt:][:sizeLen]), 8, 64)
	if err != nil {
		return nil, fmt.Errorf("PAX header: %w", err)
	}
	for records := header.Bytes()[blockSize:][:size]; len(records) > 0; {
		digits, key, _ := bytes.Cut(records, []byte(" "))
		if bytes.HasPrefix(key, []byte(written)) {
			copy(key, meant)
		}
		length, err := strconv.Atoi(string(digits))
		if err != nil {
			return nil, fmt.Errorf("PAX record: %w", err)
		}
		records = records[length:]
	}
	return header.Bytes(), nil
}
