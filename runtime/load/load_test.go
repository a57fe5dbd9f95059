package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/aifb/aifb/runtime"
)

// serve starts a server that counts the requests it gets.
func serve(t *testing.T, h http.HandlerFunc) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	}))
	s.Config.ErrorLog = quiet()
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, requests
}

// hang serves connections with do and closes them.
func hang(t *testing.T, do func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				do(c)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// quiet is for what a server has to say about clients that go away.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// checkCounts checks what must be true of every window.
func checkCounts(t *testing.T, w *Window) {
	t.Helper()
	var failed int64
	for _, f := range w.Errors {
		failed += f.Count
		if f.Example == "" {
			t.Error("failures without an example")
		}
	}
	if failed != w.Failed.Count {
		t.Errorf("failures by class are %d, failures %d", failed, w.Failed.Count)
	}
	if n := w.Latency.TotalCount(); n != w.OK.Count {
		t.Errorf("%d latencies of %d successes", n, w.OK.Count)
	}
	if w.OK.Count > 0 && (w.OK.Min > w.OK.Mean() || w.OK.Mean() > w.OK.Max) {
		t.Errorf("not in order: min %v, mean %v, max %v", w.OK.Min, w.OK.Mean(), w.OK.Max)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	url, got := serve(t, hello)
	r, err := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 4, Requests: 100})
	if err != nil {
		t.Fatal(err)
	}
	checkCounts(t, &r.Window)
	if r.OK.Count != 100 || got.Load() != 100 || r.Incomplete != 0 {
		t.Errorf("%d succeeded, %d were broken off, the server got %d; want 100, 0, 100",
			r.OK.Count, r.Incomplete, got.Load())
	}
	if r.Bytes != 500 {
		t.Errorf("received %d bytes, want 500", r.Bytes)
	}
	if r.Connections < 1 || r.Connections > 4 {
		t.Errorf("opened %d connections, want 1 to 4", r.Connections)
	}
}

func TestRequestIsSent(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.Header["X-A"], " ", string(body),
			" ", r.ContentLength, " ", r.Header["Accept-Encoding"])
		if want := "PUT /p?q=1 service [1 2] data 4 []"; got != want {
			http.Error(w, "got "+got+", want "+want, http.StatusBadRequest)
			t.Error("got", got, "want", want)
		}
	})
	header := http.Header{"X-A": {"1", "2"}, "Host": {"service"}}
	r, err := Run(t.Context(), Config{Concurrency: 1, Requests: 3,
		Request: Request{Method: "PUT", URL: url + "/p?q=1", Header: header, Body: []byte("data")}})
	if err != nil || r.OK.Count != 3 {
		t.Fatal(r, err)
	}
}

func TestWarmupIsNotCounted(t *testing.T) {
	t.Parallel()
	url, got := serve(t, hello)
	r, err := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 3, Requests: 30, Warmup: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	checkCounts(t, r.Warmup)
	if r.Warmup.OK.Count < 3 || r.Warmup.Connections != 3 {
		t.Errorf("the warm-up sent %d requests over %d connections, want at least 3 over 3",
			r.Warmup.OK.Count, r.Warmup.Connections)
	}
	if r.OK.Count != 30 || r.Connections != 0 || got.Load() != r.Warmup.OK.Count+30 {
		t.Errorf("the window has %d requests and opened %d connections, the server got %d",
			r.OK.Count, r.Connections, got.Load())
	}
}

// TestCutAtEnd has a server that answers one request and never the next ones.
func TestCutAtEnd(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			<-r.Context().Done()
		}
	})
	r, err := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 3, Duration: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	checkCounts(t, &r.Window)
	if r.OK.Count != 1 || r.Failed.Count != 0 || r.Incomplete < 1 || r.Incomplete > 3 {
		t.Errorf("%d succeeded, %d failed, %d were broken off; want 1, 0, 1 to 3", r.OK.Count, r.Failed.Count, r.Incomplete)
	}
	if r.Duration != 200*time.Millisecond || r.Interrupted {
		t.Errorf("the window was %v, interrupted: %v", r.Duration, r.Interrupted)
	}
}

func TestNoAnswerInTime(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r, err := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 2, Duration: 20 * time.Millisecond})
	if r == nil || r.OK.Count+r.Failed.Count != 0 || runtime.FaultOf(err) != runtime.FaultRun || runtime.HintOf(err) == "" {
		t.Fatalf("got %v", err)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	terminated := errors.New("terminated")
	var n atomic.Int64
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 10 {
			cancel(terminated)
			<-r.Context().Done()
		}
	})
	dir := t.TempDir()
	r, err := Run(ctx, Config{Request: Request{URL: url}, Concurrency: 1, Duration: time.Hour, Dir: dir})
	if !errors.Is(err, terminated) {
		t.Fatalf("got %v, want the cause of the context's end", err)
	}
	checkCounts(t, &r.Window)
	if !r.Interrupted || r.OK.Count != 10 || r.Failed.Count != 0 || r.Incomplete != 1 {
		t.Errorf("%d succeeded, %d failed, %d broken off", r.OK.Count, r.Failed.Count, r.Incomplete)
	}
	if ms := readMeasurements(t, dir); ms["requests"].Value != 10 || ms["incomplete_run"].Value != 1 {
		t.Errorf("written: %v", ms)
	}
}

