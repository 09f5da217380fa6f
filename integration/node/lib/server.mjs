// Starts, stops and kills the server that a test talks to: Weft's binary (WEFT_BIN), or the
// published server when WEFT_SUBJECT is "published", which shows that the tests ask nothing of Weft
// that the published server does not do.

import { spawn } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { on, once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { WebSocket } from 'ws'
import { backUp, putBack } from './redis.mjs'

export const published = process.env.WEFT_SUBJECT === 'published'

/** The Redis by which three nodes of Weft share their rooms; empty if there is one that shares none. */
export const shared = (!published && process.env.WEFT_TEST_REDIS) || ''

if (!published && !process.env.WEFT_BIN) throw new Error('WEFT_BIN names no binary of weft: run these tests by `go test` in the folder above')

const secret = 'integration-secret-of-enough-bytes-for-hs256'

/** An HS256 token for one room, good for an hour. */
export function token(roomId, { canWrite = true } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ roomId, canWrite, exp: Math.floor(Date.now() / 1000) + 3600 })}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

/** Waits until the condition holds; fails, naming it, if it never does. */
export async function until(what, holds, patience = 20_000) {
  const deadline = performance.now() + patience
  for (;;) {
    if (await holds()) return
    if (performance.now() > deadline) throw new Error(`waited ${patience} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** A loopback port nobody listens on, from below those that the system gives to outgoing connections:
 *  one of these might take it while the server restarts. */
async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    const probe = createServer()
    const free = await new Promise((resolve) => {
      probe.once('error', () => resolve(false))
      probe.listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!free) continue
    probe.close()
    await once(probe, 'close')
    return port
  }
}

/** A server with data and addresses that outlive its processes: one process and a data folder, or
 *  three nodes of Weft that share their rooms by the Redis in WEFT_TEST_REDIS. */
export class Server {
  /** @param {import('node:test').TestContext} t ends the server with the test
   *  @param {string[]} args flags for weft, after and above the usual ones; with --dev among them any
   *  token will do */
  static async start(t, args = []) {
    const server = new Server(args)
    server.dir = mkdtempSync(join(tmpdir(), 'weft-client-test-'))
    server.prefix = `weft-test-${randomUUID()}:`
    for (let i = 0; i < (shared ? 3 : 1); i++) {
      const [port, adminPort, gossipPort] = [await freePort(), await freePort(), await freePort()]
      server.nodes.push({ name: `node-${i + 1}`, port, adminPort, gossip: `127.0.0.1:${gossipPort}`, process: null, exited: null })
    }
    t.after(async () => {
      await server.stop()
      rmSync(server.dir, { recursive: true, force: true })
      if (server.log.includes('eyJ')) throw new Error(`the server's log holds a token:\n${server.log}`)
    })
    await server.start()
    return server
  }

  constructor(args) {
    this.args = args
    this.log = ''
    this.nodes = []
    this.turn = 0
  }

  /** Where a client connects, every time at another node; a client comes back to the same. */
  get url() {
    return `ws://127.0.0.1:${this.nodes[this.turn++ % this.nodes.length].port}/`
  }

  get page() {
    return `http://127.0.0.1:${this.nodes[0].port}/`
  }

  async start() {
    await Promise.all(this.nodes.map((node) => this.startNode(node)))
  }

  async startNode(node) {
    const command = published
      ? [process.execPath, fileURLToPath(new URL('../published-server.mjs', import.meta.url)), '--port', `${node.port}`, '--data', this.dir, '--save-ms', '100']
      : [
          process.env.WEFT_BIN,
          'serve',
          ...['--listen', `127.0.0.1:${node.port}`, '--admin-listen', `127.0.0.1:${node.adminPort}`, '--save-interval', '100ms'],
          ...(shared
            ? ['--redis-url', shared, '--redis-prefix', this.prefix, '--node-name', node.name, '--gossip-listen', node.gossip, '--peer-listen', '127.0.0.1:0', '--join', this.nodes.map((n) => n.gossip).join(',')]
            : ['--store', 'file', '--data-dir', this.dir]),
          ...this.args,
        ]
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('WEFT_')))
    if (!this.args.includes('--dev')) env.WEFT_AUTH_JWT_SECRET = secret
    const child = spawn(command[0], command.slice(1), {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    node.process = child
    node.exited = once(child, 'exit').then(() => {
      node.process = null
    })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        said += data
        this.log += data
      })
    }
    await until('the server to be ready', async () => {
      if (node.process !== child) throw new Error(`the server ended at once:\n${said}`)
      if (published) return said.includes('listening on')
      try {
        return (await fetch(`http://127.0.0.1:${node.adminPort}/readyz`)).ok
      } catch {
        return false
      }
    })
  }

  /** Ends the processes, all at once, and waits for them: SIGTERM lets them save, SIGKILL does not. */
  async stop(signal = 'SIGTERM') {
    await Promise.all(
      this.nodes.map(async ({ process: child, exited }) => {
        if (!child) return
        child.kill(signal)
        const impatience = setTimeout(() => child.kill('SIGKILL'), 20_000)
        await exited
        clearTimeout(impatience)
      }),
    )
  }

  /** What is kept of a room, {timestamp, state}, null if nothing is: of its data file, or, since nodes
   *  that share rooms acknowledge nothing that is not kept, as somebody new is told. */
  async kept(roomId) {
    if (shared) return asked(this.url, roomId)
    try {
      return JSON.parse(readFileSync(join(this.dir, `${roomId}.json`), 'utf8'))
    } catch {
      return null
    }
  }

  /** A copy of all that is kept, for putBack. */
  async backUp() {
    if (shared) return backUp(shared, this.prefix)
    return readdirSync(this.dir).map((name) => [name, readFileSync(join(this.dir, name))])
  }

  /** Makes what is kept what it was; nothing may run meanwhile. */
  async putBack(copy) {
    if (shared) return putBack(shared, this.prefix, copy)
    rmSync(this.dir, { recursive: true })
    mkdirSync(this.dir)
    for (const [name, text] of copy) writeFileSync(join(this.dir, name), text)
  }
}

/** Asks for all of a room. */
async function asked(url, roomId) {
  const query = new URLSearchParams({ roomId, clientId: 'asks', token: token(roomId, { canWrite: false }) })
  const socket = new WebSocket(`${url}?${query}`)
  try {
    let state = {}
    socket.on('open', () => socket.send('{"type":"reconnect","protocolVersion":2,"lastTimestamp":-1}'))
    for await (const [data] of on(socket, 'message', { signal: AbortSignal.timeout(20_000), close: ['close'] })) {
      const message = JSON.parse(String(data))
      if (message.type === 'patch' && message.clientId === '' && message.documentPatches) [state] = message.documentPatches
      if (message.type === 'synced') return message.timestamp > 0 ? { timestamp: message.timestamp, state } : null
    }
    throw new Error('the socket was closed')
  } finally {
    socket.terminate()
  }
}
