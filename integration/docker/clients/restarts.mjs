// People who draw while servers restart: in each room one draws without pause and two look on, with
// their cursors, all with the published client. Whoever started this says when to go on, a word a
// line on the standard input, and gets the same word back once it is done:
//
//   mark   all are online, all have what was drawn, and more of it has been acknowledged since
//   end    all agree, everything acknowledged is there, at every node, and nobody saw more than
//          reconnects; then the process ends, with 0
//
// What is wrong goes to the standard error, and the exit status is 1.
//
// WEFT_URL is where all connect. WEFT_NODES lists the nodes' own URLs, with commas. WEFT_CLOSES is
// how often a client may lose its socket, which it must at least once.

import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { isDeepStrictEqual } from 'node:util'
import { Block, Board, Cursor } from '../../node/lib/board.mjs'
import { token, until } from '../../node/lib/server.mjs'

const url = process.env.WEFT_URL
const nodes = process.env.WEFT_NODES.split(',')
const maxCloses = Number(process.env.WEFT_CLOSES)
const patience = 60_000
const maxBlocks = 500 // of a room; a board's world holds 2000 entities, cursors among them

const closing = []
const t = { after: (close) => closing.push(close) } // what a Board takes for its test

class Room {
  constructor(number) {
    this.id = `restarts-${number}`
    this.blocks = []
    this.drawing = true
    this.marks = 0
  }

  async open() {
    this.boards = []
    for (const name of ['draws', 'looks', 'looks-too']) {
      this.boards.push(await Board.open(t, { server: { url }, room: this.id, token: token(this.id), name }))
    }
    this.artist = this.boards[0]
    this.done = this.draw()
  }

  // One draws while the others look on: the published client forgets what it has in flight if it
  // gets somebody's edit and a close at once, whatever server it talks to.
  async draw() {
    for (let i = 0; this.drawing; i++) {
      if (i % 4 === 0 && this.blocks.length < maxBlocks) {
        this.blocks.push(await this.artist.create(Block, { x: i, y: 0, label: `block ${i}` }))
      }
      await this.artist.change(this.blocks[i % this.blocks.length], Block, { y: i })
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  get acks() {
    return this.artist.traffic.received.filter((m) => m.type === 'ack').length
  }

  async mark() {
    await until(`all in ${this.id} to be online`, () => this.boards.every((b) => b.online), patience)
    const acks = this.acks
    await until(`more to be acked in ${this.id}`, () => this.acks >= acks + 5, patience)
    const newest = `${this.blocks.at(-1)}/Block`
    await until(`all in ${this.id} to have ${newest}`, () => this.boards.every((b) => newest in b.document()), patience)
  }

  async end() {
    this.drawing = false
    await this.done
    await until(`all in ${this.id} to be settled`, () => this.boards.every((b) => b.settled), patience)
    // The client sends an edit that waited when its socket closed after later ones that it made
    // offline, so all get their last word said once more.
    for (const block of this.blocks) await this.artist.change(block, Block, { x: -1, y: -1 })
    for (const b of this.boards) await b.create(Cursor, { x: 0, y: 0, name: `${b.id} is done` })
    const done = this.boards.map((b) => `${b.id} is done`)
    await until(`all in ${this.id} to see each other's cursors`, () => this.boards.every((b) => done.every((name) => b.cursors().includes(name))), patience)
    await until(`all in ${this.id} to agree`, () => this.boards.every((b) => b.settled && isDeepStrictEqual(b.document(), this.artist.document())), patience)

    const document = this.artist.document()
    assert.equal(Object.keys(document).length, this.blocks.length, `${this.id} has every block, and nothing else`)
    for (const node of nodes) {
      const visitor = await Board.open(t, { server: { url: node }, room: this.id, token: token(this.id), name: 'visits' })
      await until(`${node} to give all of ${this.id}`, () => isDeepStrictEqual(visitor.document(), document), patience)
      await visitor.close()
    }
    for (const b of this.boards) this.check(b, document)
  }

  /** What must hold for one client over all its sockets. */
  check(board, document) {
    const { sent, received, closes } = board.traffic
    const acked = new Set(received.filter((m) => m.type === 'ack').map((m) => m.messageId))
    for (const { messageId, documentPatches = [] } of sent) {
      if (!acked.has(messageId)) continue
      for (const key of documentPatches.flatMap(Object.keys)) assert.ok(key in document, `${key} was acked in ${this.id} and is lost`)
    }
    for (const m of received) assert.ok(!['resync', 'version-mismatch'].includes(m.type), `${board.id} got ${m.type}`)
    assert.deepEqual([...new Set(closes.map((c) => c.code))], [1012], `${board.id} was closed by ${JSON.stringify(closes)}`)
    assert.ok(closes.length <= maxCloses, `${board.id} lost its socket ${closes.length} times: ${JSON.stringify(closes)}`)
  }
}

async function main() {
  const rooms = Array.from({ length: 6 }, (_, i) => new Room(i))
  await Promise.all(rooms.map((r) => r.open()))
  for await (const word of createInterface({ input: process.stdin })) {
    assert.ok(word === 'mark' || word === 'end', `unknown word ${word}`)
    await Promise.all(rooms.map((r) => r[word]()))
    console.log(word)
    if (word === 'end') {
      const closes = rooms.flatMap((r) => r.boards.map((b) => b.traffic.closes.length))
      const edits = rooms.reduce((sum, r) => sum + r.acks, 0)
      console.log(`${edits} acks; sockets lost per client: ${closes.join(' ')}`)
      await Promise.all(closing.map((close) => close()))
      return
    }
  }
  throw new Error('the standard input ended before the word "end"')
}

main().then(
  () => process.exit(0),
  (err) => {
    console.error(err)
    process.exit(1)
  },
)