func TestInterruptedBefore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := Run(ctx, Config{Request: Request{URL: "http://127.0.0.1:1"},
		Concurrency: 2, Duration: time.Hour, Warmup: time.Hour})
	if !errors.Is(err, context.Canceled) || r.OK.Count+r.Failed.Count+r.Incomplete != 0 {
		t.Fatal(r, err)
	}
}

func TestFailureClasses(t *testing.T) {
	t.Parallel()
	status := func(code int) func(*testing.T) string {
		return func(t *testing.T) string {
			url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(code)
			})
			return url
		}
	}
	raw := func(answer string) func(*testing.T) string {
		return func(t *testing.T) string {
			return hang(t, func(c net.Conn) {
				http.ReadRequest(bufio.NewReader(c))
				io.WriteString(c, answer)
			})
		}
	}
	for _, tt := range []struct {
		name    string
		start   func(*testing.T) string
		timeout time.Duration
		class   Class
		example string
	}{
		{"refused", func(t *testing.T) string {
			s := httptest.NewServer(nil)
			s.Close()
			return s.URL
		}, 0, ConnectError, "refused"},
		{"no TLS", func(t *testing.T) string {
			url, _ := serve(t, hello)
			return strings.Replace(url, "http:", "https:", 1)
		}, 0, ConnectError, "does not look like a TLS handshake"},
		{"unknown authority", func(t *testing.T) string {
			s := httptest.NewUnstartedServer(http.HandlerFunc(hello))
			s.Config.ErrorLog = quiet()
			s.StartTLS()
			t.Cleanup(s.Close)
			return s.URL
		}, 0, ConnectError, "certificate"},
		{"no handshake", func(t *testing.T) string {
			url := hang(t, func(c net.Conn) { io.Copy(io.Discard, c) })
			return strings.Replace(url, "http:", "https:", 1)
		}, 10 * time.Millisecond, ConnectError, "no connection within 10ms"},
		{"no answer", func(t *testing.T) string {
			url, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			return url
		}, 100 * time.Millisecond, Timeout, "no whole answer within 100ms"},
		{"half an answer", func(t *testing.T) string {
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "half")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			return url
		}, 100 * time.Millisecond, Timeout, "no whole answer within 100ms"},
		{"404", status(404), 0, HTTP4xx, "404 Not Found"},
		{"429", status(429), 0, HTTP429, "429 Too Many Requests"},
		{"503", status(503), 0, HTTP5xx, "503 Service Unavailable"},
		{"redirect", status(302), 0, BadStatus, "302 Found"},
		{"closed", raw(""), 0, Truncated, "EOF"},
		{"closed in the head", raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"), 0, Truncated, "EOF"},
		{"closed in the body", raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), 0, Truncated, "unexpected EOF"},
		{"closed in a chunk", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf"), 0, Truncated, "unexpected EOF"},
		{"not HTTP", raw("\x1b[31mSSH-2.0-x\r\n"), 0, OtherError, "malformed HTTP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := tt.start(t)
			r, err := Run(t.Context(), Config{Request: Request{URL: url, Timeout: tt.timeout}, Concurrency: 2, Requests: 4})
			if err == nil || runtime.FaultOf(err) != runtime.FaultRun ||
				!strings.Contains(err.Error(), "4 "+string(tt.class)) || !strings.Contains(err.Error(), tt.example) {
				t.Errorf("got error %v, want 4 %s", err, tt.class)
			}
			checkCounts(t, &r.Window)
			f := r.Errors[tt.class]
			if f.Count != 4 || len(r.Errors) != 1 || r.OK.Count != 0 {
				t.Errorf("got %v, want 4 %s", r.Errors, tt.class)
			}
			if !strings.Contains(f.Example, tt.example) || strings.Contains(f.Example, "\x1b") {
				t.Errorf("example %q, want %q", f.Example, tt.example)
			}
		})
	}
}

// TestResentIsFailure has a server that closes a kept-open connection when it reads the second request of it, whereupon
// net/http sends the request again by itself.
func TestResentIsFailure(t *testing.T) {
	t.Parallel()
	url := hang(t, func(c net.Conn) {
		requests := bufio.NewReader(c)
		http.ReadRequest(requests)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		http.ReadRequest(requests)
	})
	r, err := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 1, Requests: 5})
	if err != nil {
		t.Fatal(err)
	}
	checkCounts(t, &r.Window)
	if r.OK.Count != 1 || r.Errors[Truncated].Count != 4 {
		t.Errorf("%d succeeded, failures %v; want 1 and 4 truncated", r.OK.Count, r.Errors)
	}
}

