/*
 * Batch normalisation with its activation, forward and backward, and sums of products. Compiled for each instruction set, with KERNELS as the
 * name of the table; the compiler makes one, two or four instructions of an operation on WIDTH floats.
 *
 * Sums are taken in float over at most CHUNK elements, which is what fits into the first cache, and in double over chunks.
 * Means and deviations of chunks are joined as in Chan, Golub, LeVeque: Updating Formulae and a Pairwise Algorithm for
 * Computing Sample Variances (1979): exact where the mean is large, in one pass over memory.
 */
#include "kernels.h"

#include <string.h>

#define CHUNK 4096
#define INLINE static inline __attribute__((always_inline))

typedef float Vector __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Mask __attribute__((vector_size(4 * WIDTH)));

INLINE Vector load(const float *p) {
  Vector v;
  memcpy(&v, p, sizeof v);
  return v;
}

INLINE void store(float *p, Vector v) { memcpy(p, &v, sizeof v); }

/** The last elements of a run, fewer than WIDTH; zeros behind them. */
INLINE Vector load_rest(const float *p, int64_t rest) {
  Vector v = {0};
  memcpy(&v, p, 4 * (size_t)rest);
  return v;
}

INLINE Vector all(float x) { return x - (Vector){0}; }

INLINE Vector choose(Mask m, Vector a, Vector b) { return (Vector)(((Mask)a & m) | ((Mask)b & ~m)); }

INLINE Mask first(int64_t rest) {
  Mask m;
  for (int i = 0; i < WIDTH; i++) m[i] = i < rest ? -1 : 0;
  return m;
}

/** NaN stays NaN. */
INLINE Vector clip(Vector z, float least, float most) {
  Vector low = choose((Mask)(z < all(least)), all(least), z);
  return choose((Mask)(low > all(most)), all(most), low);
}

INLINE Vector activated(Vector z, int kind, Activation a) {
  if (kind == RELU) return choose((Mask)(z < all(0)), all(0), z);
  if (kind == CLIP) return clip(z, a.least, a.most);
  if (kind == HARD_SWISH) return z * clip(z * (1.0f / 6) + 0.5f, 0, 1);
  return z;
}

/** g = dy * activation'(z). At a kink it is that of the outer side, but for CLIP, whose limits pass it. */
INLINE Vector passed(Vector dy, Vector z, int kind, Activation a) {
  if (kind == RELU) return (Vector)((Mask)dy & ~(Mask)(z <= all(0)));
  if (kind == CLIP) return (Vector)((Mask)dy & (Mask)(z >= all(a.least)) & (Mask)(z <= all(a.most)));
  if (kind == HARD_SWISH) {
    Vector slope = z * (1.0f / 3) + 0.5f;
    slope = choose((Mask)(z <= all(-3)), all(0), slope);
    return dy * choose((Mask)(z >= all(3)), all(1), slope);
  }
  return dy;
}

/** Sums of the channels, from those of lanes that belong to the same one; every lane gets its channel's. */
INLINE void fold(double *to, Vector v, int lanes) {
  for (int i = 0; i < lanes; i++) {
    double sum = 0;
    for (int k = i; k < WIDTH; k += lanes) sum += v[k];
    for (int k = i; k < WIDTH; k += lanes) to[k] = sum;
  }
}

INLINE void measure_run(Moments *m, const float *x, int64_t length, int lanes) {
  for (int64_t at = 0; at < length; at += CHUNK) {
    int64_t n = length - at < CHUNK ? length - at : CHUNK;
    const float *p = x + at;
    int64_t whole = n / WIDTH * WIDTH, rest = n - whole;
    Vector a = {0}, b = {0}, c = {0}, d = {0};
    int64_t i = 0;
    for (; i + 4 * WIDTH <= whole; i += 4 * WIDTH) {
      a += load(p + i);
      b += load(p + i + WIDTH);
      c += load(p + i + 2 * WIDTH);
      d += load(p + i + 3 * WIDTH);
    }
    for (; i < whole; i += WIDTH) a += load(p + i);
    if (rest) b += load_rest(p + whole, rest);
    double mean[WIDTH], off[WIDTH], squares[WIDTH];
    double count = (double)(n / lanes);
    fold(mean, (a + b) + (c + d), lanes);
    // about a number near the mean, which rounding has kept off it: off by this much
    Vector centre;
    for (int k = 0; k < WIDTH; k++) centre[k] = (float)(mean[k] / count);
    a = b = c = d = (Vector){0};
    i = 0;
    for (; i + 2 * WIDTH <= whole; i += 2 * WIDTH) {
      Vector e = load(p + i) - centre, f = load(p + i + WIDTH) - centre;
      a += e;
      b += f;
      c += e * e;
      d += f * f;
    }
    for (; i < n; i += WIDTH) {
      int64_t left = n - i < WIDTH ? n - i : WIDTH;
      Vector e = choose(first(left), load_rest(p + i, left) - centre, all(0));
      a += e;
      c += e * e;
    }
    fold(off, a + b, lanes);
    fold(squares, c + d, lanes);
    for (int k = 0; k < WIDTH; k++) {
      squares[k] -= off[k] * off[k] / count;
      mean[k] = centre[k] + off[k] / count;
    }
    double total = m->count + count;
    for (int k = 0; k < WIDTH; k++) {
      double apart = mean[k] - m->mean[k];
      m->mean[k] += apart * count / total;
      m->squares[k] += squares[k] + apart * apart * m->count * count / total;
    }
    m->count = total;
  }
}

