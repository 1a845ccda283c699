/*
 * The operators of the domain `mnc.step`, which stand in training steps in memory only:
 *
 *   BatchNormActivation      x [N, C, ...], scale [C], bias [C]  ->  y, mean [C], variance [C]
 *   BatchNormActivationGrad  dy, x, mean, variance, scale, bias  ->  dx, dscale, dbias
 *
 *   y = activation(z), z = xhat * scale + bias, xhat = (x - mean) * inv, inv = 1 / sqrt(variance + epsilon), with the
 *   batch's mean and population variance of M elements a channel. With g = dy * activation'(z):
 *   dbias = sum(g)   dscale = sum(g * xhat)   dx = scale * inv * (g - dbias / M - xhat * dscale / M)
 *
 * Attributes: lanes (kernels.h), activation, least, most, epsilon. Where lanes > 1, the channels of x are filled up to whole
 * groups; those beyond C may hold any finite numbers.
 *
 * The forward pass reads x twice and the backward pass dy and x twice, nothing else is read or written but the result. Work is
 * divided by shapes alone and sums are joined in order, so results do not depend on the number of threads.
 */
#include "operators.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

OrtApi ort;
static const Kernels *kernels;

/** A task is at least so many elements: some tens of microseconds. */
#define TASK 32768

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

static int64_t channels_of(const OrtValue *v) {
  OrtTensorTypeAndShapeInfo *info = NULL;
  size_t count = 0;
  GetTensorTypeAndShape(v, &info);
  GetTensorShapeElementCount(info, &count);
  ReleaseTensorTypeAndShapeInfo(info);
  return (int64_t)count;
}

/** dims[0..rank-1] of a value; its rank, at most 8. */
static size_t dims_of(const OrtValue *v, int64_t *dims) {
  OrtTensorTypeAndShapeInfo *info = NULL;
  size_t rank = 0;
  GetTensorTypeAndShape(v, &info);
  GetDimensionsCount(info, &rank);
  if (rank > 8) rank = 8;
  GetDimensions(info, dims, rank);
  ReleaseTensorTypeAndShapeInfo(info);
  return rank;
}

static float *data_of(const OrtValue *v) {
  void *data = NULL;
  GetTensorMutableData((OrtValue *)v, &data);
  return data;
}

static const OrtValue *input(OrtKernelContext *context, size_t i) {
  const OrtValue *v = NULL;
  KernelContext_GetInput(context, i, &v);
  return v;
}

static float *output(OrtKernelContext *context, size_t i, const int64_t *dims, size_t rank) {
  OrtValue *v = NULL;
  KernelContext_GetOutput(context, i, dims, rank, &v);
  return v ? data_of(v) : NULL;
}

/** x[channel] for the lanes of a group; `other` beyond the channels. */
static void spread(Lanes to, const float *x, const Work *w, int64_t group, float other) {
  const int64_t lanes = w->settings->lanes;
  for (int64_t i = 0; i < WIDTH; i++) {
    const int64_t c = group * lanes + i % lanes;
    to[i] = c < w->channels ? x[c] : other;
  }
}

/** The shape of the work; its parts of each group. */
static void plan(Work *w, const Settings *settings, const int64_t *dims, size_t rank) {
  int64_t positions = 1;
  for (size_t i = 2; i < rank; i++) positions *= dims[i];
  w->settings = settings;
  w->images = dims[0];
  w->groups = dims[1] / settings->lanes;
  w->length = positions * settings->lanes;
  w->per_task = w->length >= TASK ? 1 : (TASK + w->length - 1) / (w->length > 0 ? w->length : 1);
  if (w->per_task > w->images) w->per_task = w->images > 0 ? w->images : 1;
  w->tasks = (w->images + w->per_task - 1) / w->per_task;
}

static void parallel(OrtKernelContext *context, void (*task)(void *, size_t), Work *w) {
  const size_t total = (size_t)(w->groups * w->tasks);
  if (total > 1) KernelContext_ParallelFor(context, task, total, 0, w);
  else if (total == 1) task(w, 0);
}

/** Runs `each` for the images of a task: its group, and where the run begins. */
#define RUNS(w, index, group, at)                                                                       \
  for (int64_t group = (int64_t)(index) / (w)->tasks, n = (int64_t)(index) % (w)->tasks * (w)->per_task, \
               last = n + (w)->per_task < (w)->images ? n + (w)->per_task : (w)->images,                 \
               at = (n * (w)->groups + group) * (w)->length;                                             \
       n < last; n++, at += (w)->groups * (w)->length)

