package cluster

import (
	"cmp"
	"math"
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
	failed  bool // not because another node owns
	tries   []place
}

// savesAtOnce is how many rooms of a node are saved at the same time.
const savesAtOnce = 8

// save begins to checkpoint what has changed, and then to cut the log below it, if
// that is due, or at once; or only the rooms that nobody uses any more. It reports
// whether it has.
//
// Everything is as of one place in the log, but is not stored before all
// that came of the log up to there is in the streams of the edges: what is in a
// checkpoint nobody tells again.
func (p *partition) save(atOnce bool) bool {
	if p.saving != nil || p.fold.position == p.fold.base.position || time.Now().Before(p.nextSave) {
		return false
	}
	var changed, idle []string
	budget := saveBudget(p.logBytes(), time.Since(p.log.since), p.inc.config.MaxLogBytes)
	cost := perSave
	for name, r := range p.fold.rooms {
		if !r.dirty() {
			continue
		}
		if cost <= budget {
			cost += r.saveCost(budget - cost)
		}
		changed = append(changed, name)
		if p.idle(name) {
			idle = append(idle, name)
		}
	}
	all := atOnce || cost <= budget
	if !all {
		if changed = idle; len(idle) == 0 {
			return false
		}
	}
	dirty := map[string]*roomCheckpoint{}
	for _, name := range changed {
		dirty[name] = p.fold.rooms[name].checkpoint()
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
	if p.redisFull() { // what takes least goes first, and makes room for the others
		costs := map[string]int{}
		for _, name := range changed {
			costs[name] = p.fold.rooms[name].saveCost(math.MaxInt)
		}
		slices.SortFunc(changed, func(a, b string) int { return cmp.Compare(costs[a], costs[b]) })
	}
	outcome := make(chan saved, 1)
	p.saving = outcome
	p.builds = slices.DeleteFunc(p.builds, isOver)
	builds := slices.Clone(p.builds)
	p.tasks.Go(func() { outcome <- p.store(builds, changed, dirty, all, base, cut, tries) })
	return true
}

func isOver(build <-chan struct{}) bool {
	select {
	case <-build:
		return true
	default:
		return false
	}
}

// store stores the checkpoints and, if they are all, trims the log, after the diffs
// that are being built have been told, too.
func (p *partition) store(builds []<-chan struct{}, order []string, dirty map[string]*roomCheckpoint, all bool, base partitionCheckpoint, cut int, tries []place) saved {
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
	for _, name := range order {
		if !p.storeRoom(&s, name, dirty[name]) {
			s.failed = true
			return s
		}
	}
	if !all {
		return s
	}
	err := p.trim(base, cut, tries)
	if err != nil && p.ctx.Err() == nil && !store.IsFenced(err) && !store.IsForgotten(err) {
		p.inc.trouble.note("a log cannot be trimmed", err)
	}
	s.trimmed, s.failed = err == nil, err != nil
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
	case store.IsForgotten(err):
		p.doubt()
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
	return p.fencedRun(p.ctx, trimScript, []string{k.tries(p.number)}, args...)
}

// saved notes what came of a save.
func (p *partition) saved(s saved) {
	p.saving = nil
	if p.failures++; !s.failed {
		p.failures = 0
	}
	p.nextSave = time.Now().Add(saveBackoff(p.inc.config.SaveInterval, p.failures) - p.inc.config.SaveInterval)
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
	p.log.since = time.Now() // or a bit sooner
	for _, at := range s.tries {
		delete(p.fold.tries, at)
	}
}
