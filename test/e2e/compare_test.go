package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// figures are what a way did: medians over the rounds.
type figures struct {
	way         string
	requests    float64 // a second, over connections that stay
	connections float64 // a second, each with a request
	slow        float64 // µs, the 99th percentile of answers at a rate that no way has trouble with
	busy        float64 // µs of processor for a request at that rate: client, director and backends
}

// compare lets the ways work in turn, round after round, so that whatever else the machine does meets
// all alike.
func compare(t testing.TB, rounds int, work callOptions) []figures {
	t.Helper()
	kernel, err := softirqs()
	check(t, err)
	labs := make([]way, len(rivals))
	for i, w := range rivals {
		labs[i] = w.make(t)
		labs[i].name = w.name
	}
	samples := make([][]figures, len(labs))
	for range rounds {
		for i, w := range labs {
			work.To, work.Others = w.to, slices.Concat(kernel, w.pids)
			report := finish[callReport](t, startSide(t, w.client, "rusher", work))
			wantAnswers(t, w, report.Requests, work.Requests)
			wantAnswers(t, w, report.Connections, work.Connections)
			wantAnswers(t, w, report.Paced, work.Paced)
			if len(report.Connections.By) != comparedBackends {
				t.Errorf("%s: %d connections, to %v: want all of %d backends", w.name, work.Connections, report.Connections.By, comparedBackends)
			}
			samples[i] = append(samples[i], figures{
				requests:    float64(work.Requests) / report.Requests.Took.Seconds(),
				connections: float64(work.Connections) / report.Connections.Took.Seconds(),
				slow:        float64(report.Paced.Slow.Microseconds()),
				busy:        float64(report.Paced.Busy.Microseconds()) / float64(work.Paced),
			})
		}
	}
	all := make([]figures, len(labs))
	for i, w := range labs {
		all[i] = figures{
			way:         w.name,
			requests:    median(samples[i], func(f figures) float64 { return f.requests }),
			connections: median(samples[i], func(f figures) float64 { return f.connections }),
			slow:        median(samples[i], func(f figures) float64 { return f.slow }),
			busy:        median(samples[i], func(f figures) float64 { return f.busy }),
		}
	}
	return all
}

// wantAnswers fails the test unless every request was answered, by a backend.
func wantAnswers(t testing.TB, w way, result callResult, count int) {
	t.Helper()
	if len(result.Failed) > 0 || result.Done != count {
		t.Fatalf("%s: %d of %d answered:\n%s", w.name, result.Done, count, strings.Join(result.Failed, "\n"))
	}
	for name := range result.By {
		if !strings.HasPrefix(name, "b") {
			t.Fatalf("%s: answered by %q, which is no backend", w.name, name)
		}
	}
}

func median(samples []figures, of func(figures) float64) float64 {
	sorted := slices.SortedFunc(slices.Values(samples), func(a, b figures) int { return cmp.Compare(of(a), of(b)) })
	return of(sorted[len(sorted)/2])
}

// table compares all with HAProxy, the last one.
func table(all []figures) string {
	last := all[len(all)-1]
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %12s %18s %14s %18s   (times HAProxy's)\n", "way", "requests/s", "connections/s", "p99 µs", "cpu µs/request")
	for _, f := range all {
		fmt.Fprintf(&b, "%-10s %7.0f %4.2f %13.0f %4.2f %9.0f %4.2f %13.1f %4.2f\n", f.way, f.requests, f.requests/last.requests,
			f.connections, f.connections/last.connections, f.slow, f.slow/last.slow, f.busy, f.busy/last.busy)
	}
	return b.String()
}

// A director that forwards packets does less than one that ends connections and opens others. The
// floor is far below what is measured anywhere, as rounds are short here: make bench-compare has
// the figures.
func TestDirectorsAreNoSlowerThanAProxy(t *testing.T) {
	all := compare(t, 3, callOptions{Callers: 16, Requests: 3200, Connections: 480, Paced: 160, Rate: 800})
	t.Logf("\n%s", table(all))
	proxy := all[len(all)-1]
	for _, f := range all {
		if !strings.HasPrefix(f.way, "lbctl") {
			continue
		}
		if f.requests < 0.7*proxy.requests || f.connections < 0.7*proxy.connections {
			t.Errorf("%s: %.0f requests and %.0f connections a second; HAProxy %.0f and %.0f",
				f.way, f.requests, f.connections, proxy.requests, proxy.connections)
		}
	}
}

// The same for long enough, for people.
func BenchmarkDirectorsBesideOthers(b *testing.B) {
	all := compare(b, 5, callOptions{Callers: 32, Requests: 32_000, Connections: 6400, Paced: 6400, Rate: 3200})
	for _, f := range all {
		b.Run("way="+f.way, func(b *testing.B) {
			for b.Loop() { //nolint:revive // the rounds above are the measurement
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(f.requests, "requests/s")
			b.ReportMetric(f.connections, "connections/s")
			b.ReportMetric(f.slow, "p99-µs")
			b.ReportMetric(f.busy, "cpu-µs/request")
		})
	}
	b.Logf("\n%s", table(all))
}
