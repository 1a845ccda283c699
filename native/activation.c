/* ActivationGrad: dz = dy * activation'(z). For ReLU the result does for z: it has the same sign. */
#include "common.h"
#include "operators.h"

typedef struct {
  Activation activation;
  const float *dy, *z;
  float *out;
  int64_t length;
} Work;

OrtStatus *read_activation(const OrtKernelInfo *info, Activation *a) {
  int64_t kind = 0;
  OrtStatus *status = KernelInfoGetAttribute_int64(info, "activation", &kind);
  if (!status) status = KernelInfoGetAttribute_float(info, "least", &a->least);
  if (!status) status = KernelInfoGetAttribute_float(info, "most", &a->most);
  a->kind = (int)kind;
  return status;
}

OrtStatus *activation_settings(const OrtKernelInfo *info, void **kernel) {
  Activation *a = calloc(1, sizeof *a);
  if (!a) return no_memory();
  OrtStatus *status = read_activation(info, a);
  if (status) free(a);
  else *kernel = a;
  return status;
}

static void task(void *work, size_t index) {
  const Work *w = work;
  const int64_t from = (int64_t)index * TASK, left = w->length - from;
  kernels->pass_gradient(w->out + from, w->dy + from, w->z + from, left < TASK ? left : TASK, w->activation);
}

OrtStatus *activation_gradient(void *kernel, OrtKernelContext *context) {
  int64_t dims[MAX_RANK];
  const size_t rank = dims_of(input(context, 0), dims);
  Work w = {.activation = *(const Activation *)kernel, .dy = data_of(input(context, 0)), .z = data_of(input(context, 1))};
  w.out = output(context, 0, dims, rank);
  w.length = 1;
  for (size_t i = 0; i < rank; i++) w.length *= dims[i];
  parallel(context, task, (size_t)((w.length + TASK - 1) / TASK), &w);
  return NULL;
}
