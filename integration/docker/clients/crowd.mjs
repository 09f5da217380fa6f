// A crowd of people who all draw, each with the published client, while servers come and go. Nobody
// draws on another's blocks, so what the document must hold in the end is known exactly: of every
// block, what its owner said last. Whoever started this says when to go on, a word a line on the
// standard input, and gets the same word back once it is done:
//
//   mark    all are online, and each has had another edit acknowledged since
//   reset   forget how often and how long people were offline so far
//   stats   a line of JSON comes before the word: clients, reconnects (of all), perClient (their
//           mean), longest and p99 (of the times offline, in milliseconds), acks, resyncs
//   end     all agree with each other and with people who come anew, and every edit is there; then
//           the process ends, with 0
//
// What is wrong goes to the standard error, and the exit status is 1.
//
// WEFT_URL is where all connect. CROWD_CLIENTS people are in CROWD_ROOMS rooms. WEFT_NODES lists, with
// commas, the URLs at which those who come anew look; by default WEFT_URL.

import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { isDeepStrictEqual } from 'node:util'
import { Block, Board } from '../../node/lib/board.mjs'
import { token, until } from '../../node/lib/server.mjs'

const url = process.env.WEFT_URL
const visits = (process.env.WEFT_NODES ?? url).split(',')
const people = Number(process.env.CROWD_CLIENTS ?? 200)
const rooms = Number(process.env.CROWD_ROOMS ?? 40)
const patience = 120_000
const frame = 50 // milliseconds, of people and of those who visit
const editEvery = 1000 // milliseconds, of one person
const maxBlocks = 40 // of one person

const closing = []
const t = { after: (close) => closing.push(close) } // what a Board takes for its test

/** Lets n things be done, a few at a time: the machine has other work. */
async function few(list, work) {
  const rest = [...list]
  await Promise.all(Array.from({ length: 10 }, async () => {
    while (rest.length > 0) await work(rest.shift())
  }))
}

class Person {
  constructor(number) {
    this.room = `crowd-${number % rooms}`
    this.name = `person-${number}`
    this.blocks = []
    this.drawing = true
  }

  async come() {
    this.board = await Board.open(t, { server: { url }, room: this.room, token: token(this.room), name: this.name, frame })
    this.done = this.draw()
  }

  async draw() {
    for (let i = 1; this.drawing; i++) {
      if (i % 3 === 1 && this.blocks.length < maxBlocks) this.blocks.push(await this.board.create(Block, { x: 0, y: i, label: this.name }))
      else await this.board.change(this.blocks[i % this.blocks.length], Block, { y: i })
      await new Promise((resolve) => setTimeout(resolve, editEvery * (0.5 + Math.random())))
    }
  }

  get acks() {
    return this.board.traffic.received.filter((m) => m.type === 'ack').length
  }

  /** Field by field, what this person said last of each block. */
  said() {
    const last = {}
    for (const { documentPatches = [] } of this.board.traffic.sent) {
      for (const [key, value] of documentPatches.flatMap(Object.entries)) last[key] = { ...last[key], ...value }
    }
    return last
  }
}

class Crowd {
  constructor() {
    this.all = Array.from({ length: people }, (_, n) => new Person(n))
  }

  async come() {
    await few(this.all, (p) => p.come())
  }

  async mark() {
    const before = new Map(this.all.map((p) => [p, p.acks]))
    for (const p of this.all) {
      await until(`${p.name} to be online, with another edit acked`, () => p.board.online && p.acks > before.get(p), patience)
    }
  }

  reset() {
    for (const { board } of this.all) board.outages.length = 0
  }

  stats() {
    const outages = this.all.flatMap(({ board }) => [...board.outages, ...(board.offlineSince === null ? [] : [performance.now() - board.offlineSince])])
    outages.sort((a, b) => a - b)
    const received = (type) => this.all.reduce((sum, p) => sum + p.board.traffic.received.filter((m) => m.type === type).length, 0)
    console.log(JSON.stringify({
      clients: people,
      reconnects: outages.length,
      perClient: outages.length / people,
      longest: Math.round(outages.at(-1) ?? 0),
      p99: Math.round(outages[Math.floor(outages.length * 0.99)] ?? 0),
      acks: received('ack'),
      resyncs: received('resync'),
    }))
  }

  async end() {
    for (const p of this.all) p.drawing = false
    await Promise.all(this.all.map((p) => p.done))
    for (const p of this.all) await until(`${p.name} to be settled`, () => p.board.settled, patience)
    // What waited when a socket closed the client sends after what it did offline, which is later: all
    // say their last word once more.
    for (const p of this.all) await Promise.all(p.blocks.map((block) => p.board.change(block, Block, { x: -1, y: -1 })))
    for (const p of this.all) await until(`${p.name} to be settled at last`, () => p.board.settled, patience)
    for (let n = 0; n < rooms; n++) await this.agree(`crowd-${n}`)
    this.stats()
  }

  async agree(room) {
    const here = this.all.filter((p) => p.room === room)
    if (here.length === 0) return
    const last = Object.assign({}, ...here.map((p) => p.said()))
    const expected = {}
    for (const [key, { _exists, _version, ...data }] of Object.entries(last)) expected[key] = data
    assert.equal(Object.keys(expected).length, here.reduce((sum, p) => sum + p.blocks.length, 0), `every block of ${room} was sent`)
    for (const p of here) await until(`${p.name} to have all of ${room}`, () => isDeepStrictEqual(p.board.document(), expected), patience)
    for (const node of visits) {
      const visitor = await Board.open(t, { server: { url: node }, room, token: token(room), name: 'visits', frame })
      const seen = () => isDeepStrictEqual(visitor.document(), expected)
      await until(`${node} to give all of ${room}`, seen, 10_000).catch((err) => {
        const has = visitor.document()
        const wrong = Object.keys({ ...expected, ...has }).filter((key) => !isDeepStrictEqual(expected[key], has[key]))
        throw new Error(`${err.message}; ${wrong.length} of ${Object.keys(expected).length} blocks are missing or wrong, such as ${wrong[0]}: ${JSON.stringify(has[wrong[0]])} instead of ${JSON.stringify(expected[wrong[0]])}`)
      })
      await visitor.close()
    }
  }
}

async function main() {
  const crowd = new Crowd()
  await crowd.come()
  for await (const word of createInterface({ input: process.stdin })) {
    assert.ok(['mark', 'reset', 'stats', 'end'].includes(word), `unknown word ${word}`)
    await crowd[word]()
    console.log(word)
    if (word === 'end') return Promise.all(closing.map((close) => close()))
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
