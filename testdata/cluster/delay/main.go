// Delay is a TCP relay that adds a round-trip time: a laptop is tens of milliseconds from its cluster, the tests are
// microseconds from theirs.
//
// usage: delay RTT TARGET
//
// It listens on a free port of 127.0.0.1, prints that port, and relays until it is killed. Data goes half the
// round-trip time later, each way, at any rate: what it adds is latency, not a limit. On SIGUSR1 it resets all
// connections, and prints how many there were.
package main

import (
	"bytes"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("delay: ")
	if len(os.Args) != 3 {
		log.Fatal("usage: delay RTT TARGET")
	}
	rtt, err := time.ParseDuration(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	r := &relay{target: os.Args[2], oneWay: rtt / 2, conns: make(map[*net.TCPConn]*net.TCPConn)}
	cuts := make(chan os.Signal, 1)
	signal.Notify(cuts, syscall.SIGUSR1)
	go func() {
		for range cuts {
			fmt.Println(r.cut())
		}
	}()
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go r.serve(conn.(*net.TCPConn))
	}
}

type relay struct {
	target string
	oneWay time.Duration

	mu    sync.Mutex
	conns map[*net.TCPConn]*net.TCPConn // open: from the client, and to the target; nil before the handshake is over
}

// serve connects client to the target. Of a handshake the client sees the end after a round trip, and may send; the
// target sees it when the last part has arrived, too.
func (r *relay) serve(client *net.TCPConn) {
	r.opened(client, nil)
	defer r.closed(client)
	time.Sleep(2 * r.oneWay)
	there := receive(client, r.oneWay)
	time.Sleep(r.oneWay)
	conn, err := net.Dial("tcp", r.target)
	if err != nil {
		log.Print(err)
		client.Close()
		for range there {
		}
		return
	}
	server := conn.(*net.TCPConn)
	r.opened(client, server)
	back := receive(server, r.oneWay)
	var both sync.WaitGroup
	both.Go(func() { send(server, there, client) })
	both.Go(func() { send(client, back, server) })
	both.Wait()
}

func (r *relay) opened(client, server *net.TCPConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[client] = server
}

func (r *relay) closed(client *net.TCPConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	client.Close()
	if server := r.conns[client]; server != nil {
		server.Close()
	}
	delete(r.conns, client)
}

// cut resets both ends of all connections, and returns how many there were.
func (r *relay) cut() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for client, server := range r.conns {
		reset(client)
		if server != nil {
			reset(server)
		}
	}
	return len(r.conns)
}

func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// A chunk is data and when it is to arrive.
type chunk struct {
	data []byte
	due  time.Time
}

// receive returns what comes from src, until the end of the stream: each chunk is due delay after it came.
func receive(src *net.TCPConn, delay time.Duration) <-chan chunk {
	under := make(chan chunk, 4096) // on the way: enough for 32 KiB each every 10 µs
	go func() {
		defer close(under)
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			under <- chunk{bytes.Clone(buf[:n]), time.Now().Add(delay)}
			if err != nil {
				return
			}
		}
	}()
	return under
}

// send writes each chunk to dst when it is due, the end of the stream included. If dst takes no more, it closes src.
func send(dst *net.TCPConn, under <-chan chunk, src *net.TCPConn) {
	for c := range under {
		time.Sleep(time.Until(c.due))
		if _, err := dst.Write(c.data); err != nil {
			src.Close() // nobody wants the rest
			for range under {
			}
			return
		}
	}
	dst.CloseWrite()
}
