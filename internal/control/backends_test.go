package control

import (
	"context"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lbctl/lbctl/internal/lb"
)

func TestARequestAboutABackendReachesTheDaemonWhole(t *testing.T) {
	var got []BackendRequest
	path := serve(t, Daemon{Backends: func(_ context.Context, r BackendRequest) error {
		got = append(got, r)
		return nil
	}})
	want := []BackendRequest{
		{Service: "web", Backend: "b1", Drain: new(true), Force: true},
		{Service: "web", Backend: "b1", Drain: new(false)},
		{Service: "web", Backend: "b1", Disable: new(true)},
		{Service: "web", Backend: "b1", Weight: new(0)},
		{Service: "web", Backend: "b1", Weight: new(lb.MaxWeight)},
		{Service: "web", Backend: "b1", ResetWeight: true},
	}
	for _, r := range want {
		if err := dial(t, path).AdminBackend(t.Context(), r); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestARequestAboutABackendThatMakesNoSenseIsRefused(t *testing.T) {
	path := serve(t, Daemon{Backends: func(context.Context, BackendRequest) error {
		t.Error("the daemon was asked")
		return nil
	}})
	const one = "want exactly one of drain, disable, weight, reset_weight, maxconn and reset_maxconn"
	for _, test := range []struct {
		request BackendRequest
		want    string
	}{
		{BackendRequest{Service: "web", Drain: new(true)}, "service or backend: missing"},
		{BackendRequest{Backend: "b1", Drain: new(true)}, "service or backend: missing"},
		{BackendRequest{Service: "web", Backend: "b1"}, one},
		{BackendRequest{Service: "web", Backend: "b1", Drain: new(true), Disable: new(true)}, one},
		{BackendRequest{Service: "web", Backend: "b1", Weight: new(1), ResetWeight: true}, one},
		{BackendRequest{Service: "web", Backend: "b1", MaxConn: new(1), ResetMaxConn: true}, one},
		{BackendRequest{Service: "web", Backend: "b1", MaxConn: new(-1)}, "maxconn: -1 is not in 0..10000000"},
		{BackendRequest{Service: "web", Backend: "b1", Weight: new(-1)}, "weight: -1 is not in 0..256"},
		{BackendRequest{Service: "web", Backend: "b1", Weight: new(lb.MaxWeight + 1)}, "weight: 257 is not in 0..256"},
	} {
		want := &Error{Code: http.StatusBadRequest, Message: test.want}
		err := dial(t, path).AdminBackend(t.Context(), test.request)
		if diff := cmp.Diff(error(want), err); diff != "" {
			t.Errorf("%+v: -want +got:\n%s", test.request, diff)
		}
	}
}
