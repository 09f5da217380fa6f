// A whiteboard as an application would build it on the published client: a world, a CanvasStore
// that syncs once a frame, and a few components.

import 'fake-indexeddb/auto'
import { CanvasStore, defineCanvasComponent, defineCanvasSingleton, Synced } from '@woven-ecs/canvas-store'
import { addComponent, createEntity, field, hasComponent, removeComponent, removeEntity, World } from '@woven-ecs/core'
import { WebSocket as NodeWebSocket } from 'ws'
import { until } from './server.mjs'

/** What went over the sockets of each client, by clientId: {sent, received}, parsed, in order; when
 *  it tried to connect, and how its sockets closed. */
export const traffic = new Map()

// Node 20 has no WebSocket of its own. This one also keeps what passes.
globalThis.WebSocket = class extends NodeWebSocket {
  constructor(url) {
    super(url)
    const id = new URL(url).searchParams.get('clientId')
    if (!traffic.has(id)) traffic.set(id, { sent: [], received: [], attempts: [], closes: [] })
    this.seen = traffic.get(id)
    this.seen.attempts.push(performance.now())
    this.on('message', (data) => this.seen.received.push(JSON.parse(String(data))))
    // A connection that never came about is no close.
    this.on('open', () => this.on('close', (code, reason) => this.seen.closes.push({ code, reason: String(reason) })))
  }

  send(text) {
    this.seen.sent.push(JSON.parse(text))
    super.send(text)
  }
}

export const Block = defineCanvasComponent(
  { name: 'Block', sync: 'document' },
  { x: field.int32(), y: field.int32(), label: field.string().max(64) },
)
export const Stroke = defineCanvasComponent(
  { name: 'Stroke', sync: 'document' },
  { points: field.buffer(field.uint16()).size(512), used: field.uint16() },
)
export const Cursor = defineCanvasComponent(
  { name: 'Cursor', sync: 'ephemeral' },
  { x: field.int32(), y: field.int32(), name: field.string().max(64) },
)
export const Camera = defineCanvasSingleton({ name: 'Camera', sync: 'document' }, { zoom: field.int32() })

const components = [Block, Stroke, Cursor]
const singletons = [Camera]

let boards = 0

/** One browser tab. Its store syncs every few milliseconds until the test ends. */
export class Board {
  /** @param {import('node:test').TestContext} t closes the board with the test */
  static async open(t, { server, room, token, name = 'board', persist = false, offline = false, frame = 4 }) {
    const board = new Board()
    board.id = `${name}-${++boards}`
    board.frame = frame // milliseconds between two syncs
    board.entities = new Map() // stable id → entity of this world, of those made here
    board.online = false
    board.offlineSince = null // performance.now() of the moment when it was last online, while it is not
    board.outages = [] // how long it was offline between two sockets, in milliseconds
    board.store = new CanvasStore({
      ...(persist && { persistence: { documentId: room } }),
      websocket: {
        documentId: room,
        url: server.url,
        clientId: board.id,
        token,
        startOffline: offline,
        onConnectivityChange: (online) => board.connectivity(online),
      },
    })
    await board.store.initialize({ components, singletons })
    board.world = new World([...components, ...singletons, Synced], { threads: 1, maxEntities: 2000 })
    board.edits = []
    board.closed = false
    board.loop = board.run()
    t.after(() => board.close())
    if (!offline) await until(`${board.id} to be synced`, () => board.store.isSynced)
    return board
  }

  /** The client says false again for every connect that fails. */
  connectivity(online) {
    if (online && this.offlineSince !== null) this.outages.push(performance.now() - this.offlineSince)
    if (online) this.offlineSince = null
    else if (this.online) this.offlineSince = performance.now()
    this.online = online
  }

  async run() {
    while (!this.closed) {
      await this.world.execute((ctx) => {
        for (const edit of this.edits.splice(0)) edit(ctx)
        this.store.sync(ctx)
      })
      this.world.sync()
      await new Promise((resolve) => setTimeout(resolve, this.frame))
    }
  }

  async close() {
    if (this.closed) return
    this.closed = true
    await this.loop
    this.store.close()
    this.world.dispose()
  }

  /** Runs an edit in the next frame, and resolves after it. */
  edit(change) {
    return new Promise((resolve, reject) => {
      this.edits.push((ctx) => {
        try {
          resolve(change(ctx))
        } catch (err) {
          reject(err)
        }
      })
    })
  }

  create(component, data, id = crypto.randomUUID()) {
    return this.edit((ctx) => {
      const entity = createEntity(ctx)
      addComponent(ctx, entity, Synced, { id })
      addComponent(ctx, entity, component, data)
      this.entities.set(id, entity)
      return id
    })
  }

  /** Changes fields of an entity, whoever made it. */
  change(id, component, fields) {
    return this.edit((ctx) => Object.assign(component.write(ctx, this.entity(id)), fields))
  }

  removePart(id, component) {
    return this.edit((ctx) => removeComponent(ctx, this.entity(id), component))
  }

  remove(id) {
    return this.edit((ctx) => removeEntity(ctx, this.entity(id)))
  }

  zoom(zoom) {
    return this.edit((ctx) => {
      Camera.write(ctx).zoom = zoom
    })
  }

  entity(id) {
    // The store knows the entities that others made.
    const entity = this.entities.get(id) ?? this.store.ecsAdapter.stableIdToEntity.get(id)
    if (entity === undefined) throw new Error(`${this.id} has no entity ${id}`)
    return entity
  }

  /** What the world holds of an entity's component, null if it has none. */
  see(id, component) {
    return this.edit((ctx) => {
      const entity = this.store.ecsAdapter.stableIdToEntity.get(id)
      if (entity === undefined || !hasComponent(ctx, entity, component, false)) return null
      const data = component.snapshot(ctx, entity)
      delete data._exists
      delete data._version
      return data
    })
  }

  /** The document as this board has it, without the deleted and without presence. */
  document() {
    const live = {}
    for (const [key, value] of Object.entries(this.store.getState())) {
      if (value._exists === false || key.endsWith('/Cursor')) continue
      const { _exists, _version, ...data } = value
      live[key] = data
    }
    return live
  }

  cursors() {
    return Object.entries(this.store.getState())
      .filter(([key, value]) => key.endsWith('/Cursor') && value._exists !== false)
      .map(([, value]) => value.name)
      .sort()
  }

  /** Nothing sent is unconfirmed, nothing to be sent is waiting. */
  get settled() {
    const ws = this.store.websocketAdapter
    return (
      this.online && ws.inFlight.size === 0 && ws.documentSendBuffer.length === 0 && Object.keys(ws.offlineBuffer).length === 0 && this.edits.length === 0
    )
  }

  get traffic() {
    return traffic.get(this.id)
  }
}
