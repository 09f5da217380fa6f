// Just enough of Redis's protocol to take a backup of what a cluster has there, and to put it back.

import { once } from 'node:events'
import { connect } from 'node:net'

/** Runs one command and resolves to its answer: numbers, null, lists, and Buffers for texts.
 *  @param {string} url redis://host:port
 *  @param {(string | number | Buffer)[]} words */
async function command(url, ...words) {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  try {
    const parts = [Buffer.from(`*${words.length}\r\n`)]
    for (const word of words) {
      const bytes = Buffer.isBuffer(word) ? word : Buffer.from(String(word))
      parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'))
    }
    socket.write(Buffer.concat(parts))
    let all = Buffer.alloc(0)
    for (;;) {
      const [data] = await once(socket, 'data', { signal: AbortSignal.timeout(10_000) })
      all = Buffer.concat([all, data])
      const answer = parse(all, 0)
      if (answer?.error) throw new Error(`Redis: ${answer.error}`)
      if (answer) return answer.value
    }
  } finally {
    socket.destroy()
  }
}

/** The value at an offset and where it ends, null if not all of it has come. */
function parse(bytes, at) {
  const end = bytes.indexOf('\r\n', at)
  if (end < 0) return null
  const line = String(bytes.subarray(at + 1, end))
  const next = end + 2
  switch (String.fromCharCode(bytes[at])) {
    case '-':
      return { error: line, next }
    case '+':
      return { value: Buffer.from(line), next }
    case ':':
      return { value: Number(line), next }
    case '$': {
      if (line === '-1') return { value: null, next }
      const after = next + Number(line) + 2
      return after > bytes.length ? null : { value: bytes.subarray(next, after - 2), next: after }
    }
    case '*': {
      const value = []
      let after = next
      for (let i = 0; i < Number(line); i++) {
        const element = parse(bytes, after)
        if (!element || element.error) return element
        value.push(element.value)
        after = element.next
      }
      return { value, next: after }
    }
    default:
      throw new Error(`Redis answered what is no answer: ${line}`)
  }
}

/** All keys that begin so, at one moment, for putBack. */
export function backUp(url, prefix) {
  return command(
    url,
    'EVAL',
    `local all = {}
     for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
       all[#all + 1] = {key, redis.call('PTTL', key), redis.call('DUMP', key)}
     end
     return all`,
    0,
    prefix,
  )
}

/** Makes the keys that begin so what they were. */
export async function putBack(url, prefix, keys) {
  await command(url, 'EVAL', `for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('DEL', key) end`, 0, prefix)
  for (const [key, ttl, value] of keys) await command(url, 'RESTORE', key, Math.max(ttl, 0), value)
}
