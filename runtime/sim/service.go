package sim

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// service returns what the job does that answers at an address, or nil.
func (c *Cluster) service(addr string) *Behaviour {
	c.lock()
	defer c.mu.Unlock()
	j := c.serves[addr]
	if j == nil || j.state != running || j.answers.IsZero() || j.answers.After(c.time) {
		return nil
	}
	return j.behaviour
}

// Dial implements runtime.Conn. Who listens is a job that has a port and answers. It speaks HTTP.
func (c conn) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := c.call(ctx); err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	b := c.service(addr)
	if b == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: %w", addr, syscall.ECONNREFUSED)}
	}
	here, there := net.Pipe()
	go b.serve(there)
	return here, nil
}

// serve answers requests until the other side has no more.
func (b *Behaviour) serve(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body) // what comes next is the next request
		resp := http.Response{
			StatusCode: cmp.Or(b.Status, http.StatusOK), ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Body: io.NopCloser(strings.NewReader(b.Body)), ContentLength: int64(len(b.Body)), Close: req.Close,
		}
		if resp.Write(c) != nil || req.Close {
			return
		}
	}
}
