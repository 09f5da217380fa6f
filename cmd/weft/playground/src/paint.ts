// Puts the scene on the canvas, in the display's own pixels.
import type { EntityId } from '@woven-ecs/core'
import { type Camera, overlap } from './camera'
import { ink, isDark, noteText, onThemeChange, paper } from './palette'
import type { Block, Scene } from './scene'
import { noteFont, notePadding, setText } from './text'

/** Between two dots of the grid at natural size, in world pixels. */
const gridStep = 24

export class Painter {
  /** The note with a ring around it. */
  selected: EntityId | null = null
  /** The note whose text an input shows instead. */
  editing: EntityId | null = null
  private readonly context: CanvasRenderingContext2D
  private stale = true

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly camera: Camera,
    private readonly scene: Scene,
  ) {
    const context = canvas.getContext('2d')
    if (!context) throw new Error('this browser has no 2d canvas')
    this.context = context
    addEventListener('resize', () => this.refresh())
    onThemeChange(() => this.refresh())
  }

  /** Has the next `paint` paint. */
  refresh(): void {
    this.stale = true
  }

  /** Paints, if anything changed since the last time. */
  paint(): void {
    if (!this.stale && !this.scene.dirty) return
    this.stale = false
    this.scene.dirty = false
    const { camera, context: c, scene } = this
    const scale = devicePixelRatio || 1
    const width = Math.round(innerWidth * scale)
    const height = Math.round(innerHeight * scale)
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width
      this.canvas.height = height
    }
    this.placeGrid()
    c.setTransform(1, 0, 0, 1, 0, 0)
    c.clearRect(0, 0, width, height)
    const zoom = scale * camera.zoom
    c.setTransform(zoom, 0, 0, zoom, -camera.x * zoom, -camera.y * zoom)
    const { view } = camera
    for (const note of scene.notes) {
      const box = { left: note.x - 40, top: note.y - 40, right: note.x + note.w + 40, bottom: note.y + note.h + 40 }
      if (overlap(box, view)) this.paintNote(note)
    }
    c.lineCap = 'round'
    c.lineJoin = 'round'
    for (const line of scene.strokes) {
      if (!overlap(line.box, view)) continue
      c.strokeStyle = ink(line.colour)
      c.lineWidth = line.width
      c.stroke(line.path)
    }
  }

  private paintNote(note: Block): void {
    const { context: c } = this
    const dark = isDark()
    const zoom = this.camera.zoom * (devicePixelRatio || 1)
    // Shadows are measured in display pixels, whatever the transform.
    c.shadowColor = dark ? 'rgba(0, 0, 0, 0.5)' : 'rgba(52, 40, 20, 0.16)'
    c.shadowBlur = 18 * zoom
    c.shadowOffsetY = 6 * zoom
    c.fillStyle = paper(note.colour)
    c.beginPath()
    c.roundRect(note.x, note.y, note.w, note.h, 12)
    c.fill()
    c.shadowColor = 'transparent'
    c.lineWidth = 1
    c.strokeStyle = dark ? 'rgba(255, 255, 255, 0.08)' : 'rgba(52, 40, 20, 0.07)'
    c.stroke()
    if (note.id === this.selected) {
      c.lineWidth = 2 / this.camera.zoom
      c.strokeStyle = dark ? '#9b99ff' : '#5b57e0'
      const gap = 4 / this.camera.zoom
      c.beginPath()
      c.roundRect(note.x - gap, note.y - gap, note.w + 2 * gap, note.h + 2 * gap, 12 + gap)
      c.stroke()
    }
    if (note.id === this.editing || !note.text) return
    const w = note.w - 2 * notePadding
    const h = note.h - 2 * notePadding
    const set = setText(c, note.text, w, h)
    c.save()
    c.beginPath()
    c.rect(note.x, note.y, note.w, note.h)
    c.clip()
    c.font = `500 ${set.size}px ${noteFont}`
    c.fillStyle = noteText
    c.textAlign = 'left'
    c.textBaseline = 'alphabetic'
    // Where a style sheet would put the baseline, so that text stays where it was typed.
    const { fontBoundingBoxAscent: ascent, fontBoundingBoxDescent: descent } = c.measureText('x')
    const first = note.y + notePadding + (set.leading - ascent - descent) / 2 + ascent
    set.lines.forEach((line, i) => c.fillText(line, note.x + notePadding, first + i * set.leading))
    c.restore()
  }

  /** The dots are the page's background; the style sheet draws them, this moves them. */
  private placeGrid(): void {
    const { camera } = this
    let step = gridStep * camera.zoom
    while (step < 16) step *= 2
    while (step > 44) step /= 2
    const { style } = this.canvas
    style.backgroundSize = `${step}px ${step}px`
    style.backgroundPosition = `${-camera.x * camera.zoom}px ${-camera.y * camera.zoom}px`
  }
}