static void measure(Moments *m, const float *x, int64_t length, int lanes) {
  if (lanes == 16) measure_run(m, x, length, 16);
  else if (lanes == 8) measure_run(m, x, length, 8);
  else measure_run(m, x, length, 1);
}

INLINE void normalise_run(float *y, const float *x, const float *other, int64_t length, Vector gain, Vector shift,
                          int adds, int kind, Activation a) {
  int64_t i = 0;
  for (; i + WIDTH <= length; i += WIDTH) {
    Vector z = load(x + i) * gain + shift;
    if (adds) z += load(other + i);
    store(y + i, activated(z, kind, a));
  }
  if (i == length) return;
  Vector z = load_rest(x + i, length - i) * gain + shift;
  if (adds) z += load_rest(other + i, length - i);
  z = activated(z, kind, a);
  memcpy(y + i, &z, 4 * (size_t)(length - i));
}

static void normalise(float *y, const float *x, const float *other, int64_t length, const Lanes gain, const Lanes shift,
                      Activation a) {
  Vector g = load(gain), s = load(shift);
#define OF_KIND(kind)                                              \
  if (other) normalise_run(y, x, other, length, g, s, 1, kind, a); \
  else normalise_run(y, x, other, length, g, s, 0, kind, a);
  if (a.kind == RELU) { OF_KIND(RELU) }
  else if (a.kind == CLIP) { OF_KIND(CLIP) }
  else if (a.kind == HARD_SWISH) { OF_KIND(HARD_SWISH) }
  else { OF_KIND(LINEAR) }
#undef OF_KIND
}

INLINE void sum_run(Sums *s, const float *dy, const float *x, int64_t length, int lanes, Vector gain, Vector shift,
                    Vector mean, int kind, Activation a) {
  for (int64_t at = 0; at < length; at += CHUNK) {
    int64_t n = length - at < CHUNK ? length - at : CHUNK;
    const float *p = x + at, *q = dy + at;
    Vector plain = {0}, more = {0}, product = {0}, other = {0};
    int64_t i = 0;
    for (; i + 2 * WIDTH <= n; i += 2 * WIDTH) {
      Vector u = load(p + i), v = load(p + i + WIDTH);
      Vector g = passed(load(q + i), u * gain + shift, kind, a);
      Vector h = passed(load(q + i + WIDTH), v * gain + shift, kind, a);
      plain += g;
      more += h;
      product += g * (u - mean);
      other += h * (v - mean);
    }
    for (; i < n; i += WIDTH) {
      int64_t rest = n - i < WIDTH ? n - i : WIDTH;
      Vector u = load_rest(p + i, rest);
      Vector g = passed(load_rest(q + i, rest), u * gain + shift, kind, a);
      plain += g;
      product += choose(first(rest), g * (u - mean), all(0));
    }
    double sums[WIDTH], products[WIDTH];
    fold(sums, plain + more, lanes);
    fold(products, product + other, lanes);
    for (int k = 0; k < WIDTH; k++) {
      s->plain[k] += sums[k];
      s->product[k] += products[k];
    }
  }
}

static void sum_gradient(Sums *s, const float *dy, const float *x, int64_t length, int lanes, const Lanes gain,
                         const Lanes shift, const Lanes mean, Activation a) {
  Vector g = load(gain), b = load(shift), m = load(mean);
#define OF_KIND(kind)                                                           \
  if (lanes == 16) sum_run(s, dy, x, length, 16, g, b, m, kind, a);             \
  else if (lanes == 8) sum_run(s, dy, x, length, 8, g, b, m, kind, a);          \
  else sum_run(s, dy, x, length, 1, g, b, m, kind, a);
  if (a.kind == RELU) { OF_KIND(RELU) }
  else if (a.kind == CLIP) { OF_KIND(CLIP) }
  else if (a.kind == HARD_SWISH) { OF_KIND(HARD_SWISH) }
  else { OF_KIND(LINEAR) }
#undef OF_KIND
}