func TestExpectedStatus(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) })
	r, err := Run(t.Context(), Config{Request: Request{URL: url, Status: 404}, Concurrency: 1, Requests: 2})
	if err != nil || r.OK.Count != 2 {
		t.Error(r, err)
	}
	url, _ = serve(t, hello)
	r, _ = Run(t.Context(), Config{Request: Request{URL: url, Status: 404}, Concurrency: 1, Requests: 2})
	if r.Errors[BadStatus].Count != 2 {
		t.Error(r.Errors)
	}
}

// TestFailuresAreApart fails every second request: its latency must be in no figure of the successes.
func TestFailuresAreApart(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%2 == 0 {
			w.WriteHeader(500)
		}
	})
	dir := filepath.Join(t.TempDir(), "new")
	r, err := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 4, Requests: 100, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	checkCounts(t, &r.Window)
	ms := readMeasurements(t, dir)
	for metric, want := range map[string]float64{"requests": 100, "errors": 50, "errors_http_5xx": 50, "incomplete": 0} {
		if m, ok := ms[metric]; !ok || m.Value != want {
			t.Errorf("%s is %v, want %v", metric, m.Value, want)
		}
	}
	if h := readLatency(t, dir); h.TotalCount() != 50 {
		t.Errorf("%s has %d latencies, want 50", LatencyFile, h.TotalCount())
	}
	if ms["rps"].Value <= 0 || ms["rps"].Unit != "1/s" || ms["latency_p99"].Unit != "ms" {
		t.Error(ms)
	}
}

func TestNoSuccessIsWritten(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	dir := t.TempDir()
	if _, err := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 1, Requests: 2, Dir: dir}); err == nil {
		t.Error("no success, and no error")
	}
	ms := readMeasurements(t, dir)
	if _, ok := ms["latency_mean"]; ok || ms["errors"].Value != 2 {
		t.Error(ms)
	}
	if h := readLatency(t, dir); h.TotalCount() != 0 {
		t.Error(h.TotalCount())
	}
}

func TestDirCannotBeWritten(t *testing.T) {
	t.Parallel()
	url, got := serve(t, hello)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 1, Requests: 1, Dir: file})
	if err == nil || got.Load() != 0 {
		t.Errorf("got %v after %d requests, want an error before any", err, got.Load())
	}
	r, _ := Run(t.Context(), Config{Request: Request{URL: url}, Concurrency: 1, Requests: 1})
	if err := r.WriteFiles(filepath.Join(file, "x")); runtime.FaultOf(err) != runtime.FaultRun {
		t.Errorf("got %v", err)
	}
}

func TestInvalidConfig(t *testing.T) {
	t.Parallel()
	valid := Config{Request: Request{URL: "http://h/?key=secret"}, Concurrency: 1, Requests: 1}
	for _, tt := range []struct {
		spoil func(*Config)
		want  string
	}{
		{func(c *Config) { c.Concurrency = 0 }, "at least one worker"},
		{func(c *Config) { c.Duration = -1 }, "the duration -1ns is negative"},
		{func(c *Config) { c.Requests = -1 }, "the number of requests -1 is negative"},
		{func(c *Config) { c.Requests = 0 }, "nothing says when to stop"},
		{func(c *Config) { c.Warmup = -1 }, "the warm-up -1ns is negative"},
		{func(c *Config) { c.Request.URL = "" }, "not of the form http://"},
		{func(c *Config) { c.Request.URL = "localhost:80" }, "not of the form http://"},
		{func(c *Config) { c.Request.URL = "http://:80/" }, "not of the form http://"},
		{func(c *Config) { c.Request.URL = "http://h:port/?key=secret" }, "invalid port"},
		{func(c *Config) { c.Request.URL = "http://u:secret@h/" }, "user name"},
		{func(c *Config) { c.Request.Method = "G T" }, "invalid method"},
		{func(c *Config) { c.Request.Timeout = -1 }, "the timeout -1ns is negative"},
		{func(c *Config) { c.Request.Timeout = 2 * time.Hour }, "the longest latency"},
		{func(c *Config) { c.Request.Status = 99 }, "not from 200 to 599"},
		{func(c *Config) { c.Request.Header = http.Header{"A b": nil} }, `header name "A b"`},
		{func(c *Config) { c.Request.Header = http.Header{"A": {"secret\r\nB: c"}} }, "value of header A"},
	} {
		c := valid
		tt.spoil(&c)
		_, err := Run(t.Context(), c)
		if err == nil || runtime.FaultOf(err) != runtime.FaultUsage ||
			!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want: %s", err, tt.want)
		}
	}
}

func readMeasurements(t *testing.T, dir string) map[string]runtime.Measurement {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, runtime.MeasurementsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ms := make(map[string]runtime.Measurement)
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	for {
		var m runtime.Measurement
		if err := d.Decode(&m); err == io.EOF {
			return ms
		} else if err != nil {
			t.Fatal(err)
		}
		if _, twice := ms[m.Metric]; twice {
			t.Errorf("%s is there twice", m.Metric)
		}
		ms[m.Metric] = m
	}
}

func readLatency(t *testing.T, dir string) *hdrhistogram.Histogram {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, LatencyFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := hdrhistogram.NewHistogramLogReader(f).NextIntervalHistogram()
	if err != nil || h == nil {
		t.Fatal(h, err)
	}
	return h
}
