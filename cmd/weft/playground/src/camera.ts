// Where the person looks: world = screen / zoom + (x, y).
export interface Point {
  x: number
  y: number
}

export interface Box {
  left: number
  top: number
  right: number
  bottom: number
}

const leastZoom = 0.1
const mostZoom = 4

export class Camera {
  /** The world point in the window's top left corner. */
  x: number
  y: number
  zoom = 1
  /** Called after every move. */
  onMove: () => void = () => {}

  /** Starts with the world's origin in the middle of the window. */
  constructor() {
    this.x = -Math.round(innerWidth / 2)
    this.y = -Math.round(innerHeight / 2)
  }

  toWorld(screen: Point): Point {
    return { x: screen.x / this.zoom + this.x, y: screen.y / this.zoom + this.y }
  }

  toScreen(world: Point): Point {
    return { x: (world.x - this.x) * this.zoom, y: (world.y - this.y) * this.zoom }
  }

  /** What is in sight, in world pixels. */
  get view(): Box {
    return {
      left: this.x,
      top: this.y,
      right: this.x + innerWidth / this.zoom,
      bottom: this.y + innerHeight / this.zoom,
    }
  }

  /** Moves the paper by screen pixels. */
  pan(dx: number, dy: number): void {
    this.x -= dx / this.zoom
    this.y -= dy / this.zoom
    this.onMove()
  }

  /** Zooms by `factor`, keeping the world under the screen point `at` in place. */
  zoomBy(factor: number, at: Point = { x: innerWidth / 2, y: innerHeight / 2 }): void {
    const fixed = this.toWorld(at)
    this.zoom = Math.min(mostZoom, Math.max(leastZoom, this.zoom * factor))
    this.x = fixed.x - at.x / this.zoom
    this.y = fixed.y - at.y / this.zoom
    this.onMove()
  }

  /** Shows all of `box`, at most at natural size; without one, the origin. */
  fit(box: Box | null): void {
    const margin = 96
    const width = box ? box.right - box.left : 0
    const height = box ? box.bottom - box.top : 0
    const zoom = Math.min(
      1,
      (innerWidth - 2 * margin) / Math.max(width, 1),
      (innerHeight - 2 * margin) / Math.max(height, 1),
    )
    this.zoom = Math.min(mostZoom, Math.max(leastZoom, zoom))
    this.x = (box ? (box.left + box.right) / 2 : 0) - innerWidth / 2 / this.zoom
    this.y = (box ? (box.top + box.bottom) / 2 : 0) - innerHeight / 2 / this.zoom
    this.onMove()
  }
}

export function overlap(a: Box, b: Box): boolean {
  return a.left <= b.right && b.left <= a.right && a.top <= b.bottom && b.top <= a.bottom
}
