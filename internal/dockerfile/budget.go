package dockerfile

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// maxExpanded bounds what all variables of a Dockerfile may become, in bytes: a few lines, each of which
	// doubles a variable, would fill any memory.
	maxExpanded = 32 << 20
	// maxNested bounds variables within defaults of variables, each of which takes a piece of the stack.
	maxNested = 100
)

// charge takes what expanding a word can give at most from the file's budget, before that is done.
func (f *File) charge(word string, env *vars) error {
	size, nested := measure(word, env.longest)
	if nested > maxNested {
		return errors.New("its variables are nested too deeply")
	}
	if f.expanded += size; f.expanded > maxExpanded {
		return fmt.Errorf("its variables would make the Dockerfile larger than %d MiB", maxExpanded>>20)
	}
	return nil
}

// measure gives the most that a word becomes, in bytes, when no variable is longer than longest. Each dollar may stand for a
// variable, and in ${A//b/c} each of its bytes for what is put in the place of b, which may be such a word again.
func measure(word string, longest int) (size float64, nested int) {
	const nameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	size = float64(strings.Count(word, "$") * longest)
	var open []bool // braces; whether something is replaced there
	replacing, most := 0, 0
	for i := range len(word) {
		switch {
		case strings.HasPrefix(word[i:], "${"):
			end := i + 2
			for end < len(word) && strings.IndexByte(nameCharacters, word[end]) >= 0 {
				end++
			}
			replaces := end < len(word) && word[end] == '/'
			if open = append(open, replaces); replaces {
				replacing++
			}
			nested, most = max(nested, len(open)), max(most, replacing)
		case word[i] == '}' && len(open) > 0:
			if open[len(open)-1] {
				replacing--
			}
			open = open[:len(open)-1]
		}
	}
	if nested > maxNested {
		return size, nested
	}
	for range most {
		size *= float64(max(longest, len(word)))
	}
	return size + float64(len(word)), nested
}
