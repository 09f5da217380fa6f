// What is on the paper, in a form that is quick to paint and to hit: kept in
// step with the world by its subscriptions, so whoever made a change, it arrives
// here the same way.
import { type Context, defineQuery, type EntityId } from '@woven-ecs/core'
import type { Box, Point } from './camera'
import { has, Note, quarter, Stroke } from './components'
import type { Session } from './session'

export interface InkLine {
  id: EntityId
  colour: number
  width: number
  z: number
  /** World coordinates x0, y0, x1, y1 … */
  points: Float64Array
  path: Path2D
  box: Box
}

export interface Block {
  id: EntityId
  x: number
  y: number
  w: number
  h: number
  colour: number
  z: number
  text: string
}

const allStrokes = defineQuery((q) => q.tracking(Stroke))
const allNotes = defineQuery((q) => q.tracking(Note))

export class Scene {
  /** From bottom to top. */
  strokes: InkLine[] = []
  notes: Block[] = []
  /** Something changed since the painter last looked. */
  dirty = true
  private readonly inks = new Map<EntityId, InkLine>()
  private readonly blocks = new Map<EntityId, Block>()

  constructor(session: Session) {
    session.world.subscribe(allStrokes, (ctx, { added, changed, removed }) => {
      for (const id of removed) this.inks.delete(id)
      for (const id of [...added, ...changed]) {
        if (has(ctx, id, Stroke)) this.inks.set(id, readStroke(ctx, id))
      }
      this.strokes = [...this.inks.values()].sort((a, b) => a.z - b.z)
      this.dirty = true
    })
    session.world.subscribe(allNotes, (ctx, { added, changed, removed }) => {
      for (const id of removed) this.blocks.delete(id)
      for (const id of [...added, ...changed]) {
        if (has(ctx, id, Note)) this.blocks.set(id, readNote(ctx, id))
      }
      this.notes = [...this.blocks.values()].sort((a, b) => a.z - b.z)
      this.dirty = true
    })
  }

  note(id: EntityId): Block | undefined {
    return this.blocks.get(id)
  }

  noteAt(p: Point): Block | undefined {
    return this.notes.findLast((n) => p.x >= n.x && p.x <= n.x + n.w && p.y >= n.y && p.y <= n.y + n.h)
  }

  /** The topmost stroke within `slack` world pixels of `p`. */
  strokeAt(p: Point, slack: number): InkLine | undefined {
    return this.strokes.findLast((line) => {
      const reach = slack + line.width / 2
      const { box } = line
      if (p.x < box.left - slack || p.x > box.right + slack) return false
      if (p.y < box.top - slack || p.y > box.bottom + slack) return false
      const pts = line.points
      if (pts.length === 2) return Math.hypot(p.x - pts[0]!, p.y - pts[1]!) <= reach
      for (let i = 0; i + 3 < pts.length; i += 2) {
        if (distance(p, pts[i]!, pts[i + 1]!, pts[i + 2]!, pts[i + 3]!) <= reach) return true
      }
      return false
    })
  }

  /** A height above everything: later than all that is known, and than most that is not. */
  get top(): number {
    return Math.max(Date.now(), (this.strokes.at(-1)?.z ?? 0) + 1, (this.notes.at(-1)?.z ?? 0) + 1)
  }

  /** Around everything; null on empty paper. */
  get bounds(): Box | null {
    const boxes = this.strokes.map((s) => s.box)
    for (const n of this.notes) boxes.push({ left: n.x, top: n.y, right: n.x + n.w, bottom: n.y + n.h })
    if (boxes.length === 0) return null
    const all = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity }
    for (const b of boxes) {
      all.left = Math.min(all.left, b.left)
      all.top = Math.min(all.top, b.top)
      all.right = Math.max(all.right, b.right)
      all.bottom = Math.max(all.bottom, b.bottom)
    }
    return all
  }
}

function readNote(ctx: Context, id: EntityId): Block {
  const { x, y, w, h, colour, z, text } = Note.read(ctx, id)
  return { id, x, y, w, h, colour, z, text }
}

function readStroke(ctx: Context, id: EntityId): InkLine {
  const stroke = Stroke.read(ctx, id)
  const { x, y } = stroke
  const width = stroke.width / quarter
  const raw = stroke.points
  const length = Math.min(stroke.count * 2, raw.length)
  const points = new Float64Array(length)
  const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity }
  for (let i = 0; i + 1 < length; i += 2) {
    const px = x + raw[i]! / quarter
    const py = y + raw[i + 1]! / quarter
    points[i] = px
    points[i + 1] = py
    box.left = Math.min(box.left, px - width)
    box.top = Math.min(box.top, py - width)
    box.right = Math.max(box.right, px + width)
    box.bottom = Math.max(box.bottom, py + width)
  }
  return { id, colour: stroke.colour, width, z: stroke.z, points, path: smooth(points), box }
}

/** A curve through the middles of the segments, which hides the corners. */
function smooth(p: Float64Array): Path2D {
  const path = new Path2D()
  const n = p.length / 2
  if (n === 0) return path
  path.moveTo(p[0]!, p[1]!)
  if (n === 1) {
    path.lineTo(p[0]! + 0.01, p[1]!)
    return path
  }
  for (let i = 1; i < n - 1; i++) {
    const x = p[2 * i]!
    const y = p[2 * i + 1]!
    path.quadraticCurveTo(x, y, (x + p[2 * i + 2]!) / 2, (y + p[2 * i + 3]!) / 2)
  }
  path.lineTo(p[2 * n - 2]!, p[2 * n - 1]!)
  return path
}

/** From `p` to the segment (ax, ay)–(bx, by). */
function distance(p: Point, ax: number, ay: number, bx: number, by: number): number {
  const dx = bx - ax
  const dy = by - ay
  const long = dx * dx + dy * dy
  const t = long === 0 ? 0 : Math.max(0, Math.min(1, ((p.x - ax) * dx + (p.y - ay) * dy) / long))
  return Math.hypot(p.x - ax - t * dx, p.y - ay - t * dy)
}
