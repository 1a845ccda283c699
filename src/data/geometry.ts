/**
 * Affine moves with nearest pixels, equal to the Python Imaging Library's Image.transform(AFFINE, NEAREST) and
 * Image.rotate: output (x, y) takes the input at (a x' + b y' + c, d x' + e y' + f) of the pixel centre x' = x + 0.5.
 * PIL does the general case in 16.16 fixed point (sums of rounded steps, not products) and pure scale or translation in
 * floating point; both are repeated here, since the choice of pixel depends on it. Not for images of 32768 pixels per
 * side or more.
 */
import type { Canvas } from './canvas.ts'

/** [a, b, c, d, e, f], from output to input. */
export type Matrix = readonly [number, number, number, number, number, number]

export const translation = (dx: number, dy: number): Matrix => [1, 0, dx, 0, 1, dy]
export const shearing = (sx: number, sy: number): Matrix => [1, sx, 0, sy, 1, 0]

/** Counter-clockwise about the image's centre, as Image.rotate builds it (entries rounded to 15 decimals). */
export function rotation(degrees: number, height: number, width: number): Matrix {
  const angle = -((((degrees % 360) + 360) % 360) * Math.PI) / 180
  const cos = Number(Math.cos(angle).toFixed(15))
  const sin = Number(Math.sin(angle).toFixed(15))
  const [cx, cy] = [width / 2, height / 2]
  return [cos, sin, cos * -cx + sin * -cy + cx, -sin, cos, -sin * -cx + cos * -cy + cy]
}

/** Source index of every output pixel, -1 where it lies outside. */
export function affineMap([a, b, c, d, e, f]: Matrix, height: number, width: number, map: Int32Array): void {
  if (b === 0 && d === 0) {
    scaleMap(a, c, e, f, height, width, map)
    return
  }
  const fix = (v: number) => Math.floor(v * 65536 + 0.5)
  const [fa, fb, fd, fe] = [fix(a), fix(b), fix(d), fix(e)]
  let rowX = fix(c + a * 0.5 + b * 0.5)
  let rowY = fix(f + d * 0.5 + e * 0.5)
  for (let y = 0, p = 0; y < height; y++) {
    let [sx, sy] = [rowX, rowY]
    for (let x = 0; x < width; x++, p++) {
      const [ix, iy] = [sx >> 16, sy >> 16]
      map[p] = sx >= 0 && ix < width && sy >= 0 && iy < height ? iy * width + ix : -1
      sx += fa
      sy += fd
    }
    rowX += fb
    rowY += fe
  }
}

function scaleMap(a: number, c: number, e: number, f: number, height: number, width: number, map: Int32Array): void {
  let sy = f + e * 0.5
  for (let y = 0, p = 0; y < height; y++, sy += e) {
    const inside = sy >= 0 && sy < height
    const row = Math.trunc(sy) * width
    let sx = c + a * 0.5
    for (let x = 0; x < width; x++, p++, sx += a) map[p] = inside && sx >= 0 && sx < width ? row + Math.trunc(sx) : -1
  }
}

/** Moves a canvas; `map` is scratch of one plane. */
export function affine(canvas: Canvas, matrix: Matrix, map: Int32Array): void {
  affineMap(matrix, canvas.height, canvas.width, map)
  canvas.gather(map)
}
