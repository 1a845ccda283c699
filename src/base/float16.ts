/** Conversions of 16-bit floats, round half to even. IEEE 754 binary16 and bfloat16 (the upper half of a float32). */

const f32 = new Float32Array(1)
const u32 = new Uint32Array(f32.buffer)

export function float16ToNumber(h: number): number {
  const sign = h & 0x8000 ? -1 : 1
  const exponent = (h >> 10) & 31
  const fraction = h & 1023
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

export function numberToFloat16(x: number): number {
  f32[0] = x
  const bits = u32[0]!
  const sign = (bits >>> 16) & 0x8000
  const abs = bits & 0x7fffffff
  if (abs > 0x7f800000) return sign | 0x7e00
  if (abs >= 0x477ff000) return sign | 0x7c00 // rounds past 65504
  if (abs < 0x38800000) {
    // subnormal in binary16: a multiple of 2^-24; the scaling is exact, the addition of 2^23 rounds half to even
    f32[0] = Math.abs(x) * 2 ** 24 + 2 ** 23
    return sign | (u32[0]! & 0x7fffff)
  }
  const rounded = abs + 0xfff + ((abs >> 13) & 1)
  return sign | ((rounded - 0x38000000) >> 13)
}

export function bfloat16ToNumber(h: number): number {
  u32[0] = h << 16
  return f32[0]!
}

export function numberToBfloat16(x: number): number {
  f32[0] = x
  const bits = u32[0]!
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}
