package starlib

import (
	"context"
	"sync"
	"time"
)

const (
	// partitionsWait is how long a person who presses Tab waits for an answer.
	partitionsWait = 500 * time.Millisecond

	// partitionsLimit is how long an answer may take to be of use to the next Tab.
	partitionsLimit = 20 * time.Second
)

// partitions asks the target for its partitions, once: in the background, so that typing never waits for long.
type partitions struct {
	ask func(context.Context) []string

	mu     sync.Mutex
	names  []string
	asking chan struct{} // closed when there is an answer; nil: nobody asks
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// get returns the partitions, or nothing if they are not known yet.
func (p *partitions) get() []string {
	p.mu.Lock()
	if p.names == nil && p.asking == nil {
		p.begin()
	}
	names, asking := p.names, p.asking
	p.mu.Unlock()
	if names != nil {
		return names
	}
	select {
	case <-asking:
	case <-time.After(partitionsWait):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names
}

// begin asks. If there is no answer, the next get asks again.
func (p *partitions) begin() {
	ctx, cancel := context.WithTimeout(context.Background(), partitionsLimit)
	asking := make(chan struct{})
	p.asking, p.cancel = asking, cancel
	p.done.Go(func() {
		defer cancel()
		names := p.ask(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.names, p.asking = names, nil
		close(asking)
	})
}

func (p *partitions) close() {
	p.mu.Lock()
	if p.cancel != nil {
		p.cancel()
	}
	p.mu.Unlock()
	p.done.Wait()
}
