// Package mock is a service to try aifb on when there is no real one. It runs as aifb mock.
package mock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A Config says how the HTTP server behaves. The same requests get the same answers.
type Config struct {
	Addr      string        // host:port to listen on; port 0 is any free one
	Latency   time.Duration // that an answer is kept back
	Size      int64         // of the body in bytes; 0: a short line
	FailEvery int64         // every so many requests one is answered with 500; 0: none
}

// The limits of the server. A client that stalls is not waited for.
const (
	readTimeout  = 30 * time.Second // of a request, beside the latency: net/http takes the client for gone when it is over
	writeTimeout = 5 * time.Minute  // of an answer, beside the latency
	idleTimeout  = 5 * time.Minute  // between two requests of a connection
	stopTimeout  = 5 * time.Second  // for what is under way when the server stops
)

func (c *Config) validate() error {
	switch {
	case c.Latency < 0:
		return fmt.Errorf("the latency %v is negative", c.Latency)
	case c.Size < 0:
		return fmt.Errorf("the size %d is negative", c.Size)
	case c.FailEvery < 0:
		return fmt.Errorf("one failure in %d requests: the number is negative", c.FailEvery)
	}
	return nil
}

// A Server is an HTTP server that listens. It answers GET / as the Config says, and GET /health at once.
type Server struct {
	http     http.Server
	listener net.Listener
}

// Listen makes a server. From now on clients can connect; they are answered once Serve runs.
func Listen(ctx context.Context, c Config) (*Server, error) {
	if err := c.validate(); err != nil {
		return nil, runtime.Faultf(runtime.FaultUsage, "", "mock: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultRun, "port 0 is any free one", "mock: %w", err)
	}
	return &Server{
		listener: listener,
		http: http.Server{
			Handler:        newHandler(c),
			ReadTimeout:    c.Latency + readTimeout,
			WriteTimeout:   c.Latency + writeTimeout,
			IdleTimeout:    idleTimeout,
			MaxHeaderBytes: 64 << 10,
		},
	}, nil
}

// Addr returns the address that the server listens on, with the port that it got.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests until ctx ends. Then it takes no more, waits up to 5 s for those under way, and returns nil.
func (s *Server) Serve(ctx context.Context) error {
	stopped := make(chan error, 1)
	unregister := context.AfterFunc(ctx, func() { stopped <- s.stop() })
	err := s.http.Serve(s.listener)
	if unregister() { // so it was not ctx
		return fmt.Errorf("mock: %w", errors.Join(err, s.http.Close()))
	}
	return <-stopped
}

func (s *Server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return s.http.Close()
	}
	return err
}

// A handler answers GET /.
type handler struct {
	Config
	requests atomic.Int64
}

func newHandler(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", &handler{Config: c})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	return mux
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := h.requests.Add(1)
	if h.Latency > 0 {
		select {
		case <-time.After(h.Latency):
		case <-r.Context().Done():
			return
		}
	}
	if h.FailEvery > 0 && n%h.FailEvery == 0 {
		http.Error(w, fmt.Sprintf("request %d fails, as asked for", n), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if h.Size == 0 {
		io.WriteString(w, "aifb mock\n")
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(h.Size, 10))
	io.CopyN(w, filler{}, h.Size) // an error is the client's, which has gone
}

// A filler is an endless body.
type filler struct{}

var filling = bytes.Repeat([]byte("0123456789abcdef"), 2<<10)

func (filler) Read(p []byte) (int, error) { return copy(p, filling), nil }