INLINE void spread_run(float *dx, const float *dy, const float *x, int64_t length, Vector gain, Vector shift,
                       Vector slope, Vector offset, int kind, Activation a) {
  int64_t i = 0;
  for (; i + WIDTH <= length; i += WIDTH) {
    Vector u = load(x + i);
    store(dx + i, passed(load(dy + i), u * gain + shift, kind, a) * gain + (u * slope + offset));
  }
  if (i == length) return;
  int64_t rest = length - i;
  Vector u = load_rest(x + i, rest);
  Vector v = passed(load_rest(dy + i, rest), u * gain + shift, kind, a) * gain + (u * slope + offset);
  memcpy(dx + i, &v, 4 * (size_t)rest);
}

static void spread_gradient(float *dx, const float *dy, const float *x, int64_t length, const Lanes gain,
                            const Lanes shift, const Lanes slope, const Lanes offset, Activation a) {
  Vector g = load(gain), b = load(shift), k1 = load(slope), k0 = load(offset);
  if (a.kind == RELU) spread_run(dx, dy, x, length, g, b, k1, k0, RELU, a);
  else if (a.kind == CLIP) spread_run(dx, dy, x, length, g, b, k1, k0, CLIP, a);
  else if (a.kind == HARD_SWISH) spread_run(dx, dy, x, length, g, b, k1, k0, HARD_SWISH, a);
  else spread_run(dx, dy, x, length, g, b, k1, k0, LINEAR, a);
}

INLINE void pass_run(float *dz, const float *dy, const float *z, int64_t length, int kind, Activation a) {
  int64_t i = 0;
  for (; i + WIDTH <= length; i += WIDTH) store(dz + i, passed(load(dy + i), load(z + i), kind, a));
  if (i == length) return;
  Vector v = passed(load_rest(dy + i, length - i), load_rest(z + i, length - i), kind, a);
  memcpy(dz + i, &v, 4 * (size_t)(length - i));
}

static void pass_gradient(float *dz, const float *dy, const float *z, int64_t length, Activation a) {
  if (a.kind == RELU) pass_run(dz, dy, z, length, RELU, a);
  else if (a.kind == CLIP) pass_run(dz, dy, z, length, CLIP, a);
  else if (a.kind == HARD_SWISH) pass_run(dz, dy, z, length, HARD_SWISH, a);
  else pass_run(dz, dy, z, length, LINEAR, a);
}

/** The sums are kept in registers. */
#define SUM_PRODUCTS(NAME, LANES, ROWS)                                                                    \
  INLINE void NAME(float *sum, const float *dy, const float *x, const Patch *at, int64_t apart) {          \
    typedef float Row __attribute__((vector_size(4 * LANES)));                                             \
    const int64_t count = at->count, step = at->step, x_step = at->x_step;                                 \
    Row s[ROWS], d;                                                                                        \
    memcpy(s, sum, sizeof s);                                                                              \
    for (int64_t line = 0; line < at->lines; line++) {                                                     \
      const float *p = dy + line * at->line, *q = x + line * at->x_line;                                   \
      for (int64_t i = 0; i < count; i++, p += step, q += x_step) {                                        \
        memcpy(&d, p, sizeof d);                                                                           \
        _Pragma("GCC unroll 16") for (int r = 0; r < ROWS; r++) s[r] += d * q[r * apart];                  \
      }                                                                                                    \
    }                                                                                                      \
    memcpy(sum, s, sizeof s);                                                                              \
  }

SUM_PRODUCTS(of_16_by_16, 16, 16)
SUM_PRODUCTS(of_4_by_16, 16, 4)
SUM_PRODUCTS(of_3_by_16, 16, 3)
SUM_PRODUCTS(of_1_by_16, 16, 1)
SUM_PRODUCTS(of_8_by_8, 8, 8)
SUM_PRODUCTS(of_3_by_8, 8, 3)
SUM_PRODUCTS(of_1_by_8, 8, 1)

static void sum_products(float *sum, const float *dy, const float *x, const Patch *at, int rows, int64_t apart,
                         int lanes) {
  if (apart == 1 && rows == 16 && lanes == 16) {
#ifdef __AVX512F__
    of_16_by_16(sum, dy, x, at, 1);
#else
    for (int r = 0; r < 16; r += 4) of_4_by_16(sum + r * 16, dy, x + r, at, 1);
#endif
  } else if (apart == 1 && rows == 8 && lanes == 8) {
    of_8_by_8(sum, dy, x, at, 1);
  } else if (rows == 3) {
    if (lanes == 16) of_3_by_16(sum, dy, x, at, apart);
    else of_3_by_8(sum, dy, x, at, apart);
  } else {
    for (int r = 0; r < rows; r++)
      if (lanes == 16) of_1_by_16(sum + r * lanes, dy, x + r * apart, at, apart);
      else of_1_by_8(sum + r * lanes, dy, x + r * apart, at, apart);
  }
}

const Kernels KERNELS = {measure, normalise, sum_gradient, spread_gradient, pass_gradient, sum_products};
