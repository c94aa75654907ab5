//go:build !android

package host

const goosAndroid = false
