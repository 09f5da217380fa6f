// The colours. A document holds indexes into this list, never colours, so that
// each person sees a drawing in the theme that they use.

export interface Colour {
  name: string
  /** Ink and people, on light and on dark paper. */
  ink: readonly [light: string, dark: string]
  /** The paper of a note. */
  note: readonly [light: string, dark: string]
}

export const colours: readonly Colour[] = [
  { name: 'Graphite', ink: ['#25262b', '#ededf0'], note: ['#fff0a8', '#eddb8b'] },
  { name: 'Tomato', ink: ['#e5484d', '#ff6b6f'], note: ['#ffd5cf', '#f0b8b1'] },
  { name: 'Amber', ink: ['#ee9300', '#ffb938'], note: ['#ffdcae', '#efc490'] },
  { name: 'Meadow', ink: ['#2e9b5b', '#4fd08c'], note: ['#cbeecd', '#abd6b0'] },
  { name: 'Lagoon', ink: ['#0b97a7', '#3fcfdc'], note: ['#c3edf0', '#a0d3d8'] },
  { name: 'Sky', ink: ['#2f6fed', '#6ea8ff'], note: ['#cddffe', '#adc5ee'] },
  { name: 'Violet', ink: ['#7b50ee', '#ab92ff'], note: ['#ded5ff', '#c3b8ec'] },
  { name: 'Rose', ink: ['#d63f98', '#f57fbd'], note: ['#ffd0e6', '#edb2cd'] },
]

/** Text on a note, whatever the theme: notes stay bright. */
export const noteText = '#26231d'

const prefersDark = matchMedia('(prefers-color-scheme: dark)')

export function isDark(): boolean {
  return prefersDark.matches
}

export function onThemeChange(then: () => void): void {
  prefersDark.addEventListener('change', then)
}

/** The ink for an index; an index that this version does not know is graphite. */
export function ink(index: number): string {
  return (colours[index] ?? colours[0]!).ink[isDark() ? 1 : 0]
}

/** The note paper for an index. */
export function paper(index: number): string {
  return (colours[index] ?? colours[0]!).note[isDark() ? 1 : 0]
}
