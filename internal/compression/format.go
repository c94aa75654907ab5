package compression

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
)

// Format is a compression format. Its zero value is None.
type Format int

// The formats of image layers and rootfs archives.
const (
	None  Format = iota
	Gzip         // RFC 1952
	Bzip2        // bzip2(1)
	XZ           // xz(1), .xz file format
	LZMA         // xz(1), legacy .lzma ("alone") format
	Zstd         // RFC 8878
)

// DetectLen is the number of leading bytes after which [Detect] knows all it can.
const DetectLen = 512

// String gives the format's usual name, "uncompressed" for None.
func (f Format) String() string {
	switch f {
	case Gzip:
		return "gzip"
	case Bzip2:
		return "bzip2"
	case XZ:
		return "xz"
	case LZMA:
		return "lzma"
	case Zstd:
		return "zstd"
	}
	return "uncompressed"
}

// Detect tells the format from a stream's first bytes, ideally [DetectLen] of
// them or all there are. What it does not know is None.
func Detect(head []byte) Format {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip
	case isBzip2(head):
		return Bzip2
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return XZ
	case isZstd(head):
		return Zstd
	case isLZMA(head):
		return LZMA
	}
	return None
}

// isBzip2 wants the magic of the first block too (or of the end, in an empty
// file), since "BZh9" alone may as well begin a file name.
func isBzip2(head []byte) bool {
	if len(head) < 4 || !bytes.HasPrefix(head, []byte("BZh")) || head[3] < '1' || head[3] > '9' {
		return false
	}
	rest := head[4:min(len(head), 10)]
	return bytes.HasPrefix([]byte{0x31, 0x41, 0x59, 0x26, 0x53, 0x59}, rest) ||
		bytes.HasPrefix([]byte{0x17, 0x72, 0x45, 0x38, 0x50, 0x90}, rest)
}

// isZstd knows a frame and a skippable frame (RFC 8878, section 3.1).
func isZstd(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	magic := binary.LittleEndian.Uint32(head)
	return magic == 0xfd2fb528 || magic&^0xf == 0x184d2a50
}

// isLZMA judges a header without a magic as xz does: the usual properties, a
// dictionary of 2^n or 2^n+2^(n-1) bytes, an unknown size or one below 256 GiB,
// and the zero byte that every range coder starts with.
func isLZMA(head []byte) bool {
	const headerLen = 13
	if len(head) <= headerLen || head[0] != 0x5d || isTar(head) {
		return false
	}
	dict := binary.LittleEndian.Uint32(head[1:])
	leading := bits.LeadingZeros32(dict)
	plausible := dict == 1<<31>>leading || dict == 3<<30>>leading
	if dict < 1<<12 || !plausible && dict != 1<<32-1 {
		return false
	}
	size := binary.LittleEndian.Uint64(head[5:])
	return head[headerLen] == 0 && (size < 1<<38 || size == 1<<64-1)
}

func isTar(head []byte) bool {
	const at = 257
	return len(head) >= at+5 && string(head[at:at+5]) == "ustar"
}

// suffixes of tar archives, longest first where one ends another.
var suffixes = []struct {
	ending string
	format Format
}{
	{".tar.gz", Gzip}, {".tgz", Gzip},
	{".tar.bz2", Bzip2}, {".tbz2", Bzip2}, {".tbz", Bzip2},
	{".tar.xz", XZ}, {".txz", XZ},
	{".tar.lzma", LZMA}, {".tlzma", LZMA},
	{".tar.zst", Zstd}, {".tzst", Zstd},
	{".tar", None},
}

// FromName tells the format that a tar archive's file name asks for. It is false
// for a name without a known ending.
func FromName(filename string) (Format, bool) {
	filename = strings.ToLower(filename)
	for _, s := range suffixes {
		if strings.HasSuffix(filename, s.ending) {
			return s.format, true
		}
	}
	return None, false
}
