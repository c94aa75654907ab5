package registry

import "strings"

// challenge is one entry of WWW-Authenticate (RFC 9110 section 11.6.1).
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges reads all challenges of a response. Malformed rests are dropped.
func parseChallenges(headers []string) []challenge {
	var found []challenge
	for _, h := range headers {
		for rest := h; rest != ""; {
			var c challenge
			if c, rest = parseChallenge(rest); c.scheme != "" {
				found = append(found, c)
			}
		}
	}
	return found
}

// parseChallenge reads `scheme key=value, key="value"` up to the next scheme.
func parseChallenge(s string) (c challenge, rest string) {
	s = strings.TrimLeft(s, " \t,")
	scheme, s := cutToken(s)
	if scheme == "" {
		return challenge{}, ""
	}
	c = challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
	for {
		s = strings.TrimLeft(s, " \t,")
		key, after := cutToken(s)
		after = strings.TrimLeft(after, " \t")
		if key == "" || !strings.HasPrefix(after, "=") {
			return c, s // the end, or the next challenge
		}
		var value string
		value, s = cutValue(strings.TrimLeft(after[1:], " \t"))
		if k := strings.ToLower(key); c.params[k] == "" {
			c.params[k] = value
		}
	}
}

func cutToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) >= 0) {
		i++
	}
	return s[:i], s[i:]
}

// cutValue reads a token or a quoted string. Tokens may hold what URLs do, since
// some registries leave the quotes out.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexAny(s, ", \t"); i >= 0 {
			return s[:i], s[i:]
		}
		return s, ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
