/*
 * The operators of the domain `step.mnc`, which stand in training steps in memory only:
 *
 *   BatchNormActivation      x [N, C, ...], scale [C], bias [C]  ->  y, mean [C], variance [C]             (norm.c)
 *   BatchNormAddActivation   x, other [N, C, ...], scale, bias  ->  y, mean, variance
 *   BatchNormActivationGrad  dy, x, mean, variance, scale, bias  ->  dx, dscale, dbias
 *   ActivationGrad           dy, z  ->  dz                                                                (activation.c)
 *   ConvWeightGrad           x [N, I, h, w], dy [N, O, ...]  ->  dw [O, I, ...]                            (weight-gradient.c)
 *
 * Feature maps may be blocked (kernels.h), their channels filled up to whole groups; those beyond may hold any finite numbers.
 */
#include "operators.h"

#include <stdlib.h>

#include "kernels.h"

OrtApi ort;
const Kernels *kernels;

typedef struct {
  OrtCustomOp op;
  const char *name;
  size_t inputs, outputs;
  OrtStatus *(*settings)(const OrtKernelInfo *, void **);
  /** The input whose dims each output has. */
  size_t dims[3];
} Operator;

static const Operator *self(const OrtCustomOp *op) { return (const Operator *)op; }

static const char *name(const OrtCustomOp *op) { return self(op)->name; }
static size_t inputs(const OrtCustomOp *op) { return self(op)->inputs; }
static size_t outputs(const OrtCustomOp *op) { return self(op)->outputs; }

#define UNUSED __attribute__((unused))
static const char *provider(UNUSED const OrtCustomOp *op) { return NULL; }
static int type(UNUSED const OrtCustomOp *op, UNUSED size_t i) { return FLOAT32; }
static int required(UNUSED const OrtCustomOp *op, UNUSED size_t i) { return 0; }
static int one(UNUSED const OrtCustomOp *op) { return 1; }
static int newest(UNUSED const OrtCustomOp *op) { return 2147483647; }

static OrtStatus *create(const OrtCustomOp *op, UNUSED OrtApi api, const OrtKernelInfo *info, void **kernel) {
  return self(op)->settings(info, kernel);
}

/** The engine gives an output the memory of an input only where it knows that both are as large. */
static OrtStatus *infer(const OrtCustomOp *op, OrtShapeInferContext *context) {
  for (size_t i = 0; i < self(op)->outputs; i++) {
    OrtTensorTypeAndShapeInfo *info = NULL;
    OrtStatus *status = ShapeInferContext_GetInputTypeShape(context, self(op)->dims[i], &info);
    if (!status) status = ShapeInferContext_SetOutputTypeShape(context, i, info);
    if (status) return status;
  }
  return NULL;
}

static int first[] = {0};

/** The first output may take the memory of the first input where nothing reads that later. */
static size_t in_place(int **in, int **out) {
  *in = *out = first;
  return 1;
}
static void keep(UNUSED int *in, UNUSED int *out) {}

#define OPERATOR(compute)                                                                                      \
  .version = ORT_TABLE_VERSION, .GetName = name, .GetExecutionProviderType = provider, .GetInputType = type,   \
  .GetInputTypeCount = inputs, .GetOutputType = type, .GetOutputTypeCount = outputs, .KernelDestroy = free,    \
  .GetInputCharacteristic = required, .GetOutputCharacteristic = required, .GetInputMemoryType = required,     \
  .GetVariadicInputMinArity = one, .GetVariadicInputHomogeneity = one, .GetVariadicOutputMinArity = one,       \
  .GetVariadicOutputHomogeneity = one, .CreateKernelV2 = create, .KernelComputeV2 = compute,                   \
  .GetStartVersion = one, .GetEndVersion = newest
#define IN_PLACE .InferOutputShapeFn = infer, .GetMayInplace = in_place, .ReleaseMayInplace = keep

static const Operator operators[] = {
    {{OPERATOR(norm_forward), IN_PLACE}, "BatchNormActivation", 3, 3, norm_settings, {0, 1, 1}},
    {{OPERATOR(norm_add_forward), IN_PLACE}, "BatchNormAddActivation", 4, 3, norm_settings, {0, 2, 2}},
    {{OPERATOR(norm_backward), IN_PLACE}, "BatchNormActivationGrad", 6, 3, norm_settings, {0, 4, 4}},
    {{OPERATOR(activation_gradient), IN_PLACE}, "ActivationGrad", 2, 1, activation_settings, {0}},
    {{OPERATOR(weight_gradient)}, "ConvWeightGrad", 2, 1, weight_gradient_settings, {0}},
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
  OrtStatus *status = CreateCustomOpDomain("step.mnc", domain);
  for (size_t i = 0; !status && i < sizeof operators / sizeof *operators; i++)
    status = CustomOpDomain_Add(*domain, &operators[i].op);
  return status;
}
