package load

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/aifb/aifb/runtime"
)

// DefaultTimeout is that of a request which says none.
const DefaultTimeout = 30 * time.Second

// A Request is what a worker sends, over HTTP/1.1. It goes to the URL's host even if http_proxy is set: else the proxy
// would be measured.
type Request struct {
	Method  string // "" is GET
	URL     string // http:// or https://, without user and password
	Header  http.Header
	Body    []byte
	Timeout time.Duration // until the whole answer is there, connecting included; 0: DefaultTimeout
	Status  int           // that is a success; 0: any from 200 to 299
}

// A Class says how a request failed.
type Class string

const (
	ConnectError Class = "connect"    // no connection, for whatever reason: name, TCP, TLS, or out of time
	Timeout      Class = "timeout"    // connected, but the whole answer was not there in time
	HTTP429      Class = "http_429"   // too many requests
	HTTP4xx      Class = "http_4xx"   // any other from 400 to 499
	HTTP5xx      Class = "http_5xx"   // from 500 on
	BadStatus    Class = "bad_status" // a status below 400 that is not the expected one, so also a redirect
	Truncated    Class = "truncated"  // the connection ended before the answer did, or before it began
	OtherError   Class = "other"      // such as an answer that is not HTTP
)

var (
	headerName  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	headerValue = regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f]*$`)
)

// template returns the HTTP request, or what the user must mend.
func (r *Request) template() (*http.Request, error) {
	u, err := url.Parse(r.URL)
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err // without the URL, which may have a key in it
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("the URL is not of the form http://host:port/path or https://host:port/path")
	case u.User != nil:
		return nil, errors.New("the URL has a user name in it; give an Authorization header instead")
	case r.Timeout < 0:
		return nil, fmt.Errorf("the timeout %v is negative", r.Timeout)
	case r.Timeout > maxLatency:
		return nil, fmt.Errorf("the timeout %v is above %v, the longest latency that is recorded", r.Timeout, maxLatency)
	case r.Status != 0 && (r.Status < 200 || r.Status > 599):
		return nil, fmt.Errorf("the expected status %d is not from 200 to 599", r.Status)
	}
	for name, values := range r.Header {
		if !headerName.MatchString(name) {
			return nil, fmt.Errorf("the header name %q is invalid", name)
		}
		if !headerValue.MatchString(strings.Join(values, "")) {
			return nil, fmt.Errorf("the value of header %s has a control character in it", name)
		}
	}
	req, err := http.NewRequest(r.Method, r.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	maps.Copy(req.Header, r.Header)
	req.Host = cmp.Or(r.Header.Get("Host"), req.Host)
	req.ContentLength = int64(len(r.Body))
	return req, nil
}

func (r *Request) method() string { return cmp.Or(r.Method, http.MethodGet) }

// where is the URL without its query, which may have a key in it.
func (r *Request) where() string {
	where, _, _ := strings.Cut(r.URL, "#")
	where, _, _ = strings.Cut(where, "?")
	return runtime.Printable(where)
}

// A client sends a worker's requests. It has a transport of its own, so that one worker is one connection, and so that
// the workers don't meet at the lock of a shared pool.
type client struct {
	template  *http.Request
	body      []byte
	timeout   time.Duration
	status    int // that is a success; 0: any from 200 to 299
	transport *http.Transport

	// Of the request that is under way, by the trace. The transport calls it in the goroutine of do.
	got    int   // connections that it was sent on
	opened int64 // and how many of them were new
}

func newClient(template *http.Request, r *Request) *client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &client{
		template: template,
		body:     r.Body,
		timeout:  cmp.Or(r.Timeout, DefaultTimeout),
		status:   r.Status,
		transport: &http.Transport{
			Proxy:               nil, // not even that of the environment
			Protocols:           protocols,
			DisableCompression:  true, // or it would ask for gzip, and measure the unpacking
			MaxIdleConnsPerHost: 1,
		},
	}
}

func (c *client) close() { c.transport.CloseIdleConnections() }

// traced returns the context in which to call do.
func (c *client) traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		c.got++
		if !info.Reused {
			c.opened++
		}
	}})
}

// An answer is what became of a request.
type answer struct {
	class  Class  // "": success
	reason string // of a failure, in the words of who knows it
	bytes  int64  // of the body
	opened int64  // connections
}

// do sends the request and reads the whole answer.
func (c *client) do(ctx context.Context) answer {
	c.got, c.opened = 0, 0
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req := c.template.WithContext(ctx)
	if len(c.body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(c.body))
	}
	a := answer{}
	resp, err := c.transport.RoundTrip(req)
	if err == nil {
		a.class = c.judge(resp.StatusCode)
		a.reason = resp.Status
		a.bytes, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	a.opened = c.opened
	switch {
	case c.got > 1: // net/http sends what is safe to repeat again; the first attempt failed all the same
		a.class, a.reason = Truncated, "the server closed the connection that it had kept open"
	case err != nil && a.class == "":
		a.class, a.reason = c.failure(ctx, err)
	}
	return a
}

// judge returns the class of a status, "" if it is the expected one.
func (c *client) judge(status int) Class {
	switch {
	case status == c.status, c.status == 0 && status >= 200 && status <= 299:
		return ""
	case status >= 500:
		return HTTP5xx
	case status == http.StatusTooManyRequests:
		return HTTP429
	case status >= 400:
		return HTTP4xx
	}
	return BadStatus
}

// failure returns the class of an error of the transport, and the reason.
func (c *client) failure(ctx context.Context, err error) (Class, string) {
	inTime := ctx.Err() == nil
	switch {
	case c.got == 0 && inTime:
		return ConnectError, err.Error()
	case c.got == 0:
		return ConnectError, fmt.Sprintf("no connection within %v: %v", c.timeout, err)
	case !inTime:
		return Timeout, fmt.Sprintf("no whole answer within %v", c.timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Truncated, err.Error()
	}
	return OtherError, err.Error()
}
