/** What an image is: planes of rows of columns. */

/** Size of the images that come in. */
export interface ImageShape {
  readonly channels: number
  readonly height: number
  readonly width: number
}
