// Where this page is: which room, which server, with which token.
import { randomRoomName } from './ids'

export interface Place {
  /** The room's id: 1–64 letters, digits, `-` or `_`. */
  room: string
  /** The WebSocket address, without query. */
  server: string
  token: string
  /** The address to give to a friend. It never carries the token. */
  link: string
}

/**
 * Reads `?room=`, `?token=` and `?server=` from the page's address. A missing
 * or unusable room becomes a new one, which is then put into the address.
 * Throws if `?server=` is not a WebSocket address.
 */
export function findPlace(): Place {
  const page = new URL(location.href)
  let room = page.searchParams.get('room') ?? ''
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(room)) {
    room = randomRoomName()
    page.searchParams.set('room', room)
    history.replaceState(null, '', page)
  }
  const override = page.searchParams.get('server')
  if (override && !(URL.canParse(override) && /^wss?:\/\//i.test(override))) {
    throw new Error('the address in ?server= does not begin with ws:// or wss://')
  }
  const link = new URL(page.pathname, page.origin)
  link.searchParams.set('room', room)
  if (override) link.searchParams.set('server', override)
  return {
    room,
    server: override || `${page.protocol === 'https:' ? 'wss' : 'ws'}://${page.host}/ws`,
    token: page.searchParams.get('token') || 'dev',
    link: link.href,
  }
}
