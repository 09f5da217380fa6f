// A herd of tabs that were left open over a weekend: each with the published client, and a token that
// has expired, unlike any other's. A word a line on the standard input:
//
//   stats   a line of JSON comes before the word comes back: tried (how often a connection was begun),
//           opened (how many came about), seconds (since all had tried once)
//
// It ends with its standard input. WEFT_URL is where all connect; HERD_CLIENTS is how many there are.

import { createHmac } from 'node:crypto'
import { createInterface } from 'node:readline'
import { CanvasStore, defineCanvasComponent } from '@woven-ecs/canvas-store'
import { field } from '@woven-ecs/core'
import { WebSocket as NodeWebSocket } from 'ws'

const secret = 'integration-secret-of-enough-bytes-for-hs256'
const tabs = Number(process.env.HERD_CLIENTS)
let began = Infinity // when all had tried once
const count = { tried: 0, opened: 0 }

// Node 20 has no WebSocket of its own.
globalThis.WebSocket = class extends NodeWebSocket {
  constructor(url) {
    super(url)
    if (++count.tried === tabs) began = performance.now()
    this.on('open', () => count.opened++)
  }
}
console.warn = () => {} // what the client says of each failure

/** A token that ended an hour ago. */
function expired(roomId, subject) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ roomId, sub: subject, exp: Math.floor(Date.now() / 1000) - 3600 })}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

const Block = defineCanvasComponent({ name: 'Block', sync: 'document' }, { x: field.int32() })

for (let n = 0; n < tabs; n++) {
  const [documentId, clientId] = [`herd-${n % 20}`, `tab-${n}`]
  const store = new CanvasStore({ websocket: { documentId, url: process.env.WEFT_URL, clientId, token: expired(documentId, clientId) } })
  store.initialize({ components: [Block], singletons: [] }) // which goes on trying for ever
}

for await (const word of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ ...count, seconds: Math.max(0, performance.now() - began) / 1000 }))
  console.log(word)
}
process.exit(0)
