// Who is here, and where they point: one entity for each person, which the
// server keeps in memory for as long as they are connected.
import { addComponent, createEntity, defineQuery, type EntityId } from '@woven-ecs/core'
import { Synced } from '@woven-ecs/canvas-store'
import type { Camera, Point } from './camera'
import { has, Person } from './components'
import type { Me } from './me'
import { ink, onThemeChange } from './palette'
import type { Session } from './session'

export interface Other {
  name: string
  colour: number
}

interface Cursor extends Other {
  /** Where they point, and where the cursor is drawn on its way there; world pixels. */
  to: Point
  at: Point
  pointing: boolean
  element: HTMLElement
}

/** A cursor covers two thirds of its way in this many milliseconds. */
const ease = 55

const everyone = defineQuery((q) => q.tracking(Person))

export class Presence {
  /** Called when somebody came, went, or changed their name or colour. */
  onChange: () => void = () => {}
  private readonly cursors = new Map<EntityId, Cursor>()
  private own: EntityId | null = null
  private pointed: Point | null = null
  /** A signal is on its way that will tell where this person points by then. */
  private waiting = false
  private last = performance.now()

  constructor(
    private readonly session: Session,
    private readonly camera: Camera,
    private readonly layer: HTMLElement,
    me: Me,
  ) {
    session.signal((ctx) => {
      this.own = createEntity(ctx)
      addComponent(ctx, this.own, Synced, { id: session.clientId })
      addComponent(ctx, this.own, Person, { name: me.name, colour: me.colour, x: 0, y: 0, pointing: false })
    })
    session.world.subscribe(everyone, (ctx, { added, changed, removed }) => {
      for (const id of removed) this.forget(id)
      for (const id of [...added, ...changed]) {
        if (id !== this.own && has(ctx, id, Person)) this.learn(id, Person.snapshot(ctx, id))
      }
      this.onChange()
    })
    onThemeChange(() => {
      for (const cursor of this.cursors.values()) dress(cursor)
    })
  }

  /** Everyone else, in the order in which they came to be known. */
  get others(): Other[] {
    return [...this.cursors.values()]
  }

  /** Tells the others who this is. */
  introduce(me: Me): void {
    this.session.signal((ctx) => {
      if (this.own !== null) Person.patch(ctx, this.own, { name: me.name, colour: me.colour })
    })
  }

  /** Tells the others where this person points, in world pixels; null is nowhere. */
  pointAt(world: Point | null): void {
    const to = world && { x: Math.round(world.x), y: Math.round(world.y) }
    if (to?.x === this.pointed?.x && to?.y === this.pointed?.y) return
    this.pointed = to
    if (this.waiting) return
    this.waiting = true
    this.session.signal((ctx) => {
      this.waiting = false
      if (this.own === null) return
      Person.patch(ctx, this.own, this.pointed ? { ...this.pointed, pointing: true } : { pointing: false })
    })
  }

  /** Moves the cursors on their way; called once a frame. */
  animate(now: number): void {
    const part = 1 - Math.exp(-(now - this.last) / ease)
    this.last = now
    for (const cursor of this.cursors.values()) {
      const { at, to, element } = cursor
      at.x += (to.x - at.x) * part
      at.y += (to.y - at.y) * part
      const screen = this.camera.toScreen(at)
      element.style.transform = `translate(${screen.x.toFixed(1)}px, ${screen.y.toFixed(1)}px)`
    }
  }

  private learn(id: EntityId, person: Other & Point & { pointing: boolean }): void {
    let cursor = this.cursors.get(id)
    if (!cursor) {
      cursor = {
        name: '',
        colour: 0,
        pointing: false,
        to: { x: person.x, y: person.y },
        at: { x: person.x, y: person.y },
        element: newCursor(),
      }
      this.cursors.set(id, cursor)
      this.layer.append(cursor.element)
    }
    // Who comes back from elsewhere appears there, and does not fly across.
    if (!cursor.pointing) cursor.at = { x: person.x, y: person.y }
    cursor.to = { x: person.x, y: person.y }
    cursor.name = person.name
    cursor.colour = person.colour
    cursor.pointing = person.pointing
    dress(cursor)
  }

  private forget(id: EntityId): void {
    this.cursors.get(id)?.element.remove()
    this.cursors.delete(id)
  }
}

function newCursor(): HTMLElement {
  const template = document.querySelector<HTMLTemplateElement>('#cursor')!
  return (template.content.cloneNode(true) as DocumentFragment).firstElementChild as HTMLElement
}

function dress({ element, name, colour, pointing }: Cursor): void {
  element.style.setProperty('--person', ink(colour))
  element.querySelector('.cursor-name')!.textContent = name
  element.classList.toggle('away', !pointing)
}
