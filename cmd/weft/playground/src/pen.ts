// Drawing: points are appended to a stroke's buffer, of which the store sends
// only what is new.
import { addComponent, createEntity, type Context, type EntityId } from '@woven-ecs/core'
import { Synced } from '@woven-ecs/canvas-store'
import type { Point } from './camera'
import { has, pointsPerStroke, quarter, Stroke, strokeReach } from './components'

export class Pen {
  private id: EntityId | null = null
  private origin: Point = { x: 0, y: 0 }
  private count = 0
  private last: Point | null = null

  /** `width` in world pixels, `top` gives the height of a new stroke. */
  constructor(
    private readonly colour: number,
    private readonly width: number,
    private readonly top: () => number,
  ) {}

  /** Draws on to `points`, in world pixels. */
  draw(ctx: Context, points: readonly Point[]): void {
    for (const point of points) {
      if (this.id !== null && !has(ctx, this.id, Stroke)) this.id = null
      if (this.id === null) this.start(ctx, this.last ?? point)
      else if (this.count >= pointsPerStroke || this.tooFar(point)) this.start(ctx, this.last ?? point)
      if (this.tooFar(point)) continue
      if (this.last !== point) this.append(ctx, point)
      this.last = point
    }
  }

  private start(ctx: Context, at: Point): void {
    this.origin = { x: Math.round(at.x), y: Math.round(at.y) }
    const points = new Array<number>(pointsPerStroke * 2).fill(0)
    points[0] = Math.round((at.x - this.origin.x) * quarter)
    points[1] = Math.round((at.y - this.origin.y) * quarter)
    this.id = createEntity(ctx)
    this.count = 1
    this.last = at
    addComponent(ctx, this.id, Synced, { id: crypto.randomUUID() })
    addComponent(ctx, this.id, Stroke, {
      x: this.origin.x,
      y: this.origin.y,
      colour: this.colour,
      width: Math.max(1, Math.round(this.width * quarter)),
      z: this.top(),
      count: 1,
      points,
    })
  }

  private append(ctx: Context, point: Point): void {
    const stroke = Stroke.write(ctx, this.id!)
    stroke.points[this.count * 2] = Math.round((point.x - this.origin.x) * quarter)
    stroke.points[this.count * 2 + 1] = Math.round((point.y - this.origin.y) * quarter)
    stroke.count = ++this.count
  }

  private tooFar(point: Point): boolean {
    return Math.abs(point.x - this.origin.x) > strokeReach || Math.abs(point.y - this.origin.y) > strokeReach
  }
}
