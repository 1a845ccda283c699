/*
 * ConvWeightGrad: of a 2-D convolution of one group,
 *
 *   dw[o, i, k, l] = sum over images and positions (p, q) of dy[o, p, q] * x[i, p * stride + k * dilation - begin, ...]
 *
 * dy is blocked; x too, or plain where it has few channels (pictures). For each pair of channel blocks and each tap the sum is
 * a square of registers, to which each position adds the product of two vectors. Images are summed alone, then in order.
 */
#include "common.h"
#include "operators.h"

typedef struct {
  /** lanes of dy, lanes of x, channels out, channels in, then rows and columns of kernel, strides, dilations, begins */
  int64_t numbers[12];
} Settings;

enum { LANES, X_LANES, OUT, IN, KERNEL, STRIDE = 6, DILATION = 8, BEGIN = 10 };

/** Floats of all parts together. */
#define MOST (1 << 22)

typedef struct {
  const int64_t *set;
  const float *x, *dy;
  float *parts, *out;
  int64_t images, height, width, rows, columns;
  int64_t out_blocks, in_blocks, in_rows, taps;
  /** Images of a part, and parts. */
  int64_t per_part, count;
  /** Floats of an output block. */
  int64_t size;
} Work;

OrtStatus *weight_gradient_settings(const OrtKernelInfo *info, void **kernel) {
  Settings *s = calloc(1, sizeof *s);
  if (!s) return no_memory();
  size_t size = sizeof s->numbers / sizeof *s->numbers;
  OrtStatus *status = KernelInfoGetAttributeArray_int64(info, "numbers", s->numbers, &size);
  if (status) free(s);
  else *kernel = s;
  return status;
}

/** Where `tap` of a kernel meets the image: outputs first..last-1 of `outputs`; input = output * stride + offset. */
static void meets(const Work *w, int axis, int64_t tap, int64_t outputs, int64_t inputs, int64_t *first, int64_t *last,
                  int64_t *offset) {
  const int64_t stride = w->set[STRIDE + axis];
  *offset = tap * w->set[DILATION + axis] - w->set[BEGIN + axis];
  *first = *offset < 0 ? (-*offset + stride - 1) / stride : 0;
  *last = inputs - 1 - *offset < 0 ? 0 : (inputs - 1 - *offset) / stride + 1;
  if (*last > outputs) *last = outputs;
}

static void sum_task(void *work, size_t index) {
  const Work *w = work;
  const int64_t *set = w->set, lanes = set[LANES];
  const int64_t block = (int64_t)index % w->out_blocks, part = (int64_t)index / w->out_blocks;
  float *sum = w->parts + (int64_t)index * w->size;
  const int64_t square = w->in_rows * lanes;
  const int64_t end = (part + 1) * w->per_part < w->images ? (part + 1) * w->per_part : w->images;
  const int64_t x_lanes = set[X_LANES], plane = w->height * w->width;
  memset(sum, 0, (size_t)w->size * sizeof(float));
  for (int64_t n = part * w->per_part; n < end; n++) {
    const float *dy = w->dy + (n * w->out_blocks + block) * w->rows * w->columns * lanes;
    for (int64_t i = 0; i < w->in_blocks; i++) {
      const float *x = w->x + (n * w->in_blocks + i) * plane * (x_lanes == 1 ? w->in_rows : x_lanes);
      for (int64_t tap = 0; tap < w->taps; tap++) {
        int64_t top, bottom, down, left, right, across;
        meets(w, 0, tap / set[KERNEL + 1], w->rows, w->height, &top, &bottom, &down);
        meets(w, 1, tap % set[KERNEL + 1], w->columns, w->width, &left, &right, &across);
        if (left >= right || top >= bottom) continue;
        const int64_t x_step = set[STRIDE + 1] * x_lanes, x_line = set[STRIDE] * w->width * x_lanes;
        const Patch at = {bottom - top, right - left, lanes, w->columns * lanes, x_step, x_line};
        const int64_t from = (top * set[STRIDE] + down) * w->width + left * set[STRIDE + 1] + across;
        float image[16 * WIDTH] = {0};
        kernels->sum_products(image, dy + (top * w->columns + left) * lanes, x + from * x_lanes, &at, (int)w->in_rows,
                              x_lanes == 1 ? plane : 1, (int)lanes);
        float *to = sum + (i * w->taps + tap) * square;
        for (int64_t k = 0; k < square; k++) to[k] += image[k];
      }
    }
  }
}

/** Of an output block: its parts in order, to [O, I, taps]. */
static void join_task(void *work, size_t index) {
  const Work *w = work;
  const int64_t lanes = w->set[LANES], in = w->set[IN], out = w->set[OUT], block = (int64_t)index;
  for (int64_t p = 1; p < w->count; p++) {
    float *sum = w->parts + block * w->size;
    const float *part = w->parts + (p * w->out_blocks + block) * w->size;
    for (int64_t k = 0; k < w->size; k++) sum[k] += part[k];
  }
  const float *sum = w->parts + block * w->size;
  for (int64_t lane = 0; lane < lanes && block * lanes + lane < out; lane++)
    for (int64_t i = 0; i < in; i++)
      for (int64_t tap = 0; tap < w->taps; tap++)
        w->out[((block * lanes + lane) * in + i) * w->taps + tap] =
            sum[((i / w->in_rows * w->taps + tap) * w->in_rows + i % w->in_rows) * lanes + lane];
}

OrtStatus *weight_gradient(void *kernel, OrtKernelContext *context) {
  const int64_t *set = ((const Settings *)kernel)->numbers;
  int64_t x[MAX_RANK], dy[MAX_RANK];
  dims_of(input(context, 0), x);
  dims_of(input(context, 1), dy);
  Work w = {.set = set, .x = data_of(input(context, 0)), .dy = data_of(input(context, 1))};
  const int64_t dims[] = {set[OUT], set[IN], set[KERNEL], set[KERNEL + 1]};
  w.out = output(context, 0, dims, 4);
  w.images = x[0];
  w.height = x[2];
  w.width = x[3];
  w.rows = dy[2];
  w.columns = dy[3];
  w.out_blocks = dy[1] / set[LANES];
  w.in_rows = set[X_LANES] == 1 ? set[IN] : set[X_LANES];
  w.in_blocks = set[X_LANES] == 1 ? 1 : x[1] / set[X_LANES];
  w.taps = set[KERNEL] * set[KERNEL + 1];
  w.size = w.in_blocks * w.taps * w.in_rows * set[LANES];
  const int64_t most = MOST / (w.size * w.out_blocks), wished = most < 1 ? 1 : most < 16 ? most : 16;
  w.per_part = (w.images + wished - 1) / wished;
  w.count = (w.images + w.per_part - 1) / w.per_part;
  w.parts = malloc((size_t)(w.count * w.out_blocks * w.size) * sizeof(float) + 1);
  if (!w.parts) return no_memory();
  parallel(context, sum_task, (size_t)(w.count * w.out_blocks), &w);
  parallel(context, join_task, (size_t)w.out_blocks, &w);
  free(w.parts);
  return NULL;
}
