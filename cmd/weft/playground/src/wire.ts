// What the store does not tell: it reports that a socket opened or closed, and
// its first load. The badge wants more: synced again after each reconnect, how
// many people the server counts, whether an edit is still on its way, and why a
// server refused. All of that is in the frames, so the wire watches them pass.

/** `offline`: no connection (the store may be retrying). `connecting`: not yet up to date. */
export type LinkState = 'offline' | 'connecting' | 'synced'

export class Wire {
  state: LinkState = 'connecting'
  /** Sessions in the room by the server's count, this one too; 1 while offline. */
  people = 1
  /** Why the server last refused, if it did. */
  refusal = ''
  /** Edits that were sent and not yet acknowledged. */
  readonly unacknowledged = new Set<string>()
  /** When document edits were last sent, in `performance.now()` milliseconds. */
  sentAt = Number.NEGATIVE_INFINITY
  private sockets = 0
  private readonly listeners: (() => void)[] = []

  /** True while a socket is connecting, open or closing. */
  get busy(): boolean {
    return this.sockets > 0
  }

  /** Calls `then` after every frame or event that may have changed the above. */
  onChange(then: () => void): void {
    this.listeners.push(then)
  }

  /**
   * From now on, sockets that the page opens to `server` are watched. Must be
   * called before the store connects.
   */
  watch(server: string): void {
    const wire = this
    const address = new URL(server, location.href).href
    window.WebSocket = class extends WebSocket {
      private readonly watched: boolean

      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols)
        this.watched = String(url).startsWith(address)
        if (!this.watched) return
        wire.sockets++
        this.addEventListener('open', () => wire.opened())
        this.addEventListener('message', (event) => wire.received(event.data))
        this.addEventListener('close', (event) => wire.closed(event))
      }

      override send(data: string | ArrayBufferLike | Blob | ArrayBufferView<ArrayBuffer>): void {
        if (this.watched && typeof data === 'string') wire.sent(data)
        super.send(data)
      }
    }
  }

  /** Says at once what the closing of a socket will say later. */
  giveUp(): void {
    this.become('offline', 1)
  }

  private opened(): void {
    this.unacknowledged.clear()
    this.become('connecting', this.people)
  }

  private sent(frame: string): void {
    // The client writes the type, then the id, then the patches: the beginning tells.
    const head = frame.slice(0, 200)
    if (!head.includes('"documentPatches"')) return
    this.sentAt = performance.now()
    const id = /"messageId":"([^"]*)"/.exec(head)?.[1]
    if (id) this.unacknowledged.add(id)
  }

  private received(frame: unknown): void {
    // Patches are the bulk, and the store's business alone.
    if (typeof frame !== 'string' || frame.startsWith('{"type":"patch"')) return
    let message: { type?: unknown; count?: unknown; messageId?: unknown }
    try {
      message = JSON.parse(frame)
    } catch {
      return
    }
    switch (message.type) {
      case 'synced':
        this.refusal = ''
        this.become('synced', this.people)
        break
      case 'clientCount':
        if (typeof message.count === 'number') this.become(this.state, message.count)
        break
      case 'ack':
        if (typeof message.messageId === 'string') this.unacknowledged.delete(message.messageId)
        break
    }
  }

  private closed(event: CloseEvent): void {
    this.sockets--
    this.unacknowledged.clear()
    if (event.code === 1008) this.refusal = event.reason || 'no reason given'
    this.become('offline', 1)
  }

  private become(state: LinkState, people: number): void {
    this.state = state
    this.people = people
    for (const then of this.listeners) then()
  }
}
