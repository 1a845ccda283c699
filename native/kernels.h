/*
 * What the operators (operators.c) ask of the kernels, which are compiled once for each instruction set (kernels.c).
 *
 * A value is [images, groups, positions, lanes]: lanes = 16 or 8 is onnxruntime's blocked layout, where so many channels lie
 * side by side, lanes = 1 the plain one, where a group is a channel. A run is the part of a value that has the same image and
 * group: it lies in one piece, and element i of it belongs to channel i % lanes of the group.
 */
#pragma once
#include <stdint.h>

/** Floats that are worked on at once, a multiple of all lanes. */
#define WIDTH 16

/** Activations; the numbers are those of the attribute `activation`. */
enum { LINEAR = 0, RELU = 1, CLIP = 2, HARD_SWISH = 3 };

typedef struct {
  int kind;
  /** Of CLIP. */
  float least, most;
} Activation;

/** Per channel of a group, repeated up to WIDTH. */
typedef float Lanes[WIDTH];

/** Mean and sum of squared deviations of `count` elements of each channel. */
typedef struct {
  double count, mean[WIDTH], squares[WIDTH];
} Moments;

/** Sums over the elements of each channel. */
typedef struct {
  double plain[WIDTH], product[WIDTH];
} Sums;

/** Lines of `count` positions: floats from one position to the next, and from one line to the next, in dy and in x. */
typedef struct {
  int64_t lines, count, step, line, x_step, x_line;
} Patch;

typedef struct {
  /** Adds a run to what was measured before. */
  void (*measure)(Moments *m, const float *x, int64_t length, int lanes);
  /** y = activation(x * gain + shift + other), without `other` where that is NULL; y may be x or `other`. */
  void (*normalise)(float *y, const float *x, const float *other, int64_t length, const Lanes gain, const Lanes shift,
                    Activation a);
  /** Adds g and g (x - mean), where g = dy * activation'(x * gain + shift). */
  void (*sum_gradient)(Sums *s, const float *dy, const float *x, int64_t length, int lanes, const Lanes gain,
                       const Lanes shift, const Lanes mean, Activation a);
  /** dx = g * gain + x * slope + offset; dx may be dy or x. */
  void (*spread_gradient)(float *dx, const float *dy, const float *x, int64_t length, const Lanes gain, const Lanes shift,
                          const Lanes slope, const Lanes offset, Activation a);
  /** dz = dy * activation'(z); dz may be dy or z. */
  void (*pass_gradient)(float *dz, const float *dy, const float *z, int64_t length, Activation a);
  /**
   * sum[r][lane] += x[r * apart] * dy[lane] over the positions of a Patch, for the rows r of the sum: `lanes` of them that lie
   * side by side (apart = 1), or a few.
   */
  void (*sum_products)(float *sum, const float *dy, const float *x, const Patch *at, int rows, int64_t apart, int lanes);
} Kernels;

extern const Kernels kernels_base, kernels_avx2, kernels_avx512;
