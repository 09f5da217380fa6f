// Setting a note's text: the largest size at which it fits, broken into lines.

export interface SetText {
  lines: string[]
  /** Font size and line height, in world pixels. */
  size: number
  leading: number
}

export const noteFont = 'ui-rounded, "SF Pro Rounded", "Segoe UI", system-ui, -apple-system, Roboto, "Helvetica Neue", Arial, sans-serif'

/** Space between a note's edge and its text, in world pixels. */
export const notePadding = 16

const sizes = [24, 20, 17, 15, 13, 11]
const kept = new Map<string, SetText>()

/** Sets `text` in `w` × `h` world pixels; what does not fit at the smallest size runs over. */
export function setText(canvas: CanvasRenderingContext2D, text: string, w: number, h: number): SetText {
  const key = `${w} ${h} ${text}`
  const known = kept.get(key)
  if (known) return known
  if (kept.size > 500) kept.clear()
  let result: SetText = { lines: [], size: 0, leading: 0 }
  for (const size of sizes) {
    canvas.font = `500 ${size}px ${noteFont}`
    const leading = Math.round(size * 1.32)
    const { lines, fits } = breakLines(canvas, text, w)
    result = { lines, size, leading }
    if (fits && lines.length * leading <= h) break
  }
  kept.set(key, result)
  return result
}

/** `fits` is false where a word had to be cut, which a smaller size may avoid. */
function breakLines(canvas: CanvasRenderingContext2D, text: string, w: number): { lines: string[]; fits: boolean } {
  const lines: string[] = []
  let fits = true
  for (const paragraph of text.split('\n')) {
    let line = ''
    for (const word of paragraph.split(/(?<=\s)/)) {
      if (canvas.measureText((line + word).trimEnd()).width <= w) {
        line += word
        continue
      }
      if (line) lines.push(line.trimEnd())
      line = ''
      for (const letter of word) {
        if (line && canvas.measureText(line + letter).width > w) {
          lines.push(line)
          line = ''
          fits = false
        }
        line += letter
      }
    }
    lines.push(line.trimEnd())
  }
  return { lines, fits }
}
