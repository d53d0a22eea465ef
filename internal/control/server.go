package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxFile bounds what is read of a candidate configuration. The parser's own limit is lower, and
// its message says more.
const maxFile = 4 << 20

// maxAdmin bounds what is read of a request about a node or a backend.
const maxAdmin = 64 << 10

// stopTime is how long requests may take to end when the daemon stops.
const stopTime = 2 * time.Second

// A Daemon is what lbd lets the socket do. Every function may be called at any time and
// from several goroutines. An error that holds config.Errors is reported with their positions.
type Daemon struct {
	Status     func(context.Context) (Status, error)
	ConfigYAML func(seed bool) []byte // the configuration in force, defaults filled in
	ConfigDiff func(candidate []byte) (ConfigDiff, error)
	Reload     func(context.Context) (ReloadResult, error)
	Admin      func(context.Context, AdminRequest) error
	Move       func(context.Context, MoveRequest) error
	Backends   func(context.Context, BackendRequest) error
	Keys       func(context.Context, KeysRequest) (KeyRotation, error)
	Events     func(after uint64) []Event // newer than that number, oldest first
}

// Handler serves the routes of the socket.
func (d Daemon) Handler() http.Handler {
	routes := []struct {
		method, path string
		answer       func(http.ResponseWriter, *http.Request) error
	}{
		{http.MethodGet, "/v1/status", d.status},
		{http.MethodGet, "/v1/config", d.config},
		{http.MethodPost, "/v1/config/diff", d.diff},
		{http.MethodPost, "/v1/config/reload", d.reload},
		{http.MethodPost, "/v1/nodes", d.admin},
		{http.MethodPost, "/v1/vips", d.move},
		{http.MethodPost, "/v1/backends", d.backends},
		{http.MethodPost, "/v1/keys", d.keys},
		{http.MethodGet, "/v1/events", d.events},
	}
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.HandleFunc(route.method+" "+route.path, func(w http.ResponseWriter, r *http.Request) {
			if err := route.answer(w, r); err != nil {
				writeError(w, err)
			}
		})
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", route.method)
			writeError(w, &Error{Code: http.StatusMethodNotAllowed, Message: r.Method + " is not allowed here"})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &Error{Code: http.StatusNotFound, Message: "no such path: " + r.URL.Path})
	})
	return mux
}

func (d Daemon) status(w http.ResponseWriter, r *http.Request) error {
	status, err := d.Status(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, status.sorted())
}

func (d Daemon) diff(w http.ResponseWriter, r *http.Request) error {
	candidate, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFile))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return &Error{Code: http.StatusRequestEntityTooLarge, Message: "the file is larger than 4 MiB"}
		}
		return &Error{Code: http.StatusBadRequest, Message: "read the file: " + err.Error()}
	}
	diff, err := d.ConfigDiff(candidate)
	if err != nil {
		return err
	}
	diff.Changes = list(diff.Changes)
	return writeJSON(w, diff)
}

func (d Daemon) reload(w http.ResponseWriter, r *http.Request) error {
	result, err := d.Reload(r.Context())
	if err != nil {
		return err
	}
	result.Changes = list(result.Changes)
	return writeJSON(w, result)
}

// read takes a request apart; a field that is unknown may be what matters.
func read(w http.ResponseWriter, r *http.Request, request any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdmin))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		return &Error{Code: http.StatusBadRequest, Message: "understand the request: " + err.Error()}
	}
	return nil
}

func (d Daemon) admin(w http.ResponseWriter, r *http.Request) error {
	var request AdminRequest
	if err := read(w, r, &request); err != nil {
		return err
	}
	if err := request.check(); err != nil {
		return &Error{Code: http.StatusBadRequest, Message: err.Error()}
	}
	if err := d.Admin(r.Context(), request); err != nil {
		return err
	}
	return writeJSON(w, struct{}{})
}

func (d Daemon) events(w http.ResponseWriter, r *http.Request) error {
	var after uint64
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return &Error{Code: http.StatusBadRequest, Message: fmt.Sprintf("after: %q is no number", text)}
		}
	}
	return writeJSON(w, list(d.Events(after)))
}

func writeJSON(w http.ResponseWriter, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	send(w, http.StatusOK, "application/json", append(body, '\n'))
	return nil
}

// send ignores a failed write: the client left before its answer, and there is nobody to tell.
func send(w http.ResponseWriter, code int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func writeError(w http.ResponseWriter, err error) {
	answer := errorOf(err)
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	send(w, answer.Code, "application/json", append(body, '\n'))
}

// Serve answers on the listener until the context ends, then lets requests finish for a moment.
// It closes the listener.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close() // a request that does not end must not keep the daemon
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
