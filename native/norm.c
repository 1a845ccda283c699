/*
 * BatchNormActivation, BatchNormAddActivation and BatchNormActivationGrad.
 *
 *   y = activation(z), or activation(z + other), z = xhat * scale + bias, xhat = (x - mean) * inv, inv = 1 / sqrt(variance + epsilon), with the
 *   batch's mean and population variance of M elements a channel. With g = dy * activation'(z):
 *   dbias = sum(g)   dscale = sum(g * xhat)   dx = scale * inv * (g - dbias / M - xhat * dscale / M)
 *
 * The forward pass reads x twice and the backward pass dy and x twice; nothing else as large is read or written but the
 * result. Work is divided by shapes alone and sums are joined in order: results do not depend on the number of threads.
 */
#include <math.h>

#include "common.h"
#include "operators.h"

/** Up to so many elements of a group, a core does both passes over it: a quarter of its second cache, or of both operands' half. */
#define CACHED (1 << 17)

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
  const float *x, *other, *dy, *scale, *bias;
  float *out, *batch_mean, *batch_variance, *dscale, *dbias;
  Moments *moments;
  Sums *sums;
  /** Of each group. */
  Lanes *gain, *shift, *mean, *slope, *offset;
} Work;

OrtStatus *norm_settings(const OrtKernelInfo *info, void **kernel) {
  Settings *s = calloc(1, sizeof *s);
  if (!s) return no_memory();
  OrtStatus *status = KernelInfoGetAttribute_int64(info, "lanes", &s->lanes);
  if (!status) status = read_activation(info, &s->activation);
  if (!status) status = KernelInfoGetAttribute_float(info, "epsilon", &s->epsilon);
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
  kernels->normalise(w->out + at, w->x + at, w->other ? w->other + at : NULL, w->length, w->gain[group], w->shift[group], w->settings->activation);
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
static void affine(Work *w, int64_t c) {
  const float gain = w->scale[c] / sqrtf(w->batch_variance[c] + w->settings->epsilon);
  put(w, w->gain, c, gain);
  put(w, w->shift, c, w->bias[c] - w->batch_mean[c] * gain);
}

/** The channels of a group. */
#define CHANNELS(w, group, c)                                                                                 \
  for (int64_t c = (group) * (w)->settings->lanes,                                                            \
               end = c + (w)->settings->lanes < (w)->channels ? c + (w)->settings->lanes : (w)->channels;     \
       c < end; c++)

/** Joins what the tasks of a group have measured, in their order. */
static void join_moments(Work *w, int64_t group) {
  CHANNELS(w, group, c) {
    const int64_t lane = c % w->settings->lanes;
    const Moments *parts = w->moments + group * w->tasks;
    double count = 0, mean = 0, squares = 0;
    for (const Moments *part = parts; part < parts + w->tasks; part++) {
      const double all = count + part->count, apart = part->mean[lane] - mean;
      mean += apart * part->count / all;
      squares += part->squares[lane] + apart * apart * count * part->count / all;
      count = all;
    }
    w->batch_mean[c] = (float)mean;
    w->batch_variance[c] = (float)(squares / count);
    affine(w, c);
  }
}

/** Joins the sums of a group; dx = g * gain + x * slope + offset. */
static void join_sums(Work *w, int64_t group) {
  const double count = (double)(w->images * (w->length / w->settings->lanes));
  CHANNELS(w, group, c) {
    const int64_t lane = c % w->settings->lanes;
    const Sums *parts = w->sums + group * w->tasks;
    double plain = 0, product = 0;
    for (const Sums *part = parts; part < parts + w->tasks; part++) {
      plain += part->plain[lane];
      product += part->product[lane];
    }
    const double inv = 1 / sqrt((double)w->batch_variance[c] + w->settings->epsilon);
    const double gain = w->scale[c] * inv, slope = -gain * inv * inv * product / count;
    w->dbias[c] = (float)plain;
    w->dscale[c] = (float)(product * inv);
    put(w, w->slope, c, (float)slope);
    put(w, w->offset, c, (float)(-gain * plain / count - slope * w->batch_mean[c]));
  }
}

/** Two passes over the feature map, what the first has found being joined between them. */
typedef struct {
  void (*first)(void *, size_t);
  void (*join)(Work *, int64_t);
  void (*second)(void *, size_t);
  Work *work;
} Passes;

/** Both passes over a group: the second finds it in the cache. */
static void group_task(void *passes, size_t group) {
  const Passes *p = passes;
  const size_t from = group * (size_t)p->work->tasks;
  for (int64_t t = 0; t < p->work->tasks; t++) p->first(p->work, from + (size_t)t);
  p->join(p->work, (int64_t)group);
  for (int64_t t = 0; t < p->work->tasks; t++) p->second(p->work, from + (size_t)t);
}

static void run(const OrtKernelContext *context, Passes p) {
  const Work *w = p.work;
  const size_t groups = (size_t)w->groups, total = groups * (size_t)w->tasks;
  if (w->images * w->length <= CACHED) return parallel(context, group_task, groups, &p);
  parallel(context, p.first, total, p.work);
  for (size_t g = 0; g < groups; g++) p.join(p.work, (int64_t)g);
  parallel(context, p.second, total, p.work);
}

static OrtStatus *forward(void *kernel, OrtKernelContext *context, const float *other, size_t scale) {
  int64_t dims[MAX_RANK];
  size_t rank;
  Work w = {.other = other};
  plan(&w, kernel, input(context, 0), input(context, scale), input(context, scale + 1), dims, &rank);
  w.out = output(context, 0, dims, rank);
  w.batch_mean = output(context, 1, &w.channels, 1);
  w.batch_variance = output(context, 2, &w.channels, 1);
  const size_t groups = (size_t)w.groups, total = groups * (size_t)w.tasks;
  char *memory = calloc(1, total * sizeof(Moments) + 2 * groups * sizeof(Lanes));
  if (!memory) return no_memory();
  w.moments = (Moments *)memory;
  w.gain = (Lanes *)(w.moments + total);
  w.shift = w.gain + groups;
  run(context, (Passes){measure_task, join_moments, normalise_task, &w});
  free(memory);
  return NULL;
}

OrtStatus *norm_forward(void *kernel, OrtKernelContext *context) { return forward(kernel, context, NULL, 1); }

OrtStatus *norm_add_forward(void *kernel, OrtKernelContext *context) {
  return forward(kernel, context, data_of(input(context, 1)), 2);
}

OrtStatus *norm_backward(void *kernel, OrtKernelContext *context) {
  int64_t dims[MAX_RANK];
  size_t rank;
  Work w = {.dy = data_of(input(context, 0))};
  plan(&w, kernel, input(context, 1), input(context, 4), input(context, 5), dims, &rank);
  w.batch_mean = data_of(input(context, 2));
  w.batch_variance = data_of(input(context, 3));
  w.out = output(context, 0, dims, rank);
  w.dscale = output(context, 1, &w.channels, 1);
  w.dbias = output(context, 2, &w.channels, 1);
  const size_t groups = (size_t)w.groups, total = groups * (size_t)w.tasks;
  char *memory = calloc(1, total * sizeof(Sums) + 5 * groups * sizeof(Lanes));
  if (!memory) return no_memory();
  w.sums = (Sums *)memory;
  w.gain = (Lanes *)(w.sums + total);
  w.shift = w.gain + groups;
  w.mean = w.shift + groups;
  w.slope = w.mean + groups;
  w.offset = w.slope + groups;
  for (int64_t c = 0; c < w.channels; c++) {
    affine(&w, c);
    put(&w, w.mean, c, w.batch_mean[c]);
  }
  run(context, (Passes){sum_task, join_sums, spread_task, &w});
  free(memory);
  return NULL;
}
