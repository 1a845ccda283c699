/*
 * BatchNormActivation and BatchNormActivationGrad.
 *
 *   y = activation(z), z = xhat * scale + bias, xhat = (x - mean) * inv, inv = 1 / sqrt(variance + epsilon), with the
 *   batch's mean and population variance of M elements a channel. With g = dy * activation'(z):
 *   dbias = sum(g)   dscale = sum(g * xhat)   dx = scale * inv * (g - dbias / M - xhat * dscale / M)
 *
 * The forward pass reads x twice and the backward pass dy and x twice; nothing else as large is read or written but the
 * result. Work is divided by shapes alone and sums are joined in order: results do not depend on the number of threads.
 */
#include <math.h>

#include "common.h"
#include "operators.h"

typedef struct {
  int64_t lanes;
  Activation activation;
  float epsilon;
} Settings;

typedef struct {
  const Settings *settings;
  int64_t images, groups, length, channels;
  /** Images of a task, and tasks of a group. */
  int64_t per_task, tasks;
  const float *x, *dy, *scale, *bias;
  float *out;
  Moments *moments;
  Sums *sums;
  /** Of each group. */
  Lanes *gain, *shift, *mean, *slope, *offset;
} Work;

OrtStatus *norm_settings(const OrtKernelInfo *info, void **kernel) {
  Settings *s = calloc(1, sizeof *s);
  if (!s) return no_memory();
  int64_t activation = 0;
  OrtStatus *status = KernelInfoGetAttribute_int64(info, "lanes", &s->lanes);
  if (!status) status = KernelInfoGetAttribute_int64(info, "activation", &activation);
  if (!status) status = KernelInfoGetAttribute_float(info, "least", &s->activation.least);
  if (!status) status = KernelInfoGetAttribute_float(info, "most", &s->activation.most);
  if (!status) status = KernelInfoGetAttribute_float(info, "epsilon", &s->epsilon);
  s->activation.kind = (int)activation;
  if (status) free(s);
  else *kernel = s;
  return status;
}

/** The operands that both have, and how the work is divided. */
static void plan(Work *w, const Settings *settings, const OrtValue *x, const OrtValue *scale, const OrtValue *bias,
                 int64_t *dims, size_t *rank) {
  *rank = dims_of(x, dims);
  dims_of(scale, &w->channels);
  w->settings = settings;
  w->x = data_of(x);
  w->scale = data_of(scale);
  w->bias = data_of(bias);
  w->images = dims[0];
  w->groups = dims[1] / settings->lanes;
  w->length = settings->lanes;
  for (size_t i = 2; i < *rank; i++) w->length *= dims[i];
  w->per_task = (TASK + w->length - 1) / w->length;
  if (w->per_task > w->images) w->per_task = w->images;
  w->tasks = (w->images + w->per_task - 1) / w->per_task;
}

static size_t total(const Work *w) { return (size_t)(w->groups * w->tasks); }

/** For the images of a task: its group, and where the run begins. */
#define RUNS(w, index, group, at)                                                                        \
  for (int64_t group = (int64_t)(index) / (w)->tasks, n = (int64_t)(index) % (w)->tasks * (w)->per_task, \
               last = n + (w)->per_task < (w)->images ? n + (w)->per_task : (w)->images,                 \
               at = (n * (w)->groups + group) * (w)->length;                                             \
       n < last; n++, at += (w)->groups * (w)->length)

static void measure_task(void *work, size_t index) {
  Work *w = work;
  Moments m = {0};
  RUNS(w, index, group, at) kernels->measure(&m, w->x + at, w->length, (int)w->settings->lanes);
  w->moments[index] = m;
}

static void normalise_task(void *work, size_t index) {
  Work *w = work;
  RUNS(w, index, group, at)
  kernels->normalise(w->out + at, w->x + at, w->length, w->gain[group], w->shift[group], w->settings->activation);
}

static void sum_task(void *work, size_t index) {
  Work *w = work;
  Sums s = {0};
  RUNS(w, index, group, at)
  kernels->sum_gradient(&s, w->dy + at, w->x + at, w->length, (int)w->settings->lanes, w->gain[group], w->shift[group],
                        w->mean[group], w->settings->activation);
  w->sums[index] = s;
}

static void spread_task(void *work, size_t index) {
  Work *w = work;
  RUNS(w, index, group, at)
  kernels->spread_gradient(w->out + at, w->dy + at, w->x + at, w->length, w->gain[group], w->shift[group],
                           w->slope[group], w->offset[group], w->settings->activation);
}

