package cli

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// In a log, what stands still is said once a minute, and what changes all the time every five seconds.
func TestOffATerminalALineIsOfSomethingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := &app{Env: Env{Stderr: &log, Now: time.Now}}
		var bar progress
		show := func(text string, done bool, lasts time.Duration) {
			for range lasts / drainEvery {
				bar.show(a, "n2", remainder{done: done, text: text})
				time.Sleep(drainEvery)
			}
		}
		show("9 left", false, 150*time.Second)
		show("8 left", false, time.Second)
		show("7 left", false, time.Second)
		show("6 left", false, 10*time.Second)
		show("0 left", true, drainEvery)
		const line = "n2  [########################################]  "
		want := line + "9 left\n" + line + "9 left\n" + line + "9 left\n" + line + "8 left\n" + line + "6 left\n" + line + "0 left\n"
		if diff := cmp.Diff(want, log.String()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
