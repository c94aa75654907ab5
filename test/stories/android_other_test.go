//go:build !amd64

package stories

// legacyLinks are calls that make hard links beside linkat(2).
var legacyLinks []uint32
