package mock

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

// start starts a server and returns its URL, and what stops it and returns how Serve ended.
func start(t *testing.T, c Config) (url string, stop func() error) {
	t.Helper()
	c.Addr = "127.0.0.1:0"
	s, err := Listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	return "http://" + s.Addr().String(), func() error {
		cancel()
		return <-served
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	url, stop := start(t, Config{})
	for path, want := range map[string]int{"/": 200, "/health": 200, "/other": 404} {
		if status, body := get(t, url+path); status != want || body == "" {
			t.Errorf("%s: status %d, want %d; body %q", path, status, want, body)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("it answers after Serve returned")
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{1, 100, 100_000} {
		url, stop := start(t, Config{Size: size})
		for range 2 {
			status, body := get(t, url)
			pattern := strings.Repeat("0123456789abcdef", len(body)/16+1)
			if status != 200 || int64(len(body)) != size || !strings.HasPrefix(pattern, body) {
				t.Errorf("status %d and %d bytes, want %d", status, len(body), size)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestFailEvery(t *testing.T) {
	t.Parallel()
	url, stop := start(t, Config{FailEvery: 3})
	var got []int
	for range 7 {
		get(t, url+"/health") // is not counted, and never fails
		status, _ := get(t, url)
		got = append(got, status)
	}
	if want := "[200 200 500 200 200 500 200]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	const latency = 20 * time.Millisecond
	url, stop := start(t, Config{Latency: latency})
	begin := time.Now()
	if status, _ := get(t, url); status != 200 || time.Since(begin) < latency {
		t.Errorf("status %d after %v, want 200 after %v or more", status, time.Since(begin), latency)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestStopWaits stops the server while it keeps back an answer.
func TestStopWaits(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Listen(ctx, Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan bool)
	inner := s.http.Handler
	s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-ctx.Done()
		inner.ServeHTTP(w, r)
	})
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	go func() { <-arrived; cancel() }()
	if status, _ := get(t, "http://"+s.Addr().String()); status != 200 {
		t.Errorf("status %d, want 200", status)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestStoppedBefore(t *testing.T) {
	t.Parallel()
	s, err := Listen(t.Context(), Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

func TestInvalidConfig(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for _, tt := range []struct {
		config Config
		want   string
		fault  runtime.Fault
	}{
		{Config{Latency: -1}, "the latency -1ns is negative", runtime.FaultUsage},
		{Config{Size: -1}, "the size -1 is negative", runtime.FaultUsage},
		{Config{FailEvery: -1}, "the number is negative", runtime.FaultUsage},
		{Config{Addr: "nothing"}, "missing port", runtime.FaultRun},
		{Config{Addr: used.Addr().String()}, "address already in use", runtime.FaultRun},
	} {
		_, err := Listen(t.Context(), tt.config)
		if err == nil || !strings.Contains(err.Error(), tt.want) || runtime.FaultOf(err) != tt.fault {
			t.Errorf("got %v, want: %s", err, tt.want)
		}
	}
}
