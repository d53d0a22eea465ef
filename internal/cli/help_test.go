package cli

import (
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// commands lists a command and all below it.
func commands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		all = append(all, commands(sub)...)
	}
	return all
}

func rootForTest() *cobra.Command {
	root := (&app{Env: Env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}}).root()
	root.InitDefaultHelpCmd()
	return root
}

func TestEveryCommandIsExplainedWithAnExample(t *testing.T) {
	for _, cmd := range commands(rootForTest()) {
		if cmd.Short == "" || cmd.Long == "" || !strings.Contains(cmd.Example, "lbctl") {
			t.Errorf("%s: no short text, no long text or no example", cmd.CommandPath())
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short text ends with a full stop", cmd.CommandPath())
		}
	}
}

func TestHelpFitsAHundredColumns(t *testing.T) {
	for _, cmd := range commands(rootForTest()) {
		var text strings.Builder
		cmd.SetOut(&text)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text.String()) {
			if width := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 100 {
				t.Errorf("%s: %d columns: %s", cmd.CommandPath(), width, line)
			}
		}
	}
}

func TestEveryExampleIsACommandLineThatIsUnderstood(t *testing.T) {
	for _, cmd := range commands(rootForTest()) {
		for line := range strings.Lines(cmd.Example) {
			for _, words := range lbctlCalls(line) {
				root := rootForTest()
				found, rest, err := root.Find(words)
				if err != nil {
					t.Errorf("%s: %v", line, err)
					continue
				}
				found.InitDefaultHelpFlag()
				if err := found.ParseFlags(rest); err != nil {
					t.Errorf("%s: %v", line, err)
				} else if err := found.ValidateArgs(found.Flags().Args()); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
	}
}

// lbctlCalls cuts a shell line at pipes, redirections and the like, and returns the arguments of
// the lbctl commands in it.
func lbctlCalls(line string) [][]string {
	var calls [][]string
	for _, separator := range []string{"<(", ")", "<", ">", "&&"} {
		line = strings.ReplaceAll(line, separator, "|")
	}
	for part := range strings.SplitSeq(line, "|") {
		if words := strings.Fields(part); len(words) > 0 && words[0] == "lbctl" {
			calls = append(calls, words[1:])
		}
	}
	return calls
}

func TestEveryHelpTextIsReachable(t *testing.T) {
	for _, cmd := range commands(rootForTest()) {
		words := strings.Fields(cmd.CommandPath())[1:]
		byFlag := lbctl(t, nil, append(words, "--help")...)
		byCommand := lbctl(t, nil, append([]string{"help"}, words...)...)
		if byFlag.Code != exitOK || byFlag.Stdout == "" || byFlag.Stdout != byCommand.Stdout {
			t.Errorf("%s: --help and help differ:\n%s\n%s", cmd.CommandPath(), byFlag.Stdout, byCommand.Stdout)
		}
	}
}
