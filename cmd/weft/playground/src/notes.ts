// Notes: making, moving, colouring, writing and removing them.
import { addComponent, createEntity, type Context, type EntityId, removeEntity } from '@woven-ecs/core'
import { Synced } from '@woven-ecs/canvas-store'
import type { Camera, Point } from './camera'
import { has, longestText, Note } from './components'
import { noteText } from './palette'
import type { Painter } from './paint'
import type { Scene } from './scene'
import type { Session } from './session'
import { noteFont, notePadding, setText } from './text'

/** A new note's sides, in world pixels. */
const side = 176

export class Notes {
  private readonly input = document.querySelector<HTMLTextAreaElement>('#note-text')!
  private readonly measure = document.createElement('canvas').getContext('2d')!

  constructor(
    private readonly session: Session,
    private readonly scene: Scene,
    private readonly camera: Camera,
    private readonly painter: Painter,
  ) {
    this.input.addEventListener('input', () => this.write())
    this.input.addEventListener('blur', () => this.stopEditing())
    this.input.addEventListener('keydown', (event) => {
      event.stopPropagation()
      if (event.key === 'Escape') this.stopEditing()
    })
  }

  get selected(): EntityId | null {
    return this.painter.selected
  }

  select(id: EntityId | null): void {
    this.painter.selected = id
    this.painter.refresh()
  }

  /** Puts a new note around `at`, selects it and lets the person type. One undo step. */
  create(at: Point, colour: number): void {
    this.session.begin()
    this.session.edit((ctx) => {
      const id = createEntity(ctx)
      addComponent(ctx, id, Synced, { id: crypto.randomUUID() })
      addComponent(ctx, id, Note, {
        x: Math.round(at.x - side / 2),
        y: Math.round(at.y - side / 2),
        w: side,
        h: side,
        colour,
        z: this.scene.top,
        text: '',
      })
      this.select(id)
    })
    this.session.end()
    if (this.selected !== null) this.edit(this.selected, false)
  }

  move(id: EntityId, to: Point, z: number): void {
    this.change(id, (ctx) => Note.patch(ctx, id, { x: Math.round(to.x), y: Math.round(to.y), z }))
  }

  /** Colours the selected note. */
  paint(colour: number): void {
    const id = this.selected
    if (id === null) return
    // While writing, the colour belongs to the same undo step as the text.
    const writing = this.painter.editing !== null
    if (!writing) this.session.begin()
    this.change(id, (ctx) => Note.patch(ctx, id, { colour }))
    if (!writing) this.session.end()
  }

  /** Removes the selected note. */
  removeSelected(): void {
    const id = this.selected
    if (id === null) return
    this.stopEditing()
    this.session.begin()
    this.change(id, (ctx) => removeEntity(ctx, id))
    this.session.end()
    this.select(null)
  }

  /**
   * Opens a note's text. With `mouse` the caret follows the mouse; without it
   * the paper keeps the mouse, so that a note just made can be dragged at once.
   */
  edit(id: EntityId, mouse: boolean): void {
    this.stopEditing()
    const note = this.scene.note(id)
    if (!note) return
    this.session.begin()
    this.painter.editing = id
    this.painter.refresh()
    this.input.value = note.text
    this.input.hidden = false
    this.input.style.pointerEvents = mouse ? 'auto' : 'none'
    this.place()
    this.input.focus({ preventScroll: true })
    this.input.setSelectionRange(note.text.length, note.text.length)
  }

  /** Ends the writing, which is then one undo step. */
  stopEditing(): void {
    if (this.painter.editing === null) return
    this.painter.editing = null
    this.painter.refresh()
    this.input.hidden = true
    this.session.end()
  }

  /** Keeps the text input on its note, and the selection on what still exists. */
  follow(): void {
    const { editing, selected } = this.painter
    if (selected !== null && !this.scene.note(selected)) this.select(null)
    if (editing === null) return
    if (this.scene.note(editing)) this.place()
    else this.stopEditing()
  }

  private write(): void {
    const id = this.painter.editing
    if (id === null) return
    const text = cut(this.input.value)
    if (text !== this.input.value) this.input.value = text
    this.change(id, (ctx) => Note.patch(ctx, id, { text }))
  }

  private place(): void {
    const note = this.scene.note(this.painter.editing!)
    if (!note) return
    const { zoom } = this.camera
    const at = this.camera.toScreen(note)
    const w = note.w - 2 * notePadding
    const set = setText(this.measure, this.input.value || ' ', w, note.h - 2 * notePadding)
    const { style } = this.input
    style.transform = `translate(${at.x}px, ${at.y}px) scale(${zoom})`
    style.width = `${note.w}px`
    style.height = `${note.h}px`
    style.padding = `${notePadding}px`
    style.font = `500 ${set.size}px/${set.leading}px ${noteFont}`
    style.color = noteText
  }

  private change(id: EntityId, edit: (ctx: Context) => void): void {
    this.session.edit((ctx) => {
      if (has(ctx, id, Note)) edit(ctx)
    })
  }
}

/** `text` without what does not fit into a note, never ending inside a letter. */
function cut(text: string): string {
  const encoder = new TextEncoder()
  let result = text
  while (encoder.encode(result).length > longestText) result = Array.from(result).slice(0, -1).join('')
  return result
}
