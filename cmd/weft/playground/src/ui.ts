// The controls around the paper. The markup is in index.html; this fills it,
// listens to it, and keeps it true.
import type { Camera } from './camera'
import { longestName, type Me, saveMe } from './me'
import { colours, ink, onThemeChange } from './palette'
import type { Place } from './place'
import type { Other, Presence } from './presence'
import type { Scene } from './scene'
import type { Session } from './session'
import { type Tool, type Tools, widths } from './tools'
import type { LinkState } from './wire'

const said: Record<LinkState, [label: string, title: string]> = {
  synced: ['Synced', 'Everything is shared. Click to work offline.'],
  connecting: ['Connecting', 'Reaching the server. Click to work offline.'],
  offline: ['Offline', 'Your edits are kept here and shared later.'],
}

/** The most faces shown beside each other; the rest is a number. */
const mostFaces = 4

export class UI {
  private canUndo: boolean | null = null
  private canRedo: boolean | null = null
  private zoom = 0
  private empty: boolean | null = null
  private refusal = ''
  private toastTimer = 0

  constructor(
    private readonly place: Place,
    private readonly me: Me,
    private readonly session: Session,
    private readonly scene: Scene,
    private readonly camera: Camera,
    private readonly tools: Tools,
    private readonly presence: Presence,
  ) {
    this.buildSwatches()
    this.buildToolbar()
    this.buildProfile()
    this.buildCorner()
    tools.onChange = () => this.showTool()
    presence.onChange = () => this.showPeople()
    session.wire.onChange(() => this.showLink())
    session.onTrouble = (message) => this.toast(message)
    onThemeChange(() => {
      this.showColours()
      this.showPeople()
    })
    this.showTool()
    this.showColours()
    this.showLink()
  }

  /** Brings the cheap things up to date; called once a frame. */
  refresh(): void {
    const { canUndo, canRedo } = this.session
    if (canUndo !== this.canUndo) element<HTMLButtonElement>('#undo').disabled = !(this.canUndo = canUndo)
    if (canRedo !== this.canRedo) element<HTMLButtonElement>('#redo').disabled = !(this.canRedo = canRedo)
    if (this.camera.zoom !== this.zoom) {
      this.zoom = this.camera.zoom
      element('#zoom-fit').textContent = `${Math.round(this.zoom * 100)}%`
    }
    const empty = this.scene.strokes.length === 0 && this.scene.notes.length === 0
    if (empty !== this.empty) element('#hint').classList.toggle('gone', !(this.empty = empty))
  }

  /** Says something for a few seconds. */
  toast(message: string): void {
    const toast = element('#toast')
    toast.textContent = message
    toast.classList.add('shown')
    clearTimeout(this.toastTimer)
    this.toastTimer = window.setTimeout(() => toast.classList.remove('shown'), 3200)
  }

  private buildSwatches(): void {
    colours.forEach((colour, i) => {
      const swatch = newSwatch(colour.name, `colour-${i}`)
      swatch.addEventListener('click', () => this.tools.chooseColour(i))
      element('#colours').append(swatch)
      if (i === 0) return
      const own = newSwatch(colour.name, `my-colour-${i}`)
      own.addEventListener('click', () => this.introduce({ colour: i }))
      element('#my-colours').append(own)
    })
  }

  private buildToolbar(): void {
    for (const button of document.querySelectorAll<HTMLButtonElement>('[data-tool]')) {
      button.addEventListener('click', () => this.tools.choose(button.dataset.tool as Tool))
    }
    for (const button of document.querySelectorAll<HTMLButtonElement>('[data-width]')) {
      button.addEventListener('click', () => this.tools.chooseWidth(widths[Number(button.dataset.width)]!))
    }
    element('#undo').addEventListener('click', () => this.tools.undo())
    element('#redo').addEventListener('click', () => this.tools.redo())
    element('#zoom-in').addEventListener('click', () => this.camera.zoomBy(1.25))
    element('#zoom-out').addEventListener('click', () => this.camera.zoomBy(1 / 1.25))
    element('#zoom-fit').addEventListener('click', () => this.camera.fit(this.scene.bounds))
  }

  private buildProfile(): void {
    const profile = element('#profile')
    const input = element<HTMLInputElement>('#my-name')
    const people = element('#people')
    input.maxLength = longestName
    input.value = this.me.name
    input.addEventListener('input', () => this.introduce({ name: input.value.trim() || 'Somebody' }))
    input.addEventListener('keydown', (e) => {
      if (e.key === 'Enter' || e.key === 'Escape') this.openProfile(false)
    })
    people.addEventListener('click', () => this.openProfile(profile.hidden))
    addEventListener('pointerdown', (e) => {
      if (e.target instanceof Node && !profile.contains(e.target) && !people.contains(e.target)) this.openProfile(false)
    })
  }

