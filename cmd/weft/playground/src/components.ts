// What a room holds: strokes and notes, which stay, and people, who come and go.
import { defineCanvasComponent } from '@woven-ecs/canvas-store'
import { type ComponentDef, type Context, type EntityId, field, hasComponent, isAlive } from '@woven-ecs/core'

/**
 * The most points in one stroke. A buffer has its full size from the start (a
 * new stroke is one message of about 4 KB, each append then a few bytes), so a
 * longer line goes on as a further stroke that begins where the last one ended.
 */
export const pointsPerStroke = 1024

/** Points and widths are kept in quarters of a world pixel. */
export const quarter = 4

/** How far a point may lie from its stroke's origin, in world pixels. */
export const strokeReach = Math.floor(32767 / quarter)

/** The longest text of a note, in bytes of UTF-8. */
export const longestText = 480

/** A line: `count` points in `points` as x0, y0, x1, y1 …, relative to (x, y). */
export const Stroke = defineCanvasComponent(
  { name: 'Stroke', sync: 'document' },
  {
    x: field.int32(),
    y: field.int32(),
    colour: field.uint8(),
    width: field.uint16(),
    z: field.float64(),
    count: field.uint16(),
    points: field.buffer(field.int16()).size(pointsPerStroke * 2),
  },
)

/** A coloured block with text; (x, y) is its top left corner. */
export const Note = defineCanvasComponent(
  { name: 'Note', sync: 'document' },
  {
    x: field.int32(),
    y: field.int32(),
    w: field.uint16(),
    h: field.uint16(),
    colour: field.uint8(),
    z: field.float64(),
    text: field.string().max(longestText),
  },
)

/** Somebody in the room, and where they point; gone when they are. */
export const Person = defineCanvasComponent(
  { name: 'Person', sync: 'ephemeral' },
  {
    name: field.string().max(64),
    colour: field.uint8(),
    x: field.int32(),
    y: field.int32(),
    pointing: field.boolean(),
  },
)

export const components = [Stroke, Note, Person]

/** True if the entity is there and has the component; both may have gone at any time. */
export function has(ctx: Context, id: EntityId, component: ComponentDef<any>): boolean {
  return isAlive(ctx, id) && hasComponent(ctx, id, component, false)
}
