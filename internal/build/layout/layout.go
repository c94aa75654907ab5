// Package layout lays files out in a layer as COPY does: a [Source] gives a [Batch] of files for each word, a
// [Destination] gives these their places in the image, and the [Layout] that results packs itself as a tar stream.
//
// Sources and images are reached through package rootfs, so no link leads out of either. The tree of the image is
// looked at and not touched. Equal content gives equal bytes, whoever the files on disk belong to: their owners in the image
// are kept apart ([Owners]).
package layout
