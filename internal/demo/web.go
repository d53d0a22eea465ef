package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
)

// WebCommand is the command of lbctl that runs Web: a process of its own can be left running.
const WebCommand = "demo-web"

// inherited is the first file descriptor that a process gets besides the usual three.
const inherited = 3

// Web serves a page that is the name of a node, on the socket it was started with, until ctx ends.
func Web(ctx context.Context, name string) error {
	listener, err := net.FileListener(os.NewFile(inherited, "socket"))
	if err != nil {
		return fmt.Errorf("no listening socket was handed over: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, name)
	})}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
