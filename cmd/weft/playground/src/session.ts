// The document: an ECS world, and the canvas-store that keeps it in step with
// this browser's disk and with everyone else in the room.
import { CanvasStore, Synced } from '@woven-ecs/canvas-store'
import { type Context, defineSystem, World } from '@woven-ecs/core'
import { components } from './components'
import type { Place } from './place'
import { Wire } from './wire'

/** A change to the world, made inside a frame. */
export type Edit = (ctx: Context) => void

/** The most strokes, notes and people that one page can hold. */
const mostEntities = 16384

/** Undo steps end when a gesture does, never by themselves. */
const neverByItself = Number.MAX_SAFE_INTEGER

export class Session {
  readonly world = new World([...components, Synced], { maxEntities: mostEntities, threads: 1 })
  readonly wire = new Wire()
  readonly clientId = crypto.randomUUID()
  /** Called when an edit could not be made. */
  onTrouble: (message: string) => void = () => {}
  private readonly store: CanvasStore
  private readonly syncStore = defineSystem((ctx) => this.store.sync(ctx))
  private edits: Edit[] = []
  private editedAt = Number.NEGATIVE_INFINITY
  private checkpoint: string | null = null
  /** False while the person chose to work offline. */
  private wanted = true
  /** True once the store was told to connect, and looks after it. */
  private started = false

  private constructor(place: Place) {
    this.wire.watch(place.server)
    this.wire.onChange(() => this.start())
    this.store = new CanvasStore({
      // The store names its databases `<persistence id>` and `<room>-ws`; the
      // prefix keeps room "a-ws" from sharing one with room "a".
      persistence: { documentId: `weft:${place.room}` },
      history: { commitCheckpointAfterFrames: neverByItself },
      websocket: {
        documentId: place.room,
        url: place.server,
        clientId: this.clientId,
        token: place.token,
        // What is on disk must show at once, not after a slow connection.
        startOffline: true,
        // A socket that was still connecting when the person went offline.
        onConnectivityChange: (online) => {
          if (online && !this.wanted) this.store.disconnect()
        },
        onVersionMismatch: (version) =>
          this.onTrouble(`This server speaks version ${version} of the protocol; the page does not.`),
      },
    })
  }

  /**
   * Opens the room on this browser's disk. What was there arrives in the first
   * frame, so whoever wants to hear of it subscribes before; then `connect`.
   */
  static async open(place: Place): Promise<Session> {
    const session = new Session(place)
    await session.store.initialize({ components, singletons: [] })
    return session
  }

  /** Has `change` made to the document in the next frame. */
  edit(change: Edit): void {
    this.editedAt = performance.now()
    this.edits.push(change)
  }

  /** Has `change` made to this person's presence in the next frame. */
  signal(change: Edit): void {
    this.edits.push(change)
  }

  /**
   * One turn: make the waiting edits, exchange changes with disk, history and
   * server, and tell the world's subscribers. Runs through without a pause.
   */
  frame(): void {
    const edits = this.edits
    this.edits = []
    const make = (ctx: Context): void => {
      for (const edit of edits) {
        try {
          edit(ctx)
        } catch (error) {
          console.error('edit failed:', error)
          this.onTrouble('That did not fit: this room is full.')
        }
      }
    }
    this.world.execute(make, this.syncStore).catch((error: unknown) => console.error('frame failed:', error))
    this.world.sync()
  }

  /** Begins a gesture: what is edited until `end` is one undo step. */
  begin(): void {
    this.end()
    this.checkpoint = this.store.createCheckpoint()
  }

  /** Ends the gesture, if one is under way. */
  end(): void {
    this.frame()
    if (!this.checkpoint) return
    this.store.squashToCheckpoint(this.checkpoint)
    this.checkpoint = null
  }

  /** Ends the gesture as if it had never begun. */
  cancel(): void {
    this.frame()
    if (!this.checkpoint) return
    this.store.revertToCheckpoint(this.checkpoint)
    this.checkpoint = null
    this.frame()
  }

  undo(): void {
    this.end()
    if (this.store.undo()) this.editedAt = performance.now()
    this.frame()
  }

  redo(): void {
    this.end()
    if (this.store.redo()) this.editedAt = performance.now()
    this.frame()
  }

  get canUndo(): boolean {
    return this.store.canUndo()
  }

  get canRedo(): boolean {
    return this.store.canRedo()
  }

  /** The document as the store has it: key to component data, tombstones too. */
  state(): Record<string, unknown> {
    return this.store.getState()
  }

  /** Connected, up to date, and everything drawn here is acknowledged. */
  get settled(): boolean {
    if (this.wire.state !== 'synced' || this.wire.unacknowledged.size > 0) return false
    // The client sends at most once a second while alone; an edit that came to
    // nothing is never sent, hence the limit.
    const unsent = this.editedAt > this.wire.sentAt
    return !(unsent && performance.now() - this.editedAt < 1500)
  }

  /** True unless the person chose to work offline. */
  get wantsConnection(): boolean {
    return this.wanted
  }

  /** Connects, and stays connected as well as the network allows. */
  connect(): void {
    this.wanted = true
    this.start()
  }

  /** Works offline until `connect`. Edits are kept, and sent then. */
  disconnect(): void {
    this.wanted = false
    this.started = false
    this.flush()
    this.store.disconnect()
    this.wire.giveUp()
  }

  /** Tries now instead of when the store next would. */
  hurry(): void {
    if (this.wanted && this.started && !this.wire.busy) this.store.connect().catch(() => {})
  }

  /** For the moment before the page goes away: sends and stores what waits. */
  close(): void {
    this.end()
    this.flush()
    this.wanted = false
    this.store.close()
  }

  private start(): void {
    // A socket that `disconnect` is still closing must end first, or the store
    // would take its end for the end of the new one. Once started, the store
    // reconnects by itself.
    if (!this.wanted || this.started || this.wire.busy) return
    this.started = true
    this.store.connect().catch(() => {})
  }

  private flush(): void {
    this.frame()
    // Alone in a room the client gathers edits for up to a second, and forgets
    // them if the page goes away meanwhile. It has no public flush.
    const adapter = (this.store as unknown as { websocketAdapter: { flush?: () => void } | null }).websocketAdapter
    adapter?.flush?.()
  }
}
