// Who is drawing here: a name and a colour, kept in this browser.
import { randomBelow, randomPersonName } from './ids'
import { colours } from './palette'

export interface Me {
  name: string
  /** An index into `colours`. */
  colour: number
}

/** The longest name, in UTF-16 units; what others see is cut to 64 bytes of UTF-8. */
export const longestName = 24

const key = 'weft.me'

/** The person remembered by this browser, or a new one with a friendly name. */
export function loadMe(): Me {
  const fresh: Me = { name: randomPersonName(), colour: 1 + randomBelow(colours.length - 1) }
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(key) ?? 'null')
    if (kept && typeof kept === 'object' && 'name' in kept && 'colour' in kept) {
      const { name, colour } = kept
      if (typeof name === 'string' && name.trim()) fresh.name = name.slice(0, longestName)
      if (typeof colour === 'number' && colours[colour]) fresh.colour = colour
      return fresh
    }
  } catch {
    // Unreadable or forbidden storage: be somebody new.
  }
  saveMe(fresh)
  return fresh
}

/** Remembers `me`, where the browser lets us. */
export function saveMe(me: Me): void {
  try {
    localStorage.setItem(key, JSON.stringify(me))
  } catch {
    // Private windows may refuse; the name then lasts as long as the page.
  }
}
