package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weftsync/weft/store"
)

// saved is what came of saving a partition.
type saved struct {
	rooms   map[string]any // what the storage wants to know at the next save, of rooms that were saved
	applied map[string]ID
	base    partitionCheckpoint
	trimmed bool
	tries   []place
}

// savesAtOnce is how many rooms of a node are saved at the same time.
const savesAtOnce = 8

// save begins to checkpoint what has changed, and then to cut the log below it.
// Everything is as of one place in the log, but is not stored before all
// that came of the log up to there is in the streams of the edges: what is in a
// checkpoint nobody tells again.
func (p *partition) save() {
	if p.saving != nil || p.fold.position == p.fold.base.position {
		return
	}
	dirty := map[string]*roomCheckpoint{}
	for name, r := range p.fold.rooms {
		if r.dirty() {
			dirty[name] = r.checkpoint()
		}
	}
	base := p.fold.checkpoint()
	cut := 0
	for _, e := range p.log.entries {
		if !e.id.After(base.position) {
			cut += e.size
		}
	}
	var tries []place
	for at := range p.fold.tries {
		if !at.id.After(base.position) {
			tries = append(tries, at)
		}
	}
	outcome := make(chan saved, 1)
	p.saving = outcome
	p.builds = slices.DeleteFunc(p.builds, isOver)
	builds := slices.Clone(p.builds)
	p.tasks.Go(func() { outcome <- p.store(builds, dirty, base, cut, tries) })
}

func isOver(build <-chan struct{}) bool {
	select {
	case <-build:
		return true
	default:
		return false
	}
}

// store stores the checkpoints and trims the log, after the diffs that are being
// built have been told, too.
func (p *partition) store(builds []<-chan struct{}, dirty map[string]*roomCheckpoint, base partitionCheckpoint, cut int, tries []place) saved {
	s := saved{rooms: map[string]any{}, applied: map[string]ID{}, base: base, tries: tries}
	for _, build := range builds {
		select {
		case <-build:
		case <-p.ctx.Done():
			return s
		}
	}
	select {
	case <-p.inc.outbox.flushed():
	case <-p.ctx.Done():
		return s
	}
	for name, c := range dirty {
		if !p.storeRoom(&s, name, c) {
			return s
		}
	}
	err := p.trim(base, cut, tries)
	if isBehind(err) {
		p.compare(ID{})
		return s
	}
	if err != nil && p.ctx.Err() == nil && !store.IsFenced(err) {
		p.inc.trouble.note("a log cannot be trimmed", err)
	}
	s.trimmed = err == nil
	return s
}

func (p *partition) storeRoom(s *saved, name string, c *roomCheckpoint) bool {
	select {
	case p.inc.ownership.savers <- struct{}{}:
		defer func() { <-p.inc.ownership.savers }()
	case <-p.ctx.Done():
		return false
	}
	began := time.Now()
	last, _ := c.stored.(*store.Stored)
	stored, err := p.inc.store.Save(p.ctx, p.fenceOf(), name, &store.Checkpoint{
		Applied: c.applied.String(), Snapshot: c.snapshot, Sessions: c.sessions, Homes: c.homes,
	}, last)
	switch {
	case err == nil:
		p.inc.stats.saves.Add(1)
		p.inc.stats.saveTime.Add(int64(time.Since(began)))
		s.rooms[name], s.applied[name] = stored, c.applied
		return true
	case store.IsFenced(err):
		if !p.given.Load() {
			p.inc.stats.staleSaves.Add(1)
		}
		p.fence()
	case p.ctx.Err() == nil:
		p.inc.stats.saveFailures.Add(1)
		p.inc.log.Warn("a room cannot be saved; its changes are in the log, and it is tried again", "room", name, "error", err)
	}
	return false
}

func (p *partition) trim(base partitionCheckpoint, cut int, tries []place) error {
	k := p.inc.keys
	args := []any{base.position.next().String(), base.position.String(), appendEdges(nil, base.edges), cut}
	for _, at := range tries {
		args = append(args, at.String())
	}
	return p.fencedRun(p.ctx, trimScript, []string{k.log(p.number), k.base(p.number), k.meta(p.number), k.tries(p.number)}, args...)
}

// saved notes what came of a save.
func (p *partition) saved(s saved) {
	p.saving = nil
	for name, stored := range s.rooms {
		if r := p.fold.rooms[name]; r != nil {
			r.stored = stored
			if at := s.applied[name]; at.After(r.saved) {
				r.saved = at
			}
		}
	}
	if !s.trimmed {
		return
	}
	p.fold.base = s.base
	n := 0
	for n < len(p.log.entries) && !p.log.entries[n].id.After(s.base.position) {
		n++
	}
	p.log.entries = append([]entrySize(nil), p.log.entries[n:]...)
	for _, at := range s.tries {
		delete(p.fold.tries, at)
	}
}

// mend saves everything at once after Redis has lost the end of the log: what
// the owner has applied is then known to it alone. New entries go on from there.
func (p *partition) mend() {
	p.inc.stats.mended.Add(1)
	p.inc.log.Warn("Redis has lost the end of a log; its owner writes what it knows", "partition", p.number)
	_ = partitionSource{p}.again("a log cannot be mended", func(context.Context) error { return p.tryMend() })
}

func (p *partition) tryMend() error {
	if p.saving != nil {
		p.saved(<-p.saving)
	}
	p.building.Wait()
	select {
	case <-p.inc.outbox.flushed():
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	s := saved{rooms: map[string]any{}, applied: map[string]ID{}, base: p.fold.checkpoint(), trimmed: true}
	for name, r := range p.fold.rooms {
		c := r.checkpoint()
		c.stored = nil // what Redis has may be older than is known
		if !p.storeRoom(&s, name, c) {
			return errors.New("a room was not saved")
		}
	}
	k := p.inc.keys
	err := p.fencedRun(p.ctx, mendScript, []string{k.log(p.number), k.base(p.number), k.meta(p.number)},
		s.base.position.next().String(), s.base.position.String(), appendEdges(nil, s.base.edges))
	if err != nil {
		return err
	}
	p.saved(s)
	p.log.last = "" // whatever the next entry comes after
	return nil
}
