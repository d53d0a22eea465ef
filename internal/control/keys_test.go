package control

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestARotationReachesItsFunction(t *testing.T) {
	want := KeyRotation{Key: "0011223344556677", Nodes: []KeyHolder{{Node: "n1", Step: "added"}, {Node: "n2", Step: "missing", Why: "down"}}}
	path := serve(t, Daemon{Keys: func(_ context.Context, r KeysRequest) (KeyRotation, error) {
		if !r.Back {
			return KeyRotation{}, &Error{Code: http.StatusConflict, Message: "a rotation is under way"}
		}
		return want, nil
	}})
	got, err := dial(t, path).RotateKeys(t.Context(), KeysRequest{Back: true})
	if diff := cmp.Diff(&want, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	_, err = dial(t, path).RotateKeys(t.Context(), KeysRequest{})
	if answer, ok := errors.AsType[*Error](err); !ok || answer.Code != http.StatusConflict {
		t.Errorf("error %v, want 409", err)
	}
}

// The socket's group may drain nodes; who has the key has the cluster.
func TestNobodyButRootMayChangeTheKey(t *testing.T) {
	handler := Daemon{Keys: func(context.Context, KeysRequest) (KeyRotation, error) {
		t.Error("the daemon was asked")
		return KeyRotation{}, nil
	}}.Handler()
	for _, peer := range []any{nil, uint32(65534)} {
		request := httptest.NewRequest(http.MethodPost, "/v1/keys", bytes.NewReader([]byte("{}")))
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request.WithContext(context.WithValue(request.Context(), peerKey{}, peer)))
		if answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), "only root may change the key of the cluster") {
			t.Errorf("peer %v: %d %s", peer, answer.Code, answer.Body)
		}
	}
}
