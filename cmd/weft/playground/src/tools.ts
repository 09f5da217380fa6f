// Turns pointers, wheel and keys into gestures: drawing, dragging, erasing, and
// moving the paper. One finger or button works, two fingers move and zoom.
import { type EntityId, removeEntity } from '@woven-ecs/core'
import type { Camera, Point } from './camera'
import { has, Note, Stroke } from './components'
import type { Notes } from './notes'
import { Pen } from './pen'
import type { Presence } from './presence'
import type { Scene } from './scene'
import type { Session } from './session'

export const tools = ['move', 'pen', 'note', 'eraser'] as const
export type Tool = (typeof tools)[number]

/** Line widths to choose from, in screen pixels at natural size. */
export const widths = [2.5, 5, 10] as const

/** Points closer than this to the last one add nothing, in screen pixels. */
const leastStep = 1.5

/** Around the pointer, the eraser's reach in screen pixels. */
const eraserReach = 8

type Gesture =
  | { kind: 'pan' }
  | { kind: 'place' }
  | { kind: 'draw'; pen: Pen; last: Point }
  | { kind: 'drag'; id: EntityId; grip: Point; z: number; from: Point; moved: boolean }
  | { kind: 'erase'; gone: Set<EntityId> }

export class Tools {
  tool: Tool = 'pen'
  colour = 0
  width: number = widths[1]
  /** Called when the tool, colour or width changed. */
  onChange: () => void = () => {}
  private gesture: Gesture | null = null
  /** Where each finger or button that is down was last, in screen pixels. */
  private readonly down = new Map<number, Point>()
  private space = false

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly session: Session,
    private readonly scene: Scene,
    private readonly camera: Camera,
    private readonly notes: Notes,
    private readonly presence: Presence,
  ) {
    canvas.addEventListener('pointerdown', (e) => this.pressed(e))
    canvas.addEventListener('pointermove', (e) => this.moved(e))
    canvas.addEventListener('pointerup', (e) => this.released(e))
    canvas.addEventListener('pointercancel', (e) => this.released(e))
    canvas.addEventListener('pointerleave', () => this.presence.pointAt(null))
    canvas.addEventListener('dblclick', (e) => this.doubleClicked(e))
    canvas.addEventListener('wheel', (e) => this.wheeled(e), { passive: false })
    canvas.addEventListener('contextmenu', (e) => e.preventDefault())
    addEventListener('keydown', (e) => this.keyed(e))
    addEventListener('keyup', (e) => {
      if (e.code === 'Space') this.holdSpace(false)
    })
    addEventListener('blur', () => this.holdSpace(false))
    this.showCursor()
  }

  choose(tool: Tool): void {
    this.tool = tool
    if (tool !== 'move') this.notes.select(null)
    this.showCursor()
    this.onChange()
  }

  chooseColour(colour: number): void {
    this.colour = colour
    this.notes.paint(colour)
    this.onChange()
  }

  chooseWidth(width: number): void {
    this.width = width
    this.onChange()
  }

  undo(): void {
    this.stop()
    this.session.undo()
  }

  redo(): void {
    this.stop()
    this.session.redo()
  }

  private pressed(event: PointerEvent): void {
    event.preventDefault()
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur()
    this.notes.stopEditing()
    this.canvas.setPointerCapture(event.pointerId)
    const at = { x: event.clientX, y: event.clientY }
    this.down.set(event.pointerId, at)
    if (this.down.size > 1) {
      // A second finger: this was the beginning of a pinch, not of a line.
      if (this.gesture && this.gesture.kind !== 'pan') this.session.cancel()
      this.gesture = null
      return
    }
    const world = this.camera.toWorld(at)
    this.presence.pointAt(world)
    if (event.button === 1 || event.button === 2 || this.space) this.gesture = { kind: 'pan' }
    else if (event.button === 0) this.begin(world)
    this.showCursor()
  }

  private begin(world: Point): void {
    switch (this.tool) {
      case 'pen': {
        const pen = new Pen(this.colour, this.width / this.camera.zoom, () => this.scene.top)
        this.session.begin()
        this.session.edit((ctx) => pen.draw(ctx, [world]))
        this.gesture = { kind: 'draw', pen, last: world }
        break
      }
      case 'note':
        this.gesture = { kind: 'place' }
        break
      case 'eraser':
        this.session.begin()
        this.gesture = { kind: 'erase', gone: new Set() }
        this.erase(world)
        break
      case 'move': {
        const note = this.scene.noteAt(world)
        this.notes.select(note?.id ?? null)
        if (!note) {
          this.gesture = { kind: 'pan' }
          break
        }
        this.session.begin()
        const grip = { x: world.x - note.x, y: world.y - note.y }
        this.gesture = { kind: 'drag', id: note.id, grip, z: this.scene.top, from: world, moved: false }
        break
      }
    }
  }

  private moved(event: PointerEvent): void {
    const at = { x: event.clientX, y: event.clientY }
    const world = this.camera.toWorld(at)
    this.presence.pointAt(world)
    const before = this.down.get(event.pointerId)
    if (!before) {
      this.showCursor(world)
      return
    }
    if (this.down.size > 1) {
      this.pinch(event.pointerId, before, at)
      return
    }
    this.down.set(event.pointerId, at)
    const { gesture } = this
    switch (gesture?.kind) {
      case 'pan':
        this.camera.pan(at.x - before.x, at.y - before.y)
        break
      case 'draw':
        this.drawOn(gesture, event)
        break
      case 'erase':
        for (const p of this.between(before, at)) this.erase(p)
        break
      case 'drag': {
        const far = Math.hypot(world.x - gesture.from.x, world.y - gesture.from.y) * this.camera.zoom
        if (!gesture.moved && far < 3) break
        gesture.moved = true
        this.notes.move(gesture.id, { x: world.x - gesture.grip.x, y: world.y - gesture.grip.y }, gesture.z)
        break
      }
    }
  }

  private released(event: PointerEvent): void {
    if (!this.down.delete(event.pointerId)) return
    if (event.type === 'pointerup' && this.gesture?.kind === 'draw') this.drawOn(this.gesture, event, 0)
    if (event.type === 'pointerup' && this.gesture?.kind === 'place') {
      // Only now: a press would take the focus from the note's text again.
      this.gesture = null
      this.choose('move')
      this.notes.create(this.camera.toWorld({ x: event.clientX, y: event.clientY }), this.colour)
    }
    if (event.pointerType === 'touch') this.presence.pointAt(null)
    this.stop()
    this.showCursor()
  }

  private stop(): void {
    if (!this.gesture) return
    const { kind } = this.gesture
    this.gesture = null
    if (kind !== 'pan') this.session.end()
  }

  private drawOn(gesture: Gesture & { kind: 'draw' }, event: PointerEvent, step = leastStep): void {
    // A fast hand makes several events a frame; the browser hands over the rest here.
    const events = event.getCoalescedEvents?.() ?? []
    if (events.length === 0) events.push(event)
    const points: Point[] = []
    for (const e of events) {
      const p = this.camera.toWorld({ x: e.clientX, y: e.clientY })
      const far = Math.hypot(p.x - gesture.last.x, p.y - gesture.last.y) * this.camera.zoom
      if (far === 0 || far < step) continue
      gesture.last = p
      points.push(p)
    }
    if (points.length > 0) this.session.edit((ctx) => gesture.pen.draw(ctx, points))
  }

  private erase(world: Point): void {
    const { gesture } = this
    if (gesture?.kind !== 'erase') return
    const hit = this.scene.strokeAt(world, eraserReach / this.camera.zoom) ?? this.scene.noteAt(world)
    if (!hit || gesture.gone.has(hit.id)) return
    gesture.gone.add(hit.id)
    this.session.edit((ctx) => {
      if (has(ctx, hit.id, Stroke) || has(ctx, hit.id, Note)) removeEntity(ctx, hit.id)
    })
  }

  /** World points on the way from `a` to `b`, close enough that nothing is missed. */
  private between(a: Point, b: Point): Point[] {
    const steps = Math.min(64, Math.max(1, Math.ceil(Math.hypot(b.x - a.x, b.y - a.y) / eraserReach)))
    const points: Point[] = []
    for (let i = 1; i <= steps; i++) {
      points.push(this.camera.toWorld({ x: a.x + ((b.x - a.x) * i) / steps, y: a.y + ((b.y - a.y) * i) / steps }))
    }
    return points
  }

  private pinch(id: number, before: Point, now: Point): void {
    const other = [...this.down].find(([finger]) => finger !== id)?.[1]
    this.down.set(id, now)
    if (!other) return
    const was = Math.hypot(before.x - other.x, before.y - other.y)
    const is = Math.hypot(now.x - other.x, now.y - other.y)
    const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 }
    this.camera.pan((now.x - before.x) / 2, (now.y - before.y) / 2)
    if (was > 0 && is > 0) this.camera.zoomBy(is / was, middle)
  }

  private wheeled(event: WheelEvent): void {
    event.preventDefault()
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1
    if (event.ctrlKey || event.metaKey) {
      const turn = Math.max(-50, Math.min(50, event.deltaY * unit))
      this.camera.zoomBy(Math.exp(-turn / 120), { x: event.clientX, y: event.clientY })
    } else if (event.shiftKey && event.deltaX === 0) {
      this.camera.pan(-event.deltaY * unit, 0)
    } else {
      this.camera.pan(-event.deltaX * unit, -event.deltaY * unit)
    }
  }

  private doubleClicked(event: MouseEvent): void {
    if (this.tool !== 'move') return
    const note = this.scene.noteAt(this.camera.toWorld({ x: event.clientX, y: event.clientY }))
    if (!note) return
    this.notes.select(note.id)
    this.notes.edit(note.id, true)
  }

  private keyed(event: KeyboardEvent): void {
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement) return
    const key = event.key.toLowerCase()
    if (event.ctrlKey || event.metaKey) {
      if (key === 'z') event.shiftKey ? this.redo() : this.undo()
      else if (key === 'y') this.redo()
      else return
      event.preventDefault()
      return
    }
    if (event.altKey) return
    if (event.code === 'Space') {
      // On a button, the space bar presses it.
      if (event.target instanceof HTMLButtonElement) return
      this.holdSpace(true)
    } else if (key === 'v') this.choose('move')
    else if (key === 'p') this.choose('pen')
    else if (key === 'n') this.choose('note')
    else if (key === 'e') this.choose('eraser')
    else if (key === 'delete' || key === 'backspace') this.notes.removeSelected()
    else if (key === 'escape') this.notes.select(null)
    else if (key === 'enter' && this.notes.selected !== null && event.target === document.body) {
      this.notes.edit(this.notes.selected, true)
    } else return
    event.preventDefault()
  }

  private holdSpace(held: boolean): void {
    if (this.space === held) return
    this.space = held
    this.showCursor()
  }

  private showCursor(over?: Point): void {
    let cursor = 'crosshair'
    if (this.gesture?.kind === 'pan' || this.gesture?.kind === 'drag') cursor = 'grabbing'
    else if (this.space) cursor = 'grab'
    else if (this.tool === 'move') cursor = over && this.scene.noteAt(over) ? 'grab' : 'default'
    else if (this.tool === 'note') cursor = 'copy'
    else if (this.tool === 'eraser') cursor = 'cell'
    this.canvas.style.cursor = cursor
  }
}
