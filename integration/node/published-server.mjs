// The published canvas-store server, run the way its documentation shows, so that tests can hold
// Weft against it.
//
//   WEFT_AUTH_JWT_SECRET=… node published-server.mjs --port N --data DIR [--save-ms N]
//
// It listens on the loopback address only. Port 0 takes any free port; the line `listening on N`
// names it. A token is an HS256 JWT with the claims roomId, canWrite and exp, which is what Weft
// takes under --auth-jwt-secret. SIGTERM saves every room and exits 0.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { parseArgs } from 'node:util'
import { acceptConnection, FileStorage, RoomManager } from '@woven-ecs/canvas-store-server'
import { WebSocketServer } from 'ws'

const { values: flags } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    data: { type: 'string' },
    'save-ms': { type: 'string', default: '2000' },
  },
})
const secret = process.env.WEFT_AUTH_JWT_SECRET
if (!flags.data || !secret) {
  console.error('published-server: --data and the environment variable WEFT_AUTH_JWT_SECRET are needed')
  process.exit(2)
}

function authorize({ roomId, token }) {
  const [header, payload, signature] = String(token).split('.')
  const want = createHmac('sha256', secret).update(`${header}.${payload}`).digest()
  const got = Buffer.from(signature ?? '', 'base64url')
  if (got.length !== want.length || !timingSafeEqual(got, want)) throw new Error('bad token signature')
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString())
  if (!(claims.exp > Date.now() / 1000)) throw new Error('token expired')
  if (claims.roomId !== roomId) throw new Error('token is for another room')
  return { permissions: claims.canWrite === true ? 'readwrite' : 'readonly' }
}

// Rooms stay until the end: a room that unloads while a test waits would only add chance.
const manager = new RoomManager({ idleTimeout: 3_600_000 })
const wss = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(flags.port),
  maxPayload: 32 << 20,
})

wss.on('connection', (ws, request) => {
  const connection = acceptConnection({
    socket: ws,
    url: request.url,
    request,
    manager,
    authorize,
    roomOptions: (roomId) => ({
      createStorage: () => new FileStorage({ dir: flags.data, roomId }),
      saveThrottleMs: Number(flags['save-ms']),
    }),
  })
  ws.on('message', (data) => connection.onMessage(String(data)))
  ws.on('close', () => connection.onClose())
  ws.on('error', () => connection.onError())
  connection.ready.catch((err) => ws.close(1008, err.message))
})

wss.on('listening', () => console.log(`listening on ${wss.address().port}`))
wss.on('error', (err) => {
  console.error(`published-server: ${err.message}`)
  process.exit(1)
})

process.once('SIGTERM', async () => {
  await manager.closeAll()
  process.exit(0)
})
