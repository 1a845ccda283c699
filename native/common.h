/* What the operators share: their operands, and how work is divided. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "ort.h"

/** For this processor. */
extern const Kernels *kernels;

/** The attributes activation, least and most. */
OrtStatus *read_activation(const OrtKernelInfo *info, Activation *a);

/** A task is at least so many elements: some tens of microseconds. */
#define TASK 32768
#define MAX_RANK 8

static inline OrtStatus *no_memory(void) { return CreateStatus(1, "out of memory"); }

static inline const OrtValue *input(const OrtKernelContext *context, size_t i) {
  const OrtValue *v = NULL;
  KernelContext_GetInput(context, i, &v);
  return v;
}

static inline float *data_of(const OrtValue *v) {
  void *data = NULL;
  GetTensorMutableData((OrtValue *)v, &data);
  return data;
}

static inline float *output(OrtKernelContext *context, size_t i, const int64_t *dims, size_t rank) {
  OrtValue *v = NULL;
  KernelContext_GetOutput(context, i, dims, rank, &v);
  return v ? data_of(v) : NULL;
}

/** The dims of a value, at most MAX_RANK; returns how many. */
static inline size_t dims_of(const OrtValue *v, int64_t *dims) {
  OrtTensorTypeAndShapeInfo *info = NULL;
  size_t rank = 0;
  GetTensorTypeAndShape(v, &info);
  GetDimensionsCount(info, &rank);
  if (rank > MAX_RANK) rank = MAX_RANK;
  GetDimensions(info, dims, rank);
  ReleaseTensorTypeAndShapeInfo(info);
  return rank;
}

/** Runs task(work, 0..total-1), on all of the session's threads. */
static inline void parallel(const OrtKernelContext *context, void (*task)(void *, size_t), size_t total, void *work) {
  if (total > 1) KernelContext_ParallelFor(context, task, total, 0, work);
  else if (total == 1) task(work, 0);
}
