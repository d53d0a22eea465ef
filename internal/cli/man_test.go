package cli

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const manPage = "../../deploy/man/lbctl.1"

func TestManPagesAreCurrent(t *testing.T) {
	want := manual(rootForTest())
	if *update {
		if err := os.WriteFile(manPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(manPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s: run go test ./internal/cli -run ManPages -update\n-want +got:\n%s", manPage, diff)
	}
}

// manual writes one page for all commands, in the macros of man(7): one thing to read and search.
func manual(root *cobra.Command) string {
	var page bytes.Buffer
	macro := func(format string, args ...any) { fmt.Fprintf(&page, format+"\n", args...) }
	text := func(text string) { page.WriteString(roff(text) + "\n") }

	macro(".TH LBCTL 1")
	macro(".SH NAME")
	text("lbctl - " + strings.ToLower(root.Short[:1]) + root.Short[1:])
	macro(".SH SYNOPSIS")
	macro(".B lbctl\n.RI [ OPTION \"]... \" COMMAND \" [\" ARGUMENT ]...")
	macro(".SH DESCRIPTION")
	overview, _, _ := strings.Cut(root.Long, "\n\n")
	text(overview)
	macro(".SH OPTIONS")
	writeFlags(&page, root.PersistentFlags())
	macro(".SH COMMANDS")
	for _, cmd := range commands(root)[1:] {
		lists := []string{"nodes", "vips", "backends"} // by themselves
		if cmd.Hidden || cmd.HasSubCommands() && !slices.Contains(lists, cmd.Name()) {
			continue
		}
		macro(".SS %s", roff(strings.TrimPrefix(strings.TrimSuffix(cmd.UseLine(), " [flags]"), "lbctl ")))
		text(cmd.Long)
		writeFlags(&page, cmd.NonInheritedFlags())
		macro(".PP\n.EX")
		text(cmd.Example)
		macro(".EE")
	}
	macro(".SH EXIT STATUS")
	for _, code := range []struct {
		code    int
		meaning string
	}{
		{exitOK, "Success."},
		{exitFailed, "The command failed."},
		{exitUsage, "Wrong usage: an unknown command or flag, or arguments that make no sense."},
		{exitConfig, "A configuration file is invalid."},
		{exitDegraded, "Problems were found (status and doctor only)."},
		{exitUnreachable, "Nobody answers on the socket of lbd, or it may not be used."},
		{exitUnfinished, "What was waited for did not happen in time; it goes on, but for keys rotate, which is run again."},
		{exitLast, "Nobody else would take new flows; see nodes drain and backends drain."},
	} {
		macro(".TP\n.B %d", code.code)
		text(code.meaning)
	}
	macro(".SH ENVIRONMENT\n.TP\n.B NO_COLOR")
	text("When set and not empty, output to a terminal is not coloured.")
	macro(".SH SEE ALSO\n.BR lbd (8)")
	return page.String()
}

func writeFlags(page *bytes.Buffer, flags *pflag.FlagSet) {
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(flag)
		name := "--" + flag.Name
		if flag.Shorthand != "" {
			name = "-" + flag.Shorthand + ", " + name
		}
		if value != "" {
			value = " \\fI" + roff(value) + "\\fR"
		}
		fmt.Fprintf(page, ".TP\n\\fB%s\\fR%s\n%s", roff(name), value, roff(usage))
		switch flag.DefValue {
		case "", "0", "0s", "false":
			fmt.Fprint(page, ".\n")
		default:
			fmt.Fprintf(page, " (default %s).\n", roff(strings.Trim(flag.DefValue, "[]")))
		}
	})
}

// roff escapes what the formatter would take for its own, man(7): backslashes, hyphens that must
// stay as they are, and dots and quotes that start a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
		if line == "" {
			lines[i] = ".PP"
		}
	}
	return strings.Join(lines, "\n")
}
