// Starts, stops and kills the server that a test talks to: Weft's binary (WEFT_BIN), or the
// published server when WEFT_SUBJECT is "published", which shows that the tests ask nothing of Weft
// that the published server does not do.

import { spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const published = process.env.WEFT_SUBJECT === 'published'

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

/** A loopback port nobody listens on. */
async function freePort() {
  const probe = createServer()
  probe.listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  return port
}

/** A server with a data folder and an address that outlive its process. */
export class Server {
  /** @param {import('node:test').TestContext} t ends the server with the test
   *  @param {string[]} args flags for weft, after and above the usual ones; with --dev among them any
   *  token will do */
  static async start(t, args = []) {
    const server = new Server(args)
    server.dir = mkdtempSync(join(tmpdir(), 'weft-client-test-'))
    server.port = await freePort()
    server.adminPort = await freePort()
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
    this.process = null
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/`
  }

  get page() {
    return `http://127.0.0.1:${this.port}/`
  }

  async start() {
    const command = published
      ? [process.execPath, fileURLToPath(new URL('../published-server.mjs', import.meta.url)), '--port', `${this.port}`, '--data', this.dir, '--save-ms', '100']
      : [
          process.env.WEFT_BIN,
          'serve',
          ...['--listen', `127.0.0.1:${this.port}`, '--admin-listen', `127.0.0.1:${this.adminPort}`],
          ...['--store', 'file', '--data-dir', this.dir, '--save-interval', '100ms'],
          ...this.args,
        ]
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('WEFT_')))
    if (!this.args.includes('--dev')) env.WEFT_AUTH_JWT_SECRET = secret
    const child = spawn(command[0], command.slice(1), {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.process = child
    this.exited = once(child, 'exit').then(() => {
      this.process = null
    })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        said += data
        this.log += data
      })
    }
    await until('the server to be ready', async () => {
      if (this.process !== child) throw new Error(`the server ended at once:\n${said}`)
      if (published) return said.includes('listening on')
      try {
        return (await fetch(`http://127.0.0.1:${this.adminPort}/readyz`)).ok
      } catch {
        return false
      }
    })
  }

  /** Ends the process and waits for it: SIGTERM lets it save, SIGKILL does not. */
  async stop(signal = 'SIGTERM') {
    if (!this.process) return
    this.process.kill(signal)
    const child = this.process
    const impatience = setTimeout(() => child.kill('SIGKILL'), 20_000)
    await this.exited
    clearTimeout(impatience)
  }

  /** A room's data file, null while there is none. */
  readRoom(roomId) {
    try {
      return readFileSync(join(this.dir, `${roomId}.json`), 'utf8')
    } catch {
      return null
    }
  }

  writeRoom(roomId, text) {
    writeFileSync(join(this.dir, `${roomId}.json`), text)
  }
}
