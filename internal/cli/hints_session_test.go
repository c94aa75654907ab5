package cli

import "testing"

func TestIdentityProgram(t *testing.T) {
	for _, tt := range []struct {
		want    string
		command []string
	}{
		{"su", []string{"/bin/bash", "-l", "-c", "su alice -c id"}},
		{"initdb", []string{"/usr/lib/postgresql/15/bin/initdb", "-D", "/data"}},
		{"gosu", []string{"sh", "-c", "cd /data&&exec gosu redis redis-server"}},
		{"", []string{"/bin/bash", "-l", "-c", "apt-get install sudoku 'result-su'"}},
		{"", nil},
	} {
		if got := identityProgram(tt.command); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.command, got, tt.want)
		}
	}
}
