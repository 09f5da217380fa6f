// Weft's playground: a whiteboard for as many as open the same link. This file
// puts the parts together and turns the crank.
import './style.css'
import { Camera } from './camera'
import { provideRandomUUID } from './ids'
import { loadMe } from './me'
import { Notes } from './notes'
import { Painter } from './paint'
import { findPlace } from './place'
import { Presence } from './presence'
import { Scene } from './scene'
import { Session } from './session'
import { Tools } from './tools'
import { UI } from './ui'

declare global {
  interface Window {
    /** For tests and the curious: what this page knows. */
    weft?: {
      state(): Record<string, unknown>
      strokes(): number
      blocks(): number
      /** Connected, up to date, and every edit made here acknowledged. */
      synced(): boolean
    }
  }
}

async function start(): Promise<void> {
  provideRandomUUID()
  const place = findPlace()
  const me = loadMe()
  const canvas = document.querySelector<HTMLCanvasElement>('#paper')!
  const session = await Session.open(place)
  const scene = new Scene(session)
  const camera = new Camera()
  const painter = new Painter(canvas, camera, scene)
  const presence = new Presence(session, camera, document.querySelector<HTMLElement>('#cursors')!, me)
  const notes = new Notes(session, scene, camera, painter)
  const tools = new Tools(canvas, session, scene, camera, notes, presence)
  const ui = new UI(place, me, session, scene, camera, tools, presence)
  camera.onMove = () => painter.refresh()
  session.frame()
  session.connect()

  const turn = (now: number): void => {
    session.frame()
    notes.follow()
    painter.paint()
    presence.animate(now)
    ui.refresh()
    requestAnimationFrame(turn)
  }
  requestAnimationFrame(turn)
  // A hidden page gets no animation frames, yet has to send what it has and
  // take in what comes.
  setInterval(() => {
    if (document.hidden) session.frame()
  }, 500)

  addEventListener('online', () => session.hurry())
  addEventListener('pagehide', () => session.close())
  addEventListener('pageshow', (event) => {
    // Back from the browser's cache with the session closed: begin anew.
    if (event.persisted) location.reload()
  })

  window.weft = {
    state: () => session.state(),
    strokes: () => scene.strokes.length,
    blocks: () => scene.notes.length,
    synced: () => session.settled,
  }
}

start().catch((error: unknown) => {
  console.error(error)
  const toast = document.querySelector('#toast')
  if (!toast) return
  toast.textContent = `The playground could not start: ${error instanceof Error ? error.message : String(error)}`
  toast.classList.add('shown')
})