  private openProfile(open: boolean): void {
    element('#profile').hidden = !open
    element('#people').setAttribute('aria-expanded', String(open))
    if (open) element<HTMLInputElement>('#my-name').select()
  }

  private buildCorner(): void {
    const { room, link } = this.place
    element('#room').textContent = room
    document.title = `${room} · Weft`
    const share = element<HTMLAnchorElement>('#share')
    share.href = link
    share.addEventListener('click', (e) => {
      // With a modifier it is the link that it looks like.
      if (e.ctrlKey || e.metaKey || e.shiftKey) return
      e.preventDefault()
      copy(link).then(
        () => this.toast('Link copied. Whoever opens it draws here too.'),
        () => this.toast(link),
      )
    })
    element('#badge').addEventListener('click', () => {
      if (this.session.wantsConnection) this.session.disconnect()
      else this.session.connect()
    })
  }

  private introduce(change: Partial<Me>): void {
    Object.assign(this.me, change)
    saveMe(this.me)
    this.presence.introduce(this.me)
    this.showColours()
    this.showPeople()
  }

  private showLink(): void {
    const { state, refusal } = this.session.wire
    const badge = element('#badge')
    if (badge.dataset.state !== state) {
      badge.dataset.state = state
      element('#badge-label').textContent = said[state][0]
    }
    let title = said[state][1]
    if (state === 'offline') {
      title += this.session.wantsConnection ? ' Trying to reach the server.' : ' Click to connect again.'
      if (refusal) title += ` The server said: ${refusal}.`
    }
    if (badge.title !== title) badge.title = title
    if (refusal && refusal !== this.refusal) this.toast(`The server refused: ${refusal}`)
    this.refusal = refusal
    this.showPeople()
  }

  private shownPeople = ''

  private showPeople(): void {
    const others = this.presence.others
    const count = this.session.wire.people
    const faces: Other[] = [this.me, ...others]
    const now = JSON.stringify([count, faces.map((f) => [f.name, ink(f.colour)])])
    if (now === this.shownPeople) return
    this.shownPeople = now
    const people = element('#people')
    people.dataset.count = String(count)
    people.title = `${faces.map((f) => f.name).join(', ')}. Click to change your name.`
    element('#people-count').textContent = String(count)
    element('#people-word').textContent = count === 1 ? 'person here' : 'people here'
    const shown = faces.length > mostFaces ? faces.slice(0, mostFaces - 1) : faces
    const row = shown.map((face) => newFace(initials(face.name), ink(face.colour)))
    if (shown.length < faces.length) row.push(newFace(`+${faces.length - shown.length}`, ''))
    element('#faces').replaceChildren(...row)
  }

  private showTool(): void {
    for (const button of document.querySelectorAll<HTMLButtonElement>('[data-tool]')) {
      button.setAttribute('aria-pressed', String(button.dataset.tool === this.tools.tool))
    }
    for (const button of document.querySelectorAll<HTMLButtonElement>('[data-width]')) {
      button.setAttribute('aria-pressed', String(widths[Number(button.dataset.width)] === this.tools.width))
    }
    this.showColours()
  }

  private showColours(): void {
    press(element('#colours'), this.tools.colour, 0)
    press(element('#my-colours'), this.me.colour, 1)
  }
}

/** Colours the swatches in `row`, the first of which is colour `first`, and marks `chosen`. */
function press(row: HTMLElement, chosen: number, first: number): void {
  Array.from(row.children).forEach((swatch, i) => {
    if (!(swatch instanceof HTMLElement)) return
    swatch.style.setProperty('--swatch', ink(i + first))
    swatch.setAttribute('aria-pressed', String(i + first === chosen))
  })
}

function newSwatch(name: string, testid: string): HTMLButtonElement {
  const swatch = document.createElement('button')
  swatch.type = 'button'
  swatch.className = 'swatch'
  swatch.title = name
  swatch.setAttribute('aria-label', name)
  swatch.dataset.testid = testid
  return swatch
}

function newFace(text: string, colour: string): HTMLElement {
  const face = document.createElement('span')
  face.className = 'face'
  face.textContent = text
  if (colour) face.style.setProperty('--person', colour)
  return face
}

function initials(name: string): string {
  const words = name.trim().split(/\s+/)
  const letters = words.length > 1 ? [words[0]!, words.at(-1)!] : [words[0] ?? '?']
  return letters.map((word) => Array.from(word)[0] ?? '').join('').toUpperCase()
}

/** Copies `text`; fails where the browser allows no way. */
async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  // Plain http from another machine: only the old way is left.
  const area = document.createElement('textarea')
  area.value = text
  area.className = 'offscreen'
  document.body.append(area)
  area.select()
  const done = document.execCommand('copy')
  area.remove()
  if (!done) throw new Error('copying is not allowed')
}

function element<T extends HTMLElement = HTMLElement>(selector: string): T {
  const found = document.querySelector<T>(selector)
  if (!found) throw new Error(`the page has no ${selector}`)
  return found
}