/** A number of each channel for the kernels. */
static void put(const Work *w, Lanes *to, int64_t c, float x) {
  const int64_t lanes = w->settings->lanes;
  for (int64_t i = c % lanes; i < WIDTH; i += lanes) to[c / lanes][i] = x;
}

/** z = x * gain + shift */
static void affine(Work *w, int64_t c, float mean, float variance) {
  const float gain = w->scale[c] / sqrtf(variance + w->settings->epsilon);
  put(w, w->gain, c, gain);
  put(w, w->shift, c, w->bias[c] - mean * gain);
}

/** Mean and variance of a channel from those of its tasks, in their order. */
static Moments joined(const Work *w, int64_t c) {
  const int64_t lane = c % w->settings->lanes;
  const Moments *parts = w->moments + c / w->settings->lanes * w->tasks;
  double count = 0, mean = 0, squares = 0;
  for (const Moments *part = parts; part < parts + w->tasks; part++) {
    const double all = count + part->count, off = part->mean[lane] - mean;
    mean += off * part->count / all;
    squares += part->squares[lane] + off * off * count * part->count / all;
    count = all;
  }
  return (Moments){.count = count, .mean = {mean}, .squares = {squares}};
}

OrtStatus *norm_forward(void *kernel, OrtKernelContext *context) {
  int64_t dims[MAX_RANK];
  size_t rank;
  Work w = {0};
  plan(&w, kernel, input(context, 0), input(context, 1), input(context, 2), dims, &rank);
  w.out = output(context, 0, dims, rank);
  float *mean = output(context, 1, &w.channels, 1), *variance = output(context, 2, &w.channels, 1);
  const size_t groups = (size_t)w.groups;
  char *memory = calloc(1, total(&w) * sizeof(Moments) + 2 * groups * sizeof(Lanes));
  if (!memory) return no_memory();
  w.moments = (Moments *)memory;
  w.gain = (Lanes *)(w.moments + total(&w));
  w.shift = w.gain + groups;
  parallel(context, measure_task, total(&w), &w);
  for (int64_t c = 0; c < w.channels; c++) {
    const Moments m = joined(&w, c);
    mean[c] = (float)m.mean[0];
    variance[c] = (float)(m.squares[0] / m.count);
    affine(&w, c, mean[c], variance[c]);
  }
  parallel(context, normalise_task, total(&w), &w);
  free(memory);
  return NULL;
}

OrtStatus *norm_backward(void *kernel, OrtKernelContext *context) {
  int64_t dims[MAX_RANK];
  size_t rank;
  Work w = {.dy = data_of(input(context, 0))};
  plan(&w, kernel, input(context, 1), input(context, 4), input(context, 5), dims, &rank);
  const float *mean = data_of(input(context, 2)), *variance = data_of(input(context, 3));
  w.out = output(context, 0, dims, rank);
  float *dscale = output(context, 1, &w.channels, 1), *dbias = output(context, 2, &w.channels, 1);
  const size_t groups = (size_t)w.groups;
  char *memory = calloc(1, total(&w) * sizeof(Sums) + 5 * groups * sizeof(Lanes));
  if (!memory) return no_memory();
  w.sums = (Sums *)memory;
  w.gain = (Lanes *)(w.sums + total(&w));
  w.shift = w.gain + groups;
  w.mean = w.shift + groups;
  w.slope = w.mean + groups;
  w.offset = w.slope + groups;
  for (int64_t c = 0; c < w.channels; c++) {
    affine(&w, c, mean[c], variance[c]);
    put(&w, w.mean, c, mean[c]);
  }
  parallel(context, sum_task, total(&w), &w);
  const double count = (double)(w.images * (w.length / w.settings->lanes));
  for (int64_t c = 0; c < w.channels; c++) {
    const int64_t lane = c % w.settings->lanes;
    const Sums *parts = w.sums + c / w.settings->lanes * w.tasks;
    double plain = 0, product = 0;
    for (const Sums *part = parts; part < parts + w.tasks; part++) {
      plain += part->plain[lane];
      product += part->product[lane];
    }
    const double inv = 1 / sqrt((double)variance[c] + w.settings->epsilon);
    const double gain = w.scale[c] * inv, slope = -gain * inv * inv * product / count;
    dbias[c] = (float)plain;
    dscale[c] = (float)(product * inv);
    put(&w, w.slope, c, (float)slope);
    put(&w, w.offset, c, (float)(-gain * plain / count - slope * mean[c]));
  }
  parallel(context, spread_task, total(&w), &w);
  free(memory);
  return NULL;
}
