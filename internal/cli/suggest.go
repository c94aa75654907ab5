package cli

import "strings"

// elsewhere has our command lines for what docker, podman, distrobox and people call things.
var elsewhere = map[string]string{
	"attach": "exec", "check": "doctor", "clean": "clear-cache", "create": "install", "delete": "remove", "diagnose": "doctor",
	"duplicate": "clone", "enter": "login", "export": "backup", "fork": "clone", "image": "list --image", "images": "list --image",
	"import": "install", "info": "doctor", "inspect": "list --json", "load": "install", "move": "copy --move", "mv": "copy --move",
	"probe": "doctor", "prune": "clear-cache --orphan", "reinstall": "reset", "ren": "rename", "rmi": "remove --image",
	"rsync": "sync", "save": "backup", "shell": "login", "start": "run", "status": "doctor", "stop": "kill", "system": "doctor",
	"uninstall": "remove", "version": "--version",
}

// elsewhereOptions tell what does here what options of docker run and its like do; PD is this program.
var elsewhereOptions = map[string]string{
	"fix-low-ports": "It is called --redirect-ports now.", // of older versions of the Python program
	"termux-home":   "It is called --shared-home now.",
	"entrypoint":    "What stands after '--' is run instead: PD login CONTAINER -- COMMAND",
	"i":             terminalAdvice, "interactive": terminalAdvice, "it": terminalAdvice, "t": terminalAdvice, "tty": terminalAdvice,
	"mount": bindAdvice, "volume": bindAdvice,
	"name": "A container has its name since it was installed: PD install --name NAME IMAGE",
	"p":    portAdvice, "publish": portAdvice,
	"rm": "A container stays until 'PD remove' deletes it; a session leaves nothing else behind.",
}

const (
	terminalAdvice = "Leave it away: a session reads what you type, and has a terminal when you have one."
	bindAdvice     = "To see a file or directory of the host in the container: --bind SRC:DST"
	portAdvice     = "The network is the host's: ports need not be published. --redirect-ports moves those below 1024."
)

// nearest returns the candidate that word was most likely meant to be, or "".
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" && len(word) >= 2 {
		for _, c := range candidates {
			if strings.HasPrefix(c, word) {
				return c
			}
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour (optimal string alignment) to make b out of a.
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
