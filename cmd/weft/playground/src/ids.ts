// Random names and ids.

/**
 * Gives pages opened over plain http from another machine the one function
 * that browsers keep for secure pages and that canvas-store calls.
 */
export function provideRandomUUID(): void {
  if (typeof crypto.randomUUID === 'function') return
  crypto.randomUUID = () => {
    const bytes = crypto.getRandomValues(new Uint8Array(16))
    bytes[6] = (bytes[6]! & 0x0f) | 0x40
    bytes[8] = (bytes[8]! & 0x3f) | 0x80
    const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  }
}

const moods = [
  'Amber', 'Brave', 'Calm', 'Clever', 'Cosy', 'Curious', 'Dapper', 'Early', 'Gentle', 'Golden', 'Happy', 'Jolly',
  'Keen', 'Kind', 'Lively', 'Lucky', 'Mellow', 'Merry', 'Nimble', 'Plucky', 'Quiet', 'Rosy', 'Sunny', 'Swift',
] as const

const animals = [
  'Badger', 'Beaver', 'Crane', 'Dolphin', 'Falcon', 'Ferret', 'Finch', 'Fox', 'Gecko', 'Hare', 'Heron', 'Ibis',
  'Koala', 'Lark', 'Lynx', 'Marten', 'Otter', 'Owl', 'Panda', 'Puffin', 'Robin', 'Seal', 'Wombat', 'Wren',
] as const

const places = [
  'bay', 'brook', 'cove', 'dune', 'fern', 'field', 'fjord', 'glade', 'grove', 'harbor', 'hill', 'isle',
  'lake', 'meadow', 'moor', 'orchard', 'pine', 'pond', 'reef', 'ridge', 'river', 'shore', 'vale', 'wood',
] as const

/** A whole number from 0 to below `n`, for `n` up to 2^32. */
export function randomBelow(n: number): number {
  return Math.floor((crypto.getRandomValues(new Uint32Array(1))[0]! / 2 ** 32) * n)
}

function pick<T>(list: readonly T[]): T {
  return list[randomBelow(list.length)]!
}

/** A friendly name for a person who has not given one, such as "Merry Otter". */
export function randomPersonName(): string {
  return `${pick(moods)} ${pick(animals)}`
}

/**
 * A name for a new room, easy to read out and hard to hit by accident:
 * two words and six characters, about 40 bits.
 */
export function randomRoomName(): string {
  const letters = 'abcdefghjkmnpqrstuvwxyz23456789'
  let tail = ''
  for (let i = 0; i < 6; i++) tail += letters[randomBelow(letters.length)]
  return `${pick(moods).toLowerCase()}-${pick(places)}-${tail}`
}