static void measure_task(void *work, size_t index) {
  Work *w = work;
  Moments m;
  memset(&m, 0, sizeof m);
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
  Sums s;
  memset(&s, 0, sizeof s);
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

/** gain and shift of z = x * gain + shift. */
static void affine(Work *w, int64_t group, const float *mean, const float *variance) {
  const int64_t lanes = w->settings->lanes;
  for (int64_t i = 0; i < WIDTH; i++) {
    const int64_t c = group * lanes + i % lanes;
    if (c >= w->channels) {
      w->gain[group][i] = w->shift[group][i] = 0;
      continue;
    }
    const float gain = w->scale[c] / sqrtf(variance[c] + w->settings->epsilon);
    w->gain[group][i] = gain;
    w->shift[group][i] = w->bias[c] - mean[c] * gain;
  }
}

static OrtStatus *no_memory(void) { return CreateStatus(1, "out of memory"); }

static OrtStatus *forward(void *kernel, OrtKernelContext *context) {
  const OrtValue *x = input(context, 0), *scale = input(context, 1);
  int64_t dims[8];
  const size_t rank = dims_of(x, dims);
  Work w = {.x = data_of(x), .scale = data_of(scale), .bias = data_of(input(context, 2))};
  plan(&w, kernel, dims, rank);
  w.channels = channels_of(scale);
  w.out = output(context, 0, dims, rank);
  float *mean = output(context, 1, &w.channels, 1), *variance = output(context, 2, &w.channels, 1);
  const size_t groups = (size_t)w.groups, tasks = groups * (size_t)w.tasks;
  char *memory = malloc(tasks * sizeof(Moments) + 2 * groups * sizeof(Lanes) + 1);
  if (!memory) return no_memory();
  w.moments = (Moments *)memory;
  w.gain = (Lanes *)(w.moments + tasks);
  w.shift = w.gain + groups;
  parallel(context, measure_task, &w);
  for (int64_t c = 0; c < w.channels; c++) {
    const int64_t group = c / w.settings->lanes, lane = c % w.settings->lanes;
    double count = 0, m = 0, squares = 0;
    for (int64_t t = 0; t < w.tasks; t++) {
      const Moments *part = &w.moments[group * w.tasks + t];
      const double total = count + part->count, off = part->mean[lane] - m;
      m += off * part->count / total;
      squares += part->squares[lane] + off * off * count * part->count / total;
      count = total;
    }
    mean[c] = (float)m;
    variance[c] = (float)(squares / count);
  }
  for (int64_t g = 0; g < w.groups; g++) affine(&w, g, mean, variance);
  parallel(context, normalise_task, &w);
  free(memory);
  return NULL;
}

static OrtStatus *backward(void *kernel, OrtKernelContext *context) {
  const OrtValue *x = input(context, 1), *scale = input(context, 4);
  int64_t dims[8];
  const size_t rank = dims_of(x, dims);
  const float *mean = data_of(input(context, 2)), *variance = data_of(input(context, 3));
  Work w = {.x = data_of(x), .dy = data_of(input(context, 0)), .scale = data_of(scale), .bias = data_of(input(context, 5))};
  plan(&w, kernel, dims, rank);
  w.channels = channels_of(scale);
  w.out = output(context, 0, dims, rank);
  float *dscale = output(context, 1, &w.channels, 1), *dbias = output(context, 2, &w.channels, 1);
  const size_t groups = (size_t)w.groups, tasks = groups * (size_t)w.tasks;
  char *memory = malloc(tasks * sizeof(Sums) + 5 * groups * sizeof(Lanes) + 1);
  if (!memory) return no_memory();
  w.sums = (Sums *)memory;
  w.gain = (Lanes *)(w.sums + tasks);
  w.shift = w.gain + groups;
  w.mean = w.shift + groups;
  w.slope = w.mean + groups;
  w.offset = w.slope + groups;
  for (int64_t g = 0; g < w.groups; g++) {
    affine(&w, g, mean, variance);
    spread(w.mean[g], mean, &w, g, 0);
  }
  parallel(context, sum_task, &w);
  memset(w.slope, 0, 2 * groups * sizeof(Lanes));
  const double count = (double)(w.images * (w.length / w.settings->lanes));
  for (int64_t c = 0; c < w.channels; c++) {
    const int64_t group = c / w.settings->lanes, lane = c % w.settings->lanes;
    double plain = 0, product = 0;
    for (int64_t t = 0; t < w.tasks; t++) {
      const Sums *part = &w.sums[group * w.tasks + t];
      plain += part->plain[lane];
      product += part->product[lane];
    }
    const double inv = 1 / sqrt((double)variance[c] + w.settings->epsilon);
    const double gain = w.scale[c] * inv, slope = -gain * inv * inv * product / count;
    dbias[c] = (float)plain;
    dscale[c] = (float)(product * inv);
    for (int64_t i = lane; i < WIDTH; i += w.settings->lanes) {
      w.slope[group][i] = (float)slope;
      w.offset[group][i] = (float)(-gain * plain / count - slope * mean[c]);
    }
  }
  parallel(context, spread_task, &w);
  free(memory);
  return NULL;
}

/** An operator: which input's dims each output has, which inputs' memory the first output may take. */
typedef struct {
  OrtCustomOp op;
  const char *name;
  size_t inputs, outputs;
  size_t dims[3];
} Operator;

static const Operator *self(const OrtCustomOp *op) { return (const Operator *)op; }

static const char *name(const OrtCustomOp *op) { return self(op)->name; }
static const char *provider(const OrtCustomOp *op) {
  (void)op;
  return NULL;
}
static int type(const OrtCustomOp *op, size_t i) {
  (void)op, (void)i;
  return FLOAT32;
}
static int required(const OrtCustomOp *op, size_t i) {
  (void)op, (void)i;
  return 0;
}
static size_t inputs(const OrtCustomOp *op) { return self(op)->inputs; }
static size_t outputs(const OrtCustomOp *op) { return self(op)->outputs; }
static int one(const OrtCustomOp *op) {
  (void)op;
  return 1;
}
static int any(const OrtCustomOp *op) {
  (void)op;
  return 2147483647;
}

static OrtStatus *create(const OrtCustomOp *op, OrtApi api, const OrtKernelInfo *info, void **kernel) {
  (void)op, (void)api;
  Settings *s = calloc(1, sizeof *s);
  if (!s) return no_memory();
  int64_t activation = 0;
  OrtStatus *status = KernelInfoGetAttribute_int64(info, "lanes", &s->lanes);
  if (!status) status = KernelInfoGetAttribute_int64(info, "activation", &activation);
  if (!status) status = KernelInfoGetAttribute_float(info, "least", &s->activation.least);
  if (!status) status = KernelInfoGetAttribute_float(info, "most", &s->activation.most);
  if (!status) status = KernelInfoGetAttribute_float(info, "epsilon", &s->epsilon);
  if (!status && s->lanes != 1 && s->lanes != 8 && s->lanes != 16) status = CreateStatus(2, "lanes must be 1, 8 or 16");
  s->activation.kind = (int)activation;
  if (status) free(s);
  else *kernel = s;
  return status;
}

static OrtStatus *infer(const OrtCustomOp *op, OrtShapeInferContext *context) {
  for (size_t i = 0; i < self(op)->outputs; i++) {
    OrtTensorTypeAndShapeInfo *info = NULL;
    OrtStatus *status = ShapeInferContext_GetInputTypeShape(context, self(op)->dims[i], &info);
    if (!status) status = ShapeInferContext_SetOutputTypeShape(context, i, info);
    if (status) return status;
  }
  return NULL;
}

static int own_in[] = {0}, own_out[] = {0};

/** The first output may take the memory of the first input where nothing reads that later. */
static size_t in_place(int **in, int **out) {
  *in = own_in;
  *out = own_out;
  return 1;
}
static void release(int *in, int *out) { (void)in, (void)out; }

#define OPERATOR(compute)                                                                                        \
  {.version = ORT_TABLE_VERSION, .GetName = name, .GetExecutionProviderType = provider, .GetInputType = type,    \
   .GetInputTypeCount = inputs, .GetOutputType = type, .GetOutputTypeCount = outputs, .KernelDestroy = free,     \
   .GetInputCharacteristic = required, .GetOutputCharacteristic = required, .GetInputMemoryType = required,      \
   .GetVariadicInputMinArity = one, .GetVariadicInputHomogeneity = one, .GetVariadicOutputMinArity = one,        \
   .GetVariadicOutputHomogeneity = one, .CreateKernelV2 = create, .KernelComputeV2 = compute,                    \
   .InferOutputShapeFn = infer, .GetStartVersion = one, .GetEndVersion = any, .GetMayInplace = in_place,         \
   .ReleaseMayInplace = release}

static const Operator operators[] = {
    {OPERATOR(forward), "BatchNormActivation", 3, 3, {0, 1, 1}},
    {OPERATOR(backward), "BatchNormActivationGrad", 6, 3, {0, 4, 4}},
};

const char *choose_kernels(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd")) {
    kernels = &kernels_avx512;
    return "AVX-512";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    kernels = &kernels_avx2;
    return "AVX2";
  }
  kernels = &kernels_base;
  return "SSE2";
}

OrtStatus *make_domain(OrtCustomOpDomain **domain) {
  OrtStatus *status = CreateCustomOpDomain("mnc.step", domain);
  for (size_t i = 0; !status && i < sizeof operators / sizeof *operators; i++)
    status = CustomOpDomain_Add(*domain, &operators[i].op);
  return status;
}
